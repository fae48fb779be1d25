"""Precision, recall, density and coverage: is what is generated real, and is what is real generated?

For generated x_i, i < N, and real y_j, j < M, with r(y_j) the distance from y_j to its k-th nearest other real datum, and
r(x_i) likewise among the generated:

    precision = 1/N  sum_i  1[ |x_i - y_j| <= r(y_j) for some j ]       samples within reach of the real data
    recall    = 1/M  sum_j  1[ |x_i - y_j| <= r(x_i) for some i ]       real data within reach of the samples
    density   = 1/kN sum_ij 1[ |x_i - y_j| <= r(y_j) ]                  real balls that a sample lies in, over k; may exceed 1
    coverage  = 1/M  sum_j  1[ |x_i - y_j| <= r(y_j) for some i ]       real data with a sample in their ball

A generator that drops modes keeps precision and density and loses recall and coverage; one that is too wide loses precision
and density. For equal continuous distributions density has expectation 1 and coverage 1 - prod_{i=1..k} (M - i) / (M + N - i),
0.97 for k = 5 and N = M, in every dimension; precision and recall fall with the dimension, to about 0.5 in a thousand. Read
all four beside those of real against real data of the same sizes.

The interval rests on what leaving out one datum changes, which counts tell for every datum at once: it is lost itself, and so is
whatever lay in its ball alone. These changes are summed by part. For density the balls of which it was a neighbour grow as well
(else intervals held 80 to 92% instead of 95% in 16 to 100 dimensions); for the shares that would only widen. Jackknife variances
err upward (Efron & Stein, 1981), most for coverage near its ceiling, where half-widths came out up to 1.9 times too large.

Source:  Improved Precision and Recall Metric for Assessing Generative Models (Kynkäänniemi et al., 2019), arXiv:1904.06991,
         Eq. 1-2; Reliable Fidelity and Diversity Metrics for Generative Models (Naeem et al., 2020), arXiv:2002.09797, Eq. 3-6.
Differs: a distance equal to the radius counts as within it (<=, as in the first paper; the second and its package have <), so
         that duplicates, binary data and tables, whose radii may be 0, do not score 0 against themselves. Distances that agree to
         about 1e-7 of the data's size count as equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sixfold.core.errors import BadInput
from sixfold.core.spec import Array
from sixfold.evaluate.neighbours import nearest_other
from sixfold.evaluate.score import PARTS, Score, fold, jackknife, jackknife_share, samples

ROWS = 512  # samples against all real data at a time: 40 MB for 10,000


@dataclass(frozen=True)
class _Counts:
    """Who lies in whose ball: of each of N samples, and of each of M real data.

    Args:
        reach: real balls that a sample lies in, (N,).
        alone: samples that lie in this real ball and in no other, (M,).
        inside, guest: samples in a real ball, and the sum of their rows: the row itself where there is one, (M,).
        wider: samples in the ball that reaches one neighbour farther, (M,).
        covered, host: generated balls that a real datum lies in, and the sum of their rows, (M,).
    """

    reach: Tensor
    alone: Tensor
    inside: Tensor
    guest: Tensor
    wider: Tensor
    covered: Tensor
    host: Tensor


def precision_recall(x: Array, y: Array, *, k: int = 5) -> dict[str, Score]:
    """``precision``, ``recall``, ``density`` and ``coverage`` of generated ``x`` against real ``y``.

    Args:
        x: generated, (N, *shape).
        y: real, (M, *shape).
        k: neighbour that sets the radius; a larger one raises precision, recall and coverage and smooths all four.

    Raises:
        BadInput: for ``k`` outside 1 to the smaller sample's size less 2, and as :func:`samples`.

    Example:
        >>> x = torch.arange(40.0)[:, None]
        >>> {name: score.value for name, score in precision_recall(x[:20], x).items()}
        {'precision': 1.0, 'recall': 0.625, 'density': 1.37, 'coverage': 0.575}
    """
    a, b = samples(x, y)
    most = min(len(a), len(b)) - 2
    if not 1 <= k <= most:
        raise BadInput(f"k must be between 1 and {most}, the smaller sample's size less 2; got {k}. Usual is 5.")
    made = nearest_other(a, k=k)[0][:, -1]
    real, rows = nearest_other(b, k=k + 1)
    counts = _count(a, b, made, real[:, k - 1], real[:, k])
    return {
        "precision": _precision(counts),
        "recall": _recall(counts),
        "density": _density(counts, rows[:, :k]),
        "coverage": _coverage(counts),
    }


def _precision(c: _Counts) -> Score:
    hits = c.reach > 0
    return _share(hits, _own(hits), c.alone / len(hits))


def _recall(c: _Counts) -> Score:
    hits = c.covered > 0
    return _share(hits, _lost(c.host[c.covered == 1], len(c.reach)) / len(hits), _own(hits))


def _coverage(c: _Counts) -> Score:
    hits = c.inside > 0
    return _share(hits, _lost(c.guest[c.inside == 1], len(c.reach)) / len(hits), _own(hits))


def _density(c: _Counts, rows: Tensor) -> Score:
    """``rows``: the k neighbours within each real ball, (M, k); without one of them the ball reaches the next neighbour."""
    scale = 1 / (rows.shape[1] * len(c.reach))
    value = float(c.reach.sum() * scale)
    gained = torch.zeros_like(c.inside).index_add_(0, rows.flatten(), (c.wider - c.inside).repeat_interleave(rows.shape[1]))
    return jackknife(value, _without(value, c.reach * scale, (c.inside - gained) * scale))


def _own(hits: Tensor) -> Tensor:
    """What each datum adds to the share of hits, (N,)."""
    return hits.double() / len(hits)


def _lost(rows: Tensor, count: int) -> Tensor:
    """How often each of ``count`` rows occurs, (count,)."""
    return torch.bincount(rows.long(), minlength=count).double()


def _share(hits: Tensor, dx: Tensor, dy: Tensor) -> Score:
    """Share of hits from what each sample (N,) and each real datum (M,) adds to it."""
    value = float(hits.double().mean())
    return jackknife_share(value, _without(value, dx, dy), len(hits))


def _without(value: float, dx: Tensor, dy: Tensor) -> Tensor:
    """The value without each part, (PARTS,), from what each datum adds to it."""
    parts = torch.zeros(PARTS, dtype=torch.float64)
    for added in (dx, dy):
        parts.index_add_(0, fold(len(added)), added - added.mean())  # parts need not be of one size
    return value - parts


def _count(x: Tensor, y: Tensor, made: Tensor, real: Tensor, wider: Tensor) -> _Counts:
    """Counts in blocks of samples; radii of the generated balls ``made`` (N,), of the real ones ``real`` and ``wider`` (M,)."""
    shift = y.mean(0)
    a, b = x - shift, y - shift
    # Lengths are a little short, so that rounding makes no distance exceed a radius that it equals.
    short = 1 - torch.finfo(a.dtype).eps * (a.shape[1] ** 0.5 + 8)
    length = b.square().sum(1) * short
    reach, alone, sums = [], torch.zeros_like(real), torch.zeros(5, len(b), dtype=torch.float64)
    for start in range(0, len(a), ROWS):
        rows = a[start : start + ROWS]
        d = torch.addmm(length, rows, b.T, alpha=-2).add_(rows.square().sum(1, keepdim=True) * short)
        hits = (d <= real.square()).float()
        reach.append(hits.sum(1))
        alone += hits[reach[-1] == 1].sum(0)
        mine = d <= made[start : start + ROWS, None].square()
        sums += torch.cat([_columns(hits, start), (d <= wider.square()).sum(0, keepdim=True), _columns(mine.float(), start)])
    inside, guest, farther, covered, host = sums
    return _Counts(torch.cat(reach).double(), alone, inside, guest, farther, covered, host)


def _columns(hits: Tensor, start: int) -> Tensor:
    """Hits in each column and the sum of their rows, (2, M) float64; exact, as both stay below 2^24 in a block."""
    count, rows = torch.stack([torch.ones(len(hits)), torch.arange(len(hits), dtype=torch.float32)]) @ hits
    return torch.stack([count.double(), rows.double() + start * count.double()])
