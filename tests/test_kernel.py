"""Kernel distances against brute force, closed forms, another implementation and repeated draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from torchmetrics.image.kid import KernelInceptionDistance

from sixfold.core.errors import BadInput
from sixfold.evaluate.kernel import bandwidth, kernel_distance, rbf_distance
from sixfold.evaluate.score import PARTS, difference, fold

METRICS = {"cubic": kernel_distance, "rbf": lambda x, y: rbf_distance(x, y)["mean"]}


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cubic(a, b):
    return (float(np.dot(a, b)) / len(a) + 1) ** 3


def gaussian(width):
    return lambda a, b: math.exp(-float(np.square(a - b).sum()) / (2 * width**2))


def brute(x, y, k):
    """Unbiased MMD^2 of all data, then without each part, from every pair's kernel value one by one."""
    z = np.concatenate([x.numpy(), y.numpy()])
    values = np.array([[k(a, b) for b in z] for a in z])
    np.fill_diagonal(values, 0.0)

    def mmd(i, j):
        xx, yy, xy = (values[np.ix_(p, q)].sum() for p, q in ((i, i), (j, j), (i, j)))
        return xx / (len(i) * (len(i) - 1)) + yy / (len(j) * (len(j) - 1)) - 2 * xy / (len(i) * len(j))

    i, j = np.arange(len(x)), np.arange(len(y)) + len(x)
    left = [mmd(i[fold(len(x)).numpy() != g], j[fold(len(y)).numpy() != g]) for g in range(PARTS)]
    return mmd(i, j), left


def check_against_brute(score, x, y, k):
    value, left = brute(x, y, k)
    assert score.value == pytest.approx(value, rel=1e-10, abs=1e-13)
    assert score.parts == pytest.approx([PARTS * value - (PARTS - 1) * v for v in left], rel=1e-10, abs=1e-12)


@pytest.fixture(params=[7, 500], ids=["many blocks", "one block"])
def rows(request, monkeypatch):
    monkeypatch.setattr("sixfold.evaluate.kernel.ROWS", request.param)


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize(("n", "m"), [(33, 47), (40, 40)])
def test_polynomial_agrees_with_brute_force(n, m):
    x, y = normal(n, 3), normal(m, 3, 1) * 1.3 + 0.2
    check_against_brute(kernel_distance(x, y), x, y, cubic)


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("scales", [(0.5, 1.0, 2.0), (1.3, 0.3, 1.0, 0.65)])  # by squaring alone; in both ways and any order
def test_gaussian_agrees_with_brute_force_at_every_scale(scales):
    x, y = normal(33, 3) + 5, normal(47, 3, 1) * 1.3 + 5
    found, width = rbf_distance(x, y, scales=scales), bandwidth(y)
    assert list(found) == ["mean", *(f"{s:g}" for s in scales)]
    for s in scales:
        check_against_brute(found[f"{s:g}"], x, y, gaussian(s * width))
    check_against_brute(found["mean"], x, y, lambda a, b: sum(gaussian(s * width)(a, b) for s in scales) / len(scales))


class Identity(torch.nn.Module):
    """Features handed through."""

    def forward(self, x):
        return x


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save all extracted features")
def test_polynomial_agrees_with_torchmetrics():
    x, y = normal(80, 6), normal(80, 6, 1) * 1.2 + 0.1
    metric = KernelInceptionDistance(feature=Identity(), subsets=1, subset_size=80)  # one subset of everything
    metric.update(x, real=False)
    metric.update(y, real=True)
    assert kernel_distance(x, y).value == pytest.approx(float(metric.compute()[0]), rel=1e-9)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_gaussian_kernel_between_gaussians_has_its_closed_form(scale):
    # E k = (w / (w + s + t))^(D/2) exp(-|shift|^2 / (2 (w + s + t))) for variances s, t and a kernel of variance w.
    # Five standard errors of the estimate are allowed, from its own interval (false alarms below 1e-4 with t of 19 degrees).
    d, shift, x, y = 3, 0.8, normal(2000, 3) * 1.4 + 0.8, normal(2000, 3, 1)
    w = (scale * bandwidth(y)) ** 2

    def mean(s, t, gap):
        return (w / (w + s + t)) ** (d / 2) * math.exp(-d * gap**2 / (2 * (w + s + t)))

    truth = mean(1.96, 1.96, 0) + mean(1, 1, 0) - 2 * mean(1.96, 1, shift)
    found = rbf_distance(x, y, scales=(scale,))[f"{scale:g}"]
    assert found.value == pytest.approx(truth, abs=5 * found.half / 2.09)
    assert found.half < 0.15 * truth


