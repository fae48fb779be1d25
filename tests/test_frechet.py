"""The Frechet distance against closed forms, two other implementations and repeated draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torchmetrics.image.fid import FrechetInceptionDistance

from sixfold.core.errors import BadInput
from sixfold.evaluate.frechet import frechet, frechet_limit
from sixfold.evaluate.score import PARTS, difference, fold


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def white(n, d, seed=0):
    """A sample whose mean is exactly zero and whose covariance is exactly the identity."""
    z = normal(n, d, seed)
    z = z - z.mean(0)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(z.T.cov().reshape(d, d)), z.T, upper=False).T


def rotation(d, columns, seed=0):
    return torch.linalg.qr(normal(d, columns, seed)).Q


def by_roots(x, y):
    """SciPy's matrix root of the product of two regular covariances."""
    s, t = (np.cov(z.numpy(), rowvar=False) for z in (x, y))
    return float(np.square((x.mean(0) - y.mean(0)).numpy()).sum() + np.trace(s + t - 2 * sqrtm(s @ t).real))


def by_data(x, y):
    """From inner products of the data alone, without any covariance: Tr (S T)^1/2 is the nuclear norm of X Y^T."""
    a, b = (z.numpy() - z.numpy().mean(0) for z in (x, y))
    traces = np.square(a).sum() / (len(a) - 1) + np.square(b).sum() / (len(b) - 1)
    overlap = np.linalg.svd(a @ b.T, compute_uv=False).sum() / np.sqrt((len(a) - 1) * (len(b) - 1))
    return float(np.square((x.mean(0) - y.mean(0)).numpy()).sum() + traces - 2 * overlap)


@pytest.mark.parametrize("far", [0.0, 1e6])  # at 1e6 second moments about zero would lose all but four digits
def test_shift_is_its_squared_length(far):
    x = far + normal(100, 4)
    assert frechet(x, x + 0.5).value == pytest.approx(4 * 0.25, rel=1e-8)


def test_diagonal_covariances_differ_by_their_roots():
    a, b = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([3.0, 1.0, 0.0]).double()  # one feature of y is constant
    assert frechet(white(60, 3) * a, white(90, 3, 1) * b).value == pytest.approx(float((a - b).square().sum()), rel=1e-9)


@pytest.mark.parametrize(("d", "within"), [(3, 3), (3, 40)])  # the second lies in a subspace, with fewer data than features
def test_commuting_covariances_differ_by_the_roots_of_their_eigenvalues(d, within):
    a, b, q = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([3.0, 1.0, 1.5]).double(), rotation(within, d)
    found = frechet(white(30, 3) * a @ q.T, white(25, 3, 1) * b @ q.T).value
    assert found == pytest.approx(float((a - b).square().sum()), rel=1e-9)


@pytest.mark.parametrize(("n", "m", "d"), [(100, 100, 1), (60, 90, 5), (300, 200, 32)])
def test_general_covariances_agree_with_scipy(n, m, d):
    x, y = normal(n, d) @ normal(d, d, 2), normal(m, d, 1) @ normal(d, d, 3) + 0.3
    expected = by_data(x, y) if d == 1 else by_roots(x, y)
    assert frechet(x, y).value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("n", "m", "d"), [(30, 25, 80), (200, 25, 80), (60, 90, 5)])
def test_fewer_data_than_features_agree_with_inner_products_of_data(n, m, d):
    x, y = normal(n, d) @ normal(d, d, 2), normal(m, d, 1) @ normal(d, d, 3) + 0.3
    assert frechet(x, y).value == pytest.approx(by_data(x, y), rel=1e-9)


class Identity(torch.nn.Module):
    """Features handed through."""

    num_features = 6

    def forward(self, x):
        return x


def test_agrees_with_torchmetrics():
    x, y = normal(80, 6), normal(70, 6, 1) * 1.5 + 0.2
    metric = FrechetInceptionDistance(feature=Identity()).set_dtype(torch.float64)
    metric.update(x, real=False)
    metric.update(y, real=True)
    assert frechet(x, y).value == pytest.approx(float(metric.compute()), rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(45, 63), (60, 60)])
def test_parts_are_the_distances_without_them(n, m):
    x, y = normal(n, 4), normal(m, 4, 1) * 1.2
    found, whole = frechet(x, y), by_roots(x, y)
    left = [by_roots(x[fold(n) != g], y[fold(m) != g]) for g in range(PARTS)]
    assert found.parts == pytest.approx([PARTS * whole - (PARTS - 1) * v for v in left], rel=1e-8)


