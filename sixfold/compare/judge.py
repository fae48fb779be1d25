"""What scores say about each other: over seeds, in pairs, and whether a metric can be believed on these data at all.

A row of a table is one model trained from several seeds. Its number is their mean; the variance of a difference between two rows
is that of its paired parts, averaged over seeds, plus the spread between seeds:

    var(A - B) = sd(p_A - p_B)^2 / G  +  s_A^2 / n_A  +  s_B^2 / n_B,      t with Welch and Satterthwaite's degrees of freedom

A difference is called one when its 95% interval excludes zero. With one seed each, it is about two trained models, not about
two methods; the note says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from scipy import stats

from sixfold.compare.meaning import REAL, Meaning, meaning
from sixfold.compare.record import Record
from sixfold.evaluate.score import LEVEL, PARTS, Score

Z = float(stats.norm.ppf((1 + LEVEL) / 2))

Scores = Sequence[Score]
"""The same metric of one row, a score a seed."""


@dataclass(frozen=True)
class _Variance:
    """An estimated variance and the degrees of freedom behind it."""

    value: float
    freedom: int

    @classmethod
    def of_seeds(cls, values: Sequence[float]) -> _Variance:
        """Of a mean over seeds; nothing is known of it from one."""
        spread = torch.tensor(values, dtype=torch.float64)
        return cls(float(spread.var()) / len(values), len(values) - 1) if len(values) > 1 else cls(0.0, 1)

    @classmethod
    def of_parts(cls, parts: torch.Tensor) -> _Variance:
        return cls(float(parts.var()) / len(parts), len(parts) - 1)


def _half(variances: Sequence[_Variance]) -> float:
    """Half-width of the interval of a sum of independent estimates (Welch and Satterthwaite)."""
    total = sum(v.value for v in variances)
    if total == 0.0:
        return 0.0
    freedom = total**2 / sum(v.value**2 / v.freedom for v in variances)
    return float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(total)


def _mean(scores: Scores) -> float:
    return math.fsum(s.value for s in scores) / len(scores)


def _parts(scores: Scores) -> torch.Tensor | None:
    """Pseudo-values averaged over seeds, (PARTS,); ``None`` where a score has none."""
    if not all(s.parts for s in scores):
        return None
    return torch.tensor([s.parts for s in scores], dtype=torch.float64).mean(0)


def across(scores: Scores) -> Score:
    """One row's number: the mean over seeds, its interval holding the spread between them.

    Example:
        >>> across([Score(1.0, 0.9, 1.1, "analytic")]).value
        1.0
    """
    if len(scores) == 1:
        return scores[0]
    value, parts = _mean(scores), _parts(scores)
    # Parts that are all equal, as those of a share of 0 or 1, have no spread; the scores' own intervals still have.
    own = _Variance(sum((s.half / Z) ** 2 for s in scores) / len(scores) ** 2, PARTS - 1)
    inner = own if parts is None or not float(parts.var()) else _Variance.of_parts(parts)
    half = _half([inner, _Variance.of_seeds([s.value for s in scores])])
    pairs = () if parts is None else tuple(parts.tolist())
    return Score(value, value - half, value + half, f"{len(scores)} seeds and {scores[0].method}", pairs)


def contrast(a: Scores, b: Scores) -> Score:
    """Difference of two rows, ``a - b``, with its paired interval."""
    value = _mean(a) - _mean(b)
    one, two = _parts(a), _parts(b)
    if one is None or two is None:
        inner = [_Variance((s.half / Z) ** 2 / len(row) ** 2, PARTS - 1) for row in (a, b) for s in row]
        method = "independent intervals"
    else:
        inner, method = [_Variance.of_parts(one - two)], f"paired, {PARTS} parts"
    half = _half([*inner, *(_Variance.of_seeds([s.value for s in row]) for row in (a, b))])
    seeds = f", {len(a)} and {len(b)} seeds" if max(len(a), len(b)) > 1 else ""
    return Score(value, value - half, value + half, method + seeds)


def excludes_zero(score: Score) -> bool:
    """Whether the interval lies on one side of zero."""
    return score.low > 0.0 or score.high < 0.0


def better(difference: Score, sense: Meaning) -> int:
    """Whether the first of two rows is better (1), worse (-1) or neither is shown (0), from their difference."""
    if not excludes_zero(difference) or sense.better not in ("lower", "higher"):
        return 0
    return 1 if (difference.value < 0) == (sense.better == "lower") else -1


def distrust(key: str, references: Mapping[str, Record]) -> str:
    """Why a metric is not to be believed on these data: which broken generator it does not rank below real data; else empty.

    Args:
        key: of the score.
        references: records of the references by label.
    """
    sense = meaning(key)
    real = references.get(REAL)
    missed = []
    for label in sense.sees:
        broken = references.get(label)
        if real is None or broken is None or key not in real.scores or key not in broken.scores:
            continue
        difference = contrast([broken.scores[key]], [real.scores[key]])
        if not _ranked(difference, sense):
            missed.append(f"{label} ({_numbers(difference)})")
    return f"does not rank {' or '.join(missed)} below real data" if missed else ""


def _ranked(difference: Score, sense: Meaning) -> bool:
    """Whether broken less real lies on the bad side; of a fact without a better side, smaller is the broken one's."""
    return excludes_zero(difference) and (difference.value > 0) == (sense.better == "lower")


def _numbers(difference: Score) -> str:
    return f"{difference.value:+.3g} [{difference.low:.3g}, {difference.high:.3g}]"
