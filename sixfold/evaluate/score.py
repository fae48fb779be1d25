"""A metric's value with its 95% interval, and the parts that let two of them be compared in pairs.

    pseudo-value of part g:   p_g = G theta - (G - 1) theta_(-g),      theta_(-g) computed without the data of part g
    interval of theta:        theta -+ t_{G-1} sd(p) / sqrt(G)
    interval of a difference: the same with p_g - q_g, so that what both share (the test data) cancels

Data and samples are dealt into the same :data:`PARTS` parts for every model, test datum i to part i mod G. Leaving parts out
instead of drawing with replacement keeps duplicates out of the data, which would ruin nearest neighbours and kernels.

Source: The Jackknife and the Bootstrap (Shao & Tu, 1995), sections 2.3 (delete-group jackknife) and 1.2 (pseudo-values).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

from sixfold.core.errors import BadInput
from sixfold.core.spec import Array

PARTS = 20
"""Parts that data and samples are dealt into; also the fewest data that a metric takes."""

LEVEL = 0.95
JACKKNIFE = f"delete-group jackknife, {PARTS} parts"


@dataclass(frozen=True)
class Score:
    """A metric's value with its interval.

    Args:
        value: of the metric on all data.
        low, high: 95% interval; equal to ``value`` where nothing is random.
        method: how the interval was made, as printed.
        parts: jackknife pseudo-values by part, for paired differences; empty where there are none.

    Example:
        >>> Score(1.0, 0.9, 1.1, "analytic").half
        0.1...
    """

    value: float
    low: float
    high: float
    method: str
    parts: tuple[float, ...] = ()

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}] ({self.method})"


def known(value: float) -> Score:
    """A number that nothing random went into, as a count of parameters."""
    return Score(float(value), float(value), float(value), "none: not random")


def fold(count: int) -> Tensor:
    """Part of each of ``count`` data, (count,) int64."""
    return torch.arange(count) % PARTS


def samples(x: Array, y: Array, *, least: int = PARTS) -> tuple[Tensor, Tensor]:
    """Two samples as float64 matrices on the CPU, (N, D) and (M, D).

    Args:
        x, y: samples, (N, *shape) and (M, *shape).
        least: data that each must have.

    Raises:
        BadInput: for different shapes, too few data, NaN or infinity.
    """
    a, b = (torch.as_tensor(z).detach().cpu() for z in (x, y))
    if a.shape[1:] != b.shape[1:]:
        raise BadInput(f"both samples need one shape; got data of {tuple(a.shape[1:])} and {tuple(b.shape[1:])}. Reshape one.")
    for z in (a, b):
        if len(z) < least:
            raise BadInput(f"at least {least} data in each sample are needed; got {len(z)}. Draw more.")
        if z.is_floating_point() and not bool(torch.isfinite(z).all()):
            bad = int((~torch.isfinite(z)).flatten(1).any(1).nonzero()[0, 0])
            raise BadInput(f"samples hold NaN or infinity, first in row {bad}; expected finite numbers. Drop that row.")
    return a.flatten(1).double(), b.flatten(1).double()


def jackknife(value: float, without: Sequence[float] | Tensor) -> Score:
    """A score from the metric on all data and without each part in turn.

    Args:
        value: on all data.
        without: on all data but those of part g, for every g, (PARTS,).
    """
    left = torch.as_tensor(without, dtype=torch.float64)
    assert len(left) == PARTS, f"{len(left)} parts"
    parts = PARTS * value - (PARTS - 1) * left
    half = _half(parts)
    return Score(value, value - half, value + half, JACKKNIFE, tuple(parts.tolist()))


def mean_score(values: Tensor) -> Score:
    """Mean of independent numbers, one a datum in the order of the data, (N,), with the interval of its standard error.

    Raises:
        BadInput: for fewer data than parts.
    """
    v = values.detach().cpu().double()
    if len(v) < PARTS:
        raise BadInput(f"a mean with an interval needs at least {PARTS} data; got {len(v)}. Score more.")
    value = float(v.mean())
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * float(v.std()) / math.sqrt(len(v))
    return Score(value, value - half, value + half, "standard error over data", _parts_of_mean(v))


def share_score(hits: Tensor) -> Score:
    """Share of data for which something holds, (N,) bool, with Wilson's interval.

    Raises:
        BadInput: for fewer data than parts.
    """
    plain = mean_score(hits.double())
    found = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(LEVEL, "wilson")
    return Score(plain.value, float(found.low), float(found.high), "Wilson", plain.parts)


def jackknife_share(value: float, without: Sequence[float] | Tensor, count: int) -> Score:
    """:func:`jackknife` of a share of ``count`` data, joined with Wilson's interval: at 0 and 1 the former is empty."""
    plain = jackknife(value, without)
    wilson = stats.binomtest(round(value * count), count).proportion_ci(LEVEL, "wilson")
    low, high = max(0.0, min(plain.low, float(wilson.low))), min(1.0, max(plain.high, float(wilson.high)))
    return Score(value, low, high, f"{JACKKNIFE}, or Wilson", plain.parts)


def difference(a: Score, b: Score) -> Score:
    """``a - b`` with its interval, paired part by part where both have parts."""
    value = a.value - b.value
    if a.parts and b.parts:
        parts = torch.tensor(a.parts, dtype=torch.float64) - torch.tensor(b.parts, dtype=torch.float64)
        half, method = _half(parts), f"paired, {PARTS} parts"
        return Score(value, value - half, value + half, method, tuple(parts.tolist()))
    half = math.hypot(a.half, b.half)
    return Score(value, value - half, value + half, "independent intervals")


def _half(parts: Tensor) -> float:
    """Half-width of the interval of a mean of pseudo-values."""
    return float(stats.t.ppf((1 + LEVEL) / 2, len(parts) - 1)) * float(parts.std()) / math.sqrt(len(parts))


def _parts_of_mean(v: Tensor) -> tuple[float, ...]:
    part = fold(len(v))
    sums = torch.zeros(PARTS, dtype=torch.float64).index_add_(0, part, v)
    counts = torch.bincount(part, minlength=PARTS)
    left = (v.sum() - sums) / (len(v) - counts)
    return tuple((PARTS * v.mean() - (PARTS - 1) * left).tolist())
