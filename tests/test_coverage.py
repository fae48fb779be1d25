"""Precision, recall, density and coverage against their authors' package, counts by hand and known generators."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from prdc import compute_prdc
from scipy import stats
from scipy.spatial.distance import cdist

from sixfold.core.errors import BadInput
from sixfold.evaluate import coverage
from sixfold.evaluate.coverage import precision_recall
from sixfold.evaluate.score import difference

KEYS = ("precision", "recall", "density", "coverage")


def normal(count, dims, seed=0, scale=1.0):
    return scale * torch.randn(count, dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def values(x, y, **options):
    return {name: score.value for name, score in precision_recall(x, y, **options).items()}


@pytest.mark.parametrize("rows", [13, 512])
@pytest.mark.parametrize(("n", "m", "dims", "k"), [(150, 220, 2, 5), (90, 60, 30, 3), (40, 50, 200, 5), (30, 30, 1, 1)])
def test_agrees_with_the_authors_package(monkeypatch, n, m, dims, k, rows):
    monkeypatch.setattr(coverage, "ROWS", rows)
    x, y = normal(n, dims, scale=0.9) + 0.1, normal(m, dims, 1)
    theirs = compute_prdc(real_features=y.numpy(), fake_features=x.numpy(), nearest_k=k)
    assert values(x, y, k=k) == pytest.approx(theirs, rel=1e-12)


def bimodal(count, seed, modes=(-4.0, 4.0)):
    x = normal(count, 3, seed)
    x[:, 0] += torch.tensor(modes)[torch.arange(count) % len(modes)]
    return x


@pytest.mark.parametrize("k", [3, 5])
def test_a_dropped_mode_costs_recall_and_coverage_only(k):
    got, real = values(bimodal(400, 0, (4.0,)), bimodal(400, 1), k=k), values(bimodal(400, 2), bimodal(400, 1), k=k)
    assert got["precision"] > real["precision"] - 0.05
    assert got["density"] > 0.8
    assert got["recall"] < 0.6  # half of the data, and a little of the other half's rim
    assert got["coverage"] < 0.6


def test_too_wide_a_generator_costs_precision_and_density_only():
    got, real = values(normal(400, 8, 0, scale=1.6), normal(400, 8, 1)), values(normal(400, 8, 2), normal(400, 8, 1))
    assert got["recall"] > real["recall"]
    assert got["precision"] < 0.5 * real["precision"]
    assert got["density"] < 0.3


def test_precision_and_recall_exchange_with_the_samples():
    x, y = normal(80, 4, scale=0.7), normal(60, 4, 1)
    assert values(x, y)["precision"] == values(y, x)["recall"]


@pytest.mark.parametrize(("n", "m", "dims"), [(60, 60, 2), (40, 90, 20)])
def test_expectation_under_equal_distributions(n, m, dims):
    # A new datum is as likely as any other to be among the k nearest of M; coverage follows from drawing without replacement.
    k, runs = 5, [values(normal(n, dims, 2 * i), normal(m, dims, 2 * i + 1)) for i in range(150)]
    covered = 1 - np.prod([(m - i) / (m + n - i) for i in range(1, k + 1)])
    for name, expected in (("density", 1.0), ("coverage", covered)):
        found = np.array([run[name] for run in runs])
        assert abs(found.mean() - expected) < 4 * found.std() / np.sqrt(len(found))  # false alarm 6e-5 each


@pytest.mark.parametrize(("dims", "scale"), [(2, 1.0), (32, 1.2)])
def test_rates_of_the_intervals(dims, scale):
    # Measured over 200: 93% to 100%. Fewer than 75% of 60 or 70% of 30 happens less than once in 1e4 at 93%; intervals
    # of half the width hold about 67%.
    pairs = []
    for i in range(30):
        y = normal(150, dims, 3 * i)
        pairs.append([precision_recall(normal(150, dims, 3 * i + j, scale), y) for j in (1, 2)])
    for name in KEYS:
        scores = [model[name] for pair in pairs for model in pair]
        mean = np.mean([s.value for s in scores])
        assert np.mean([s.low <= mean <= s.high for s in scores]) >= 0.75
        gaps = [difference(a[name], b[name]) for a, b in pairs]
        assert np.mean([d.low <= 0 <= d.high for d in gaps]) >= 0.7


def without_one(x, y, k):
    """What leaving out each datum takes from the counts, radii recomputed for density only: brute force, (4, 20)."""
    d, xx, yy = cdist(x, y), cdist(x, x), cdist(y, y)
    made, real = (np.sort(z, 1)[:, k] for z in (xx, yy))

    def counts(i, j, balls):
        a, b = d[np.ix_(i, j)] <= balls[j], d[np.ix_(i, j)] <= made[i, None]
        return np.array([a.any(1).sum(), b.any(0).sum(), a.sum() / k, a.any(0).sum()])

    everything = np.arange(len(x))
    whole, taken = counts(everything, everything, real), []
    for g in everything:
        rest = np.delete(everything, g)
        farther = real.copy()
        farther[rest] = np.sort(yy[np.ix_(rest, rest)], 1)[:, k]
        lost_y = whole - counts(everything, rest, real)
        lost_y[2] = (whole - counts(everything, rest, farther))[2]
        taken.append([whole - counts(rest, everything, real), lost_y])
    taken = np.array(taken) / len(x)
    return (taken - taken.mean(0)).sum(1).T


def test_parts_are_what_leaving_out_takes():
    x, y = normal(20, 2, 3), normal(20, 2, 4)  # one datum of each sample in each part
    expected = without_one(x.numpy(), y.numpy(), 3)
    for name, taken in zip(KEYS, expected, strict=True):
        score = precision_recall(x, y, k=3)[name]
        np.testing.assert_allclose(score.parts, score.value + 19 * taken, atol=1e-12)


def test_the_ends_have_an_interval_too():
    score = precision_recall(normal(100, 2), normal(100, 2) + 100.0)["precision"]
    assert (score.value, score.low) == (0.0, 0.0)
    assert score.high == pytest.approx(stats.binomtest(0, 100).proportion_ci(0.95, "wilson").high)


@pytest.mark.parametrize(
    "y",
    [
        (normal(60, 8) > 0).double(),
        normal(20, 3).repeat(3, 1),
        normal(20, 3).repeat(8, 1) * 1e-3 + 1e3,
        torch.full((30, 5), 0.1),
        (normal(60, 4) * 2).round() * 0.1,
    ],
    ids=["binary", "thrice", "radius 0", "constant", "grid"],
)
def test_data_with_ties_score_full_against_themselves(y):
    got = values(y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))], y)
    assert (got["precision"], got["recall"], got["coverage"]) == (1.0, 1.0, 1.0)
    assert got["density"] >= 1.0  # more than k neighbours lie within a tied radius


def test_ties_at_the_radius_count_as_exact_arithmetic_counts_them():
    x, y = ((normal(n, 10, n) > 0).long().numpy() for n in (80, 70))  # squared distances are whole numbers
    d, real, made = ((a[:, None] != b).sum(2) for a, b in ((x, y), (y, y), (x, x)))
    r, s = np.sort(real, 1)[:, 5], np.sort(made, 1)[:, 5]
    got = values(torch.tensor(x), torch.tensor(y))
    expected = (d <= r).any(1).mean(), (d <= s[:, None]).any(0).mean(), (d <= r).sum() / 400, (d <= r).any(0).mean()
    assert [got[name] for name in KEYS] == pytest.approx(list(expected), rel=1e-12)


def test_a_constant_generator_covers_one_place():
    got = values(torch.zeros(50, 2), normal(400, 2))
    assert got["precision"] == 1.0
    assert got["recall"] == 0.0
    assert 0 < got["coverage"] < 0.1


@pytest.mark.parametrize("k", [0, 19])
def test_bad_k(k):
    with pytest.raises(BadInput, match=f"between 1 and 18.* got {k}"):
        precision_recall(normal(20, 2), normal(30, 2), k=k)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (normal(30, 2), normal(30, 3), "one shape"),
        (normal(5, 2), normal(30, 2), "at least 20"),
        (normal(30, 2) / 0, normal(30, 2), "NaN or infinity"),
    ],
)
def test_bad_samples(x, y, message):
    with pytest.raises(BadInput, match=message):
        precision_recall(x, y)
