"""Settings of a knob as points of a curve: what is gained along one axis against what is lost along the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from matplotlib.figure import Figure

from sixfold.plot.sheets import HALF
from sixfold.plot.style import DASHES, FAMILY_COLOURS, figure, gridded

Point: TypeAlias = tuple[float, float]
MARKS = "os^Dv"


def tradeoff(
    curves: Mapping[str, Mapping[str, Point]], anchors: Mapping[str, Point], *, colour: str, xlabel: str, ylabel: str
) -> Figure:
    """A curve for each knob, its settings marked and named, among crosses of known quality.

    Args:
        curves: settings of each knob, in their order, by their names.
        anchors: what the settings are to be read against, by name.
        colour: of the curves, which differ in dash and mark.
        xlabel, ylabel: of the axes.
    """
    made = figure(HALF, 3.4)
    axes = gridded(made.subplots())
    for (name, settings), dash, mark in zip(curves.items(), DASHES, MARKS, strict=False):
        x, y = zip(*settings.values(), strict=True)
        axes.plot(x, y, mark, linestyle=dash, color=colour, markersize=4, linewidth=1.0, label=name)
        for setting, point in settings.items():
            axes.annotate(setting, point, xytext=(4, 3), textcoords="offset points", fontsize=6.5, color="#555555")
    for name, point in anchors.items():
        axes.plot(*point, "x", color=FAMILY_COLOURS["data"], markersize=8, markeredgewidth=2)
        axes.annotate(name, point, xytext=(7, -3), textcoords="offset points", fontsize=8)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.legend(fontsize=8)
    return made
