"""The classifier two-sample test: valid under the null, powerful against what it claims to see, and paired by parts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from sixfold.core.errors import BadInput
from sixfold.data.toys import moons
from sixfold.evaluate import classifier
from sixfold.evaluate.classifier import two_sample_test
from sixfold.evaluate.score import PARTS, difference


def normal(num, dims, seed):
    return torch.randn(num, dims, generator=torch.Generator().manual_seed(seed))


class Fixed:
    """Stands for a trained classifier: calls a datum generated when a function of it says so."""

    def __init__(self, rule):
        self.rule = rule

    def predict(self, z):
        return self.rule(z).astype(np.int64)


@pytest.fixture
def rule(monkeypatch):
    """Replaces training by a fixed rule, so that decisions are known."""

    def use(function):
        monkeypatch.setattr(classifier, "_fit", lambda *_: Fixed(function))

    return use


@pytest.mark.parametrize("share", [0.5, 0.9, 0.0])
def test_the_p_value_is_valid_whatever_the_classifier(rule, share):
    """For a rule that calls any share generated, P(p <= a) <= a: more than 21 of 150 at a = 0.05 have probability 1e-5."""
    rule(lambda z: z[:, 0] < share)
    draws = [torch.rand(200, 1, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in range(300)]
    found = [two_sample_test(a, b).p_value for a, b in zip(draws[::2], draws[1::2], strict=True)]
    assert sum(p <= 0.05 for p in found) <= 21


def test_trained_classifiers_raise_no_more_false_alarms_than_they_say():
    """25 pairs of equal samples at a = 0.05: 1.25 are expected, and more than 8 have probability 1e-5."""
    found = [two_sample_test(normal(200, 3, 2 * s), normal(200, 3, 2 * s + 1)).p_value for s in range(25)]
    assert sum(p <= 0.05 for p in found) <= 8


def test_held_out_data_are_never_trained_on():
    for count in (20, 21, 39, 1000):
        train, held = classifier._halves(count, 0)
        assert sorted([*train.tolist(), *held.tolist()]) == list(range(count))
        assert len(train) - len(held) in (0, 1)
    shares = torch.bincount(held % PARTS, minlength=PARTS)
    assert shares.tolist() == [25] * PARTS  # half of each part of 50


def test_accuracy_p_value_and_parts_against_brute_force(rule):
    rule(lambda z: z[:, 0] > 0.2)
    x, y = normal(101, 2, 0) + 0.5, normal(150, 2, 1)
    found = two_sample_test(x, y, seed=3)
    _, held = classifier._halves(101, 3)
    hits = [(int(i) % PARTS, bool(z[i, 0] > 0.2) is fake) for z, fake in ((x, True), (y, False)) for i in held]

    def share(kept):
        return sum(hit for _, hit in kept) / len(kept)

    right = sum(hit for _, hit in hits)
    assert found.accuracy.value == pytest.approx(right / 100, rel=1e-12)
    assert found.p_value == pytest.approx(stats.binom.sf(right - 1, 100, 0.5), rel=1e-9)
    left = [share([h for h in hits if h[0] != g]) for g in range(PARTS)]
    assert found.accuracy.parts == pytest.approx([PARTS * share(hits) - (PARTS - 1) * v for v in left], rel=1e-9)
    p, n, z = right / 100, 100, stats.norm.ppf(0.975)
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    wilson = ((centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n))
    assert (found.accuracy.low, found.accuracy.high) == pytest.approx(wilson, rel=1e-9)


def shuffled_moments():
    """Moons, and normals of the same mean and covariance."""
    x = moons().sample(600, generator=torch.Generator().manual_seed(0))
    root = torch.linalg.cholesky(torch.cov(x.T))
    return normal(600, 2, 1) @ root.T + x.mean(0), moons().sample(600, generator=torch.Generator().manual_seed(2))


def correlated():
    """Pairs of normals with correlation 0.6, and independent ones, equal in every margin."""
    a, b = normal(800, 8, 0), normal(800, 8, 1)
    return torch.cat([a, 0.6 * a + 0.8 * b], 1), normal(800, 16, 2)


def wider():
    return 1.3 * normal(1000, 8, 0), normal(1000, 8, 1)


def dropped():
    """One of four clusters is missing."""
    far = 6.0 * torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    return far[torch.arange(2000) % 3] + normal(2000, 2, 0), far[torch.arange(2000) % 4] + normal(2000, 2, 1)


def faintly_correlated():
    """Pairs with correlation 0.2: the trees alone reach p = 5e-5 here."""
    a, b = normal(2500, 24, 0), normal(2500, 24, 1)
    return torch.cat([a, 0.2 * a + 0.96**0.5 * b], 1), normal(2500, 48, 2)


def noisier():
    """Moons with a little more noise: the network alone reaches p = 0.7 here."""
    return (moons(n).sample(2500, generator=torch.Generator().manual_seed(s)) for s, n in enumerate((0.14, 0.1)))


CASES = {shuffled_moments: 1e-4, correlated: 1e-4, wider: 1e-4, dropped: 1e-4, noisier: 1e-4, faintly_correlated: 1e-7}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_differences_beyond_the_mean_are_found(case):
    found = two_sample_test(*case())
    assert found.p_value < CASES[case]
    assert found.accuracy.low > 0.5


def test_accuracy_reaches_the_best_possible():
    """Two normals at distance 2: the best rule is right with probability Phi(1); a trained one loses at most 0.04 here."""
    found = two_sample_test(normal(4000, 2, 0) + torch.tensor([2.0, 0.0]), normal(4000, 2, 1)).accuracy
    best, error = stats.norm.cdf(1.0), math.sqrt(0.134 / 4000)
    assert best - 0.04 - 5 * error < found.value < best + 5 * error


def test_equal_seeds_give_equal_numbers():
    x, y = normal(150, 3, 0), normal(150, 3, 1)
    assert two_sample_test(x, y, seed=5) == two_sample_test(x, y, seed=5)
    assert two_sample_test(x, y, seed=5) != two_sample_test(x, y, seed=6)
    state = torch.get_rng_state()
    two_sample_test(x, y)
    assert torch.equal(state, torch.get_rng_state())


def test_units_do_not_matter():
    x, y = normal(150, 3, 0), normal(150, 3, 1) + 0.3
    scale, shift = torch.tensor([1e-3, 1.0, 1e4]), torch.tensor([5.0, 0.0, -1e4])
    a, b = two_sample_test(x, y), two_sample_test(x * scale + shift, y * scale + shift)
    assert a.accuracy.value == pytest.approx(b.accuracy.value, abs=0.05)  # rounding of float32 moves single decisions


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (torch.zeros(40, 2), torch.zeros(40, 2), 0.5),  # constant and equal
        (torch.zeros(40, 2), torch.ones(40, 2), 1.0),
        (normal(60, 2, 0), normal(60, 2, 0), 0.5),  # copies of the very data: each pair gets one right, one wrong
    ],
)
def test_constant_and_duplicate_data(x, y, expected):
    assert two_sample_test(x, y).accuracy.value == expected


def test_fewer_data_than_dimensions():
    assert two_sample_test(normal(20, 50, 0), normal(20, 50, 1)).p_value > 1e-4


def test_integers_and_images_are_taken_as_they_are():
    x = torch.randint(0, 256, (40, 1, 3, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert two_sample_test(x, x.flip(0)) == two_sample_test(x.flatten(1).double(), x.flip(0).flatten(1).double())


def test_two_models_pair_by_the_shared_data():
    """Models of different distance from the data are told apart by their accuracies."""
    y = normal(1000, 2, 0)
    near, far = (two_sample_test(normal(1000, 2, seed) + shift, y).accuracy for seed, shift in ((1, 0.1), (2, 1.5)))
    assert difference(far, near).low > 0


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (torch.zeros(40, 2), torch.zeros(40, 3), "one shape"),
        (torch.zeros(2, 2), torch.zeros(40, 2), "at least 20"),
        (torch.full((40, 2), math.nan), torch.zeros(40, 2), "NaN"),
    ],
)
def test_bad_samples_give_one_line(x, y, says):
    with pytest.raises(BadInput, match=says) as caught:
        two_sample_test(x, y)
    assert "\n" not in str(caught.value)
