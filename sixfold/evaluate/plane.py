"""Divergences between a known density and a model's on the line or the plane, by quadrature.

    KL(p || q)    = integral p (log p - log q)                 zero only for q = p; large where the model misses the truth
    KL(q || p)    = integral q (log q - log p)                 the reverse: large where the model puts mass outside the truth
    TV(p, q)      = 1/2 integral |p - q| = integral (p - q)+   the share of mass in the wrong place, in [0, 1]

Integrals are taken over a box that holds the truth. The second form of the total variation needs nothing of the model outside
it: what the model wastes there, it lacks inside, as its density integrates to one. The reverse KL does need it: mass m of the
model outside the box, where the truth has at most e, costs at least m log(m / e), which is added, and the method then says "at
least". Each integral is taken twice, with points ``step`` and 2 ``step`` apart, and the interval is the difference to both sides:
the error of the finer one is less than that as soon as halving the step at least halves it.

A model that gives only a bound on its density gives one on the divergence, and the method says so: a lower bound on log q makes
KL(p || q) and TV(p, q) upper bounds, as (p - q)+ falls with q. It says nothing about the reverse KL.

Source: Elements of Information Theory (Cover & Thomas, 2006), equations 2.26 (KL), 2.99 (log-sum inequality), 11.137 (TV).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from sixfold.core.errors import BadInput, NotComparable
from sixfold.core.likelihood import AnyKind, Estimate, LogProb, Lower, Numerical, Unnormalised, Upper
from sixfold.evaluate.likelihood import concat
from sixfold.evaluate.score import Score
from sixfold.solve.quadrature import counts_for, lattice

OUTSIDE = 1e-4
"""Mass of the truth that may lie outside the box."""

Truth: TypeAlias = Callable[[Tensor], Tensor]
Model: TypeAlias = Callable[[Tensor], LogProb[Any]]


@dataclass(frozen=True)
class _Table:
    """Both log-densities at the points of one lattice, (N,) each in float64 nats, and the volume of a point."""

    log_p: Tensor
    log_q: Tensor
    volume: float
    kind: AnyKind
    tolerance: Tensor

    def kl(self) -> float:
        return self.expect(self.log_p, self.log_p - self.log_q)

    def reverse_kl(self) -> float:
        outside = self.outside()
        return self.expect(self.log_q, self.log_q - self.log_p) + (outside * math.log(outside / OUTSIDE) if outside else 0.0)

    def total_variation(self) -> float:
        return float((self.log_p.exp() - self.log_q.exp()).clamp_min(0).sum()) * self.volume

    def model_mass(self) -> float:
        return float(self.log_q.exp().sum()) * self.volume

    def truth_mass(self) -> float:
        return float(self.log_p.exp().sum()) * self.volume

    def outside(self) -> float:
        """Least mass of the model outside the box; zero when it is no more than the truth may have there."""
        outside = 1.0 - self.model_mass() - self.slack_of_mass()
        return outside if outside > OUTSIDE else 0.0

    def slack_of_mass(self) -> float:
        """Mass that the tolerance leaves open: with q' = q exp(d), |d| <= t, at most the integral of q (e^t - 1)."""
        return self.expect(self.log_q, self.tolerance.expm1())

    def slack_of_reverse_kl(self) -> float:
        """The integrand changes by at most q t e^t, and its weight by q (e^t - 1) |log q / p|."""
        t = self.tolerance
        return self.expect(self.log_q, t * t.exp() + t.expm1() * (self.log_q - self.log_p).abs())

    def expect(self, log_weight: Tensor, value: Tensor) -> float:
        weight = log_weight.exp()
        # Where a density underflows to zero its logarithm may be minus infinity: zero times infinity is zero here.
        return float(torch.where(weight > 0, weight * value, 0.0).sum()) * self.volume


@dataclass(frozen=True)
class _Plane:
    """The two tables of one question: points ``step`` and 2 ``step`` apart."""

    fine: _Table
    coarse: _Table

    def kl(self) -> Score:
        return self._score(_Table.kl, self.fine.expect(self.fine.log_p, self.fine.tolerance), _claim(self.fine.kind))

    def reverse_kl(self) -> Score:
        if self.fine.kind in (Lower, Upper):
            raise NotComparable(
                f"a {self.fine.kind.__name__.lower()} bound on the model's density implies nothing about KL(q || p)."
            )
        leak = self.fine.outside()
        lack = f"; at least, as {leak:.2g} of the model's mass lies outside the box" if leak else ""
        return self._score(_Table.reverse_kl, self.fine.slack_of_reverse_kl(), _claim(self.fine.kind) + lack)

    def total_variation(self) -> Score:
        return self._score(_Table.total_variation, self.fine.slack_of_mass(), _claim(self.fine.kind))

    def model_mass(self) -> Score:
        return self._score(_Table.model_mass, self.fine.slack_of_mass(), _CLAIM_OF_MASS.get(self.fine.kind, ""))

    def _score(self, ask: Callable[[_Table], float], slack: float, claim: str) -> Score:
        value, method = ask(self.fine), f"quadrature, step halved{claim}"
        if math.isinf(value):  # the model gives no mass to what the truth holds likely
            return Score(value, value, value, method)
        half = abs(value - ask(self.coarse)) + slack
        return Score(value, value - half, value + half, method)


