"""Samplers of diffusion models: from noise to data down a grid of times, given what the datum is expected to be.

With D(z, t) = E[x | z_t = z], eps = (z - alpha_t D) / sigma_t, and a step from time t to an earlier time s:

    ancestral  z_s = alpha_t|s (sigma_s / sigma_t)^2 z + alpha_s (1 - r) D + sigma_s sqrt(1 - r) n,    r = SNR_t / SNR_s
    ddim       z_s = alpha_s D + sqrt(sigma_s^2 - c^2) eps + c n,            c = eta sigma_s sqrt(1 - r)

The first draws from q(z_s | z_t, x = D). The second keeps the same marginals at every eta: 0 follows the probability-flow
equation, 1 has the moments of the ancestral step. Both are of first order: twice the steps, half the error.

They know no network and no model: a denoiser is any function of state and time, a schedule any function of time to (alpha, sigma)
whose SNR falls, of whatever scale.

Source:  Denoising Diffusion Probabilistic Models (Ho, Jain & Abbeel, 2020), arXiv:2006.11239, Eq. (6) and (7);
         Denoising Diffusion Implicit Models (Song, Meng & Ermon, 2021), arXiv:2010.02502, Eq. (12) and (16);
         in continuous time: Variational Diffusion Models (Kingma et al., 2021), arXiv:2107.00630, Appendix A.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TypeAlias

from torch import Tensor

from sixfold.core.draws import Draws

Denoiser: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(state z (B, *shape), time ()) to E[x | z], (B, *shape)."""

NoiseSchedule: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Time to (alpha, sigma)."""


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
