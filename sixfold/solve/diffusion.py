"""Samplers of diffusion models: from noise to data down a grid of times, given what the datum is expected to be.

With D(z, t) = E[x | z_t = z], eps = (z - alpha_t D) / sigma_t, and a step from time t to an earlier time s:

    ancestral       z_s = alpha_t|s (sigma_s / sigma_t)^2 z + alpha_s (1 - r) D + sigma_s sqrt(1 - r) n,    r = SNR_t / SNR_s
    euler_maruyama  the same with alpha_s sqrt(y_t^2 - y_s^2) n,             y = sigma / alpha
    ddim            z_s = alpha_s D + sqrt(sigma_s^2 - c^2) eps + c n,       c = eta sigma_s sqrt(1 - r)
    heun            Heun's method for d(z / alpha) / dy = eps
    multistep       z_s / sigma_s - z_t / sigma_t = int exp(l) D dl,         l = log alpha / sigma, D a polynomial of l

The first two add noise. Ancestral draws from q(z_s | z_t, x = D); Euler-Maruyama discretises the reverse of
d(z / alpha) = sqrt(dy^2 / dt) dw, with the derivative at the start of each step for both of its parts, and overshoots the noise
where ancestral undershoots it. DDIM keeps the same marginals at every eta: 1 has the moments of the ancestral step, and 0 is
Euler's method for d(z / alpha) / dy = eps, the probability flow. All of these are of first order: twice the steps, half the
error. Heun and the multistep methods solve the flow at order 2 and, after a start at lower orders, 3.

================  ==========  =====
sampler           calls/step  order
================  ==========  =====
ancestral         1           1
euler_maruyama    1           1
ddim              1           1
heun              2           2
multistep         1           1 to 3
================  ==========  =====

They know no network and no model: a denoiser is any function of state and time, a schedule any function of time to (alpha, sigma)
whose SNR falls, of whatever scale. With alpha = 1 and sigma = t it is the noise level itself that a grid lists.

Source:  Denoising Diffusion Probabilistic Models (Ho, Jain & Abbeel, 2020), arXiv:2006.11239, Eq. (6) and (7);
         Denoising Diffusion Implicit Models (Song, Meng & Ermon, 2021), arXiv:2010.02502, Eq. (12) and (16);
         in continuous time: Variational Diffusion Models (Kingma et al., 2021), arXiv:2107.00630, Appendix A;
         Elucidating the Design Space of Diffusion-Based Generative Models (Karras, Aittala, Aila & Laine, 2022),
         arXiv:2206.00364, Algorithm 1: Heun; DPM-Solver++ (Lu et al., 2022), arXiv:2211.01095, Algorithm 2: multistep, order 2;
         Score-Based Generative Modeling through SDEs (Song et al., 2021), arXiv:2011.13456, Eq. (6): Euler-Maruyama.
Differs: multistep of order 3 is the exact integral of the parabola through the last three D. The authors' program and its many
         descendants halve the parabola's second derivative, which leaves them at order 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Literal, TypeAlias

from torch import Tensor

from sixfold.core.draws import Draws

Denoiser: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(state z (B, *shape), time ()) to E[x | z], (B, *shape)."""

