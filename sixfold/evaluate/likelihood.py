"""Log-probabilities of many data with their kind: their mean, differences between models, and whether samples are typical.

    nll           -mean log p(y)                   nats per datum; bits per dimension for discrete data
    difference    mean [ log p_a(y) - log p_b(y) ]   nats per datum, paired: both models are asked about the same data
    gap           mean log p(x) - mean log p(y)    nats per datum, x the model's own samples, y test data

The gap is zero for a perfect model, of whatever kind its numbers are: its samples and the data then are of one distribution, and
so is every function of them. A constant cancels, so that unnormalised numbers serve; of a bound it is the gap of the bound. A
gap above zero says that samples are more likely to the model than data are: they are too typical, or sharper; below zero, that
the model puts its mass where data are not, as a blurred one does. A gap of zero alone proves nothing.

Source: Do Deep Generative Models Know What They Don't Know? (Nalisnick et al., 2019), arXiv:1810.09136, section 4, and Detecting
        Out-of-Distribution Inputs Using Typicality (Nalisnick et al., 2019), arXiv:1906.02994, section 3 (the gap);
        Statistical Power Analysis (Cohen, 1988), section 2.2 (its standardised size).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from sixfold.core.errors import BadInput, NotComparable, Unsupported
from sixfold.core.likelihood import Kind, LogProb, MeanLogProb, Unnormalised, Verdict, verdict
from sixfold.core.model import GenerativeModel, HasDensity
from sixfold.evaluate.score import PARTS, Score, difference, fold, jackknife, mean_score

K = TypeVar("K", bound=Kind)


def concat(parts: list[LogProb[K]]) -> LogProb[K]:
    """Log-probabilities of consecutive parts of the same data as one."""
    first = parts[0]
    assert all(p.kind is first.kind and p.measure == first.measure and p.scope == first.scope for p in parts)
    errors = [p.stderr for p in parts if p.stderr is not None]
    return LogProb(
        torch.cat([p.nats for p in parts]), first.kind, first.method, first.dims, first.measure,
        torch.cat(errors) if errors else None, torch.cat([p.tolerances for p in parts]), first.bias, first.scope,
    )  # fmt: skip


def log_prob_of(
    model: GenerativeModel,
    x: Tensor,
    cond: Tensor | None = None,
    *,
    batch: int = 5000,
    generator: torch.Generator | None = None,
    **options: Any,
) -> LogProb[Kind]:
    """Log-probabilities of data in batches of bounded memory.

    Args:
        model: that has a density.
        x: data, (N, *shape).
        cond: conditions, (N,) or (N, C).
        batch: rows at a time; larger is faster and takes more memory.
        generator: for bounds and estimates that draw.
        options: of the model's own ``log_prob``, as ``effort``.

    Raises:
        Unsupported: when the model has no density, with what it has instead.
    """
    if not isinstance(model, HasDensity):
        raise Unsupported(f"{model.name} has no log-probability. Score its samples instead: `sixfold compare`.")
    rows = [
        model.log_prob(x[i : i + batch], None if cond is None else cond[i : i + batch], generator=generator, **options)
        for i in range(0, len(x), batch)
    ]
    return concat(rows)


def unit(p: LogProb[Any] | MeanLogProb[Any]) -> Literal["nats", "bits/dim"]:
    """What :func:`likelihood_score` counts in: bits per dimension for normalised probabilities of discrete data, else nats."""
    return "nats" if p.measure.levels is None or p.kind is Unnormalised else "bits/dim"


def _per_nat(p: LogProb[Any] | MeanLogProb[Any]) -> float:
    """That unit per nat."""
    return 1.0 if unit(p) == "nats" else 1.0 / (p.dims * math.log(2.0))


def likelihood_score(log_prob: LogProb[Any]) -> Score:
    """Mean negative log-likelihood, in the :func:`unit` of the numbers; smaller is better.

    The interval is of the mean over data, and a numerical tolerance is added. It says nothing about how far a bound is from
    the truth: the kind does, which stays with the numbers.

    Raises:
        BadInput: for fewer data than parts, or a log-probability that is not finite.
    """
    per_nat = _per_nat(log_prob)
    return _widened(mean_score(-_finite(log_prob) * per_nat), float(log_prob.tolerances.mean()) * per_nat)


@dataclass(frozen=True)
class LikelihoodDifference:
    """What two models' likelihoods of the same data say.

    Args:
        nats: mean log p_a - log p_b per datum, its paired interval widened by both tolerances; positive when a's number is
            higher. Of bounds, it is the difference of the bounds.
        verdict: whether the kinds let that order the models, and the interval excludes zero.
    """

    nats: Score
    verdict: Verdict


def likelihood_difference(a: LogProb[Any], b: LogProb[Any]) -> LikelihoodDifference:
    """Whether one of two models gives the same data the higher likelihood, data in the same order.

    Raises:
        NotComparable: when the data are not the same, or the numbers unnormalised for different models.
        BadInput: as :func:`likelihood_score`.
    """
    return stored_difference(a.mean(), likelihood_score(a), b.mean(), likelihood_score(b))


def stored_difference(a: MeanLogProb[Any], nll_a: Score, b: MeanLogProb[Any], nll_b: Score) -> LikelihoodDifference:
    """The same from what a record keeps: the means and their :func:`likelihood_score`, whose parts pair the data.

    Raises:
        NotComparable: as :func:`likelihood_difference`.
    """
    if a.count != b.count:
        raise NotComparable(f"log-probabilities of {a.count} and {b.count} data are not paired. Score both on the same data.")
    paired = _scaled(difference(nll_b, nll_a), 1.0 / _per_nat(a))
    found = verdict(a, b, (paired.low, paired.high))
    return LikelihoodDifference(_widened(paired, a.tolerance + b.tolerance), found)


def typicality_gap(own: LogProb[Any], test: LogProb[Any]) -> dict[str, Score]:
    """How much more likely a model finds its own samples than test data.

    Args:
        own: log-probabilities of the model's own samples, under the model.
        test: of test data under the same model, by the same method and effort.

    Returns:
        ``typicality``, the gap in nats per datum, 0 for a perfect model; and ``typicality_standardised``, the gap divided by the
        pooled standard deviation of log p (Cohen's d): 0.2 is small and 0.8 large whatever the dimension.

    Raises:
        NotComparable: when the two are of different kinds, methods or models.
        BadInput: for fewer data than parts, or a log-probability that is not finite.
    """
    questions = [(p.kind, p.method, p.measure, p.dims, p.scope) for p in (own, test)]
    if questions[0] != questions[1]:
        raise NotComparable(f"a gap is of one model and one method; got {_told(own)} against {_told(test)}. Score both alike.")
    centre = _finite(test).mean()  # which keeps the digits that sums of squares of large numbers would lose
    a, b = _sums(_finite(own) - centre), _sums(_finite(test) - centre)
    all_but = [_gap(a.sum(0) - a[g], b.sum(0) - b[g]) for g in range(PARTS)]
    gap, size = (jackknife(value, [left[i] for left in all_but]) for i, value in enumerate(_gap(a.sum(0), b.sum(0))))
    return {"typicality": _widened(gap, float(own.tolerances.mean() + test.tolerances.mean())), "typicality_standardised": size}


def _told(p: LogProb[Any]) -> str:
    return f"{p.kind.__name__} ({p.method}{', ' + p.scope if p.scope else ''})"


def _sums(nats: Tensor) -> Tensor:
    """Count, sum and sum of squares by part, (PARTS, 3)."""
    if len(nats) < PARTS:
        raise BadInput(f"a gap with an interval needs at least {PARTS} data on each side; got {len(nats)}. Score more.")
    rows = torch.stack([torch.ones_like(nats), nats, nats.square()], dim=1)
    return rows.new_zeros(PARTS, 3).index_add_(0, fold(len(nats)), rows)


def _gap(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Difference of two means and the same in pooled standard deviations, from counts, sums and sums of squares."""
    means, variances = zip(*((s / n, (q - s * s / n) / (n - 1)) for n, s, q in (a.tolist(), b.tolist())), strict=True)
    gap, spread = means[0] - means[1], math.sqrt(max(sum(variances) / 2, 0.0))
    if gap and not spread:
        raise BadInput(f"log-probabilities that do not vary have no standardised gap; theirs is {gap:g} nats. Check the data.")
    return gap, gap / spread if gap else 0.0


def _finite(p: LogProb[Any]) -> Tensor:
    """Nats in float64 on the CPU, (B,)."""
    nats = p.nats.detach().cpu().double()
    bad = (~nats.isfinite()).nonzero()
    if len(bad):
        raise BadInput(
            f"log-probabilities have no mean: that of datum {int(bad[0])} is {float(nats[bad[0]])}, given by {p.method}."
        )
    return nats


def _widened(score: Score, by: float) -> Score:
    """The interval with a numerical tolerance added to both sides."""
    method = f"{score.method}, with tolerance" if by else score.method
    return replace(score, low=score.low - by, high=score.high + by, method=method)


def _scaled(score: Score, factor: float) -> Score:
    """The same in another unit, ``factor`` positive."""
    parts = tuple(factor * part for part in score.parts)
    return Score(factor * score.value, factor * score.low, factor * score.high, score.method, parts)
