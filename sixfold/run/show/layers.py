"""Data on their way through a flow to its base, and draws of the base on their way back."""

from __future__ import annotations

from collections.abc import Iterator

import torch
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
SHOWN = 9  # states at most
LIMITS = (-2.5, 2.5)  # of the base's numbers between black and white


def layers(s: Subject) -> Section | None:
    """What each layer does, both ways."""
    if not isinstance(s.model, HasLayers):
        return None
    x, cond = s.data(POINTS if not s.is_image else 64), s.cond(POINTS if not s.is_image else 64)
    there = s.model.layers(x, cond, generator=s.generator())
    error = float((s.model.layers_back(there.states[-1], cond).states[-1] - there.states[0]).abs().max())
    drawn = s.generator(1)
    base = torch.randn(there.states[0].shape, generator=drawn, device=drawn.device, dtype=there.states.dtype)
    back = s.model.layers_back(base, cond)
    ways = _planes if s.is_plane else _strips if s.is_image else _nothing
    return Section("Through the layers", [*ways(s, there, back, error), _volumes(s, there, error)])


def shown(count: int, *, most: int = SHOWN) -> list[int]:
    """Which of ``count`` states are shown: all if they are few, else some as evenly spaced as can be, both ends included."""
    return [int(i) for i in torch.linspace(0, count - 1, min(count, most)).round()]


def _names(count: int, *, back: bool = False) -> list[str]:
    """A name for each shown state, by the layer behind which it is found on the way from the data."""
    places = shown(count)
    names = ["base" if i == count - 1 else "data" if i == 0 else f"{i}" for i in places]
    return names[::-1] if back else names


def _round_trip(error: float) -> str:
    return f"Round trip of validation data: off by at most {error:.1e} where they have unit spread."


def _planes(s: Subject, there: Layers, back: Layers, error: float) -> Iterator[Drawing]:
    for name, path, turned in (("forward", there, False), ("inverse", back, True)):
        states = path.states.cpu()
        places, colours = shown(len(states)), place_colours(states[-1 if turned else 0])
        if turned:
            places = [len(states) - 1 - i for i in reversed(places)]
        window = Window.around(states[places].flatten(0, 1))
        names = [n if n in ("data", "base") else f"layer {n}" for n in _names(len(states), back=turned)]
        drawn = panels([Panel(n, states[i], colours, window=window) for n, i in zip(names, places, strict=True)])
        if turned:
            caption = f"From the base to data: {len(base_of(back)):,} normal draws through the inverse of each layer, coloured by"
            caption += " where they end, on the axes of the codec."
        else:
            caption = (
                "From data to the base: validation data behind the codec and after each layer, coloured by where they start."
            )
            caption += f" {_round_trip(error)}"
        yield Drawing(name, drawn, caption, f"Points after each layer, {'base to data' if turned else 'data to base'}.")


def base_of(back: Layers) -> Tensor:
    """The draws that a way back starts from, (B, *shape)."""
    return back.states[0]


def _strips(s: Subject, there: Layers, back: Layers, error: float) -> Iterator[Drawing]:
    count = len(there.states)
    x = s.pixels(s.data(IMAGES))
    for name, path, turned in (("forward", there, False), ("inverse", back, True)):
        places = shown(count)
        if turned:
            places = [count - 1 - i for i in reversed(places)]
        few = path.states[places][:, :IMAGES].transpose(0, 1).cpu()
        pixels = to_pixels(few.flatten(0, 1), s.model.spec, limits=LIMITS)
        made = sheet(pixels, len(places), heads=_names(count, back=turned))
        if turned:
            caption = "From the base to images: normal draws through the inverse of each layer."
        else:
            caption = (
                f"From images to the base: the numbers behind the codec after each of {count - 1} layers, each in its place."
            )
            caption += f" {_round_trip(error)}"
        yield Drawing(name, made, f"{caption} Black to white: {LIMITS[0]:g} to {LIMITS[1]:g}.", f"{len(x)} images, {name}.")


def _nothing(s: Subject, there: Layers, back: Layers, error: float) -> Iterator[Drawing]:
    """Data that have no picture."""
    yield from ()


def _volumes(s: Subject, there: Layers, error: float) -> Drawing:
    """Mean log-determinants as bars."""
    mean = there.logdets.double().mean(1).cpu()
    made = figure(HALF, 2.6)
    axes = gridded(made.subplots(), "y")
    axes.bar(range(1, len(mean) + 1), mean.numpy(), color=s.colour, width=0.7)
    axes.axhline(0, color="#888888", linewidth=0.8)
    axes.set(xlabel="layer", ylabel="mean log |det|, nats", xlim=(0.4, len(mean) + 0.6))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    caption = (
        f"How much each layer stretches (above 0) or squeezes (below) the space around validation data;"
        f" {float(mean.sum()):.1f} nats in all. {_round_trip(error) if not (s.is_plane or s.is_image) else ''}"
    )
    return Drawing("volumes", made, caption.strip(), "Mean log-determinant of each layer.")
