"""Mean likelihoods as scores, paired differences that respect kinds, and the typicality gap."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest
import torch

from sixfold.core.errors import BadInput, NotComparable
from sixfold.core.likelihood import Estimate, Exact, LogProb, Lower, Measure, Numerical, Unnormalised, Upper
from sixfold.evaluate.likelihood import likelihood_difference, likelihood_score, stored_difference, typicality_gap, unit
from sixfold.evaluate.score import Score, difference


def rand(seed, num=1000):
    return torch.randn(num, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lp(nats, kind=Exact, **fields):
    fields = {"method": "by hand", "dims": 2, "scope": "m" if kind is Unnormalised else "", **fields}
    return LogProb(torch.as_tensor(nats), kind, **fields)


# --- the mean ------------------------------------------------------------------------------------------------------------


def test_a_score_is_the_mean_with_its_standard_error():
    nats = rand(0) - 3
    score, mean = likelihood_score(lp(nats)), lp(nats).mean()
    assert score.value == pytest.approx(-mean.value, rel=1e-12)
    assert score.half == pytest.approx(1.959964 * mean.stderr, rel=1e-6)
    assert sum(score.parts) / len(score.parts) == pytest.approx(score.value, rel=1e-9)  # a mean has no jackknife bias
    assert unit(lp(nats)) == "nats"


def test_discrete_data_are_scored_in_bits():
    score = likelihood_score(lp(torch.full((40,), -5 * math.log(4.0)), dims=5, measure=Measure(4)))
    assert score.value == pytest.approx(2.0, rel=1e-6)  # float32 data
    assert unit(lp(rand(0), measure=Measure(4))) == "bits/dim"
    assert unit(lp(rand(0), Unnormalised, measure=Measure(4))) == "nats"


def test_a_tolerance_widens_the_score():
    plain, wide = likelihood_score(lp(rand(0))), likelihood_score(lp(rand(0), Numerical, tolerance=0.25))
    assert (wide.low, wide.high) == pytest.approx((plain.low - 0.25, plain.high + 0.25))
    assert wide.method == "standard error over data, with tolerance"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_without_a_mean_are_refused_in_one_line(bad):
    nats = rand(0)
    nats[7] = bad
    for ask in (lambda: likelihood_score(lp(nats)), lambda: typicality_gap(lp(nats), lp(rand(1)))):
        with pytest.raises(BadInput, match=f"that of datum 7 is {bad}, given by by hand"):
            ask()


# --- differences -----------------------------------------------------------------------------------------------------------


def test_a_difference_is_paired():
    """Data differ by 10 nats, the two models by 0.1 on each: only a paired interval can tell."""
    data = 10 * rand(0)
    a, b = lp(data + 0.1 + 0.05 * rand(1)), lp(data + 0.05 * rand(2))
    found = likelihood_difference(a, b)
    assert found.nats.value == pytest.approx(float((a.nats - b.nats).mean()), rel=1e-9)
    assert 0 < found.nats.low < 0.1 < found.nats.high < 0.2
    assert found.verdict.relation == "higher"
    assert likelihood_difference(b, a).verdict.relation == "lower"
    assert abs(found.nats.value) < likelihood_score(a).half  # the single intervals overlap by far


@pytest.mark.parametrize("measure", [None, 256])
def test_the_difference_is_in_nats_whatever_the_scores_count_in(measure):
    a, b = lp(rand(0), measure=Measure(measure), dims=7), lp(rand(0) - 0.5, measure=Measure(measure), dims=7)
    assert likelihood_difference(a, b).nats.value == pytest.approx(0.5, rel=1e-9)


@pytest.mark.parametrize(
    ("a", "b", "relation"),
    [
        (lp(rand(0) + 1), lp(rand(0)), "higher"),
        (lp(rand(0) + 1, Lower), lp(rand(0), Upper), "higher"),
        (lp(rand(0) + 1, Lower), lp(rand(0)), "higher"),
        (lp(rand(0), Lower), lp(rand(0) + 1), "not implied"),
        (lp(rand(0) + 1, Lower), lp(rand(0), Lower), "not implied"),
        (lp(rand(0) + 1, Upper), lp(rand(0), Lower), "not implied"),
        (lp(rand(0), Upper), lp(rand(0) + 1, Lower), "lower"),
        (lp(rand(0) + 1, Numerical, tolerance=0.4), lp(rand(0), Numerical, tolerance=0.4), "higher"),
        (lp(rand(0) + 1, Numerical, tolerance=0.6), lp(rand(0), Numerical, tolerance=0.6), "undecided"),
        (lp(rand(0) + 1, Estimate, bias="low"), lp(rand(0)), "higher"),
        (lp(rand(0) + 1, Estimate, bias="unknown"), lp(rand(0)), "not implied"),
        (lp(rand(0) + 1, Unnormalised), lp(rand(0), Unnormalised), "higher"),
        (lp(rand(0)), lp(rand(0)), "undecided"),
        (lp(rand(0)), lp(rand(1)), "undecided"),
    ],
)
def test_kinds_decide_what_a_difference_implies(a, b, relation):
    found = likelihood_difference(a, b)
    assert found.verdict.relation == relation
    assert found.verdict.reason
    mirrored = {"higher": "lower", "lower": "higher"}.get(relation, relation)
    assert likelihood_difference(b, a).verdict.relation == mirrored
    if relation in ("higher", "lower"):  # what is claimed can be read off the printed interval
        assert found.nats.low > 0 or found.nats.high < 0


def test_stored_numbers_give_the_same():
    a, b = lp(rand(0) + 0.1, measure=Measure(4), dims=3), lp(rand(0) + 0.01 * rand(1), measure=Measure(4), dims=3)

    def through_json(score):
        values = json.loads(json.dumps(asdict(score)))
        return Score(**{**values, "parts": tuple(values["parts"])})

    stored = stored_difference(a.mean(), through_json(likelihood_score(a)), b.mean(), through_json(likelihood_score(b)))
    assert stored == likelihood_difference(a, b)


def test_different_data_are_not_compared():
    with pytest.raises(NotComparable, match="1000 and 999 data are not paired"):
        likelihood_difference(lp(rand(0)), lp(rand(0, 999)))
    with pytest.raises(NotComparable, match="of different data"):
        likelihood_difference(lp(rand(0)), lp(rand(0), dims=3))
    with pytest.raises(NotComparable, match="within one model"):
        likelihood_difference(lp(rand(0), Unnormalised, scope="a"), lp(rand(0), Unnormalised, scope="b"))


def test_two_equal_models_are_seldom_told_apart():
    """Intervals of 95%: of 400 pairs that differ by noise alone, 20 are expected. More than 40 have probability 1e-5."""
    wrong = 0
    for seed in range(400):
        data = 5 * rand(3 * seed, 200)
        found = likelihood_difference(lp(data + rand(3 * seed + 1, 200)), lp(data + rand(3 * seed + 2, 200)))
        wrong += found.verdict.relation in ("higher", "lower")
    assert wrong <= 40


# --- typicality ----------------------------------------------------------------------------------------------------------


def normal(x, std):
    return torch.distributions.Normal(0.0, std).log_prob(x)


@pytest.mark.parametrize("std", [0.5, 1.0, 2.0])
def test_gap_of_a_normal_of_the_wrong_width(std):
    """Model N(0, s^2), data N(0, 1): the gap is -1/2 + 1/(2 s^2), positive for a model that is too sharp."""
    num = 20_000
    scores = typicality_gap(lp(normal(std * rand(0, num), std)), lp(normal(rand(1, num), std)))
    expected = -0.5 + 0.5 / std**2
    # log p of own samples has standard deviation sqrt(1/2), of data that over s^2: five standard errors.
    error = 5 * math.sqrt((0.5 + 0.5 / std**4) / num)
    gap, size = scores["typicality"], scores["typicality_standardised"]
    assert gap.value == pytest.approx(expected, abs=error)
    spread = math.sqrt((0.5 + 0.5 / std**4) / 2)
    assert size.value == pytest.approx(expected / spread, abs=error / spread + 0.02 * abs(expected / spread))
    assert (gap.low > 0, gap.high < 0) == (std < 1, std > 1)


def test_gap_against_brute_force():
    own, test = lp(rand(0, 103) * 2), lp(rand(1, 77) + 1)
    scores = typicality_gap(own, test)

    def gap(a, b):
        return float(a.mean() - b.mean())

    def size(a, b):
        return gap(a, b) / math.sqrt(float(a.var() + b.var()) / 2)

    for score, metric in ((scores["typicality"], gap), (scores["typicality_standardised"], size)):
        value = metric(own.nats, test.nats)
        left = [metric(own.nats[torch.arange(103) % 20 != g], test.nats[torch.arange(77) % 20 != g]) for g in range(20)]
        assert score.value == pytest.approx(value, rel=1e-10)
        assert score.parts == pytest.approx([20 * value - 19 * v for v in left], rel=1e-9)


def test_a_constant_cancels():
    """Unnormalised numbers serve; so do numbers far from zero, of which squares would lose their digits."""
    plain = typicality_gap(lp(rand(0)), lp(rand(1)))
    moved = typicality_gap(lp(rand(0) + 1e6, Unnormalised), lp(rand(1) + 1e6, Unnormalised))
    for key, score in plain.items():
        assert moved[key].value == pytest.approx(score.value, rel=1e-6, abs=1e-9)  # 1e6 leaves ten digits of the nats
        assert moved[key].half == pytest.approx(score.half, rel=1e-6)


def test_the_gap_of_a_perfect_model_is_seldom_called_one():
    """False alarms of 95% intervals: 20 of 400 are expected. More than 40 have probability 1e-5."""
    wrong = 0
    for seed in range(400):
        gap = typicality_gap(lp(-rand(2 * seed, 200).square()), lp(-rand(2 * seed + 1, 200).square()))["typicality"]
        wrong += gap.low > 0 or gap.high < 0
    assert wrong <= 40


def test_a_tolerance_widens_the_gap():
    plain = typicality_gap(lp(rand(0)), lp(rand(1)))["typicality"]
    wide = typicality_gap(lp(rand(0), Numerical, tolerance=0.1), lp(rand(1), Numerical, tolerance=0.2))["typicality"]
    assert wide.half == pytest.approx(plain.half + 0.3)


def test_equal_constants_have_no_gap_and_others_no_size():
    same = lp(torch.full((50,), -2.0))
    assert [s.value for s in typicality_gap(same, same).values()] == [0.0, 0.0]
    with pytest.raises(BadInput, match="do not vary"):
        typicality_gap(same, lp(torch.full((50,), -3.0)))


@pytest.mark.parametrize(
    "other", [lp(rand(1), Lower), lp(rand(1), method="another"), lp(rand(1), dims=3), lp(rand(1), Unnormalised)]
)
def test_a_gap_is_of_one_model_and_method(other):
    with pytest.raises(NotComparable, match="one model and one method"):
        typicality_gap(lp(rand(0)), other)


def test_too_few_data():
    with pytest.raises(BadInput, match="at least 20 data"):
        likelihood_score(lp(rand(0, 19)))
    with pytest.raises(BadInput, match="at least 20 data on each side; got 19"):
        typicality_gap(lp(rand(0)), lp(rand(0, 19)))


def test_scores_of_two_models_pair_like_their_difference():
    a, b = lp(rand(0)), lp(rand(0) + rand(1))
    paired, found = difference(likelihood_score(b), likelihood_score(a)), likelihood_difference(a, b).nats
    assert (paired.value, paired.low, paired.high) == pytest.approx((found.value, found.low, found.high), rel=1e-12)
