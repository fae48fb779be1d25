"""Sliced Wasserstein distance between two samples.

    SW_2(P, Q)^2 = E_w [ W_2(w.P, w.Q)^2 ],   w uniform on the unit sphere,   W_2^2 = integral (F^-1(q) - G^-1(q))^2 dq

Source: Sliced and Radon Wasserstein Barycenters of Measures (Bonneel, Rabin, Peyre & Pfister, 2015), section 3.

Between two finite samples of one distribution it is not zero; compare with the distance between two real samples of the same
sizes, which :func:`sliced_floor` gives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from sixfold.core.errors import BadInput


def directions(dims: int, count: int, *, seed: int = 0) -> Tensor:
    """Unit vectors, (dims, count), the same for equal ``seed``; float64."""
    w = torch.randn(dims, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    lengths: Tensor = torch.linalg.vector_norm(w, dim=0, keepdim=True)
    return w / lengths


def sliced_wasserstein(x: Tensor, y: Tensor, *, projections: int = 500, seed: int = 0) -> float:
    """SW_2 between two samples, in the data's units.

    Args:
        x, y: samples, (N, *shape) and (M, *shape); flattened. They may differ in size.
        projections: random directions; more narrows the Monte Carlo error over directions.
        seed: of the directions, so that two distances share them.

    Raises:
        BadInput: for empty samples or different shapes.

    Example:
        >>> x = torch.zeros(10, 1)
        >>> sliced_wasserstein(x, x + 2.0)
        2.0
    """
    return _distances([x, y], projections, seed)[0]


def sliced_floor(real: Sequence[Tensor], *, projections: int = 500, seed: int = 0) -> float:
    """Mean distance over all pairs of real samples: what a perfect model would score.

    Args:
        real: two or more independent samples of the size that models are scored with; more narrow the average.
        projections, seed: as in :func:`sliced_wasserstein`.

    Raises:
        BadInput: for fewer than two samples, and as in :func:`sliced_wasserstein`.
    """
    if len(real) < 2:
        raise BadInput(f"the distance between real samples needs at least two of them; got {len(real)}.")
    found = _distances(real, projections, seed)
    return sum(found) / len(found)


def _distances(samples: Sequence[Tensor], projections: int, seed: int) -> list[float]:
    """SW_2 of every pair, in the order of ``combinations``; each sample is projected and sorted once."""
    first = samples[0]
    for x in samples:
        if not len(x) or x.shape[1:] != first.shape[1:]:
            raise BadInput(f"non-empty samples of one shape are needed; got {tuple(first.shape)} and {tuple(x.shape)}.")
    flat = [x.flatten(1).double().cpu() for x in samples]
    pairs = list(combinations(range(len(flat)), 2))
    totals = torch.zeros(len(pairs), dtype=torch.float64)
    # Fifty directions at a time: the sorted projections of several large samples stay small in memory.
    for part in torch.split(directions(flat[0].shape[1], projections, seed=seed), 50, dim=1):
        lines = [(x @ part).sort(0).values for x in flat]
        totals += torch.stack([_squared(lines[i], lines[j]) for i, j in pairs])
    return [math.sqrt(total / projections) for total in totals.tolist()]


def _squared(a: Tensor, b: Tensor) -> Tensor:
    """Sum over columns of the squared W_2 between sorted one-dimensional samples, (N, P) and (M, P)."""
    if len(a) == len(b):
        return (a - b).square().mean(0).sum()
    # Both quantile functions are step functions; between the joined steps their difference is constant.
    steps = torch.cat([torch.arange(1, n + 1, dtype=torch.float64) / n for n in (len(a), len(b))]).sort().values
    weights = steps.diff(prepend=steps.new_zeros(1))
    middle = steps - weights / 2
    i, j = ((middle * n).floor().long().clamp_max(n - 1) for n in (len(a), len(b)))
    return (weights[:, None] * (a[i] - b[j]).square()).sum()
