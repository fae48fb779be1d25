"""A likelihood that carries its kind.

``Exact`` is both a lower and an upper bound, so it passes wherever a bound is asked for. ``Numerical`` has an error bar from
its own tolerance, ``Estimate`` is stochastic and says how it is biased when that is known, ``Unnormalised`` is known up to a
constant and compares only within one model. A number never travels without its kind, and what the kinds do not imply is
refused rather than computed.

    Exact + Exact = Exact      Lower + Lower = Lower      Lower - Upper = Lower      Lower - Lower: refused
    anything with an Estimate is an Estimate              Unnormalised - Unnormalised of one model is Exact (log Z cancels)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeAlias, TypeVar, overload

import torch
from torch import Tensor

from sixfold.core.errors import BadInput, NotComparable, Unsupported


class Kind:
    """How a number relates to the true log-probability."""

    symbol = "?"


class Lower(Kind):
    """At most the truth, at least in expectation."""

    symbol = ">="


class Upper(Kind):
    """At least the truth, at least in expectation."""

    symbol = "<="


class Exact(Lower, Upper):
    """The truth up to rounding: chain rule, change of variables, enumeration."""

    symbol = "="


class Numerical(Kind):
    """The truth within a tolerance that its method controls: quadrature, an ODE solved twice."""

    symbol = "≈"


class Estimate(Kind):
    """Stochastic: annealed importance sampling, Hutchinson's trace. ``bias`` says which way it errs when that is known."""

    symbol = "~"


class Unnormalised(Kind):
    """The truth up to a constant of the model: compares only within one model."""

    symbol = "∝"


K_co = TypeVar("K_co", bound=Kind, covariant=True)
AnyKind: TypeAlias = type[Kind]
Bias = Literal["none", "low", "high", "unknown"]


@dataclass(frozen=True)
class Measure:
    """Base measure: counting over ``levels`` values of each element, or Lebesgue (``levels`` is None)."""

    levels: int | None = None

    def __str__(self) -> str:
        return "Lebesgue" if self.levels is None else f"counting over {self.levels} levels"


LEBESGUE = Measure()


def _sum_kind(a: AnyKind, b: AnyKind) -> AnyKind:
    """Kind of a sum of two log-probabilities."""
    if Unnormalised in (a, b):
        other = b if a is Unnormalised else a
        if other not in (Unnormalised, Exact, Numerical):
            raise NotComparable(f"an unnormalised number plus a {other.__name__.lower()} one has no kind. Estimate log Z first.")
        return Unnormalised
    if Estimate in (a, b):
        return Estimate
    if Numerical in (a, b):
        other = b if a is Numerical else a
        return Numerical if other in (Numerical, Exact) else Estimate
    both = [kind for kind in (Exact, Lower, Upper) if issubclass(a, kind) and issubclass(b, kind)]
    if not both:
        raise NotComparable("a lower bound together with an upper bound is neither; got kinds that point opposite ways.")
    return both[0]


def _negated(kind: AnyKind) -> AnyKind:
    return {Lower: Upper, Upper: Lower}.get(kind, kind)


_FLIPPED: dict[Bias, Bias] = {"none": "none", "low": "high", "high": "low", "unknown": "unknown"}


def _merge_bias(a: Bias, b: Bias) -> Bias:
    """Bias of a sum: none is neutral, agreement is kept, the rest is unknown."""
    if a == "none" or a == b:
        return b
    return a if b == "none" else "unknown"


def _own_bias(kind: AnyKind, bias: Bias) -> Bias:
    """Bias that a number brings into a sum: a bound is biased by definition."""
    if kind is Estimate:
        return bias
    return {Lower: "low", Upper: "high"}.get(kind, "none")  # type: ignore[return-value]


