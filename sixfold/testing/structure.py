"""Structure: codes, scores, energies, trajectories and completions agree with the density and the data."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sixfold.core.likelihood import Exact, Unnormalised
from sixfold.core.model import (
    Fills,
    HasDensity,
    HasEnergy,
    HasLatent,
    HasLayers,
    HasPrior,
    HasScore,
    HasTrajectory,
    Noises,
)
from sixfold.solve.annealing import HasBracket
from sixfold.testing.cells import SAMPLES, Cells, as_often, cells_of, line, states
from sixfold.testing.checks import SkippedError, check, expect, same, seeded
from sixfold.testing.subject import Subject


@check("structure")
def codes_decode_to_data(s: Subject) -> None:
    """One code a datum, (B, Z); decoding gives data of the specification."""
    model = s.able(HasLatent)
    x, cond = s.rows(16)
    latent = model.encode(x, cond, generator=seeded(3))
    for name, z in {"z": latent.z, "mean": latent.mean}.items():
        fits = z is None or (z.ndim == 2 and len(z) == 16 and bool(torch.isfinite(z).all()))
        expect(fits, f"{name} of shape {None if z is None else tuple(z.shape)}", "finite numbers of shape (16, Z)")
    back = s.spec.check(model.decode(latent.z, cond).detach(), name="a decoded datum")
    expect(back.dtype == s.spec.dtype and len(back) == 16, f"{len(back)} data of {back.dtype}", f"16 of {s.spec.dtype}")


@check("structure")
def decoding_undoes_encoding(s: Subject) -> None:
    """A code as large as its real datum, without a posterior, is a bijection's: data come back to 1e-3 of their size."""
    model = s.able(HasLatent)
    x, cond = s.rows(64)
    latent = model.encode(x, cond, generator=seeded(3))
    if s.spec.support.discrete or latent.mean is not None or latent.z.shape[1] != s.spec.dims:
        raise SkippedError("the code is no bijection's")
    away = float((model.decode(latent.z, cond).detach() - x).abs().max() / x.std())
    expect(away <= 1e-3, f"data that come back {away:.3g} standard deviations away", "the same data")


@check("structure")
def normal_codes_decode_to_data(s: Subject) -> None:
    """Standard normal codes decode to data of the specification, nine tenths of their elements in the widened box."""
    model = s.able(HasPrior)
    z = torch.randn(64, model.latent, generator=seeded(3))
    made = model.decode(z, **s.given(model.decode, s.one_cond())).detach()
    expect(made.dtype == s.spec.dtype and len(made) == 64, f"{len(made)} data of {made.dtype}", f"64 of {s.spec.dtype}")
    inside = _inside(s, s.spec.check(made, name="a decoded datum"))
    expect(inside >= 0.9, f"{inside:.2f} of the elements near the data", "at least 0.90")


def _inside(s: Subject, x: Tensor) -> float:
    """Share of the elements that lie in the widened box of the data."""
    (low, high), flat = s.box(), x.detach().flatten(1).double()
    return float(((flat >= low) & (flat <= high)).double().mean())


@check("structure")
def layers_lead_back(s: Subject) -> None:
    """The layers' inverses pass the same states on the way back, and undo the log-determinants, to 1e-3 of their size."""
    model = s.able(HasLayers)
    x, cond = s.rows(16)
    there = model.layers(x, cond, generator=seeded(3))
    back = model.layers_back(there.states[-1], cond)
    steps = len(there.states) - 1
    shapes, wanted = (tuple(there.states.shape[1:]), tuple(there.logdets.shape)), ((16, *s.spec.shape), (steps, 16))
    expect(shapes == wanted, shapes, wanted)
    same(back.states.flip(0), there.states, "states on the way back", to=1e-3)
    same(-back.logdets.flip(0), there.logdets, "log-determinants on the way back", to=1e-3)


@check("structure")
def layers_account_for_log_prob(s: Subject) -> None:
    """Base density and log-determinants differ between data as an exact log_prob does, to 1e-3 of its size."""
    model, x = _doubled(s, HasLayers)
    s.kind(Exact)
    found = model.layers(x, generator=seeded(3))
    nats = -0.5 * found.states[-1].flatten(1).square().sum(1) + found.logdets.sum(0)
    wanted = s.log_prob(model, x, None).nats
    same((nats - nats[0]).detach(), wanted - wanted[0], "log-densities by the layers", to=1e-3)


