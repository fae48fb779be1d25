"""All data of a small space, grouped into cells: what a density puts there, and how many samples fall there."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

from sixfold.core.model import GenerativeModel
from sixfold.core.spec import DataSpec
from sixfold.solve.quadrature import lattice
from sixfold.testing.checks import SkippedError, expect
from sixfold.testing.subject import Subject

FALSE_ALARM = 1e-6
SAMPLES = 4000
STATES = 4096
"""Discrete data are summed over when there are no more of them than this."""


@dataclass(frozen=True)
class Cells:
    """Points that stand for a whole space.

    Args:
        points: every state, or a lattice, (N, *shape).
        volume: of the space that each point stands for; 1 for discrete data.
        locate: cell of each datum of a batch, (B,), -1 outside.
        num: of cells.
    """

    points: Tensor
    volume: float
    locate: Callable[[Tensor], Tensor]
    num: int

    def total(self, mass: Tensor) -> Tensor:
        """Sum of what the points hold, (N,), by cell."""
        return torch.zeros(self.num, dtype=mass.dtype).index_add_(0, self.locate(self.points), mass)

    def count(self, samples: Tensor) -> Tensor:
        """Number of samples by cell; those outside are left out."""
        found = self.locate(samples)
        return torch.bincount(found[found >= 0], minlength=self.num).double()


def cells_of(s: Subject, *, fine: int) -> Cells:
    """Every state of small discrete data; for one or two real dimensions 64 cells over the widened box of the data.

    Args:
        s: whose data.
        fine: lattice points a side of each cell; more resolve sharper densities.
    """
    if s.spec.support.discrete:
        return states(s.spec)
    if s.spec.dims > 2:
        raise SkippedError(f"no sum can be taken over {s.spec.dims} real dimensions")
    low, high = s.box()
    side = 64 if s.spec.dims == 1 else 8
    points, volume = lattice(low.tolist(), high.tolist(), [side * fine] * s.spec.dims)
    place = _grid(low, high, side)
    return Cells(points.float().reshape(-1, *s.spec.shape), volume, place, side**s.spec.dims)


def _grid(low: Tensor, high: Tensor, side: int) -> Callable[[Tensor], Tensor]:
    """Which cell of a regular grid each row lies in, the last axis varying fastest; -1 outside."""

    def locate(x: Tensor) -> Tensor:
        place = ((x.flatten(1).double() - low) / (high - low) * side).floor().long()
        index = (place * side ** torch.arange(len(low) - 1, -1, -1)).sum(1)
        return torch.where(((place >= 0) & (place < side)).all(1), index, -1)

    return locate


def states(spec: DataSpec) -> Cells:
    """Every different datum as a cell of its own."""
    count = spec.support.count
    if spec.dims * math.log(count) > math.log(STATES) + 1e-9:
        raise SkippedError(f"there are more than {STATES} different data to sum over")
    digits = torch.cartesian_prod(*[torch.arange(count)] * spec.dims).reshape(-1, *spec.shape)
    base = count ** torch.arange(spec.dims - 1, -1, -1)
    return Cells(digits.to(spec.dtype), 1.0, lambda x: (x.flatten(1).long() * base).sum(1), len(digits))


def line(s: Subject, x: Tensor, known: Tensor) -> Cells:
    """Points of the plane that share the known element of ``x``: 32 cells along the other."""
    if s.spec.dims != 2:
        raise SkippedError("completions of real data are checked in the plane")
    (axis,) = (~known).flatten().nonzero().flatten().tolist()
    low, high = (corner[axis : axis + 1] for corner in s.box())
    along, volume = lattice(low.tolist(), high.tolist(), [32 * 64])
    points = x.flatten().repeat(len(along), 1)
    points[:, axis] = along[:, 0].to(points)
    place = _grid(low, high, 32)
    return Cells(points.reshape(-1, *s.spec.shape), volume, lambda y: place(y.flatten(1)[:, axis : axis + 1]), 32)


def masses(s: Subject, model: GenerativeModel, cells: Cells) -> Tensor:
    """What a stochastic bound puts at every point under the first condition, (N,).

    The mean of exp(noise) exceeds 1, so four draws are averaged before the exponential, less half the variance of the average.
    """
    cond = s.one_cond(len(cells.points))
    draws = torch.stack([s.log_prob(model, cells.points, cond, seed=5 + i).nats.double() for i in range(4)])
    return (draws.mean(0) - draws.var(0) / 8).exp() * cells.volume


def as_often(counts: Tensor, expected: Tensor) -> None:
    """Pearson's chi-square test; cells with fewer than five expected samples are pooled."""
    order = expected.argsort(descending=True)
    last = max(int((expected >= 5).sum()), 2) - 1
    pool = torch.arange(len(order)).clamp_max(last)
    o, e = (torch.zeros(last + 1, dtype=torch.float64).index_add_(0, pool, v[order]) for v in (counts, expected))
    statistic = float(((o - e).square() / e.clamp_min(1e-9)).sum())
    p = float(stats.chi2.sf(statistic, last))
    expect(p >= FALSE_ALARM, f"chi-square {statistic:.1f} with {last} degrees of freedom, p = {p:.2g}", f"p >= {FALSE_ALARM:g}")


def nearly(counts: Tensor, expected: Tensor) -> None:
    """Total variation distance of at most 0.1 beyond twice what chance gives on average, 0.4 sum sqrt(e) / n."""
    num = float(counts.sum())
    distance = float((counts - expected).abs().sum()) / (2 * num)
    allowed = 0.1 + 0.8 * float(expected.sqrt().sum()) / num
    expect(distance <= allowed, f"a total variation distance of {distance:.3f}", f"at most {allowed:.3f}")


def no_fewer(counts: Tensor, bounds: Tensor) -> None:
    """No cell holds significantly fewer of the samples than 0.95 of its bound: binomial tails, Bonferroni over the cells."""
    tails = stats.binom.cdf(counts.numpy(), SAMPLES, (0.95 * bounds).clamp_max(1).numpy())
    worst, least = int(tails.argmin()), FALSE_ALARM / len(counts)
    got = f"{int(counts[worst])} of {SAMPLES} samples in a cell whose bound is {float(bounds[worst]):.4f}, p = {tails[worst]:.2g}"
    expect(tails[worst] >= least, got, f"p >= {least:.2g}, for a bound lies below the truth everywhere")