NoiseSchedule: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Time to (alpha, sigma)."""

Sampler: TypeAlias = Literal["ancestral", "ddim", "heun", "dpm++2m", "dpm++3m", "euler-maruyama"]


def walk(
    sampler: Sampler, denoiser: Denoiser, schedule: NoiseSchedule, z: Tensor, times: Tensor, *, draws: Draws, eta: float = 0.0
) -> Iterator[Tensor]:
    """The states at ``times[1:]``, one after the other, by the sampler of that name; ``eta`` is that of :func:`ddim`."""
    if sampler == "ancestral":
        return ancestral(denoiser, schedule, z, times, draws=draws)
    if sampler == "euler-maruyama":
        return euler_maruyama(denoiser, schedule, z, times, draws=draws)
    if sampler == "ddim":
        return ddim(denoiser, schedule, z, times, draws=draws, eta=eta)
    if sampler == "heun":
        return heun(denoiser, schedule, z, times)
    return multistep(denoiser, schedule, z, times, order=2 if sampler == "dpm++2m" else 3)


def ancestral(denoiser: Denoiser, schedule: NoiseSchedule, z: Tensor, times: Tensor, *, draws: Draws) -> Iterator[Tensor]:
    """The states at ``times[1:]``, one after the other, each drawn from q(z_s | z_t, x = D(z_t)).

    Args:
        denoiser: E[x | z, t].
        schedule: (alpha, sigma) of a time.
        z: state at ``times[0]``, (B, *shape).
        times: from noise to data, (T + 1,), with positive sigma before the last; more are more accurate.
        draws: source of the noise, of B rows.
    """
    for t, s in pairwise(times):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
        kept = (alpha_t * sigma_s / (alpha_s * sigma_t)) ** 2
        keep_z = alpha_t * sigma_s**2 / (alpha_s * sigma_t**2)
        mean = keep_z * z + alpha_s * (1 - kept) * denoiser(z, t)
        z = mean + sigma_s * (1 - kept).sqrt() * draws.normal(*z.shape[1:])
        yield z


def ddim(
    denoiser: Denoiser, schedule: NoiseSchedule, z: Tensor, times: Tensor, *, draws: Draws, eta: float = 0.0
) -> Iterator[Tensor]:
    """The states at ``times[1:]``, one after the other.

    Args:
        denoiser: E[x | z, t].
        schedule: (alpha, sigma) of a time.
        z: state at ``times[0]``, (B, *shape).
        times: from noise to data, (T + 1,), with positive sigma before the last; more are more accurate.
        draws: source of the noise, of B rows; unused at ``eta`` 0.
        eta: share of fresh noise in each step, in [0, 1]; 0 is deterministic.
    """
    for t, s in pairwise(times):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
        fresh = eta * sigma_s * (1 - (alpha_t * sigma_s / (alpha_s * sigma_t)) ** 2).sqrt()
        x = denoiser(z, t)
        z = alpha_s * x + (sigma_s**2 - fresh**2).sqrt() * (z - alpha_t * x) / sigma_t
        if eta:
            z = z + fresh * draws.normal(*z.shape[1:])
        yield z


def euler_maruyama(denoiser: Denoiser, schedule: NoiseSchedule, z: Tensor, times: Tensor, *, draws: Draws) -> Iterator[Tensor]:
    """The states at ``times[1:]``, one after the other: the reverse diffusion of z / alpha with y^2 as its time.

    Args:
        denoiser: E[x | z, t].
        schedule: (alpha, sigma) of a time.
        z: state at ``times[0]``, (B, *shape).
        times: from noise to data, (T + 1,), with positive sigma before the last; more are more accurate.
        draws: source of the noise, of B rows.
    """
    for t, s in pairwise(times):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
        start, stop = (sigma_t / alpha_t) ** 2, (sigma_s / alpha_s) ** 2
        kept = stop / start
        mean = kept / alpha_t * z + (1 - kept) * denoiser(z, t)
        z = alpha_s * (mean + (start - stop).sqrt() * draws.normal(*z.shape[1:]))
        yield z


def heun(denoiser: Denoiser, schedule: NoiseSchedule, z: Tensor, times: Tensor) -> Iterator[Tensor]:
    """The states at ``times[1:]``, one after the other, each by two calls; one where sigma is 0 and eps is not defined.

    Args:
        denoiser: E[x | z, t].
        schedule: (alpha, sigma) of a time.
        z: state at ``times[0]``, (B, *shape).
        times: from noise to data, (T + 1,), with positive sigma before the last; more are more accurate.
    """
    for t, s in pairwise(times):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
        step = sigma_s / alpha_s - sigma_t / alpha_t
        slope = (z - alpha_t * denoiser(z, t)) / sigma_t
        near = alpha_s * (z / alpha_t + step * slope)
        if sigma_s > 0:
            slope = (slope + (near - alpha_s * denoiser(near, s)) / sigma_s) / 2
            near = alpha_s * (z / alpha_t + step * slope)
        z = near
        yield z


def multistep(denoiser: Denoiser, schedule: NoiseSchedule, z: Tensor, times: Tensor, *, order: int) -> Iterator[Tensor]:
    """The states at ``times[1:]``, one after the other, each by one call and what the calls before it found.

    Args:
        denoiser: E[x | z, t].
        schedule: (alpha, sigma) of a time.
        z: state at ``times[0]``, (B, *shape).
        times: from noise to data, (T + 1,), with positive sigma before the last; more are more accurate.
        order: 1 to 3, how many calls a step draws on: 1 is :func:`ddim` at ``eta`` 0, 2 and 3 are DPM-Solver++ 2M and 3M. More is
            more accurate where steps are short, and less where they are long. The first steps have no more than there are, and
            a step to sigma 0 has order 1.
    """
    found: list[tuple[Tensor, Tensor]] = []  # log alpha / sigma and D, the latest first
    for t, s in pairwise(times):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
        start, stop = (alpha_t / sigma_t).log(), (alpha_s / sigma_s).log()
        found = [(start, denoiser(z, t)), *found[: order - 1]]
        z = sigma_s / sigma_t * z + alpha_s * _integral(found if sigma_s > 0 else found[:1], stop - start)
        yield z


def _integral(found: list[tuple[Tensor, Tensor]], h: Tensor) -> Tensor:
    """Integral of exp(u - h) p(u) for u from 0 to h, p through what was found at u <= 0; of order 2 as in DPM-Solver++."""
    (l0, d0), whole = found[0], -(-h).expm1()
    if len(found) == 1:
        return whole * d0
    (l1, d1) = found[1]
    slope = (d0 - d1) / (l0 - l1)
    if len(found) == 2:
        return whole * (d0 + h / 2 * slope)
    (l2, d2) = found[2]
    bend = (slope - (d1 - d2) / (l1 - l2)) / (l0 - l2)
    return whole * d0 + (h - whole) * (slope + (l0 - l1) * bend) + (h**2 - 2 * (h - whole)) * bend
