"""Noise schedules: their definitions, their ends, and the grids that samplers walk down."""

import itertools
import math

import pytest
import torch
from scipy.stats import truncnorm
from torch import Tensor

from sixfold.core.errors import BadInput
from sixfold.prob.schedules import CURVES, SCHEDULES, DensityName, Schedule, ScheduleName, Spacing, split

TIMES = torch.linspace(0, 1, 501, dtype=torch.float64)
ENDS = [(10.0, -10.0), (13.0, -8.0), (4.0, -2.0)]
SPACINGS: tuple[Spacing, ...] = ("time", "quadratic", "log-snr", "karras")

every = pytest.mark.parametrize("name", SCHEDULES)
with_ends = pytest.mark.parametrize("ends", ENDS)


@every
@with_ends
def test_variance_is_preserved_and_snr_falls_between_the_ends(name: ScheduleName, ends: tuple[float, float]) -> None:
    schedule = Schedule(name, *ends)
    alpha, sigma = schedule(TIMES)
    torch.testing.assert_close(alpha.square() + sigma.square(), torch.ones_like(TIMES), rtol=0, atol=1e-14)
    snr = (alpha / sigma).square()
    assert bool((snr.diff() < 0).all())
    torch.testing.assert_close(snr[[0, -1]].log(), torch.tensor(ends, dtype=torch.float64), rtol=0, atol=1e-9)
    torch.testing.assert_close(snr.log(), schedule.log_snr(TIMES), rtol=0, atol=1e-9)


@every
@with_ends
def test_time_of_a_log_snr_is_the_inverse(name: ScheduleName, ends: tuple[float, float]) -> None:
    schedule = Schedule(name, *ends)
    torch.testing.assert_close(schedule.time_of(schedule.log_snr(TIMES)), TIMES, rtol=0, atol=1e-10)


@every
def test_slope_is_the_derivative(name: ScheduleName) -> None:
    schedule, t, h = Schedule(name), TIMES[1:-1], 1e-7
    # Central differences err by h^2 f''' / 6, where f''' of these curves stays below 1e10 on this grid, and by 1e-15 / h.
    central = (schedule.log_snr(t + h) - schedule.log_snr(t - h)) / (2 * h)
    torch.testing.assert_close(schedule.slope(t), central, rtol=1e-5, atol=1e-5)


def defined_by(name: ScheduleName, t: Tensor) -> Tensor:
    """alpha / sigma of the natural time t as the papers write it."""
    if name == "linear":
        beta = 0.1 + 19.9 * TIMES
        spent = torch.cumulative_trapezoid(beta, TIMES)[-1] * (0.1 * t + 9.95 * t**2) / 10.05  # the integral of beta, scaled
        return ((-spent).exp() / -torch.expm1(-spent)).sqrt()
    if name == "cosine":
        return (math.pi * t / 2).cos() / (math.pi * t / 2).sin()
    if name == "rectified":
        return (1 - t) / t
    return (-t / 2).exp()


@every
def test_curve_is_the_papers(name: ScheduleName) -> None:
    t = TIMES[1:-1]
    torch.testing.assert_close((CURVES[name].log_snr(t) / 2).exp(), defined_by(name, t), rtol=1e-9, atol=0)


def test_linear_is_the_limit_of_a_thousand_steps_of_beta() -> None:
    alpha2 = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    continuous = split(CURVES["linear"].log_snr(t))[0].square()
    # log alpha^2 of a step is log(1 - beta), not -beta: off by beta^2 / 2, in sum 0.07 of 10; the first steps by beta's offset.
    torch.testing.assert_close(continuous.log(), alpha2.log(), rtol=0.01, atol=1e-3)


@every
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 3, 9, 27, 1000])
def test_grid_runs_from_one_down_to_zero(name: ScheduleName, spacing: Spacing, steps: int) -> None:
    grid = Schedule(name).grid(steps, spacing)
    assert len(grid) == steps + 1
    assert float(grid[0]) == 1.0
    assert float(grid[-1]) == 0.0
    assert bool((grid.diff() < 0).all())


