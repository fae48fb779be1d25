"""Sliced Wasserstein distance between two samples.

    SW_2(P, Q)^2 = E_w [ W_2(w.P, w.Q)^2 ],   w uniform on the unit sphere,   W_2^2 = integral (F^-1(q) - G^-1(q))^2 dq

Source: Sliced and Radon Wasserstein Barycenters of Measures (Bonneel, Rabin, Peyre & Pfister, 2015), section 3.

Between two finite samples of one distribution it is not zero; compare with the distance between two real samples of the same
sizes, which :func:`sliced_floor` gives. The interval of :func:`sliced_score` is of the distance at these sizes, with these
directions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from sixfold.core.errors import BadInput
from sixfold.core.spec import Array
from sixfold.evaluate.score import PARTS, Score, fold, jackknife, samples

# Directions at a time: the sorted projections of several large samples stay small in memory.
CHUNK = 50


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


def sliced_score(x: Array, y: Array, *, projections: int = 500, seed: int = 0) -> Score:
    """SW_2 between two samples with its interval, in the data's units.

    Args:
        x: generated samples, (N, *shape); flattened.
        y: real data, (M, *shape); N and M may differ.
        projections: random directions; more narrows the Monte Carlo error over directions, which the interval leaves out.
        seed: of the directions, so that two distances share them.

    Raises:
        BadInput: for different shapes, too few data, NaN or infinity.

    Example:
        >>> x = torch.zeros(20, 1)
        >>> sliced_score(x, x + 2.0).value
        2.0
    """
    a, b = samples(x, y)
    lines = torch.split(directions(a.shape[1], projections, seed=seed), CHUNK, dim=1)
    squares = sum((_squared_by_part(a, b, w) for w in lines), torch.zeros(1 + PARTS, dtype=torch.float64))
    found = (squares / projections).sqrt()
    return jackknife(float(found[0]), found[1:])


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


def _distances(real: Sequence[Tensor], projections: int, seed: int) -> list[float]:
    """SW_2 of every pair, in the order of ``combinations``; each sample is projected and sorted once."""
    first = real[0]
    for x in real:
        if not len(x) or x.shape[1:] != first.shape[1:]:
            raise BadInput(f"non-empty samples of one shape are needed; got {tuple(first.shape)} and {tuple(x.shape)}.")
    flat = [x.flatten(1).double().cpu() for x in real]
    pairs = list(combinations(range(len(flat)), 2))
    totals = torch.zeros(len(pairs), dtype=torch.float64)
    for w in torch.split(directions(flat[0].shape[1], projections, seed=seed), CHUNK, dim=1):
        lines = [(w.T @ x.T).sort().values for x in flat]
        totals += torch.stack([_squared(lines[i], lines[j]) for i, j in pairs])
    return [math.sqrt(total / projections) for total in totals.tolist()]


def _squared_by_part(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """Squared W_2 summed over the directions ``w`` (D, P): of all data, then without each part in turn, (1 + PARTS,).

    Leaving data out does not change the order of the others, so that each projection is sorted once.
    """
    (a, i), (b, j) = ((w.T @ z.T).sort() for z in (x, y))
    part_a, part_b = fold(len(x))[i], fold(len(y))[j]
    left = [_squared(_drop(a, part_a, g), _drop(b, part_b, g)) for g in range(PARTS)]
    return torch.stack([_squared(a, b), *left])


def _drop(lines: Tensor, part: Tensor, g: int) -> Tensor:
    """Rows (P, N) without the elements of part ``g``, of which every row has equally many."""
    return lines[part != g].view(len(lines), -1)


def _squared(a: Tensor, b: Tensor) -> Tensor:
    """Sum over rows of the squared W_2 between sorted one-dimensional samples, (P, N) and (P, M)."""
    n, m = a.shape[1], b.shape[1]
    if n == m:
        return (a - b).square().mean(1).sum()
    # Both quantile functions are step functions; between the joined steps their difference is constant.
    steps = torch.cat([torch.arange(1, k + 1, dtype=torch.float64) / k for k in (n, m)]).sort().values
    weights = steps.diff(prepend=steps.new_zeros(1))
    middle = steps - weights / 2
    i, j = ((middle * k).floor().long().clamp_max(k - 1) for k in (n, m))
    return ((a[:, i] - b[:, j]).square() @ weights).sum()
