"""Points that are followed from panel to panel by their colours, and the paths that they take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from sixfold.plot.plane import Window
from sixfold.plot.sheets import HALF
from sixfold.plot.style import FAMILY_COLOURS, QUIET, figure, framed

Colours: TypeAlias = NDArray[np.float64]
"""Red, green and blue of each point, (N, 3)."""

_CORNERS = np.asarray([to_rgb(FAMILY_COLOURS[f]) for f in ("autoregressive", "flow", "energy", "vae")])


def place_colours(x: Tensor) -> Colours:
    """A colour for each point by its place among all, (N, 2) to (N, 3): a blend of four corners, by rank along each axis.

    Neighbours look alike, and points far apart do not.
    """
    right, up = (x.double().argsort(0).argsort(0).double() / max(1, len(x) - 1)).T.numpy()
    weights = np.stack([(1 - right) * (1 - up), right * (1 - up), (1 - right) * up, right * up], 1)
    return np.asarray(weights @ _CORNERS)


@dataclass(frozen=True)
class Panel:
    """What one panel shows.

    Args:
        title: above.
        points: (N, 2).
        colours: of the points, (N, 3), or one for all.
        lines: paths, (T, B, 2), each from its first state to its last, where a dot stands.
        line_colours: of the paths, (B, 3), or one for all.
        window: that is shown; around the points by default.
        backdrop: points behind all, (M, 2), in grey.
        mesh: thin lines behind the points, (P, L, 2), as those of :mod:`sixfold.plot.warp`.
    """

    title: str
    points: Tensor | None = None
    colours: Colours | str = "#444444"
    lines: Tensor | None = None
    line_colours: Colours | str = "#444444"
    window: Window | None = None
    backdrop: Tensor | None = None
    mesh: Tensor | None = None


def panels(shown: Sequence[Panel], *, columns: int = 3, width: float = HALF) -> Figure:
    """Square panels row by row.

    Args:
        shown: one after the other.
        columns: panels a row.
        width: inches of all.
    """
    columns = min(columns, len(shown))
    rows, side = -(-len(shown) // columns), min(4.2, width / columns)
    made = figure(side * columns, (side + 0.12) * rows)
    cells = made.subplots(rows, columns, squeeze=False).ravel()
    for axes, panel in zip(cells, shown, strict=False):
        _draw(axes, panel)
    for axes in cells[len(shown) :]:
        axes.set_axis_off()
    return made


def _draw(axes: Axes, panel: Panel) -> None:
    if panel.backdrop is not None:
        x, y = _xy(panel.backdrop)
        axes.scatter(x, y, s=1.0, c="#c4c4c4", linewidths=0, rasterized=True)
    if panel.mesh is not None:
        axes.add_collection(LineCollection(list(panel.mesh.double().transpose(0, 1).numpy()), colors="#8a8a8a", linewidths=0.5))
    if panel.points is not None:
        size = float(np.clip(3000 / max(1, len(panel.points)), 1.5, 14))
        x, y = _xy(panel.points)
        axes.scatter(x, y, s=size, c=panel.colours, alpha=0.75, linewidths=0, rasterized=True)
    if panel.lines is not None:
        _paths(axes, panel.lines, panel.line_colours)
    around = next(x for x in (panel.points, panel.backdrop, panel.lines, panel.mesh) if x is not None)
    window = panel.window or Window.around(around.flatten(0, -2))
    axes.set(xlim=(window.low[0], window.high[0]), ylim=(window.low[1], window.high[1]), aspect="equal")
    framed(axes)
    axes.set_title(panel.title, fontsize=9)


def _xy(x: Tensor) -> NDArray[np.float64]:
    return np.asarray(x.double().numpy().T)


def _paths(axes: Axes, lines: Tensor, colours: Colours | str) -> None:
    each = [colours] * lines.shape[1] if isinstance(colours, str) else list(colours)
    for i, colour in enumerate(each):
        x, y = _xy(lines[:, i])
        axes.plot(x, y, color=colour, linewidth=0.9, alpha=0.85)
        axes.scatter(x[-1:], y[-1:], s=9, color=[colour], linewidths=0.4, edgecolors="white", zorder=3)


def coordinates(axes: Axes, name: str) -> None:
    """Names of the two axes of a map of codes."""
    axes.set_xlabel(f"{name}₁", color=QUIET)
    axes.set_ylabel(f"{name}₂", color=QUIET)
