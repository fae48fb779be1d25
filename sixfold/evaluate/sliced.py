"""Sliced Wasserstein distance between two samples.

    SW_2(P, Q)^2 = E_w [ W_2(w.P, w.Q)^2 ],   w uniform on the unit sphere,   W_2^2 = integral (F^-1(q) - G^-1(q))^2 dq

Source: Sliced and Radon Wasserstein Barycenters of Measures (Bonneel, Rabin, Peyre & Pfister, 2015), section 3.

Between two finite samples of one distribution it is not zero; compare with the distance between two real samples of the same
sizes, which :func:`sliced_floor` gives.
"""

from __future__ import annotations

import math

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
    if not len(x) or not len(y) or x.shape[1:] != y.shape[1:]:
        raise BadInput(f"two non-empty samples of one shape are needed; got {tuple(x.shape)} and {tuple(y.shape)}.")
    x, y = x.flatten(1).double().cpu(), y.flatten(1).double().cpu()
    w = directions(x.shape[1], projections, seed=seed)
    # Fifty directions at a time: the sorted projections of two large samples stay small in memory.
    total = sum(float(_squared(x @ part, y @ part)) for part in torch.split(w, 50, dim=1))
    return math.sqrt(total / projections)


def _squared(a: Tensor, b: Tensor) -> Tensor:
    """Sum over columns of the squared W_2 between one-dimensional samples, (N, P) and (M, P)."""
    a, b = a.sort(0).values, b.sort(0).values
    if len(a) == len(b):
        return (a - b).square().mean(0).sum()
    # Both quantile functions are step functions; between the joined steps their difference is constant.
    steps = torch.cat([torch.arange(1, n + 1, dtype=torch.float64) / n for n in (len(a), len(b))]).sort().values
    weights = steps.diff(prepend=steps.new_zeros(1))
    middle = steps - weights / 2
    i, j = ((middle * n).floor().long().clamp_max(n - 1) for n in (len(a), len(b)))
    return (weights[:, None] * (a[i] - b[j]).square()).sum()


def sliced_floor(real: list[Tensor], *, projections: int = 500) -> float:
    """Mean distance between consecutive real samples: what a perfect model would score.

    Args:
        real: two or more independent samples of the size that models are scored with.
        projections: as in :func:`sliced_wasserstein`.
    """
    pairs = list(zip(real[0::2], real[1::2], strict=False))
    if not pairs:
        raise BadInput(f"the distance between real samples needs at least two of them; got {len(real)}.")
    return sum(sliced_wasserstein(a, b, projections=projections, seed=i) for i, (a, b) in enumerate(pairs)) / len(pairs)
