"""Data at growing noise, and noise on its way to data."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sixfold.core.model import HasEnergy, HasTrajectory, Noises
from sixfold.plot.clouds import Panel, panels, place_colours
from sixfold.plot.plane import Window
from sixfold.plot.sheets import HALF, sheet
from sixfold.run.show.subject import Drawing, Section, Subject

IMAGES = 4
SAMPLES = 6
STOPS = 9
POINTS = 1000
PANELS = 6
FRAMES = 60  # of a way, from which those are shown whose times are nearest to even ones
PATHS = 16


def noising(s: Subject) -> Section | None:
    """Both ways between data and noise; chains of an energy have a section of their own."""
    if not isinstance(s.model, HasTrajectory) or isinstance(s.model, HasEnergy) or not (s.is_image or s.is_plane):
        return None
    count = SAMPLES if s.is_image else POINTS
    cond = s.cond(count)
    num = count if cond is None else len(cond)
    path = s.model.trajectory(num, frames=FRAMES, generator=s.generator(), **s.given(cond))
    times, states = path.times.double().cpu(), path.frames.cpu()
    noised = None
    if isinstance(s.model, Noises):
        even = torch.linspace(0, 1, STOPS if s.is_image else PANELS)
        noised = s.model.noised(s.data(IMAGES if s.is_image else POINTS), even, generator=s.generator()).cpu()
    return Section("Noising and denoising", [*(_strips if s.is_image else _planes)(s, times, states, noised)])


def evenly(times: Tensor, count: int) -> list[int]:
    """Which frames are shown, at most ``count``: those nearest to even times between the first and the last, both included.

    Args:
        times: of the frames, (T,), falling; steps may be as uneven as they like.
        count: how many are asked for.
    """
    wanted = torch.linspace(float(times[0]), float(times[-1]), count, dtype=times.dtype)
    inner = (times[:, None] - wanted[None, 1:-1]).abs().argmin(0).tolist()
    return sorted({0, *inner, len(times) - 1})


def _strips(s: Subject, times: Tensor, states: Tensor, noised: Tensor | None) -> Iterator[Drawing]:
    foot = "time of the noise"
    if noised is not None:
        x = torch.cat([s.data(IMAGES)[:, None].to(noised), noised[1:].transpose(0, 1)], 1).flatten(0, 1)
        heads = ["data", *(f"{t:.2f}" for t in torch.linspace(0, 1, STOPS)[1:].tolist())]
        made = sheet(s.pixels(x), len(heads), heads=heads, foot=foot)
        caption = "Noising: validation images at growing noise, the same noise in a row."
        yield Drawing("noising", made, caption, "Images to noise.")
    places = evenly(times, STOPS)
    heads = [f"{float(times[i]):.2f}" for i in places]
    made = sheet(s.pixels(states[places].transpose(0, 1).flatten(0, 1)), len(heads), heads=heads, foot=foot)
    yield Drawing("denoising", made, f"Denoising: {states.shape[1]} samples on their way from noise.", "Noise to images.")


def _planes(s: Subject, times: Tensor, states: Tensor, noised: Tensor | None) -> Iterator[Drawing]:
    data, window = s.data(POINTS), Window.around(torch.cat([states[0], states[-1], s.data(POINTS).to(states)]))
    if noised is not None:
        at = torch.linspace(0, 1, PANELS).tolist()
        shown = [Panel(f"t = {t:.2f}", x, place_colours(data), window=window) for t, x in zip(at, noised, strict=True)]
        caption = "Noising: validation data at growing noise, coloured by where they start."
        yield Drawing("noising", panels(shown), caption, "Points to noise.")
    colours = place_colours(states[-1])
    shown = [Panel(f"t = {float(times[i]):.2f}", states[i], colours, window=window) for i in evenly(times, PANELS)]
    yield Drawing("denoising", panels(shown), "Denoising: samples on their way, coloured by where they end.", "Noise to points.")
    panel = Panel("", lines=states[:, :PATHS], line_colours=colours[:PATHS], window=window, backdrop=data)
    caption = f"The ways of {min(PATHS, states.shape[1])} samples from noise; a dot ends each. Grey: validation data."
    yield Drawing("paths", panels([panel], width=HALF), caption, "Paths from noise to data.")