@every
def test_spacings_are_even_in_what_they_are_named_for(name: ScheduleName) -> None:
    schedule = Schedule(name)
    even = {
        "time": schedule.grid(20, "time"),
        "quadratic": schedule.grid(20, "quadratic").sqrt(),
        "log-snr": schedule.log_snr(schedule.grid(20, "log-snr")),
    }
    for values in even.values():
        torch.testing.assert_close(values.diff(), values.diff().mean().expand(20), rtol=1e-8, atol=1e-8)


@every
def test_only_a_schedule_that_ends_in_noise_says_so(name: ScheduleName) -> None:
    for stop, verdict in ((-10.0, True), (-4.7, True), (-4.5, False), (0.0, False)):
        schedule = Schedule(name, 5.0, stop)
        assert schedule.ends_in_noise is verdict
        alpha, sigma = schedule(torch.tensor(1.0, dtype=torch.float64))
        assert schedule.snr_stop == pytest.approx(float((alpha / sigma).square()), rel=1e-9)


@pytest.mark.parametrize("ends", [(-1.0, 1.0), (2.0, 2.0)])
def test_ends_out_of_order_are_refused(ends: tuple[float, float]) -> None:
    with pytest.raises(BadInput, match=r"log_snr_min must lie below log_snr_max; got"):
        Schedule("cosine", *ends)


def test_schedules_differ() -> None:
    middles = [float(Schedule(name).log_snr(torch.tensor(0.3))) for name in SCHEDULES]
    assert min(abs(a - b) for a, b in itertools.combinations(middles, 2)) > 0.05


# Log-normal noise and the grid of Karras et al.


@with_ends
@pytest.mark.parametrize(("centre", "spread"), [(-0.5, 1.2), (0.4, 2.0)])
def test_log_normal_is_normal_in_the_log_of_the_noise(ends: tuple[float, float], centre: float, spread: float) -> None:
    """Time is the distribution function of log sigma / alpha, cut at both ends: against SciPy's, and its density by the slope."""
    schedule = Schedule("log-normal", *ends, centre, spread)
    log_snr = schedule.log_snr(TIMES)
    low, high = ((-end / 2 - centre) / spread for end in ends)
    law = truncnorm(low, high, centre, spread)
    torch.testing.assert_close(torch.from_numpy(law.cdf((-log_snr / 2).numpy())), TIMES, rtol=0, atol=1e-9)
    inner = TIMES[1:-1]
    density = torch.from_numpy(law.pdf((-schedule.log_snr(inner) / 2).numpy())) / 2  # of log-SNR
    torch.testing.assert_close(-1 / schedule.slope(inner), density, rtol=1e-6, atol=0)
    torch.testing.assert_close(log_snr[[0, -1]], torch.tensor(ends, dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(schedule.time_of(log_snr), TIMES, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", [*SCHEDULES, "log-normal"])
@pytest.mark.parametrize("steps", [1, 2, 7, 40])
def test_karras_grid_is_the_papers(name: DensityName, steps: int) -> None:
    """Eq. (5) with rho = 7 for y = sigma / alpha, whatever the schedule's own time is."""
    schedule = Schedule(name, 9.0, -8.0)
    alpha, sigma = schedule(schedule.grid(steps, "karras"))
    largest, least = (math.exp(-end / 2) ** (1 / 7) for end in (-8.0, 9.0))
    expected = [(largest + i / steps * (least - largest)) ** 7 for i in range(steps + 1)]
    torch.testing.assert_close(sigma / alpha, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=0)


def test_log_normal_noise_too_narrow_for_its_ends_is_refused() -> None:
    with pytest.raises(BadInput, match=r"within 7 spreads of its centre; got 15"):
        Schedule("log-normal", 10.0, -10.0, 1.0, 0.4)
