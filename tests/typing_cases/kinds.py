"""What the type checker must say of kinds: ``# E: code`` marks a line that it has to refuse, all others it has to accept."""

from typing import Any

from sixfold.core.likelihood import Estimate, Exact, Kind, LogProb, Lower, MeanLogProb, Numerical, Unnormalised, Upper


def wants_lower(bound: LogProb[Lower]) -> None: ...


def wants_upper(bound: LogProb[Upper]) -> None: ...


def wants_exact(value: LogProb[Exact]) -> None: ...


def wants_mean_bound(bound: MeanLogProb[Lower]) -> None: ...


def bounds(
    exact: LogProb[Exact],
    lower: LogProb[Lower],
    upper: LogProb[Upper],
    numerical: LogProb[Numerical],
    estimate: LogProb[Estimate],
    unnormalised: LogProb[Unnormalised],
    anything: LogProb[Kind],
) -> None:
    wants_lower(exact)
    wants_upper(exact)
    wants_lower(lower)
    wants_upper(upper)
    wants_lower(upper)  # E: arg-type
    wants_upper(lower)  # E: arg-type
    wants_exact(lower)  # E: arg-type
    wants_lower(numerical)  # E: arg-type
    wants_lower(estimate)  # E: arg-type
    wants_upper(estimate)  # E: arg-type
    wants_lower(unnormalised)  # E: arg-type
    wants_lower(anything)  # E: arg-type
    wants_exact(estimate)  # E: arg-type


def sums(
    exact: LogProb[Exact],
    lower: LogProb[Lower],
    upper: LogProb[Upper],
    estimate: LogProb[Estimate],
    numerical: LogProb[Numerical],
) -> None:
    wants_exact(exact + exact)
    wants_lower(lower + lower)
    wants_lower(lower + exact)
    wants_lower(exact + lower)
    wants_upper(upper + exact)
    wants_lower(lower + upper)  # E: arg-type
    wants_lower(lower + estimate)  # E: arg-type
    wants_lower(numerical + lower)  # E: arg-type
    wants_exact(exact + lower)  # E: arg-type


def differences(exact: LogProb[Exact], lower: LogProb[Lower], upper: LogProb[Upper], estimate: LogProb[Estimate]) -> None:
    wants_exact(exact - exact)
    wants_lower(lower - upper)
    wants_lower(lower - exact)
    wants_upper(exact - lower)
    wants_upper(upper - lower)
    wants_lower(lower - lower)  # E: arg-type
    wants_lower(exact - lower)  # E: arg-type
    wants_lower(exact - estimate)  # E: arg-type


def means(exact: LogProb[Exact], estimate: LogProb[Estimate]) -> None:
    wants_mean_bound(exact.mean())
    wants_mean_bound(estimate.mean())  # E: arg-type


def made(nats: Any) -> LogProb[Lower]:
    return LogProb(nats, Exact, "chain rule", 2)


def made_wrong(nats: Any) -> LogProb[Lower]:
    return LogProb(nats, Estimate, "annealed importance sampling", 2)  # E: arg-type