_CLAIM: dict[AnyKind, str] = {
    Lower: "; an upper bound, as the model's log p is a lower one",
    Upper: "; a lower bound, as the model's log p is an upper one",
    Estimate: "; of an estimate of log p, whose error it does not hold",
    Numerical: "; with the tolerance of log p",
}
_CLAIM_OF_MASS: dict[AnyKind, str] = {
    Lower: "; a lower bound", Upper: "; an upper bound", Estimate: _CLAIM[Estimate], Numerical: _CLAIM[Numerical],
}  # fmt: skip


def _claim(kind: AnyKind) -> str:
    return _CLAIM.get(kind, "")


def kl_divergence(
    truth: Truth, model: Model, low: Sequence[float], high: Sequence[float], *, step: float, reverse: bool = False
) -> Score:
    """KL(truth || model) in nats, at least 0.

    Args:
        truth: log-density, maps points (B, D) in float64 to nats (B,).
        model: maps the same points to a :class:`LogProb` of a normalised density: ``model.log_prob``.
        low, high: corners of a box that holds all but 1e-4 of the truth.
        step: spacing of the points; less resolves finer detail and costs more. Half the width of the smallest detail of
            either density gives about six digits.
        reverse: KL(model || truth) instead.

    Raises:
        BadInput: when the box or the step does not hold the truth's mass, or a density is not a number somewhere.
        NotComparable: for an unnormalised model; for the reverse also when the model's density is only bounded.
    """
    plane = _tabulate(truth, model, low, high, step)
    return plane.reverse_kl() if reverse else plane.kl()


def total_variation(truth: Truth, model: Model, low: Sequence[float], high: Sequence[float], *, step: float) -> Score:
    """Total variation distance, in [0, 1]; arguments and errors as of :func:`kl_divergence`."""
    return _tabulate(truth, model, low, high, step).total_variation()


def plane_scores(truth: Truth, model: Model, low: Sequence[float], high: Sequence[float], *, step: float) -> dict[str, Score]:
    """``kl``, ``reverse_kl``, ``total_variation`` and ``model_mass``, the model's mass in the box, evaluating it only once.

    Arguments and errors as of :func:`kl_divergence`. ``reverse_kl`` is left out where the model's density is only bounded.
    """
    plane = _tabulate(truth, model, low, high, step)
    scores = {"kl": plane.kl(), "total_variation": plane.total_variation(), "model_mass": plane.model_mass()}
    return scores if plane.fine.kind in (Lower, Upper) else scores | {"reverse_kl": plane.reverse_kl()}


def _tabulate(truth: Truth, model: Model, low: Sequence[float], high: Sequence[float], step: float) -> _Plane:
    if not step > 0 or len(low) != len(high) or any(not a < b for a, b in zip(low, high, strict=True)):
        raise BadInput(f"a box with low < high and a step above 0 is needed; got {tuple(low)}, {tuple(high)} and {step}.")
    plane = _Plane(_table(truth, model, low, high, step), _table(truth, model, low, high, 2 * step))
    held = plane.fine.truth_mass()
    if abs(held - 1) > OUTSIDE:
        raise BadInput(f"the truth's mass in the box comes to {held:.5f}, not 1. Widen the box or take a smaller step.")
    return plane


def _table(truth: Truth, model: Model, low: Sequence[float], high: Sequence[float], step: float) -> _Table:
    points, volume = lattice(low, high, counts_for(low, high, step))
    chunks = torch.split(points, 2**15)
    log_q = concat([model(part) for part in chunks])
    if log_q.kind is Unnormalised:
        raise NotComparable("a divergence needs a normalised density; got an unnormalised one. Estimate log Z first.")
    log_p, values = torch.cat([truth(part) for part in chunks]), log_q.nats.detach().double()
    for name, found in (("truth", log_p), ("model", values)):
        if bool((found.isnan() | (found == math.inf)).any()):
            raise BadInput(
                f"the log-density of the {name} is not a number or +infinity at {points[~(found < math.inf)][0].tolist()}."
            )
    return _Table(log_p.detach().double(), values, volume, log_q.kind, log_q.tolerances.cpu())
