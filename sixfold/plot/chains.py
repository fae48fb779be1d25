"""Energies: along chains, over the plane, and what is known of log Z."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator
from numpy.typing import NDArray
from torch import Tensor

from sixfold.plot.plane import Window
from sixfold.plot.sheets import HALF
from sixfold.plot.style import ENERGY, FAMILY_COLOURS, figure, framed, gridded
from sixfold.solve.annealing import LogZ

Ends: TypeAlias = tuple[float, float, float]
"""An estimate and the ends of its interval: value, low, high."""


def along_chains(times: Tensor, chains: Tensor, data: Tensor, *, colour: str, name: str = "energy, nats") -> Figure:
    """Energy of chains at each frame: their median and the middle four fifths, beside the data's own.

    Args:
        times: of the frames, (T,), in the model's time; frames stand side by side whatever their times.
        chains: energies, (T, B).
        data: energies of data, (M,).
        colour: of the chains.
        name: of the vertical axis.
    """
    made = figure(HALF, 2.9)
    axes, frames = gridded(made.subplots(), "y"), np.arange(len(times))
    low, middle, high = _spread(chains.T)
    axes.fill_between(frames, low, high, color=colour, alpha=0.25, linewidth=0)
    axes.plot(frames, middle, color=colour, linewidth=1.6, label="chains")
    bottom, centre, top = _spread(data[:, None])
    axes.axhspan(bottom[0], top[0], color=FAMILY_COLOURS["data"], alpha=0.14, linewidth=0)
    axes.axhline(centre[0], color=FAMILY_COLOURS["data"], linewidth=1.2, linestyle=(0, (6, 2)), label="data")
    chosen = np.unique(np.linspace(0, len(times) - 1, min(7, len(times))).round().astype(int))
    axes.set_xticks(chosen, [f"{float(times[i]):.4g}" for i in chosen])
    axes.set(xlabel="time of the chains", ylabel=name, xlim=(0, max(1, len(times) - 1)))
    axes.legend(loc="best")
    return made


def _spread(values: Tensor) -> list[NDArray[np.float64]]:
    """The tenth, the middle and the ninetieth hundredth over the first axis."""
    return list(np.quantile(values.double().cpu().numpy(), [0.1, 0.5, 0.9], axis=0))


def surface(energies: Tensor, window: Window, data: Tensor) -> Figure:
    """Energy over the plane in levels of one nat, up to where data hardly ever lie, and data on it.

    Args:
        energies: at ``window.grid(side)``, (side * side,).
        window: the part of the plane.
        data: points, (N, 2).
    """
    made = figure(HALF * 0.72, HALF * 0.62)
    axes = made.subplots()
    image = energy_map(axes, energies, window)
    right, up = data.double().numpy().T
    axes.scatter(right, up, s=1.2, c=FAMILY_COLOURS["flow"], alpha=0.5, linewidths=0, rasterized=True)
    energy_bar(made, image, [axes])
    return made


def energy_map(axes: Axes, energies: Tensor, window: Window, *, top: float = 10.0, title: str = "") -> AxesImage:
    """An energy that is known over a grid of the window, with a line for each nat.

    Args:
        axes: to draw on.
        energies: at ``window.grid(side)``, (side * side,).
        window: the part of the plane.
        top: nats above the lowest up to which energies are told apart; more shows further out and flattens what is likely.
        title: above the picture.

    Returns:
        The image, for a colour bar.
    """
    side = round(len(energies) ** 0.5)
    values = energies.double().cpu().view(side, side).numpy()
    values = values - values.min()
    image = axes.imshow(values.clip(max=top), origin="lower", extent=window.extent, cmap=ENERGY, vmin=0, vmax=top, aspect="equal")
    x, y = (np.linspace(a, b, side, endpoint=False) + (b - a) / side / 2 for a, b in (window.extent[:2], window.extent[2:]))
    if values.max() > 1:  # a flat energy has no lines
        axes.contour(x, y, values, levels=np.arange(1, top), colors="white", linewidths=0.6, alpha=0.7)
    framed(axes, title)
    return image


def energy_bar(made: Figure, image: AxesImage, beside: Sequence[Axes]) -> None:
    """The scale of energy maps that share one.

    Args:
        made: the figure.
        image: one of the maps.
        beside: axes that the bar stands to the right of.
    """
    bar = made.colorbar(image, ax=list(beside), shrink=0.85, extend="max", label="nats above the lowest")
    bar.outline.set_visible(False)


def ends(found: LogZ) -> Ends:
    """An estimate of log Z with its interval, means over classes."""
    value, low, high = (t.double().mean().item() for t in (found.value, found.low, found.high))
    return value, low, high


def bracket(
    efforts: Sequence[int], lower: Sequence[Ends], upper: Sequence[Ends], *, colour: str, exact: float | None = None
) -> Figure:
    """Two estimates of log Z, one from each side, that close in as temperatures grow.

    Args:
        efforts: temperatures of each pair of runs.
        lower, upper: the estimates.
        colour: of the estimates.
        exact: log Z where it is known.
    """
    made = figure(HALF, 2.9)
    axes = gridded(made.subplots())
    for ends, marker, label in ((upper, "v", "reverse: from above"), (lower, "^", "forward: from below")):
        value, low, high = np.asarray(ends).T
        arms = np.stack([value - low, high - value]).clip(min=0)
        face = "white" if marker == "v" else colour
        axes.errorbar(efforts, value, yerr=arms, marker=marker, color=colour, markerfacecolor=face, linewidth=1.2, label=label)
    if exact is not None:
        axes.axhline(exact, color=FAMILY_COLOURS["data"], linewidth=1.0, linestyle=(0, (6, 2)), label="exact")
    axes.fill_between(efforts, [e[0] for e in lower], [e[0] for e in upper], color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    axes.set_xticks(list(efforts))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.set(xlabel="temperatures", ylabel="log Z, nats")
    axes.legend(loc="best")
    return made