@check("structure")
def noise_covers_the_data_in_time(s: Subject) -> None:
    """From the data at time 0 to states that hardly depend on them at 1, along one noise that the generator alone decides."""
    model = s.able(Noises)
    x, times = s.rows(500)[0], torch.tensor([0.0, 0.5, 1.0])
    before = torch.get_rng_state()
    one, again = (model.noised(x, times, generator=seeded(3)).detach().flatten(2).double() for _ in range(2))
    expect(torch.equal(before, torch.get_rng_state()), "noised drawing from the global generator", "the one that was given")
    expect(torch.equal(one, again), "states that do not follow the seed", "ones that do")
    expect(one.shape == (3, 500, s.spec.dims), tuple(one.shape), (3, 500, s.spec.dims))
    alike = [_correlation(states, x.flatten(1).double()) for states in one]
    expect(alike[0] >= 0.95, f"a correlation of {alike[0]:.3f} with the data at time 0", "at least 0.95")
    expect(abs(alike[2]) <= 0.3, f"a correlation of {alike[2]:.3f} with the data at time 1", "at most 0.3")
    expect(alike[0] > alike[1] > alike[2], [round(a, 3) for a in alike], "less and less of the data in time")


def _correlation(a: Tensor, b: Tensor) -> float:
    """Of all elements, each less its mean, of two (N, D)."""
    a, b = a - a.mean(0), b - b.mean(0)
    return float((a * b).sum() / (a.square().sum() * b.square().sum()).sqrt())


@check("structure")
def bracket_holds_log_z(s: Subject) -> None:
    """Over a space that can be summed log Z lies in the bracket, with five standard errors and a hundredth of a nat of room."""
    model, energy = s.able(HasBracket), s.able(HasEnergy).energy
    cells = cells_of(s, fine=16)
    if s.conditional:
        raise SkippedError("only an energy without condition is summed over")
    truth = float((-energy(cells.points).detach().double()).logsumexp(0) + math.log(cells.volume))
    found = model.bracket(effort=200)
    low, high = (float(end.value + sign * (5 * end.stderr + 0.01)) for end, sign in ((found.lower, -1), (found.upper, 1)))
    expect(low <= truth <= high, f"log Z of {truth:.4f} outside [{low:.4f}, {high:.4f}]", "a bracket that holds it")


def _doubled(s: Subject, protocol: type) -> tuple[Any, Tensor]:
    """The trained model in float64 and a few data; skipped for discrete data and under a condition."""
    model = s.able(protocol)
    if s.conditional or s.spec.support.discrete:
        raise SkippedError("slopes and energies are of real data without condition")
    return model.double(), s.rows(8)[0].double()


