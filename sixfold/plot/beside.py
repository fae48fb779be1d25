"""Densities beside the truth, and under each what it has too much and too little."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from matplotlib.figure import Figure
from torch import Tensor

from sixfold.plot.plane import Window, density_map, error_map
from sixfold.plot.style import QUIET, bare, figure

LogDensity: TypeAlias = Callable[[Tensor], Tensor]
"""Points, (N, 2), to nats, (N,)."""


def beside(truth: LogDensity, models: Mapping[str, LogDensity], window: Window, *, side: int = 120, width: float = 9.0) -> Figure:
    """The truth and each model on one scale of density, and below each model its error on one scale of differences.

    Args:
        truth: log-density of the data.
        models: log-density of each by its title.
        window: the part of the plane.
        side: cells a side; more show finer detail and ask models for more numbers.
        width: inches of all.
    """
    cells = window.grid(side)
    true, found = truth(cells), {title: model(cells) for title, model in models.items()}
    top, each = float(true.max().exp()), width / (1 + len(models))
    made = figure(width, 2 * each + 0.3)
    upper, lower = made.subplots(2, 1 + len(models))
    density_map(upper[0], true, window, top=top, title="truth")
    for above, below, (title, nats) in zip(upper[1:], lower[1:], found.items(), strict=True):
        density_map(above, nats, window, top=top, title=title)
        image = error_map(below, nats, true, window, limit=top)
    bare(lower[0])
    bar = made.colorbar(image, cax=lower[0].inset_axes((0.72, 0.1, 0.1, 0.8)), ticks=[-top, 0, top])
    bar.ax.yaxis.set_ticks_position("left")
    bar.ax.set_yticklabels(["too little", "right", "too much"], fontsize=8, color=QUIET)
    bar.outline.set_visible(False)
    return made
