"""Density: a likelihood is what its kind says, and samples occur as often as it says."""

from __future__ import annotations

import inspect
import math
from functools import partial
from typing import Any

import torch

from sixfold.core.likelihood import Estimate, Exact, Lower, Measure, Numerical, Unnormalised
from sixfold.core.model import HasDensity
from sixfold.testing.cells import SAMPLES, Cells, as_often, cells_of, masses, nearly, no_fewer
from sixfold.testing.checks import check, expect, same, seeded, steady, untouched
from sixfold.testing.subject import Subject


@check("density")
def log_prob_is_finite_for_each_datum(s: Subject) -> None:
    """(B,), floating and finite on data, also of none; NumPy arrays give the same as tensors."""
    model = s.able(HasDensity)
    x, cond = s.rows(16)
    nats = steady(lambda: s.log_prob(model, x, cond).nats)
    expect(nats.shape == (16,) and nats.is_floating_point(), f"{nats.dtype} {tuple(nats.shape)}", "floats of shape (16,)")
    expect(bool(torch.isfinite(nats).all()), nats.tolist(), "finite numbers on data")
    none = model.log_prob(x[:0], None if cond is None else cond[:0])
    expect(len(none) == 0, f"{len(none)} numbers of no data", "none")
    arrays = partial(model.log_prob, x.numpy(), None if cond is None else cond.numpy(), generator=seeded(5))
    same(steady(arrays).nats.detach(), nats, "log_prob of NumPy arrays", to=1e-6)


@check("density")
def log_prob_names_its_measure(s: Subject) -> None:
    """Bits per dimension come out right: dims are the datum's, the measure counts the data's levels or is Lebesgue's."""
    p = s.log_prob(s.able(HasDensity), *s.rows(4))
    measure = Measure(s.spec.support.size)
    expect((p.dims, p.measure) == (s.spec.dims, measure), f"{p.dims} dims, {p.measure}", f"{s.spec.dims} dims, {measure}")


@check("density")
def log_prob_leaves_the_global_generator_alone(s: Subject) -> None:
    """With a generator of its own, a stochastic bound or estimate takes nothing from the global one."""
    model = s.able(HasDensity)
    untouched(lambda: s.log_prob(model, *s.rows(8)), "log_prob")


@check("density")
def log_prob_ignores_other_data(s: Subject) -> None:
    """A datum's number does not change with the data beside it (to 1e-4 and its own tolerance, under the same draws)."""
    model = s.able(HasDensity)
    (x, cond), (y, other) = s.rows(8), s.rows(8, start=100)
    y[:4] = x[:4]
    if other is not None and cond is not None:
        other[:4] = cond[:4]
    one, two = steady(lambda: s.log_prob(model, x, cond)), steady(lambda: s.log_prob(model, y, other))
    same(one.nats[:4], two.nats[:4], "log_prob with other data beside", to=1e-4 + 2 * float(one.tolerances.max()))


@check("density")
def log_prob_keeps_its_kind(s: Subject) -> None:
    """One kind for all data. Exact and Numerical do not depend on a seed; the others state tolerance, error or scope."""
    model = s.able(HasDensity)
    one, two, other = (s.log_prob(model, *s.rows(32, start=a), seed=b) for a, b in ((0, 5), (0, 6), (32, 5)))
    expect(one.kind is other.kind is two.kind, f"{one.kind.__name__} and {other.kind.__name__}", "one kind")
    if issubclass(one.kind, Exact | Numerical):
        same(one.nats, two.nats, f"{one.kind.__name__} numbers with another seed", to=1e-4 + 2 * float(one.tolerances.max()))
    if one.kind is Numerical:
        expect(0 < float(one.tolerances.max()) < math.inf, f"tolerance {one.tolerance}", "the error bar of a Numerical number")
    if one.kind is Estimate:
        expect(one.stderr is not None, "no standard error", "one for each number of an Estimate")
    if one.kind is Unnormalised:
        scopes = [one.scope, s.log_prob(s.fresh().eval(), *s.rows(4)).scope]
        expect(bool(scopes[0]) and scopes[0] != scopes[1], f"scopes {scopes}", "one for each state of the model: log Z differs")


@check("density")
def probability_sums_to_one(s: Subject) -> None:
    """Over all discrete data, to 1e-3, or over a box of the plane by quadrature, to 0.02 and what lies outside the box.

    A Numerical density that misses this at its default effort is taken once more with four times as much.
    """
    model, kind = s.able(HasDensity), s.kind(Exact, Numerical)
    cells = cells_of(s, fine=24 if kind is Exact else 8)
    slack = 1e-3 if s.spec.support.discrete else 0.02
    found = cells.locate(model.sample(SAMPLES, cond=s.one_cond(), generator=seeded(9)))
    outside = float((found < 0).double().mean())
    least, most, mass = 1 - outside - slack, 1 + slack, _mass(s, model, cells)
    if kind is Numerical and not least <= mass <= most:
        mass = _mass(s, model, cells, effort=4 * inspect.signature(model.log_prob).parameters["effort"].default)
    expect(least <= mass <= most, f"a total of {mass:.4f}", f"1 to {slack} (samples outside: {outside:.3f})")


def _mass(s: Subject, model: Any, cells: Cells, **effort: int) -> float:
    """What the density puts into all cells together, under the first condition."""
    nats = s.log_prob(model, cells.points, s.one_cond(len(cells.points)), **effort).nats
    return float(nats.double().exp().sum()) * cells.volume


@check("density")
def bound_sums_to_at_most_one(s: Subject) -> None:
    """A lower bound of probabilities sums to at most one, over all discrete data or over the plane by quadrature (to 0.05)."""
    model, _ = s.able(HasDensity), s.kind(Lower)
    mass = float(masses(s, model, cells_of(s, fine=12)).sum())
    expect(mass <= 1.05, f"a total of {mass:.4f}", "at most 1.05, or the number is no lower bound")


@check("density")
def effort_does_not_loosen_the_bound(s: Subject) -> None:
    """Eight times the effort does not lower the mean bound, within five standard errors of the paired difference."""
    model, _ = s.able(HasDensity), s.kind(Lower)
    loose, tight = (s.log_prob(model, *s.rows(200), effort=effort).nats.double() for effort in (1, 8))
    gain = tight - loose
    error = float(gain.std()) / math.sqrt(len(gain))
    expect(float(gain.mean()) >= -5 * error - 1e-4, f"a mean gain of {gain.mean():.4g} ± {error:.2g} nats", "none below zero")


@check("density")
def samples_match_the_density(s: Subject) -> None:
    """4000 samples fall into cells as often as the density says, by chi-square; a bound's cells hold no more than they should.

    The density is normalised over the cells first, so that this is about its shape. A Numerical density goes with a sampler that
    has discretisation errors of its own: their total variation distance may be 0.1 beyond what chance explains.
    """
    model, kind = s.able(HasDensity), s.kind(Exact, Numerical, Lower)
    cells = cells_of(s, fine=24 if kind is Exact else 8)
    samples = model.sample(SAMPLES, cond=s.one_cond(), generator=seeded(9))
    counts = cells.count(samples)
    if kind is Lower:
        return no_fewer(counts, cells.total(masses(s, model, cells)))
    share = s.log_prob(model, cells.points, s.one_cond(len(cells.points))).nats.double().softmax(0)
    expected = cells.total(share) * counts.sum()
    return as_often(counts, expected) if kind is Exact else nearly(counts, expected)
