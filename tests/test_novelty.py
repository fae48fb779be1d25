"""The copy indicator: copies are found, new data look new, and every share is what brute force counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from sixfold.core.errors import BadInput
from sixfold.evaluate.novelty import novelty
from sixfold.evaluate.score import PARTS, difference, fold

KEYS = ("distance_ratio", "exact_duplicates", "near_duplicates", "exact_repeats", "near_repeats", "authenticity")


def normal(count, dims=4, seed=0):
    return torch.randn(count, dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def values(x, y, train, **options):
    return {name: score.value for name, score in novelty(x, y, train, **options).items()}


TRAIN, HELD_OUT, NEW = normal(1500), normal(300, seed=1), normal(300, seed=2)


def test_a_copier_is_found():
    got = values(TRAIN[:300], HELD_OUT, TRAIN)
    assert got["exact_duplicates"] == got["near_duplicates"] == 1.0
    assert got["distance_ratio"] == got["authenticity"] == got["exact_repeats"] == 0.0


def test_a_copier_that_blurs_is_found_by_near_duplicates():
    got = values(TRAIN[:300] + 1e-3 * NEW, HELD_OUT, TRAIN)
    assert got["exact_duplicates"] == 0.0
    assert got["near_duplicates"] > 0.99
    assert got["distance_ratio"] < 0.02
    assert got["authenticity"] < 0.02


@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_a_generator_that_repeats_itself_is_found(noise):
    got = values(normal(15, seed=5).repeat(20, 1) + noise * NEW, HELD_OUT, TRAIN)
    assert got["exact_repeats"] == (noise == 0)
    assert got["near_repeats"] == 1.0
    assert got["exact_duplicates"] == 0.0


def test_some_copies_are_counted():
    x = NEW.clone()
    x[:30] = TRAIN[:30]
    got = novelty(x, HELD_OUT, TRAIN)
    assert got["exact_duplicates"].value == pytest.approx(0.1)
    assert got["near_duplicates"].value == pytest.approx(0.1, abs=0.05)  # and about 1% of the others, 5 standard errors
    gap = difference(got["exact_duplicates"], novelty(NEW, HELD_OUT, TRAIN)["exact_duplicates"])
    assert gap.low > 0


@pytest.mark.parametrize(("dims", "mutual"), [(1, 2 / 3), (2, 6 * math.pi / (8 * math.pi + 3 * math.sqrt(3)))])
def test_null_distribution(dims, mutual):
    # Uniform data: the chance that nearest neighbours are mutual is that of an empty union of two balls (Pickard, 1982).
    # 20 runs of 200; the bounds are 4 standard errors of their mean (false alarm 6e-5), and for authenticity the
    # border's share of the volume, near 2%, on top.
    draw = torch.Generator().manual_seed(dims)
    runs = []
    for _ in range(20):
        x, y, train = (torch.rand(n, dims, generator=draw, dtype=torch.float64) for n in (200, 200, 2000))
        runs.append([values(x, y, train, alpha=0.05)[name] for name in KEYS])
    found = dict(zip(KEYS, np.transpose(runs), strict=True))
    spread = {name: 4 * v.std(ddof=1) / math.sqrt(len(v)) for name, v in found.items()}
    assert found["authenticity"].mean() == pytest.approx(1 - mutual, abs=spread["authenticity"] + 0.01)
    assert np.log(found["distance_ratio"]).mean() == pytest.approx(0.0, abs=spread["distance_ratio"])
    for name in ("near_duplicates", "near_repeats"):
        assert 0.05 - spread[name] < found[name].mean() < 0.055 + spread[name]
    assert not found["exact_duplicates"].any()
    assert not found["exact_repeats"].any()


def test_rates_of_the_intervals():
    # Training data are given; 25 held-out sets and 50 samples. Measured over 200: 92% to 100%. Fewer than 75% of 50 or
    # 65% of 25 happens less than once in 1e4 at 93%.
    pairs = []
    for i in range(25):
        y = normal(200, seed=10 + 3 * i)
        pairs.append([novelty(normal(200, seed=10 + 3 * i + j), y, TRAIN, alpha=0.05) for j in (1, 2)])
    for name in KEYS:
        scores = [model[name] for pair in pairs for model in pair]
        mean = np.mean([s.value for s in scores])
        assert np.mean([s.low <= mean <= s.high for s in scores]) >= 0.75
        gaps = [difference(a[name], b[name]) for a, b in pairs]
        assert np.mean([d.low <= 0 <= d.high for d in gaps]) >= 0.65


@pytest.mark.parametrize("discrete", [False, True])
def test_every_share_is_what_brute_force_counts(discrete):
    x, y, train = (normal(n, 3, seed) for n, seed in ((60, 0), (50, 1), (200, 2)))
    if discrete:
        x, y, train = ((z * 1.5).round() for z in (x, y, train))
    to_train, real, among = cdist(x, train), cdist(y, train).min(1), cdist(train, train)
    np.fill_diagonal(among, np.inf)
    far, near = to_train.min(1), np.isclose(to_train, to_train.min(1, keepdims=True))
    others = cdist(x[:50], x[:50])
    np.fill_diagonal(others, np.inf)
    got = values(x, y, train, alpha=0.1)
    if not discrete:  # ties leave open which training datum is the nearest
        assert got["authenticity"] == (far > among.min(1)[near.argmax(1)]).mean()
        assert got["distance_ratio"] == pytest.approx(np.sort(far)[29] / np.sort(real)[24])
        assert got["near_duplicates"] == pytest.approx((far < np.sort(real)[4]).mean(), abs=1e-12)
    assert got["exact_duplicates"] == pytest.approx((far == 0).mean())
    assert got["exact_repeats"] == pytest.approx((others.min(1) == 0).mean())


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("binary", [False, True])
def test_held_out_data_have_a_share_of_exactly_alpha(alpha, binary):
    y, train = normal(200, 8, 1), normal(600, 8, 2)
    if binary:
        y, train = (y > 0).double(), (train > 0).double()
    got = values(y, y, train, alpha=alpha)
    assert got["near_duplicates"] == pytest.approx(alpha, abs=1e-12)
    assert got["near_repeats"] == pytest.approx(alpha, abs=1e-12)


@pytest.mark.parametrize("name", ["distance_ratio", "near_duplicates", "exact_repeats", "near_repeats"])
def test_parts_are_what_leaving_them_out_gives(name):
    x, y = normal(100, 2, 3), normal(120, 2, 4)[:100]
    x[50:60] = x[33:43]
    whole = novelty(x, y, TRAIN[:, :2], alpha=0.1)[name]
    for g in range(PARTS):
        keep = fold(100) != g
        left = novelty(x[keep], y[keep], TRAIN[:, :2], alpha=0.1)[name].value
        assert whole.parts[g] == pytest.approx(PARTS * whole.value - (PARTS - 1) * left, abs=1e-9)


def test_copies_of_repeated_training_data_are_not_authentic():
    known = torch.arange(40.0)[:, None].repeat(5, 1)  # the sample and the next training datum are equally near
    assert values(known[:40], known[:40] + 0.5, known)["authenticity"] == 0.0


def test_a_ratio_to_nothing():
    known = torch.arange(40.0)[:, None].repeat(5, 1)
    same, new = novelty(known[:40], known[:40], known), novelty(known[:40] + 0.5, known[:40], known)
    assert same["distance_ratio"].value == 1.0  # as near as real data
    assert (new["distance_ratio"].value, new["distance_ratio"].high) == (math.inf, math.inf)
    assert not new["distance_ratio"].parts


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_bad_alpha(alpha):
    with pytest.raises(BadInput, match="alpha must lie between 0 and 1"):
        novelty(NEW, HELD_OUT, TRAIN, alpha=alpha)


@pytest.mark.parametrize("wrong", ["x", "train"])
def test_shapes_must_agree(wrong):
    given = {"x": NEW, "y": HELD_OUT, "train": TRAIN}
    with pytest.raises(BadInput, match="one shape"):
        novelty(**{**given, wrong: given[wrong][:, :3]})