@dataclass(frozen=True)
class LogProb(Generic[K_co]):
    """Log-probabilities in nats per datum, of data as given, with their kind.

    Args:
        nats: (B,).
        kind: the class of the kind, at run time what ``K_co`` is to the type checker.
        method: how it was computed, as printed: ``change of variables``, ``importance-weighted bound, K=64``.
        dims: elements of one datum, the D of bits per dimension.
        measure: base measure of the density.
        stderr: standard error of each number where it is stochastic, (B,).
        tolerance: half-width of the error bar of a ``Numerical``, or of an error that all data share, as that of an estimated
            log Z; in nats, one for all data or one for each, (B,).
        bias: of an ``Estimate``.
        scope: which model an ``Unnormalised`` number belongs to.
    """

    nats: Tensor
    kind: type[K_co]
    method: str
    dims: int
    measure: Measure = LEBESGUE
    stderr: Tensor | None = None
    tolerance: float | Tensor = 0.0
    bias: Bias = "none"
    scope: str = ""

    def __post_init__(self) -> None:
        if self.nats.ndim != 1:
            raise BadInput(f"log-probabilities must have shape (B,); got {tuple(self.nats.shape)}.")

    @property
    def tolerances(self) -> Tensor:
        """The tolerance of each datum, (B,) in float64."""
        return torch.as_tensor(self.tolerance, dtype=torch.float64, device=self.nats.device).expand(len(self))

    def __len__(self) -> int:
        return len(self.nats)

    def _combine(self, other: LogProb[Any], nats: Tensor, kind: AnyKind, bias: Bias, scope: str = "") -> LogProb[Any]:
        if len(self) != len(other):
            raise BadInput(f"log-probabilities of {len(self)} and {len(other)} data cannot be combined; expected the same data.")
        errors = [e for e in (self.stderr, other.stderr) if e is not None]
        stderr = torch.stack(errors).square().sum(0).sqrt() if errors else None
        return LogProb(
            nats, kind, f"{self.method}; {other.method}", self.dims, self.measure, stderr,
            self.tolerance + other.tolerance, bias, scope,
        )  # fmt: skip

    @overload
    def __add__(self: LogProb[Exact], other: LogProb[Exact]) -> LogProb[Exact]: ...
    @overload
    def __add__(self: LogProb[Lower], other: LogProb[Lower]) -> LogProb[Lower]: ...
    @overload
    def __add__(self: LogProb[Upper], other: LogProb[Upper]) -> LogProb[Upper]: ...
    @overload
    def __add__(self, other: LogProb[Any]) -> LogProb[Kind]: ...
    def __add__(self, other: LogProb[Any]) -> LogProb[Any]:
        """The joint of two parts of a datum, log p(a) + log p(b | a); dims add up."""
        if self.measure != other.measure:
            raise NotComparable(f"parts of a datum have one base measure; got {self.measure} and {other.measure}.")
        kind = _sum_kind(self.kind, other.kind)
        bias = _merge_bias(_own_bias(self.kind, self.bias), _own_bias(other.kind, other.bias)) if kind is Estimate else "none"
        scope = "+".join(p.scope for p in (self, other) if p.kind is Unnormalised)
        joint = self._combine(other, self.nats + other.nats, kind, bias, scope)
        return replace(joint, dims=self.dims + other.dims)

    @overload
    def __sub__(self: LogProb[Exact], other: LogProb[Exact]) -> LogProb[Exact]: ...
    @overload
    def __sub__(self: LogProb[Lower], other: LogProb[Upper]) -> LogProb[Lower]: ...
    @overload
    def __sub__(self: LogProb[Upper], other: LogProb[Lower]) -> LogProb[Upper]: ...
    @overload
    def __sub__(self, other: LogProb[Any]) -> LogProb[Kind]: ...
    def __sub__(self, other: LogProb[Any]) -> LogProb[Any]:
        """Log-ratio of two models on the same data, datum by datum."""
        _same_question(self.measure, self.dims, other.measure, other.dims)
        if Unnormalised in (self.kind, other.kind):
            _same_constant(self.kind, self.scope, other.kind, other.scope)
            known = Numerical if bool((self.tolerances + other.tolerances).any()) else Exact
            return self._combine(other, self.nats - other.nats, known, "none")
        kind = _sum_kind(self.kind, _negated(other.kind))
        other_bias = _FLIPPED[_own_bias(other.kind, other.bias)]
        bias = _merge_bias(_own_bias(self.kind, self.bias), other_bias) if kind is Estimate else "none"
        return self._combine(other, self.nats - other.nats, kind, bias)

    def mean(self) -> MeanLogProb[K_co]:
        """Mean over data with its standard error.

        Raises:
            BadInput: for an empty batch.
        """
        if not len(self):
            raise BadInput("the mean of no log-probabilities; expected at least one datum.")
        values = self.nats.double()
        spread = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return MeanLogProb(
            float(values.mean()), spread, len(values), self.kind, self.method, self.dims, self.measure,
            float(self.tolerances.mean()), self.bias, self.scope,
        )  # fmt: skip

    def bits_per_dim(self) -> Tensor:
        """-log2 p(x) / D per datum, (B,). A lower bound on log p is an upper bound on the bits.

        Raises:
            Unsupported: for a density of real data, which has no bits, or an unnormalised one.
        """
        return -self.nats * _bits_scale(self.kind, self.measure, self.dims)

    def __str__(self) -> str:
        return str(self.mean())


def _bits_scale(kind: AnyKind, measure: Measure, dims: int) -> float:
    if measure.levels is None:
        raise Unsupported("bits per dimension need data with finitely many levels; got a density. Print nats instead.")
    if kind is Unnormalised:
        raise Unsupported("bits per dimension need a normalised probability; got an unnormalised one. Estimate log Z.")
    return 1.0 / (dims * math.log(2.0))


def _same_question(measure_a: Measure, dims_a: int, measure_b: Measure, dims_b: int) -> None:
    if (measure_a, dims_a) != (measure_b, dims_b):
        raise NotComparable(
            f"log-probabilities of different data: {dims_a} dims, {measure_a} against {dims_b} dims, {measure_b}."
            " Score both models on the same data."
        )


