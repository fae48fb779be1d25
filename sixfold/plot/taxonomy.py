"""Models by what they say of the probability of a datum, and by what else they can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sixfold.plot.style import INK, QUIET, bare, family_colour, figure

NAMES, KIND, MARK, ROW, HEAD = 3.5, 0.95, 0.62, 0.25, 0.95
"""Inches of the models' names with their groups, of a column of kinds, of a column of marks, of a row and of the head."""


@dataclass(frozen=True)
class Row:
    """A model.

    Args:
        name: registry name, whose family gives the colour.
        group: what it is counted among; rows of one group stand together.
        kinds: what its likelihood is on each sort of data, as text; empty where it takes no such data.
        has: which of the other things it can do.
    """

    name: str
    group: str
    kinds: Sequence[str]
    has: Sequence[bool]


def taxonomy(rows: Sequence[Row], data: Sequence[str], abilities: Sequence[str]) -> Figure:
    """A table of models: the kinds of their likelihoods as text, then a dot for each ability.

    Args:
        rows: models, those of one group next to each other.
        data: sorts of data, heads of the columns of kinds.
        abilities: heads of the columns of dots.
    """
    width = NAMES + KIND * len(data) + MARK * len(abilities)
    made = figure(width, HEAD + ROW * (len(rows) + 0.5))
    axes = bare(made.subplots())
    axes.set(xlim=(0, width), ylim=(len(rows) - 0.25, -HEAD / ROW))
    kinds = [NAMES + KIND * (i + 0.5) for i in range(len(data))]
    marks = [NAMES + KIND * len(data) + MARK * (i + 0.5) for i in range(len(abilities))]
    for x, head in zip([*kinds, *marks], [*data, *abilities], strict=True):
        axes.text(x, -0.9, head, rotation=40, ha="left", va="bottom", color=QUIET, fontsize=8.5)
    for y, row in enumerate(rows):
        _row(axes, y, row, kinds, marks)
    first = 0
    for group, members in groupby(rows, key=lambda row: row.group):
        axes.text(0.05, first, group, va="center", color=INK, fontsize=9, fontweight="bold")
        axes.axhline(first - 0.5, color="#cccccc", linewidth=0.8)
        first += len(list(members))
    return made


def _row(axes: Axes, y: int, row: Row, kinds: Sequence[float], marks: Sequence[float]) -> None:
    colour = family_colour(row.name)
    axes.scatter([1.55], [y], s=34, color=colour, marker="s", linewidths=0)
    axes.text(1.7, y, row.name, va="center", color=INK, fontsize=9)
    for x, kind in zip(kinds, row.kinds, strict=True):
        axes.text(x, y, kind or "·", ha="center", va="center", color=INK if kind else QUIET, fontsize=10)
    on = [x for x, has in zip(marks, row.has, strict=True) if has]
    axes.scatter(on, [y] * len(on), s=30, color=colour, linewidths=0)
