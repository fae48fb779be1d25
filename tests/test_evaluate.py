"""Metrics against closed forms and second implementations."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.likelihood import Exact, LogProb
from sixfold.core.model import GenerativeModel, Terms
from sixfold.core.spec import DataSpec, Support
from sixfold.evaluate.likelihood import log_prob_of
from sixfold.evaluate.score import JACKKNIFE, PARTS, Score, difference, fold
from sixfold.evaluate.sliced import directions, sliced_floor, sliced_score, sliced_wasserstein


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_shift_in_one_dimension_is_its_size():
    x = torch.randn(500, 1, generator=generator())
    assert sliced_wasserstein(x, x + 3.0) == pytest.approx(3.0, rel=1e-6)  # float32 data


@pytest.mark.parametrize("dims", [2, 5, 64])
def test_shift_in_many_dimensions_is_its_length_over_root_dims(dims):
    # E[(w.s)^2] = |s|^2 / D; with the 500 directions used the average is itself known exactly.
    x, shift = torch.randn(300, dims, generator=generator(), dtype=torch.float64), torch.ones(dims, dtype=torch.float64)
    exact = float((shift @ directions(dims, 500)).square().mean().sqrt())
    assert sliced_wasserstein(x, x + shift) == pytest.approx(exact, rel=1e-12)
    assert exact == pytest.approx(1.0, rel=0.1)  # 1 = |s| / sqrt(D), 500 random directions


@pytest.mark.parametrize(("n", "m"), [(7, 7), (5, 8), (1, 9), (12, 3)])
def test_one_direction_agrees_with_brute_force_over_quantiles(n, m):
    x, y = torch.randn(n, 1, generator=generator(n)), torch.randn(m, 1, generator=generator(m + 50))
    fine = n * m * 4  # every step of both quantile functions lies on this grid
    q = (torch.arange(fine) + 0.5) / fine
    a, b = (t.sort(0).values[(q * len(t)).floor().long(), 0].double() for t in (x, y))
    assert sliced_wasserstein(x, y) == pytest.approx(float((a - b).square().mean().sqrt()), rel=1e-9)


def test_two_point_masses_agree_with_scipy():
    # For point masses W_1 and W_2 coincide, and SciPy has W_1.
    x, y = np.full(4, 0.5), np.full(6, 2.25)
    ours = sliced_wasserstein(torch.from_numpy(x)[:, None], torch.from_numpy(y)[:, None])
    assert ours == pytest.approx(wasserstein_distance(x, y), abs=1e-12)


def test_gaussians_of_different_scale():
    # W_2 between N(0, 1) and N(0, 9) is 2; 20,000 draws leave a standard error near 0.02, five of them are allowed.
    x = torch.randn(20_000, 1, generator=generator(1))
    y = 3 * torch.randn(20_000, 1, generator=generator(2))
    assert sliced_wasserstein(x, y) == pytest.approx(2.0, abs=0.1)


def test_floor_averages_all_pairs_of_real_samples():
    samples = [torch.randn(n, 2, generator=generator(n)) for n in (100, 101, 100)]
    pairs = [sliced_wasserstein(a, b) for a, b in combinations(samples, 2)]
    assert sliced_floor(samples) == pytest.approx(sum(pairs) / 3)


@pytest.mark.parametrize(("x", "y"), [((0, 2), (3, 2)), ((3, 2), (0, 2)), ((3, 2), (3, 3))])
def test_samples_that_cannot_be_compared(x, y):
    with pytest.raises(BadInput, match="non-empty samples of one shape"):
        sliced_wasserstein(torch.zeros(x), torch.zeros(y))


def test_floor_needs_two_samples():
    with pytest.raises(BadInput, match="at least two"):
        sliced_floor([torch.zeros(3, 1)])


@pytest.mark.parametrize(("n", "m"), [(40, 40), (33, 33), (33, 47), (60, 20)])
def test_parts_of_sliced_distance_are_the_distances_without_them(n, m):
    x, y = torch.randn(n, 3, generator=generator(1)), torch.randn(m, 3, generator=generator(2)) + 0.3
    whole = sliced_wasserstein(x, y, projections=70)  # more than one chunk of directions
    left = [sliced_wasserstein(x[fold(n) != g], y[fold(m) != g], projections=70) for g in range(PARTS)]
    found = sliced_score(x, y, projections=70)
    assert found.value == pytest.approx(whole, rel=1e-12)
    assert found.parts == pytest.approx([PARTS * whole - (PARTS - 1) * v for v in left], rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(40, 40), (33, 47)])
def test_sliced_distance_agrees_with_pot(n, m):
    ot = pytest.importorskip("ot")
    x, y = (torch.randn(k, 5, generator=generator(k), dtype=torch.float64) for k in (n, m + 1))
    theirs = ot.sliced_wasserstein_distance(x, y, projections=directions(5, 200, seed=3), p=2)
    assert sliced_score(x, y, projections=200, seed=3).value == pytest.approx(float(theirs), rel=1e-9)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_interval_of_sliced_distance_is_as_wide_as_repeats_scatter(shift):
    # 60 repeats: the scatter's own error is 9%, so that a factor of 1.6 is five of them (false alarms below 1e-4). Around
    # zero the jackknife is wider than the truth, by a third when measured.
    found = [
        sliced_score(
            torch.randn(80, 2, generator=generator(s)) + shift, torch.randn(80, 2, generator=generator(900 + s)), projections=50
        )
        for s in range(60)
    ]
    half, scatter = torch.tensor([f.half for f in found]).mean() / 2.09, torch.tensor([f.value for f in found]).std()
    assert 1 / 1.6 < float(half / scatter) < (1.6 if shift else 2.2)


def test_equal_and_wrong_samples_by_paired_sliced_distance():
    # 100 pairs of equally good samples against the same real data: at most 15 alarms (P = 4e-5 at 5%; measured: two).
    def draw(seed: int, n: int = 60) -> torch.Tensor:
        return torch.randn(n, 2, generator=generator(seed))

    gaps = [difference(*(sliced_score(draw(s + k), draw(s), projections=20) for k in (1000, 2000))) for s in range(100)]
    assert sum(gap.low > 0 or gap.high < 0 for gap in gaps) <= 15
    y = draw(0, 300)
    assert difference(sliced_score(draw(1, 300) + 0.6, y), sliced_score(draw(2, 300), y)).low > 0


def test_sliced_score_of_duplicates_and_constants_and_images():
    x = torch.zeros(40, 1, 2, 2, dtype=torch.uint8)
    assert sliced_score(x, x) == Score(0.0, 0.0, 0.0, JACKKNIFE, (0.0,) * PARTS)
    assert sliced_score(x + 3, x).value == pytest.approx(3 * float(directions(4, 500).sum(0).square().mean().sqrt()))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(30, 3), "at least 20 data"),
        (torch.zeros(30, 2), torch.zeros(30, 3), "one shape"),
        (torch.full((30, 3), torch.nan), torch.zeros(30, 3), "NaN or infinity"),
    ],
)
def test_sliced_score_refuses_bad_samples(x, y, message):
    with pytest.raises(BadInput, match=message):
        sliced_score(x, y)


class Normal(GenerativeModel):
    """N(0, 1) on the line."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.scale = torch.nn.Parameter(torch.ones(()))

    def loss(self, batch, player):
        return Terms(batch.x.flatten(1).square().sum(1) * self.scale)

    def sample(self, num, *, cond=None, generator=None):
        return torch.randn(num, 1, generator=generator)


class NormalWithDensity(Normal):
    def log_prob(self, x, cond=None, *, effort=1, generator=None):
        nats = -0.5 * (self.take(x)[:, 0].square() + math.log(2 * math.pi))
        return LogProb(nats, Exact, "closed form", 1)


def test_batches_of_log_prob_are_joined_in_order():
    model, x = NormalWithDensity(DataSpec((1,), Support("real"))), torch.linspace(-3, 3, 23)[:, None]
    joined, whole = log_prob_of(model, x, batch=5), model.log_prob(x)
    assert torch.equal(joined.nats, whole.nats)
    assert joined.kind is Exact


def test_model_without_density_is_refused():
    with pytest.raises(Unsupported, match="no log-probability"):
        log_prob_of(Normal(DataSpec((1,), Support("real"))), torch.zeros(2, 1))