def _same_constant(kind_a: AnyKind, scope_a: str, kind_b: AnyKind, scope_b: str) -> None:
    """Whether log Z cancels: both numbers are unnormalised and belong to one named model."""
    if kind_a is not kind_b or not scope_a or scope_a != scope_b:
        raise NotComparable("unnormalised log-probabilities compare only within one model; got two. Estimate log Z.")


@dataclass(frozen=True)
class MeanLogProb(Generic[K_co]):
    """Mean log-probability over data, in nats per datum, with its standard error over the data.

    Printing shows the kind: ``=``, ``>=``, ``≈``, ``~`` or ``∝``.
    """

    value: float
    stderr: float
    count: int
    kind: type[K_co]
    method: str
    dims: int
    measure: Measure = LEBESGUE
    tolerance: float = 0.0
    bias: Bias = "none"
    scope: str = ""

    @property
    def nll(self) -> float:
        """Negative mean log-likelihood in nats per datum; an upper bound of it when the kind is ``Lower``."""
        return -self.value

    @property
    def bits_per_dim(self) -> float:
        """-log2 p / D; see :meth:`LogProb.bits_per_dim`."""
        return -self.value * _bits_scale(self.kind, self.measure, self.dims)

    @property
    def bits_stderr(self) -> float:
        """Standard error of :attr:`bits_per_dim`."""
        return self.stderr * _bits_scale(self.kind, self.measure, self.dims)

    @property
    def sign(self) -> str:
        """Symbol of the kind for the negative log-likelihood and for bits, where bounds point the other way."""
        return _negated(self.kind).symbol

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """Value less and plus ``z`` standard errors and the tolerance; one datum alone leaves it unbounded."""
        half = z * (math.inf if math.isnan(self.stderr) else self.stderr) + self.tolerance
        return self.value - half, self.value + half

    def __str__(self) -> str:
        return f"{self.kind.symbol} {self.value:.3f} ± {self.stderr:.3f} nats ({self.method})"


@dataclass(frozen=True)
class Verdict:
    """What two likelihoods imply about two models.

    ``relation`` is ``higher`` or ``lower`` (the first against the second), ``undecided`` when the intervals meet, or
    ``not implied`` when the kinds say nothing about the order; ``reason`` says why in words.
    """

    relation: Literal["higher", "lower", "undecided", "not implied"]
    reason: str


def _has_floor(p: MeanLogProb[Any]) -> bool:
    """Whether the number's interval lies below the truth: its kind says that it does not err upwards."""
    return issubclass(p.kind, Lower) or p.kind is Numerical or (p.kind is Estimate and p.bias in ("none", "low"))


def _has_ceiling(p: MeanLogProb[Any]) -> bool:
    return issubclass(p.kind, Upper) or p.kind is Numerical or (p.kind is Estimate and p.bias in ("none", "high"))


def _apart(a: MeanLogProb[Any], b: MeanLogProb[Any]) -> tuple[float, float]:
    """95% interval of the difference of two means, without their tolerances, whatever the data have in common."""
    # The standard error of a difference is at most the sum of the two: paired or not, this interval is wide enough.
    half = 1.96 * sum(math.inf if math.isnan(p.stderr) else p.stderr for p in (a, b))
    return a.value - b.value - half, a.value - b.value + half


def verdict(a: MeanLogProb[Any], b: MeanLogProb[Any], paired: tuple[float, float] | None = None) -> Verdict:
    """Which of two models gives data the higher likelihood, if that is implied.

    ``a`` is higher only when its kind bounds its truth from below, the kind of ``b`` bounds that of ``b`` from above, and the
    interval of a - b, widened by both tolerances, lies above zero.

    Args:
        a, b: mean log-probabilities of the same data.
        paired: 95% interval of mean a - b, in nats, from their difference datum by datum or part by part, without tolerances.
            Left out, the two standard errors are added, which is right but wider.

    Raises:
        NotComparable: when the numbers are of different data or unnormalised for different models.
    """
    _same_question(a.measure, a.dims, b.measure, b.dims)
    if Unnormalised in (a.kind, b.kind):
        _same_constant(a.kind, a.scope, b.kind, b.scope)
        a, b = replace(a, kind=Exact), replace(b, kind=Exact)
    slack = a.tolerance + b.tolerance
    low, high = paired or _apart(a, b)
    may_be_higher, may_be_lower = _has_floor(a) and _has_ceiling(b), _has_ceiling(a) and _has_floor(b)
    if may_be_higher and low - slack > 0:
        return Verdict("higher", f"{a} lies above {b}")
    if may_be_lower and high + slack < 0:
        return Verdict("lower", f"{b} lies above {a}")
    if not (may_be_higher and may_be_lower):
        return Verdict("not implied", f"{a.kind.__name__} against {b.kind.__name__} does not order the truths")
    return Verdict("undecided", "the intervals meet" if paired is None else "the interval of the difference holds zero")
