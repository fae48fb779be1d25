"""Exact nearest neighbours of samples, in blocks of bounded memory.

    |a - b|^2 = |a|^2 + |b|^2 - 2 a.b                      for the search, in float32, data centred on their mean
    |a - b|^2 = sum_d (a_d - b_d)^2                        for the neighbours found, in float64: equal rows are at exactly 0

The expanded square loses digits by cancellation. Its error is bounded (:func:`_sure`), a few more neighbours are taken
than asked for, and a row of which the bound cannot tell that nothing nearer was left out is searched again in float64.

Source:  Accuracy and Stability of Numerical Algorithms (Higham, 2002), section 3.1, for the error of inner products.
Differs: the bound grows with sqrt(D), as errors do that are not all of one sign, not with D, as the worst case does. Data that
         are as near as each other to a relative 1e-5 of the squared distance may stand for each other. No tree: in
         the dimensions of image features it would visit every datum.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sixfold.core.errors import BadInput

BLOCK, TILE = 1024, 4096  # rows and columns of the distances held at a time: 16 MB in float32
SPARE = 4  # candidates beyond those asked for
TIE = 1e-5  # relative difference of squared distances that counts as none


def nearest(x: Tensor, y: Tensor, *, k: int = 1) -> tuple[Tensor, Tensor]:
    """The nearest data of ``y`` to each datum of ``x``.

    Args:
        x: whose neighbours, (N, D).
        y: among which, (M, D).
        k: neighbours of each, at most M; more reach farther.

    Returns:
        Euclidean distances in ascending order, (N, k) float64, and their rows in ``y``, (N, k) int64.

    Raises:
        BadInput: for fewer than ``k`` data to choose from.

    Example:
        >>> nearest(torch.tensor([[0.0], [5.0]]), torch.tensor([[1.0], [3.0], [9.0]]))[1].flatten().tolist()
        [0, 1]
    """
    return _nearest(x, y, k, None)


def nearest_other(x: Tensor, *, k: int = 1, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The nearest other data of the same sample; an equal datum in another row is a neighbour at distance 0.

    Args:
        x: sample, (N, D).
        k: neighbours of each, at most N - 1; more reach farther.
        rows: of which data, (R,) int64; all when ``None``.

    Returns:
        Distances in ascending order, (R, k) float64, and their rows, (R, k) int64.

    Raises:
        BadInput: for fewer than ``k`` other data.

    Example:
        >>> nearest_other(torch.tensor([[0.0], [0.0], [3.0]]))[0].flatten().tolist()
        [0.0, 0.0, 3.0]
    """
    rows = torch.arange(len(x)) if rows is None else rows
    return _nearest(x[rows], x, k, rows)


def _nearest(x: Tensor, y: Tensor, k: int, own: Tensor | None) -> tuple[Tensor, Tensor]:
    """Neighbours of ``x`` among ``y`` without the rows ``own`` of each, (N,)."""
    most = len(y) - (own is not None)
    if not 1 <= k <= most:
        raise BadInput(f"k must be between 1 and the {most} data to choose from; got {k}. Take a smaller k or more data.")
    distances, found, sure = _search(x, y, k, own, torch.float32)
    again = (~sure).nonzero()[:, 0]
    if len(again):
        distances[again], found[again], _ = _search(x[again], y, k, None if own is None else own[again], torch.float64)
    return distances, found


def _search(x: Tensor, y: Tensor, k: int, own: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Distances (N, k), rows (N, k), and whether nothing nearer can have been left out (N,); products in ``dtype``."""
    shift = y.mean(0, dtype=torch.float64)
    centred = [(part - shift).to(dtype) for part in _blocks(y, TILE)]
    tiles = [(tile, tile.square().sum(1)) for tile in centred]
    most = len(y) - (own is not None)
    count = min(k + SPARE, most)
    done = []
    for start in range(0, len(x), BLOCK):
        rows = x[start : start + BLOCK]
        a = (rows - shift).to(dtype)
        reached, found = _candidates(a, tiles, count, None if own is None else own[start : start + BLOCK])
        squared, order = _squared(rows, y, found).sort(dim=1, stable=True)
        sure = _sure(squared[:, k - 1], reached, a) | (count == most)
        done.append((squared[:, :k].sqrt(), found.gather(1, order[:, :k]), sure))
    distances, found, sure = (torch.cat(column) for column in zip(*done, strict=True))
    return distances, found, sure


def _candidates(a: Tensor, tiles: list[tuple[Tensor, Tensor]], count: int, own: Tensor | None) -> tuple[Tensor, Tensor]:
    """Largest (N,) and columns (N, count) of the ``count`` smallest |b|^2 - 2 a.b of each row; tiles of b with |b|^2."""
    values, columns, start = a.new_empty(len(a), 0), torch.empty(len(a), 0, dtype=torch.int64), 0
    for tile, length in tiles:
        d = torch.addmm(length, a, tile.T, alpha=-2)
        if own is not None:
            inside = ((own >= start) & (own < start + len(tile))).nonzero()[:, 0]
            d[inside, own[inside] - start] = torch.inf
        best = d.topk(min(count, len(tile)), largest=False, sorted=False)
        values, columns = torch.cat([values, best.values], 1), torch.cat([columns, best.indices + start], 1)
        kept = values.topk(min(count, values.shape[1]), largest=False, sorted=False)
        values, columns, start = kept.values, columns.gather(1, kept.indices), start + len(tile)
    return values.amax(1), columns


def _squared(x: Tensor, y: Tensor, found: Tensor) -> Tensor:
    """Squared distances to the candidates by differences, (N, C) float64; 64 rows at a time hold few numbers."""
    pairs = zip(_blocks(x, 64), _blocks(found, 64), strict=True)
    return torch.cat([(y[near].double() - rows.double()[:, None]).square().sum(2) for rows, near in pairs])


def _blocks(x: Tensor, size: int) -> list[Tensor]:
    return [x[start : start + size] for start in range(0, len(x), size)]


def _sure(squared: Tensor, reached: Tensor, a: Tensor) -> Tensor:
    """Whether the k-th squared distance (N,) lies below all that were left out, whose computed ones are ``reached`` or more.

    One left out that is nearer than the k-th neighbour has a length of at most |a| + distance, which bounds its error.
    """
    length = a.double().square().sum(1).sqrt()
    error = torch.finfo(a.dtype).eps * (a.shape[1] ** 0.5 + 4) * (length.square() + (length + squared.sqrt()).square())
    sure: Tensor = squared * (1 - TIE) <= (reached.double() + length.square() - error).clamp_min(0)
    return sure & reached.isfinite()  # an overflow tells nothing
