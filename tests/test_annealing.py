"""Annealed importance sampling against closed forms: unbiased weights, the side on which each logarithm errs, its intervals.

Statistical tests fix their seed and state their false-alarm rate.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput
from sixfold.solve.annealing import Bracket, forward, log_z, reverse

D = 2
GROWTH = 0.5
RATIO = -D / 2 * math.log(1 + GROWTH)  # log Z_1 / Z_0 of the family below


class Narrowing:
    """f_b(x) = exp(-(1 + b / 2) |x|^2 / 2): Gaussians of precision 1 to 1.5, moved by a reversible autoregression.

    1 / w <= exp(|x|^2 / 4) at the widest x of a chain has a variance, for precisions above one.
    """

    def rise(self, state: Tensor, low: float, high: float) -> Tensor:
        return -GROWTH / 2 * (high - low) * state.square().sum(1)

    def move(self, state: Tensor, beta: float, draws: Draws) -> Tensor:
        return 0.8 * state + 0.6 * (1 + GROWTH * beta) ** -0.5 * draws.normal(D)


class Still:
    """A family on two places that never moves: the second one's f grows from 1 to 10, so Z from 2 to 11."""

    def rise(self, state: Tensor, low: float, high: float) -> Tensor:
        return state * math.log((1 + 9 * high) / (1 + 9 * low))

    def move(self, state: Tensor, beta: float, draws: Draws) -> Tensor:
        return state


def draws(count: int, seed: int = 0) -> Draws:
    return Draws(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights(count: int, steps: int, *, backward: bool, seed: int = 0) -> Tensor:
    """Log-weights of independent chains from exact draws."""
    source = draws(count, seed)
    betas = [k / steps for k in range(steps + 1)]
    if backward:
        return reverse(Narrowing(), (1 + GROWTH) ** -0.5 * source.normal(D), betas, source)
    return forward(Narrowing(), source.normal(D), betas, source)


@pytest.mark.parametrize("steps", [1, 4, 20])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "reverse"])
def test_weights_are_unbiased(backward, steps):
    """The mean of w is Z_1 / Z_0, that of 1 / w its inverse, for any number of temperatures: five standard errors, 6e-7."""
    sign = -1 if backward else 1
    w = (sign * (weights(50_000, steps, backward=backward) - RATIO)).exp()
    assert float(w.mean()) == pytest.approx(1.0, abs=5 * float(w.std()) / math.sqrt(50_000))


def test_the_logarithms_err_to_either_side():
    """The mean of many estimates from two chains each lies below the truth forward and above it in reverse.

    By Jensen's inequality; by more than five standard errors, which is the size of the effect and no matter of chance.
    """
    for backward, side in ((False, -1), (True, 1)):
        many = weights(6000, 3, backward=backward).reshape(-1, 2)
        away = log_z(many, 0.0, backward=backward).value - RATIO
        assert side * float(away.mean()) > 5 * float(away.std()) / math.sqrt(len(away))


def test_more_temperatures_narrow_the_bracket():
    """Both Jensen gaps fall once the temperatures are more than the moves that a chain takes to forget, about 5 here."""
    widths = []
    for steps in (2, 20, 200):
        lower, upper = (log_z(weights(2000, steps, backward=b).reshape(-1, 2), 1.5, backward=b) for b in (False, True))
        bracket = Bracket(lower, upper)
        torch.testing.assert_close(bracket.width, upper.value - lower.value)
        assert bracket.interval == (lower.low, upper.high)
        widths.append(float(bracket.width.mean()))
    assert widths[0] > 2 * widths[1] > 8 * widths[2] > 0


def test_a_missing_mode_breaks_the_upper_end():
    """Starts that all lack the heavy place give an upper end of log 2 below the truth, log 11: what the docstring warns of."""
    start = torch.zeros(50, dtype=torch.float64)
    found = log_z(reverse(Still(), start, [0.0, 0.3, 1.0], draws(50)), math.log(2.0), backward=True)
    assert float(found.value) == pytest.approx(math.log(2.0))
    assert float(found.ess) == pytest.approx(50)  # nothing in the weights shows it


def test_weights_in_closed_form():
    """Chains that never move take the whole way in one: w = f_1 / f_0, whatever the temperatures."""
    start = torch.tensor([0.0, 1.0], dtype=torch.float64)
    for run in (forward, reverse):
        torch.testing.assert_close(run(Still(), start, [0.0, 0.1, 0.7, 1.0], draws(2)).exp(), torch.tensor([1.0, 10.0]).double())
    exact = log_z(forward(Still(), start, [0.0, 1.0], draws(2)), math.log(2.0))  # each place once is the base itself
    assert float(exact.value) == pytest.approx(math.log(11.0))


# What is said of an estimate.


def test_effective_sample_size():
    even, lone = torch.zeros(40), torch.full((40,), -1e3)
    lone[7] = 0.0
    found = log_z(torch.stack([even, lone]), torch.tensor([1.0, 2.0]).double())
    torch.testing.assert_close(found.ess, torch.tensor([40.0, 1.0]).double())
    torch.testing.assert_close(found.value, torch.tensor([1.0, 2.0 - math.log(40)]).double())
    assert float(found.stderr[0]) == 0.0 < float(found.stderr[1])


def test_forward_takes_the_mean_and_reverse_the_harmonic_one():
    """Of the weights 1, 2 and 4: 7/3, and 3 / (1 + 1/2 + 1/4); the effective sample size is that of what is averaged."""
    logs = torch.tensor([1.0, 2.0, 4.0]).log()
    ahead, back = log_z(logs, 1.0), log_z(logs, 1.0, backward=True)
    assert float(ahead.value) == pytest.approx(1 + math.log(7 / 3))
    assert float(ahead.ess) == pytest.approx(7**2 / 21)
    assert float(back.value) == pytest.approx(1 + math.log(3 / 1.75))
    assert float(back.ess) == pytest.approx(1.75**2 / 1.3125)


@pytest.mark.parametrize("backward", [False, True])
def test_standard_error_is_that_of_the_delta_method(backward):
    """std(w) / (mean(w) sqrt(N)) for many even weights; a bootstrap of 1000 knows it to 2.2%: five are 11%, 6e-7."""
    logs = 0.5 * torch.randn(3000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    w = (-logs if backward else logs).exp()
    assert float(log_z(logs, 0.0, backward=backward).stderr) == pytest.approx(
        float(w.std() / w.mean()) / math.sqrt(3000), rel=0.11
    )


def test_interval_covers_as_often_as_it_says():
    """Of 400 intervals from 100 log-normal weights 95% should hold the truth; five binomial errors are 5.4% (6e-7)."""
    logs = 0.5 * torch.randn(400, 100, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = log_z(logs, 3.0)
    truth = 3.0 + 0.5**2 / 2
    share = float(((found.low < truth) & (truth < found.high)).double().mean())
    assert 0.95 - 0.054 < share < 1.0
    assert bool((found.low <= found.value).all() and (found.value <= found.high).all())


@pytest.mark.parametrize("betas", [[], [0.0], [0.0, 0.5], [0.1, 1.0], [0.0, 0.5, 0.5, 1.0], [1.0, 0.0]])
@pytest.mark.parametrize("run", [forward, reverse])
def test_temperatures_that_do_not_rise_are_refused(run, betas):
    with pytest.raises(BadInput, match="from 0 to 1"):
        run(Still(), torch.zeros(3), betas, draws(3))
