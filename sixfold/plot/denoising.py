"""Noise and what is made of it: densities over time with paths on them, arrows in the plane, signals, errors against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator
from torch import Tensor

from sixfold.plot.sheets import HALF
from sixfold.plot.style import DASHES, DENSITY, FAMILY_COLOURS, QUIET, figure, framed, gridded

Costs: TypeAlias = "tuple[Sequence[float], Sequence[float]]"
"""Evaluations and the error at each."""

_LINES = [FAMILY_COLOURS[f] for f in ("gan", "vae", "autoregressive", "flow", "energy", "data", "diffusion")]
_MARKS = "osD^vXP"


def density_in_time(
    axes: Axes,
    nats: Tensor,
    paths: Tensor,
    *,
    span: tuple[float, float],
    reach: tuple[float, float],
    colour: str = "white",
    title: str = "",
) -> None:
    """The density of one number at every time, bright where it is high, and paths on it.

    Args:
        axes: to draw on.
        nats: log-density, (T, S): at T even times over ``span``, at S even places over ``reach``.
        paths: (T, B), at the same times.
        span: first and last time, from left to right.
        reach: lowest and highest place.
        colour: of the paths.
        title: above.
    """
    values = nats.double().exp().T.numpy()
    shown = values / values.max(0)  # each time by its own largest value: clean states would drown all others
    axes.imshow(shown, origin="lower", extent=(*span, *reach), cmap=DENSITY, vmin=0, vmax=1.15, aspect="auto")
    axes.plot(np.linspace(*span, len(paths)), paths.double().numpy(), color=colour, linewidth=0.7, alpha=0.8)
    axes.set(xlim=span, ylim=reach, title=title)


def arrows(axes: Axes, start: Tensor, stop: Tensor, *, colour: str = "white") -> None:
    """Arrows in the plane, each from a point to another, (N, 2), over what the axes show already."""
    (x, y), (dx, dy) = start.double().T.numpy(), (stop - start).double().T.numpy()
    axes.quiver(x, y, dx, dy, color=colour, angles="xy", scale_units="xy", scale=1, width=0.006, alpha=0.9, headwidth=3.5)


def signals(
    x: Tensor,
    *,
    rows: Sequence[str] = (),
    heads: Sequence[str] = (),
    colour: str = "#444444",
    reach: float = 2.5,
    width: float = HALF,
) -> Figure:
    """Signals as curves, in labelled rows and columns on one scale.

    Args:
        x: signals, (R, C, L).
        rows: a label for each row, or none.
        heads: a label for each column, or none.
        colour: of the curves.
        reach: height shown above and below zero; what exceeds it is cut.
        width: inches.
    """
    count, columns, length = x.shape
    made = figure(width, 0.6 * count + 0.3)
    cells = made.subplots(count, columns, squeeze=False, sharex=True, sharey=True)
    for (i, j), axes in np.ndenumerate(cells):
        axes.axhline(0, color="#dddddd", linewidth=0.6)
        axes.plot(np.arange(length), x[i, j].double().numpy(), color=colour, linewidth=1.1)
        framed(axes, heads[j] if heads and not i else "").set_ylim(-reach, reach)
        axes.title.set_fontsize(8.5)
    for axes, label in zip(cells[:, 0], rows, strict=False):
        axes.set_ylabel(label, fontsize=8.5)
    return made


def order(costs: Costs, *, last: int = 3) -> float:
    """The order of accuracy p of error ~ cost^-p, fitted to the ``last`` points in logarithms."""
    count, error = (np.log(np.asarray(values, float)[-last:]) for values in costs)
    return -float(np.polyfit(count, error, 1)[0])


def against_cost(axes: Axes, series: Mapping[str, Costs], *, ylabel: str, floor: float | None = None, title: str = "") -> None:
    """Errors against network evaluations, both in logarithms: a method of order p is a line that falls p decades a decade.

    Args:
        axes: to draw on.
        series: evaluations and errors by label.
        ylabel: what the error is, with its unit.
        floor: error of a perfect model, drawn as a line; none is drawn by default.
        title: above.
    """
    if floor is not None:
        axes.axhline(floor, color=QUIET, linewidth=1.0, linestyle=(0, (1, 2)), label="real data")
    for i, (label, (count, error)) in enumerate(series.items()):
        look: Any = {"color": _LINES[i % 7], "linestyle": DASHES[i % 7], "marker": _MARKS[i % 7]}
        axes.plot(count, error, **look, markersize=3.5, linewidth=1.3, label=label)
    axes.set(xscale="log", yscale="log", xlabel="network evaluations", ylabel=ylabel, title=title)
    gridded(axes).legend(fontsize=7.5)
    counts = [count for each, _ in series.values() for count in each]
    axes.set_xticks([2**k for k in range(30) if min(counts) <= 2**k <= max(counts)])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
