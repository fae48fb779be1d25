"""Unbiased maximum mean discrepancy (MMD) between two samples, with a polynomial kernel and with Gaussian ones.

    MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

    kernel_distance:  k(x, y) = (x.y / D + 1)^3                           the kernel of KID
    rbf_distance:     k(x, y) = exp( -|x - y|^2 / (2 (scale * s)^2) )     s = median distance within the real data

The estimate's mean is zero for equal distributions at every sample size, so it is negative about half of the time then. The
polynomial kernel sees the first three moments of the features; a Gaussian one sees every difference, best those as large as its
width. The distance is one of the features handed in, and is called KID only with Inception's.

Sums of kernels are kept for pairs of parts, from which leaving out one part of both samples is exact; no N by M matrix is held.

Source:  A Kernel Two-Sample Test (Gretton, Borgwardt, Rasch, Schoelkopf & Smola, 2012), lemma 6, equation 3.
         Demystifying MMD GANs (Binkowski, Sutherland, Arbel & Gretton, 2018), arXiv:1801.01401, section 4.
Differs: all data at once, where KID averages over random subsets, whose spread is not a standard error of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, product

import torch
from torch import Tensor

from sixfold.core.errors import BadInput
from sixfold.core.spec import Array
from sixfold.evaluate.score import PARTS, Score, fold, jackknife, samples

ROWS = 500
"""Rows of a block of kernel values: 2 MB, which stay in the cache."""

NOTHING = torch.zeros(1, PARTS, PARTS, dtype=torch.float64)
"""Sum of no kernel values by pairs of parts."""

Kernels = Callable[[Tensor, Tensor], Iterator[Tensor]]
"""Values of one or more kernels between rows, (A, D) and (B, D), as one (A, B) after the other."""


def kernel_distance(x: Array, y: Array) -> Score:
    """Unbiased MMD^2 with the polynomial kernel (x.y / D + 1)^3.

    Args:
        x: features of generated samples, (N, D).
        y: features of real data, (M, D).

    Raises:
        BadInput: for different shapes, too few data, NaN or infinity.

    Example:
        >>> x = torch.linspace(0, 1, 40)[:, None]
        >>> kernel_distance(x + 2.0, x).low > 0
        True
    """
    found = _mmd(*samples(x, y), _cubic)
    return jackknife(float(found[0, 0]), found[0, 1:])


def rbf_distance(x: Array, y: Array, *, scales: Sequence[float] = (0.5, 1.0, 2.0), seed: int = 0) -> dict[str, Score]:
    """Unbiased MMD^2 with Gaussian kernels of several widths.

    Args:
        x: features of generated samples, (N, D).
        y: features of real data, (M, D).
        scales: widths in units of :func:`bandwidth` of ``y``; larger ones see coarser differences.
        seed: of the subsample behind the bandwidth.

    Returns:
        ``{"mean": of the mean of these kernels, "0.5": of the first scale's, ...}``, each in [-2, 2] or so.

    Raises:
        BadInput: as :func:`bandwidth`, and for different shapes, too few data, NaN or infinity, a scale not above zero.

    Example:
        >>> x = torch.linspace(0, 1, 40)[:, None]
        >>> list(rbf_distance(x + 2.0, x))
        ['mean', '0.5', '1', '2']
    """
    if not scales or min(scales) <= 0:
        raise BadInput(f"scales of the bandwidth must be above zero; got {tuple(scales)}. Use (0.5, 1.0, 2.0).")
    a, b = samples(x, y)
    width, centre, wide = bandwidth(b, seed=seed), b.mean(0), sorted(scales, reverse=True)
    a, b = (a - centre) / width, (b - centre) / width  # about zero, so that |x|^2 + |y|^2 - 2 x.y cancels little
    found = dict(zip(wide, _mmd(a, b, lambda u, v: _gaussians(u, v, wide)), strict=True))
    every = {"mean": torch.stack(list(found.values())).mean(0), **{f"{scale:g}": found[scale] for scale in scales}}
    return {name: jackknife(float(values[0]), values[1:]) for name, values in every.items()}


def bandwidth(real: Array, *, rows: int = 2000, seed: int = 0) -> float:
    """Median distance between different real data, in the data's units; generated samples have no say in it.

    Args:
        real: features of real data, (M, D).
        rows: of the random subsample that is looked at; more is more precise and takes time with its square.
        seed: of the subsample.

    Raises:
        BadInput: when all real data are equal.

    Example:
        >>> bandwidth(torch.arange(21.0)[:, None])
        6.0
    """
    y, _ = samples(real, real)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    found = torch.pdist(y[order[:rows]])
    apart = found[found > 0]  # in discrete data more than half of the pairs may be duplicates
    if not len(apart):
        raise BadInput(
            "all real data are equal, so that a kernel has no width to go by; expected data that differ. Check the features."
        )
    return float(apart.median())


def _cubic(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    gram = (x @ y.T).div_(x.shape[1]).add_(1)
    yield gram.square().mul_(gram)


def _gaussians(x: Tensor, y: Tensor, scales: Sequence[float]) -> Iterator[Tensor]:
    """Kernels of decreasing scale; halving a scale is squaring its kernel twice, which is cheaper than another exponential."""
    squared = x.square().sum(1)[:, None] + y.square().sum(1)
    distance = torch.addmm(squared, x, y.T, alpha=-2).clamp_min_(0)  # rounding alone goes below
    values, last = distance, math.inf
    for scale in scales:
        squarings = 2 * math.log2(last / scale)
        values = _squared(values, int(squarings)) if squarings.is_integer() else distance.mul(-0.5 / scale**2).exp_()
        last = scale
        yield values


def _squared(values: Tensor, times: int) -> Tensor:
    for _ in range(times):
        values = values.square()
    return values


def _mmd(x: Tensor, y: Tensor, kernels: Kernels) -> Tensor:
    """MMD^2 of each kernel: of all data, then without each part of both samples, (K, 1 + PARTS)."""
    xx, yy, xy = _within(x, kernels), _within(y, kernels), _between(x, y, kernels)
    keep = torch.cat([torch.ones(1, PARTS), 1 - torch.eye(PARTS)]).double()
    n, m = (keep @ torch.bincount(fold(len(z)), minlength=PARTS).double() for z in (x, y))
    within_x, within_y, between = (torch.einsum("tg,kgh,th->kt", keep, sums, keep) for sums in (xx, yy, xy))
    return within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * between / (n * m)


def _between(x: Tensor, y: Tensor, kernels: Kernels) -> Tensor:
    """Sums of kernel values by parts of ``x`` and of ``y``, (K, PARTS, PARTS)."""
    return sum((_sums(kernels(a, b), p, q) for (a, p), (b, q) in product(_blocks(x), _blocks(y))), NOTHING)


def _within(x: Tensor, kernels: Kernels) -> Tensor:
    """Sums of kernel values by unordered pairs of parts of ``x``, without a datum's value with itself, (K, PARTS, PARTS)."""
    same = sum((_sums_but_diagonal(kernels(a, a), p) for a, p in _blocks(x)), NOTHING)
    # k(x, y) = k(y, x): one triangle of the blocks, twice, has the same total over any choice of parts.
    above = sum((_sums(kernels(a, b), p, q) for (a, p), (b, q) in combinations(_blocks(x), 2)), NOTHING)
    return same + 2 * above


def _blocks(x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows, and which part each belongs to as one-hot (ROWS, PARTS)."""
    parts = torch.nn.functional.one_hot(fold(len(x)), PARTS).double()
    return zip(torch.split(x, ROWS), torch.split(parts, ROWS), strict=True)


def _sums(values: Iterator[Tensor], p: Tensor, q: Tensor) -> Tensor:
    return torch.stack([(p.T @ block) @ q for block in values])


def _sums_but_diagonal(values: Iterator[Tensor], p: Tensor) -> Tensor:
    return torch.stack([(p.T @ block) @ p - torch.diag(p.T @ block.diagonal()) for block in values])
