"""Nearest neighbours against scikit-learn, SciPy and differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from sixfold.core.errors import BadInput
from sixfold.evaluate import neighbours
from sixfold.evaluate.neighbours import nearest, nearest_other


def normal(count, dims, seed=0):
    return torch.randn(count, dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(params=[(7, 11), (1024, 4096)], ids=["small blocks", "one block"])
def blocks(request, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", request.param[0])
    monkeypatch.setattr(neighbours, "TILE", request.param[1])


@pytest.mark.parametrize(("n", "m", "dims", "k"), [(50, 80, 1, 1), (33, 20, 2, 20), (20, 100, 64, 5), (9, 23, 300, 7)])
@pytest.mark.usefixtures("blocks")
def test_agrees_with_scikit_learn(n, m, dims, k):
    x, y = normal(n, dims), normal(m, dims, 1)
    found, rows = nearest(x, y, k=k)
    want, index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(y.numpy()).kneighbors(x.numpy())
    np.testing.assert_allclose(found.numpy(), want, rtol=1e-9, atol=1e-9)  # theirs are expanded squares
    assert np.array_equal(rows.numpy(), index)
    own, others = nearest_other(y, k=min(k, m - 1))
    want, index = NearestNeighbors(n_neighbors=min(k, m - 1), algorithm="brute").fit(y.numpy()).kneighbors()
    np.testing.assert_allclose(own.numpy(), want, rtol=1e-9, atol=1e-9)
    assert np.array_equal(others.numpy(), index)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
@pytest.mark.usefixtures("blocks")
def test_ties_have_their_distances(dtype):
    x, y = ((normal(n, 12, n) > 0).to(dtype) for n in (40, 60))
    np.testing.assert_array_equal(nearest(x, y, k=9)[0].numpy(), np.sort(cdist(x.numpy(), y.numpy()), 1)[:, :9])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e12, 1e25], ids=str)  # the last one's squares overflow in float32
@pytest.mark.usefixtures("blocks")
def test_clusters_far_apart_keep_their_digits(scale):
    # Float32 cannot see within a cluster whose centre is 3e4 of its sizes away; the search in float64 must step in.
    x, y = (torch.cat([normal(30, 3, seed) + 3e4, normal(30, 3, seed + 5) - 3e4]) * scale for seed in (0, 1))
    want = np.sort(cdist(x.numpy(), y.numpy()), 1)[:, :3]
    np.testing.assert_allclose(nearest(x, y, k=3)[0].numpy(), want, rtol=1e-12)  # by differences, as SciPy's


@pytest.mark.parametrize("shift", [0.0, 1e6])
@pytest.mark.usefixtures("blocks")
def test_equal_rows_are_at_exactly_zero(shift):
    y = normal(50, 40) * 0.3 + shift
    assert not nearest(y[10:30], y)[0].any()
    assert nearest(y[10:30], y)[1].flatten().tolist() == list(range(10, 30))


@pytest.mark.usefixtures("blocks")
def test_only_the_datum_itself_is_left_out():
    x = torch.cat([normal(15, 4), normal(15, 4)])  # everything twice
    found, rows = nearest_other(x)
    assert not found.any()
    assert rows.flatten().tolist() == [*range(15, 30), *range(15)]
    chosen = torch.tensor([29, 3])
    far, others = nearest_other(x, k=29, rows=chosen)
    assert [set(o.tolist()) for o in others] == [set(range(30)) - {r} for r in chosen.tolist()]
    np.testing.assert_allclose(far.numpy(), np.sort(cdist(x[chosen], x), 1)[:, 1:], rtol=1e-12)


@pytest.mark.parametrize("k", [0, 20])
def test_too_few_neighbours_say_so(k):
    with pytest.raises(BadInput, match=f"between 1 and the 19 .* got {k}"):
        nearest_other(normal(20, 2), k=k)
