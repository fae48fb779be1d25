"""Exercises of the fifth stage: noising, what follows from noise and state, and one step of a sampler."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from sixfold.prob.schedules import Schedule
from sixfold.testing.checks import expect, gap, seeded
from sixfold.testing.exercises.facts import Answer, fact

LEVELS = torch.tensor([-4.0, 0.0, 3.0])  # log-SNR


def _shape(x: Any) -> object:
    return tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__


def _ends(log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """Alpha and sigma of each row, (B, 1), by the definition."""
    return log_snr.sigmoid().sqrt()[:, None], (-log_snr).sigmoid().sqrt()[:, None]


# forward noising: drown(x, log_snr, generator) -> (z, noise)


@fact("forward noising")
def a_state_and_its_noise_have_the_shape_of_the_data(drown: Answer) -> None:
    """Data (B, D) with a log-SNR for each row, (B,), become a state and the noise in it, both (B, D)."""
    z, noise = drown(torch.ones(3, 2), LEVELS, seeded(0))
    expect(_shape(z) == (3, 2) and _shape(noise) == (3, 2), f"{_shape(z)} and {_shape(noise)}", "(3, 2) and (3, 2)")


@fact("forward noising")
def the_mean_is_alpha_times_the_datum(drown: Answer) -> None:
    """The mean of the state is alpha x, where alpha is the square root of sigmoid(log-SNR)."""
    log_snr = LEVELS.repeat_interleave(40_000)
    z, _ = drown(torch.full((len(log_snr), 2), 2.0), log_snr, seeded(1))
    found, wanted = z.view(3, -1).mean(1), 2 * LEVELS.sigmoid().sqrt()  # standard error at most 4e-3
    expect(gap(found, wanted) < 0.02, [round(v, 3) for v in found.tolist()], [round(v, 3) for v in wanted.tolist()])


@fact("forward noising")
def the_variance_is_sigma_squared(drown: Answer) -> None:
    """Around its mean the state has variance sigma^2 = sigmoid(-log-SNR)."""
    log_snr = LEVELS.repeat_interleave(40_000)
    z, _ = drown(torch.full((len(log_snr), 2), 2.0), log_snr, seeded(1))
    found, wanted = z.view(3, -1).var(1), (-LEVELS).sigmoid()  # standard error at most 5e-3
    expect(gap(found, wanted) < 0.02, [round(v, 3) for v in found.tolist()], [round(v, 3) for v in wanted.tolist()])


@fact("forward noising")
def every_element_has_noise_of_its_own(drown: Answer) -> None:
    """The noise of different elements and different rows is independent."""
    z, _ = drown(torch.zeros(40_000, 2), torch.zeros(40_000), seeded(2))
    across, along = float(torch.corrcoef(z.T)[0, 1]), float(torch.corrcoef(torch.stack([z[1:, 0], z[:-1, 0]]))[0, 1])
    expect(max(abs(across), abs(along)) < 0.03, f"correlations {across:.2f} and {along:.2f}", "about 0")  # standard error 5e-3


@fact("forward noising")
def each_row_has_its_own_level(drown: Answer) -> None:
    """The state is alpha x + sigma noise at the log-SNR of its own row, also where there are as many rows as elements."""
    x, log_snr = torch.randn(3, 3, generator=seeded(3)), torch.tensor([-6.0, 0.0, 6.0])
    z, noise = drown(x, log_snr, seeded(4))
    alpha, sigma = _ends(log_snr)
    off = (z - alpha * x - sigma * noise).abs().amax(1)
    expect(float(off.max()) < 1e-4, f"errors {[round(v, 3) for v in off.tolist()]} in the three rows", "none")


# one quantity: convert(noise, z, log_snr) -> (datum, v, score)


def _state(log_snr: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    x, noise = torch.randn(len(log_snr), 2, generator=seeded(5)), torch.randn(len(log_snr), 2, generator=seeded(6))
    alpha, sigma = _ends(log_snr)
    return x, noise, alpha * x + sigma * noise, alpha, sigma


@fact("one quantity")
def the_datum_comes_back(convert: Answer) -> None:
    """From the noise in a state follows the datum."""
    x, noise, z, *_ = _state(LEVELS)
    off = gap(convert(noise, z, LEVELS)[0], x)
    expect(off < 1e-4, f"a datum that is off by {off:.3g}", "the one that was drowned")


@fact("one quantity")
def v_is_alpha_noise_less_sigma_datum(convert: Answer) -> None:
    """The second is v = alpha noise - sigma x, which has the size of the data at every noise level."""
    x, noise, z, alpha, sigma = _state(LEVELS)
    off = gap(convert(noise, z, LEVELS)[1], alpha * noise - sigma * x)
    expect(off < 1e-4, f"a v that is off by {off:.3g}", "alpha noise - sigma x")


@fact("one quantity")
def the_score_is_the_gradient_of_the_log_density(convert: Answer) -> None:
    """For Gaussian data, where the expected noise is known, the score is the gradient of log p(z) by autograd."""
    *_, z, alpha, sigma = _state(LEVELS)
    z = z.double().requires_grad_()
    spread = (alpha**2 * 0.3**2 + sigma**2).double().sqrt()  # data N(1.5, 0.3^2)
    log_density = -((z - 1.5 * alpha) / spread).square() / 2  # up to a constant
    (gradient,) = torch.autograd.grad(log_density.sum(), z)
    expected = sigma * (z.detach() - 1.5 * alpha) / spread**2  # E[noise | z]
    off = gap(convert(expected.float(), z.detach().float(), LEVELS)[2], gradient)
    expect(off < 1e-4, f"a score that is off by {off:.3g} of its size", "the gradient")


@fact("one quantity")
def nearly_clean_states_keep_their_noise(convert: Answer) -> None:
    """At log-SNR 20, in single precision, sigma is exp(-10) and not yet zero, so that the score is finite and has its size."""
    log_snr = torch.full((3,), 20.0)
    _, noise, z, *_ = _state(log_snr)
    score = convert(noise, z, log_snr)[2]
    ratio = float((score / noise).abs().mean())
    expect(0.99 < ratio / math.exp(10) < 1.01, f"a score of {ratio:.4g} times the noise", f"{math.exp(10):.4g}")


# ddim step: step(denoise, schedule, z, t, s) -> the state at the earlier time s


def _exploding(t: Tensor) -> tuple[Tensor, Tensor]:
    """A schedule of another scale: alpha = 1, the noise grows to 20 times the data."""
    return torch.ones_like(t), 0.01 + 20 * t


def _walk(step: Answer, denoise: Callable[[Tensor, Tensor], Tensor], schedule: Any, z: Tensor, times: Tensor) -> Tensor:
    for t, s in pairwise(times):
        z = step(denoise, schedule, z, t, s)
    return z


def _dirac(step: Answer, schedule: Any) -> float:
    """How far from the flow of a single known datum three steps end."""
    x, noise = torch.randn(2, 4, 2, generator=seeded(7), dtype=torch.float64)
    (alpha, sigma), (alpha_end, sigma_end) = schedule(torch.tensor(0.9).double()), schedule(torch.tensor(0.2).double())
    times = torch.tensor([0.9, 0.6, 0.5, 0.2], dtype=torch.float64)
    return gap(_walk(step, lambda z, t: x, schedule, alpha * x + sigma * noise, times), alpha_end * x + sigma_end * noise)


@fact("ddim step")
def it_is_exact_for_a_single_datum(step: Answer) -> None:
    """When the denoiser knows the datum, the state stays alpha x + sigma noise with the noise that it started from."""
    off = _dirac(step, Schedule("cosine"))
    expect(off < 1e-6, f"an end that is off by {off:.3g}", "the state at the last time")


@fact("ddim step")
def it_takes_any_schedule(step: Answer) -> None:
    """It is as exact where alpha^2 + sigma^2 is not 1, as on the variance exploding scale."""
    off = _dirac(step, _exploding)
    expect(off < 1e-6, f"an end that is off by {off:.3g}", "the state at the last time")


@fact("ddim step")
def it_is_deterministic(step: Answer) -> None:
    """The same state gives the same step: all randomness is in the start."""
    z, (t, s) = torch.ones(5, 2), torch.tensor([0.7, 0.4])
    first, second = (step(lambda z, t: z / 2, Schedule("cosine"), z, t, s) for _ in range(2))
    expect(torch.equal(first, second), f"two steps {gap(first, second):.3g} apart", "no difference")


@fact("ddim step")
def it_asks_once_at_the_time_that_it_leaves(step: Answer) -> None:
    """It asks the denoiser once, at the state and the time that it starts from."""
    asked: list[float] = []

    def denoise(z: Tensor, t: Tensor) -> Tensor:
        asked.append(round(float(t), 3))
        return z / 2

    step(denoise, Schedule("cosine"), torch.ones(5, 2), torch.tensor(0.7), torch.tensor(0.4))
    expect(asked == [0.7], f"calls at times {asked}", "one call at 0.7, for a step from 0.7 to 0.4")


@fact("ddim step")
def twice_the_steps_halve_the_error(step: Answer) -> None:
    """On Gaussian data, whose flow is known, the error falls in proportion to the step."""
    schedule, std, z = Schedule("cosine"), 0.4, torch.randn(50, 1, generator=seeded(8), dtype=torch.float64)

    def spread(t: Tensor) -> Tensor:
        alpha, sigma = schedule(t)
        return (alpha**2 * std**2 + sigma**2).sqrt()

    def denoise(z: Tensor, t: Tensor) -> Tensor:
        return schedule(t)[0] * std**2 / spread(t) ** 2 * z

    times = [torch.linspace(1.0, 0.0, n + 1, dtype=torch.float64) for n in (40, 80)]
    truth = z * spread(times[0][-1]) / spread(times[0][0])  # the flow of a Gaussian keeps z over its spread
    coarse, fine = (float((_walk(step, denoise, schedule, z, grid) - truth).abs().mean()) for grid in times)
    expect(1.7 < coarse / fine < 2.4, f"errors {coarse:.3g} in 40 steps and {fine:.3g} in 80", "a ratio of about 2")