def _slope(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Gradient of a function of each datum by central differences in float64, (B, *shape)."""
    flat, steps = x.flatten(1), 1e-6 * torch.eye(x[0].numel(), dtype=x.dtype)
    slopes = [(function((flat + h).view_as(x)) - function((flat - h).view_as(x))) / 2e-6 for h in steps]
    return torch.stack(slopes, 1).view_as(x)


@check("structure")
def score_is_the_slope_of_log_prob(s: Subject) -> None:
    """Central differences of minus the energy, or of an exact or unnormalised log_prob, give the score to 1e-3."""
    model, x = _doubled(s, HasScore)
    if isinstance(model, HasEnergy):
        slope = _slope(lambda y: -model.energy(y).detach(), x)
    else:
        s.kind(Exact, Unnormalised)
        slope = _slope(lambda y: s.log_prob(model, y, None).nats, x)
    same(model.score(x).detach(), slope, "the score against differences", to=1e-3)


@check("structure")
def energy_is_minus_log_prob(s: Subject) -> None:
    """Differences of -energy are differences of log_prob, to 1e-4: log Z alone lies between them."""
    model, x = _doubled(s, HasEnergy)
    energy = model.energy(x).detach()
    expect(energy.shape == (len(x),), tuple(energy.shape), (len(x),))
    if not isinstance(model, HasDensity):
        raise SkippedError("there is no log_prob to compare with")
    nats = s.log_prob(model, x, None).nats
    same(energy[0] - energy, nats - nats[0], "-energy up to a constant", to=1e-4)


@check("structure")
def energy_is_low_on_data(s: Subject) -> None:
    """After training the mean energy of data lies below that of uniform noise over the widened box of the data."""
    model = s.able(HasEnergy)
    if s.conditional:
        raise SkippedError("an energy takes no condition")
    x, _ = s.rows(500)
    if s.spec.support.discrete:
        noise = torch.randint(s.spec.support.count, x.shape, generator=seeded(3)).to(x.dtype)
    else:
        low, high = s.box()
        noise = (low + (high - low) * torch.rand(500, s.spec.dims, generator=seeded(3))).float().view_as(x)
    data, other = (float(model.energy(v).detach().double().mean()) for v in (x, noise))
    expect(data < other, f"{data:.4g} on data, {other:.4g} on noise", "less energy on data")


@check("structure")
def trajectory_ends_in_the_data(s: Subject) -> None:
    """Frames as asked for, in the order of their times, finite; nine tenths of the last one's elements lie in the widened box."""
    model = s.able(HasTrajectory)
    path = model.trajectory(64, frames=5, generator=seeded(3), **s.given(model.trajectory, s.one_cond()))
    shapes = tuple(path.times.shape), tuple(path.frames.shape)
    expect(shapes == ((5,), (5, 64, *s.spec.shape)), shapes, ((5,), (5, 64, *s.spec.shape)))
    steps = path.times.diff()
    expect(bool((steps > 0).all() or (steps < 0).all()), f"times {path.times.tolist()}", "times in order")
    expect(bool(torch.isfinite(path.frames).all()), "frames that are not finite", "finite ones")
    inside = _inside(s, path.frames[-1])
    expect(inside >= 0.9, f"{inside:.2f} of the last frame's elements near the data", "at least 0.90")


@check("structure")
def known_elements_are_kept(s: Subject) -> None:
    """Completion keeps what is known, gives data of the specification, and draws the rest anew from its generator alone."""
    model = s.able(Fills)
    (x, cond), known = s.rows(64), torch.rand(64, *s.spec.shape, generator=seeded(3)) < 0.5
    given = s.given(model.fill, cond)
    before = torch.get_rng_state()
    one, two, again = (model.fill(x, known, generator=seeded(i), **given).x for i in (1, 2, 1))
    expect(torch.equal(before, torch.get_rng_state()), "fill drawing from the global generator", "the one that was given")
    expect(one.dtype == x.dtype and torch.equal(one[known], x[known]), "known elements that changed", "the same")
    s.spec.check(one, name="a completed datum")
    expect(torch.equal(one, again) and not torch.equal(one, two), "completions that do not follow the seed", "ones that do")


@check("structure")
def exact_completions_follow_the_density(s: Subject) -> None:
    """Completions that claim to be exact, of the elements after or before the middle, occur as often as the density says."""
    model = s.able(Fills)
    s.kind(Exact)
    given = s.given(model.fill, s.one_cond(SAMPLES))
    leading = torch.arange(s.spec.dims).reshape(s.spec.shape) < s.spec.dims // 2
    claims = []
    for known in (leading, ~leading):
        x = s.rows(1)[0][0]
        cells = states(s.spec) if s.spec.support.discrete else line(s, x, known)
        filled = model.fill(x.expand(SAMPLES, *x.shape), known.expand(SAMPLES, *x.shape), generator=seeded(3), **given)
        claims.append(filled.exact)
        if filled.exact:
            as_often(cells.count(filled.x), cells.total(_completions(s, model, cells, x, known)) * SAMPLES)
    if not any(claims):
        raise SkippedError("no completion claims to be exact")


def _completions(s: Subject, model: Any, cells: Cells, x: Tensor, known: Tensor) -> Tensor:
    """Probability of each point as a completion of ``x``, (N,)."""
    possible = (cells.points[:, known] == x[known]).all(1)
    nats = s.log_prob(model, cells.points[possible], s.one_cond(int(possible.sum()))).nats.double()
    return torch.zeros(len(cells.points), dtype=torch.float64).masked_scatter(possible, nats.softmax(0))
