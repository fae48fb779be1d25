"""Data on their way through a flow to its base, and draws of the base on their way back."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from sixfold.core.model import HasLayers, Layers
from sixfold.plot.clouds import Panel, panels, place_colours
from sixfold.plot.images import to_pixels
from sixfold.plot.plane import Window
from sixfold.plot.sheets import HALF, sheet
from sixfold.plot.style import figure, gridded
from sixfold.run.show.subject import Drawing, Section, Subject

POINTS = 1500
IMAGES = 5
IMAGES_MEASURED = 64
SHOWN = 9  # states at most
LIMITS = (-2.5, 2.5)  # of the base's numbers between black and white
SCALE = f"Black to white: {LIMITS[0]:g} to {LIMITS[1]:g}."


def layers(s: Subject) -> Section | None:
    """What each layer does, both ways."""
    if not isinstance(s.model, HasLayers):
        return None
    num = IMAGES_MEASURED if s.is_image else POINTS
    x, cond, drawn = s.data(num), s.cond(num), s.generator(1)
    there = s.model.layers(x, cond, generator=s.generator())
    error = float((s.model.layers_back(there.states[-1], cond).states[-1] - there.states[0]).abs().max())
    base = torch.randn(there.states[0].shape, generator=drawn, device=drawn.device, dtype=there.states.dtype)
    back = s.model.layers_back(base, cond)
    round_trip = f"Round trip of {len(x):,} validation data: off by at most {error:.1e} where they have unit spread."
    drawings = [*_both_ways(s, there, back, round_trip), _volumes(s, there)]
    return Section("Through the layers", drawings, note="" if len(drawings) > 1 else round_trip)


def shown(count: int, *, most: int = SHOWN) -> list[int]:
    """Which of ``count`` states are shown: all if they are few, else some as evenly spaced as can be, both ends included."""
    return [int(i) for i in torch.linspace(0, count - 1, min(count, most)).round()]


def _both_ways(s: Subject, there: Layers, back: Layers, round_trip: str) -> Iterator[Drawing]:
    """The same layers seen from the data and from the base; data without a picture have none."""
    draw, what = (_panels, "points") if s.is_plane else (_strip, "images")
    if not (s.is_plane or s.is_image):
        return
    places = shown(len(there.states))
    names = ["data", *map(str, places[1:-1]), "base"]
    caption = f"From data to the base: validation data behind the codec and after each of {len(there.logdets)} layers"
    more = ", coloured by where they start." if s.is_plane else f", every pixel in its place. {SCALE}"
    yield Drawing("forward", draw(s, there.states[places], names), f"{caption}{more} {round_trip}", f"Data to base, as {what}.")
    caption = "From the base to data: normal draws through the inverse of each layer"
    more = ", coloured by where they end." if s.is_plane else f". {SCALE}"
    turned = [len(back.states) - 1 - i for i in reversed(places)]
    yield Drawing("inverse", draw(s, back.states[turned], names[::-1]), caption + more, f"Base to data, as {what}.")


def _panels(s: Subject, states: Tensor, names: list[str]) -> Figure:
    """Points, (T, B, 2), coloured by their place among the data."""
    states = states.cpu()
    colours, window = place_colours(states[names.index("data")]), Window.around(states.flatten(0, 1))
    titles = [name if name in ("data", "base") else f"layer {name}" for name in names]
    return panels([Panel(t, x, colours, window=window) for t, x in zip(titles, states, strict=True)])


def _strip(s: Subject, states: Tensor, names: list[str]) -> Figure:
    """Some images, (T, B, C, H, W), one in each row."""
    few = states[:, :IMAGES].transpose(0, 1).flatten(0, 1)
    return sheet(to_pixels(few, s.model.spec, limits=LIMITS), len(names), heads=names)


def _volumes(s: Subject, there: Layers) -> Drawing:
    """Mean log-determinants as bars."""
    mean = there.logdets.double().mean(1).cpu()
    made = figure(HALF, 2.6)
    axes = gridded(made.subplots(), "y")
    axes.bar(range(1, len(mean) + 1), mean.numpy(), color=s.colour, width=0.7)
    axes.axhline(0, color="#888888", linewidth=0.8)
    axes.set(xlabel="layer", ylabel="mean log |det|, nats", xlim=(0.4, len(mean) + 0.6))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    caption = (
        "How much each layer stretches (above 0) or squeezes (below) the space around validation data;"
        f" {float(mean.sum()):.1f} nats in all."
    )
    return Drawing("volumes", made, caption, "Mean log-determinant of each layer.")
