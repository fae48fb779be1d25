"""Exercises of the sixth stage: a distance between samples, a difference with its interval, bits from nats."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sixfold.testing.checks import expect, gap, seeded
from sixfold.testing.exercises.facts import Answer, fact


def _gaussian(a: Tensor, b: Tensor) -> Tensor:
    """Gaussian kernel of width 1, (A, D) and (B, D) to (A, B)."""
    return torch.exp(-torch.cdist(a, b).square() / 2)


def _distances_of_equals(distance: Answer, count: int = 1000) -> Tensor:
    """The answer for many pairs of small samples of one distribution, (count,)."""
    pairs = torch.randn(count, 2, 8, 1, generator=seeded(0), dtype=torch.float64)
    return torch.tensor([float(distance(x, y, _gaussian)) for x, y in pairs])


@fact("kernel distance")
def equals_are_zero_apart_on_average(distance: Answer) -> None:
    """Two samples of one distribution are zero apart on average, however small the samples are."""
    mean = float(_distances_of_equals(distance).mean())  # standard error about 0.003; with the diagonals it is 0.1
    expect(abs(mean) < 0.02, f"a mean of {mean:.3f} over pairs of samples of 8", "0, within 0.02")


@fact("kernel distance")
def some_equals_are_less_than_zero_apart(distance: Answer) -> None:
    """An estimate that is zero on average is below zero about half of the time."""
    share = float((_distances_of_equals(distance) < 0).double().mean())
    expect(0.3 < share < 0.8, f"{share:.0%} of the estimates below zero", "about half")


@fact("kernel distance")
def both_samples_are_treated_alike(distance: Answer) -> None:
    """It does not matter which sample comes first, also when they differ in size."""
    x, y = (torch.randn(n, 2, generator=seeded(n), dtype=torch.float64) for n in (30, 50))
    one, two = float(distance(x, y, _gaussian)), float(distance(y, x, _gaussian))
    expect(math.isclose(one, two, abs_tol=1e-9), f"{one:.6f} and {two:.6f}", "the same number")


@fact("kernel distance")
def a_shift_is_its_closed_form_apart(distance: Answer) -> None:
    """For N(0, 1) and N(s, 1) and a Gaussian kernel of width 1 it tends to 2 / sqrt(3) (1 - exp(-s^2 / 6))."""
    x, y = torch.randn(2, 1500, 1, generator=seeded(2), dtype=torch.float64)
    for shift in (1.0, 3.0):
        got, wanted = float(distance(x, y + shift, _gaussian)), 2 / math.sqrt(3) * -math.expm1(-(shift**2) / 6)
        expect(abs(got - wanted) < 0.05, f"{got:.3f} at a shift of {shift:g}", f"{wanted:.3f}, within 0.05")


def _scores(num: int, seed: int) -> tuple[Tensor, Tensor]:
    """Scores of two models on the same data, (num,) each: hard data are hard for both, and the first scores 0.1 more."""
    hard, one, two = torch.randn(3, num, generator=seeded(seed), dtype=torch.float64)
    return hard + 0.3 * one + 0.1, hard + 0.3 * two


@fact("paired interval")
def its_middle_is_the_mean_difference(interval: Answer) -> None:
    """The interval lies about the mean of the first scores less that of the second."""
    a, b = _scores(200, 0)
    low, high = (float(v) for v in interval(a, b))
    middle = float((a - b).mean())
    expect(low < high and abs((low + high) / 2 - middle) < 1e-6, f"[{low:.3f}, {high:.3f}]", f"a middle of {middle:.3f}")


@fact("paired interval")
def what_both_share_does_not_widen_it(interval: Answer) -> None:
    """A model that scores 0.1 more on every single datum is known to be better by exactly that."""
    a, _ = _scores(200, 1)
    low, high = (float(v) for v in interval(a + 0.1, a))
    expect(max(abs(low - 0.1), abs(high - 0.1)) < 1e-6, f"[{low:.3f}, {high:.3f}]", "[0.100, 0.100]")


@fact("paired interval")
def it_shrinks_with_the_root_of_the_number_of_data(interval: Answer) -> None:
    """Of N unrelated pairs of standard deviation 1 each, it is 2 x 1.96 x sqrt(2 / N) wide."""
    for num in (1_000, 40_000):
        a, b = torch.randn(2, num, generator=seeded(num), dtype=torch.float64)
        low, high = (float(v) for v in interval(a, b))
        wanted = 2 * 1.96 * math.sqrt(2 / num)
        expect(abs((high - low) / wanted - 1) < 0.1, f"a width of {high - low:.4f} for {num:,} data", f"{wanted:.4f}")


@fact("paired interval")
def it_holds_the_truth_as_often_as_it_says(interval: Answer) -> None:
    """Over many repetitions 95 of 100 intervals hold the true difference."""
    held = 0
    for seed in range(1000):
        low, high = (float(v) for v in interval(*_scores(60, 10 + seed)))
        held += low <= 0.1 <= high
    expect(915 <= held <= 980, f"{held / 10:.1f}% of 1,000 intervals", "95%")  # 60 data and 1.96 make 94.5, standard error 0.7


@fact("bits per dimension")
def a_uniform_density_costs_the_logarithm_of_the_levels(bits: Answer) -> None:
    """Where 256 levels fill the unit interval and the density is 1 everywhere, each element costs 8 bits."""
    got = bits(torch.zeros(3), 784, 1 / 256)
    expect(gap(got, torch.full((3,), 8.0)) < 1e-5, [round(v, 3) for v in got.tolist()], "8 for each datum")


@fact("bits per dimension")
def a_half_for_each_element_is_one_bit(bits: Answer) -> None:
    """Levels one apart, of probability a half in every element, cost one bit each."""
    got = bits(torch.tensor([-10 * math.log(2.0)]), 10, 1.0)
    expect(gap(got, torch.ones(1)) < 1e-5, [round(v, 3) for v in got.tolist()], "1")


@fact("bits per dimension")
def likelier_data_cost_less(bits: Answer) -> None:
    """D log 2 nats more are one bit per dimension less."""
    nats = torch.tensor([0.0, 100 * math.log(2.0)])
    cost = bits(nats, 100, 1 / 32)
    expect(gap(cost[1] - cost[0], torch.tensor(-1.0)) < 1e-5, f"a change of {float(cost[1] - cost[0]):.3f}", "-1")


@fact("bits per dimension")
def units_do_not_matter(bits: Answer) -> None:
    """The same data in units 255 times as small have D log 255 nats less and levels 255 times as far apart: the same bits."""
    nats = torch.tensor([3.0, -7.0])
    one, other = bits(nats, 12, 1 / 256), bits(nats - 12 * math.log(255.0), 12, 255 / 256)
    expect(gap(one, other) < 1e-5, f"{float(one[0]):.3f} and {float(other[0]):.3f}", "the same bits")