@pytest.mark.parametrize("name", list(METRICS))
def test_equal_distributions_have_mean_zero_and_few_false_alarms(name):
    # 200 repeats: the mean within 4.5 standard errors (false alarms below 1e-5); at most 14 intervals, 7%, miss zero
    # (measured: one and five, all of them below zero).
    found = [METRICS[name](normal(60, 2, s), normal(80, 2, 1000 + s)) for s in range(200)]
    values = torch.tensor([score.value for score in found])
    assert abs(float(values.mean())) < 4.5 * float(values.std()) / math.sqrt(200)
    assert sum(not score.low <= 0 <= score.high for score in found) <= 14
    assert sum(score.low > 0 for score in found) <= 4  # a good generator is rarely called bad


@pytest.mark.parametrize("name", list(METRICS))
def test_equal_generators_are_rarely_told_apart(name):
    # 100 pairs against the same real data: at most 15 alarms (P = 4e-5 at 5%; measured: none, for the jackknife is wide here).
    alarms = 0
    for s in range(100):
        y = normal(60, 3, s)
        gap = difference(METRICS[name](normal(60, 3, 1000 + s), y), METRICS[name](normal(60, 3, 2000 + s), y))
        alarms += gap.low > 0 or gap.high < 0
    assert alarms <= 15


@pytest.mark.parametrize("name", list(METRICS))
@pytest.mark.parametrize(
    "bad", [lambda x: x + 0.5, lambda x: 1.6 * x, lambda x: x.abs()], ids=["shift", "scale", "half the modes"]
)
def test_wrong_generators_are_found(name, bad):
    x, y = normal(300, 2), normal(300, 2, 1)
    assert METRICS[name](bad(x), y).low > 0
    assert difference(METRICS[name](bad(x), y), METRICS[name](normal(300, 2, 2), y)).low > 0


def test_gaussian_distance_ignores_shift_and_unit():
    x, y = normal(40, 3), normal(50, 3, 1)
    plain, moved = rbf_distance(x, y), rbf_distance(1e3 * x + 1e9, 1e3 * y + 1e9)
    assert moved["mean"].value == pytest.approx(plain["mean"].value, abs=1e-9)  # 1e9 / 1e3 * 1e-16, with room


def test_bandwidth_is_the_median_distance_of_different_data():
    y = normal(51, 4)
    assert bandwidth(y, rows=51) == pytest.approx(float(np.median(pdist(y.numpy()))), rel=1e-12)  # 1275 pairs: an odd number
    assert bandwidth(y, rows=20, seed=1) == bandwidth(y, rows=20, seed=1) != bandwidth(y, rows=20, seed=2)
    mostly_equal = torch.cat([torch.zeros(95, 2), torch.tensor([[3.0, 4.0]]).expand(5, 2)])
    assert bandwidth(mostly_equal) == 5.0


def test_duplicates_and_constant_features_are_no_special_case():
    x, y = normal(20, 2).repeat(2, 1), torch.cat([normal(45, 2, 1), torch.ones(45, 1)], dim=1)
    x = torch.cat([x, torch.ones(40, 1)], dim=1)
    check_against_brute(kernel_distance(x, y), x, y, cubic)
    check_against_brute(rbf_distance(x, y)["1"], x, y, gaussian(bandwidth(y)))
    constant = torch.zeros(30, 3)
    check_against_brute(rbf_distance(constant, y)["1"], constant.double(), y, gaussian(bandwidth(y)))
    assert kernel_distance(constant, constant).value == 0


def test_images_are_flattened():
    x, y = (torch.randint(0, 256, (30, 1, 4, 4), generator=torch.Generator().manual_seed(s), dtype=torch.uint8) for s in (0, 1))
    assert kernel_distance(x, y) == kernel_distance(x.flatten(1).double(), y.flatten(1).double())


@pytest.mark.parametrize("metric", [kernel_distance, rbf_distance])
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


def test_constant_real_data_have_no_bandwidth():
    with pytest.raises(BadInput, match="all real data are equal") as caught:
        rbf_distance(normal(30, 2), torch.ones(30, 2))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scales", [(), (0.0, 1.0), (-1.0,)])
def test_bad_scales_are_refused(scales):
    with pytest.raises(BadInput, match="must be above zero"):
        rbf_distance(normal(30, 2), normal(30, 2), scales=scales)
