"""References: each has the one fault that it is there for, and the likelihoods of Gaussian and KDE are right."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

import sixfold
from sixfold.compare.meaning import BLURRED, COPIES, DROPPED, GAUSSIAN, REAL
from sixfold.compare.references import KDE, Reference, References, Smooth
from sixfold.core.dataset import Dataset
from sixfold.core.likelihood import LEBESGUE, Exact, Lower, Measure


def made(dataset: Dataset, count: int) -> dict[str, Reference]:
    return {r.label: r for r in References(dataset, count).all()}


@pytest.fixture(scope="module")
def digits() -> dict[str, Reference]:
    return made(sixfold.load_data("digits"), 170)


@pytest.fixture(scope="module")
def ring() -> dict[str, Reference]:
    return made(sixfold.load_data("ring8"), 500)


def rows(x: torch.Tensor) -> set[bytes]:
    return {row.numpy().tobytes() for row in x.flatten(1)}


@pytest.mark.parametrize("name", ["digits", "ring8"])
def test_references_are_data_of_the_specification(name, request):
    spec = sixfold.load_data(name).spec
    found = request.getfixturevalue("digits" if name == "digits" else "ring")
    assert tuple(found) == References.labels
    for reference in found.values():
        assert spec.check(reference.samples).dtype == spec.dtype
        assert len(reference.samples) == len(found[REAL].samples)


@pytest.mark.parametrize("label", [REAL, DROPPED])
def test_what_counts_as_new_is_not_among_the_training_data(digits, label):
    assert not rows(digits[label].samples) & rows(digits[label].train)


def test_copies_are_training_data(digits):
    assert rows(digits[COPIES].samples) <= rows(digits[COPIES].train)


def test_modes_are_dropped_by_class_and_by_cluster_without_labels(ring):
    centres = sixfold.load_data("ring8").truth.centres
    assert (
        len(torch.cdist(ring[DROPPED].samples.double(), centres.double()).argmin(1).unique()) == 6
    )  # a third of 8, rounded down
    bare = sixfold.load_data("ring8").unconditional()
    kept = torch.cdist(made(bare, 500)[DROPPED].samples.double(), centres.double()).argmin(1).unique()
    assert 4 <= len(kept) < 8


def test_blur_softens_images_and_spreads_points(digits, ring):
    def roughness(x: torch.Tensor) -> float:
        return float(x.double().diff(dim=-1).abs().mean())

    assert roughness(digits[BLURRED].samples) < 0.8 * roughness(digits[REAL].samples)
    assert ring[BLURRED].samples.std(0).norm() > 1.03 * ring[REAL].samples.std(0).norm()  # sqrt(1 + 1/9) = 1.054 is expected


def test_gaussian_has_the_moments_of_the_training_data(ring):
    train = sixfold.load_data("ring8").train.rows().double()
    x = ring[GAUSSIAN].samples.double()
    # 500 draws of standard deviation about 0.7: five standard errors.
    assert torch.allclose(x.mean(0), train.mean(0), atol=5 * 0.75 / math.sqrt(500))
    assert torch.allclose(x.T.cov(), train.T.cov(), atol=5 * 0.75**2 * math.sqrt(2 / 500))


def test_gaussian_and_kernel_densities_agree_with_scipy():
    g = torch.Generator().manual_seed(0)
    x, centres = torch.randn(7, 3, generator=g), torch.randn(5, 3, generator=g, dtype=torch.float64)
    root = torch.tensor([[1.0, 0, 0], [0.5, 2.0, 0], [0.1, -0.3, 0.7]], dtype=torch.float64)
    found = Smooth(centres, root, LEBESGUE, "by hand").log_prob(x)
    covariance = (root @ root.T).numpy()
    parts = np.stack([stats.multivariate_normal(c.numpy(), covariance).logpdf(x.double().numpy()) for c in centres])
    expected = torch.from_numpy(parts).logsumexp(0) - math.log(5)
    assert torch.allclose(found.nats, expected, rtol=1e-9)
    assert found.kind is Exact


def test_the_bound_on_levels_lies_below_their_true_probability():
    # One pixel of three levels under N(1.5, 0.5): P(k) is the integral of the density from k to k + 1, and E_u log p(k + u)
    # lies below its logarithm by Jensen's inequality; 4,000 copies leave the mean of the draws a standard error below 0.02.
    law = Smooth(torch.tensor([[1.5]], dtype=torch.float64), torch.tensor([[0.5]], dtype=torch.float64), Measure(3), "by hand")
    normal = stats.norm(1.5, 0.5)
    for k in range(3):
        found = law.log_prob(torch.full((4000, 1), k, dtype=torch.uint8))
        truth = math.log(normal.cdf(k + 1) - normal.cdf(k))
        bound = stats.uniform(k, 1).expect(normal.logpdf)
        assert found.kind is Lower
        assert float(found.nats.mean()) == pytest.approx(bound, abs=0.1)
        assert bound < truth


def test_the_kernel_width_is_chosen_on_validation_data():
    truth = sixfold.load_data("mixture1d")
    kde = made(truth, 200)[KDE]
    assert kde.log_prob is not None
    x = truth.test.rows(2000)
    loss = float(truth.truth.log_prob(x).mean() - kde.log_prob(x).nats.mean())
    assert 0 < loss < 0.03  # 5,000 kernels on the line lose little; far too narrow or wide ones lose tenths


def test_few_data_still_leave_something_to_train_on():
    digits = sixfold.load_data("digits")
    small = replace(digits, train=replace(digits.train, x=digits.train.x[:30], cond=digits.train.cond[:30]))
    found = made(small, 170)
    assert len(found[REAL].samples) == 15  # at most half
    assert len(found[COPIES].samples) == 170