def test_bias_falls_as_one_over_the_size():
    # 40 draws of each size: the ratio's standard error is near 4%, five of them are allowed (false alarms below 1e-5).
    mean = [np.mean([frechet(normal(n, 4, s), normal(n, 4, 1000 + s)).value for s in range(40)]) for n in (50, 200)]
    assert mean[0] / mean[1] == pytest.approx(4.0, rel=0.2)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.5, 1.0), (0.0, 1.5)])
def test_limit_covers_the_truth(shift, scale):
    # Of 16 intervals of 95% at most 5 may miss (P = 7e-5 were each to miss in 5% of cases; measured: none, one, none).
    truth = 3 * (shift**2 + (scale - 1) ** 2)
    found = [frechet_limit(normal(120, 3, s) * scale + shift, normal(150, 3, 1000 + s)) for s in range(16)]
    values = torch.tensor([score.value for score in found])
    assert sum(not score.low <= truth <= score.high for score in found) <= 5
    assert float(values.mean()) == pytest.approx(truth, abs=4 * float(values.std()) / 4)  # false alarms below 1e-4


def test_limit_removes_the_bias_that_fewer_data_bring():
    # Twenty dimensions, equal distributions: the distance is far from zero and its interval does not say so; the limit's does.
    x, y = normal(200, 20), normal(200, 20, 1)
    assert frechet(x, y).low > 0.5
    limit = frechet_limit(x, y)
    assert limit.low <= 0 <= limit.high
    assert frechet_limit(x, y) == limit
    assert frechet_limit(x, y, seed=1) != limit


def test_limit_of_point_masses_is_exact_at_every_size():
    assert frechet_limit(torch.full((21, 3), 2.0), torch.zeros(40, 3)).value == pytest.approx(12.0, rel=1e-12)


@pytest.mark.parametrize("smallest", [0.2, 0.5])
def test_limit_finds_the_line_that_the_distances_lie_on(smallest, monkeypatch):
    # Distances that are exactly 0.7 + 3 (1/N + 1/M): every intercept, of all data and without any part, must be 0.7.
    def line(x, y, part_x, part_y):
        left = [[int((part != g).sum()) for g in range(-1, PARTS)] for part in (part_x, part_y)]
        return torch.tensor([0.7 + 3 * (1 / n + 1 / m) for n, m in zip(*left, strict=True)], dtype=torch.float64)

    monkeypatch.setattr("sixfold.evaluate.frechet._by_part", line)
    limit = frechet_limit(normal(70, 2), normal(45, 2), smallest=smallest)
    assert limit.parts == pytest.approx([0.7] * PARTS, rel=1e-9)


def test_false_alarms_and_power_of_a_paired_difference():
    # 100 pairs of equally good generators against the same real data: at most 15 alarms (P = 4e-5 at 5%; measured: one).
    alarms = 0
    for s in range(100):
        y = normal(60, 3, s)
        gap = difference(frechet(normal(60, 3, 1000 + s), y), frechet(normal(60, 3, 2000 + s), y))
        alarms += gap.low > 0 or gap.high < 0
    assert alarms <= 15
    y = normal(300, 3)
    assert difference(frechet(normal(300, 3, 1) + 0.7, y), frechet(normal(300, 3, 2), y)).low > 0


@pytest.mark.parametrize("metric", [frechet, frechet_limit])
def test_same_constant_features_are_at_zero_distance(metric):
    assert metric(torch.ones(30, 4), torch.ones(25, 4)).value == 0
    assert frechet(normal(30, 4), normal(30, 4)).value == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("metric", [frechet, frechet_limit])
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(30, 3), "at least 20 data"),
        (torch.zeros(30, 2), torch.zeros(30, 3), "one shape"),
        (torch.full((30, 3), torch.nan), torch.zeros(30, 3), "NaN or infinity"),
    ],
)
def test_bad_samples_are_refused_in_one_line(metric, x, y, message):
    with pytest.raises(BadInput, match=message) as caught:
        metric(x, y)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("smallest", "message"), [(0.0, "between 0 and 1"), (1.0, "between 0 and 1"), (0.05, "too few")])
def test_bad_share_is_refused(smallest, message):
    with pytest.raises(BadInput, match=message):
        frechet_limit(normal(30, 2), normal(30, 2), smallest=smallest)
