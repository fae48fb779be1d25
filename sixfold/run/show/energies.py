"""Energies: of chains on their way, over the plane, and what is known of log Z."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sixfold.core.likelihood import Exact
from sixfold.core.model import HasDensity, HasEnergy, HasTrajectory, Trajectory
from sixfold.plot.chains import along_chains, bracket, ends, surface
from sixfold.plot.clouds import Panel, panels, place_colours
from sixfold.plot.plane import Window
from sixfold.plot.sheets import HALF, sheet
from sixfold.run.show.subject import Drawing, Section, Subject
from sixfold.solve.annealing import HasBracket

CHAINS = 64
FRAMES = 20
STRIPS = 6
PATHS = 12
STOPS = 9
POINTS = 1000
EFFORTS = (30, 100, 300, 1000, 3000)
WORK = 4e8  # temperatures times parameters of the largest bracket: seconds on a core


def energies(s: Subject) -> Section | None:
    """Where the energy is low, and how chains come there."""
    if not isinstance(s.model, HasEnergy):
        return None
    drawings = [*(_surface(s.model, s) if s.is_plane else ())]
    if isinstance(s.model, HasTrajectory):
        cond = s.cond(CHAINS)
        count = CHAINS if cond is None else len(cond)
        path = s.model.trajectory(count, frames=FRAMES, generator=s.generator(), **s.given(cond))
        drawings += [_along(s.model, s, path), *_chains(s, path)]
    return Section("Energy", drawings) if drawings else None


def log_zs(s: Subject) -> Section | None:
    """The bracket of log Z by more and more temperatures."""
    if not isinstance(s.model, HasBracket):
        return None
    size = sum(p.numel() for p in s.model.parameters())
    efforts = [effort for effort in EFFORTS if effort * size <= WORK] or [EFFORTS[0]]
    found = [s.model.bracket(effort=effort) for effort in efforts]
    lower, upper = [ends(f.lower) for f in found], [ends(f.upper) for f in found]
    exact = _log_z(s)
    made = bracket(efforts, lower, upper, colour=s.colour, exact=exact)
    (low, _, _), (high, _, _) = lower[-1], upper[-1]
    each = ", a mean over classes" if len(found[-1].lower.value) > 1 else ""
    low_end, high_end = (found[-1].interval[i].double().mean().item() for i in (0, 1))
    caption = (
        f"Annealed importance sampling{each}: log Z lies between {low:.2f} (forward) and {high:.2f} nats (reverse) at"
        f" {efforts[-1]} temperatures; with 95% intervals, {low_end:.2f} to {high_end:.2f}. The upper end trusts its chains to"
        f" have found every mode.{'' if exact is None else f' Exact, by enumeration: {exact:.2f}.'}"
    )
    return Section("What is known of log Z", [Drawing("bracket", made, caption, "log Z from both sides.")])


def _log_z(s: Subject) -> float | None:
    """Log Z where the likelihood is exact, from one datum: -energy(x) - log p(x)."""
    if not (isinstance(s.model, HasDensity) and isinstance(s.model, HasEnergy)) or s.model.spec.cond.kind != "none":
        return None
    x = s.data(1)
    found = s.model.log_prob(x, effort=1)
    return float(-s.model.energy(x)[0] - found.nats[0]) if found.kind is Exact else None


def energy_of(model: HasEnergy, s: Subject, states: Tensor) -> Tensor:
    """Energies of states of a trajectory, (..., *shape) floats in data space, as (...)."""
    spec = s.model.spec
    flat = states.reshape(-1, *spec.shape)
    found = [model.energy(part.to(spec.dtype) if spec.support.discrete else part) for part in torch.split(flat, 1000)]
    return torch.cat(found).reshape(states.shape[: states.ndim - len(spec.shape)]).detach().cpu()


def _along(model: HasEnergy, s: Subject, path: Trajectory) -> Drawing:
    chains, data = energy_of(model, s, path.frames), model.energy(s.data(POINTS)).detach().cpu()
    made = along_chains(path.times.cpu(), chains, data, colour=s.colour)
    gap = float(chains[-1].median() - data.median())
    caption = (
        f"Energy of {chains.shape[1]} chains from noise to samples; bands hold the middle 80%, dashed: validation data. Chains"
        f" end {abs(gap):.1f} nats {'above' if gap > 0 else 'below'} the data's median."
    )
    return Drawing("energies", made, caption, "Energy along chains beside the data's.")


def _chains(s: Subject, path: Trajectory) -> Iterator[Drawing]:
    """The chains themselves."""
    if s.is_image:
        places = torch.linspace(0, len(path.frames) - 1, STOPS).round().long()
        x = path.frames[places][:, :STRIPS].transpose(0, 1).flatten(0, 1)
        made = sheet(s.pixels(x), STOPS, heads=[f"{float(path.times[i]):.4g}" for i in places], foot="time of the chain")
        yield Drawing("chains", made, "Each row is a chain on its way from noise to a sample.", f"{STRIPS} chains.")
    if s.is_plane:
        frames = path.frames[:, :PATHS].cpu()
        panel = Panel("", lines=frames, line_colours=place_colours(frames[-1]), backdrop=s.data(2000), window=_around(s))
        caption = f"{frames.shape[1]} chains, frame by frame; a dot ends each. Grey: validation data."
        yield Drawing("chains", panels([panel], width=HALF), caption, "Chains over the data.")


def _around(s: Subject) -> Window:
    return Window.around(s.data(5000), margin=0.25)


def _surface(model: HasEnergy, s: Subject) -> Iterator[Drawing]:
    window = _around(s)
    made = surface(energy_of(model, s, window.grid(140)), window, s.data(POINTS))
    caption = "The energy over the plane, a line for each nat, and validation data on it."
    yield Drawing("surface", made, caption, "Energy surface.")
