"""One score of every row as a dot with its interval, references as dashed lines behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from sixfold.plot.scale import Scale, Span, Trait, logarithmic, points_left
from sixfold.plot.style import INK, QUIET, gridded


@dataclass(frozen=True)
class Line:
    """A row of the plot.

    Args:
        label: at its left.
        span: the score; ``None`` where the row has none.
        colour: of the dot, in matplotlib's terms.
        trait: an arrow points to where the true value may lie below a bound; an estimate is hollow.
        reference: whether it is one; a dashed line at its value runs through all rows.
    """

    label: str
    span: Span | None
    colour: str
    trait: Trait = "value"
    reference: bool = False


def forest(axes: Axes, lines: Sequence[Line], scale: Scale, *, faded: bool = False) -> None:
    """Draw the rows from top to bottom.

    Args:
        axes: to draw on.
        lines: rows.
        scale: what the axis shows.
        faded: for a score that is not to be believed.
    """
    values = [line.span.value for line in lines if line.span is not None]
    wide = scale.is_logarithmic(values)
    for i, line in enumerate(lines):
        _row(axes, i, line, wide=wide)
    axes.set_yticks(range(len(lines)), [line.label for line in lines], color=INK)
    axes.tick_params(axis="y", length=0)
    for tick, line in zip(axes.get_yticklabels(), lines, strict=True):
        tick.set(style="italic" if line.reference else "normal", color=QUIET if line.reference else INK)
    axes.set(ylim=(len(lines) - 0.4, -0.6), xlabel=scale.label)
    axes.spines["left"].set_visible(False)
    gridded(axes, "x")
    axes.margins(x=0.14)
    if wide:
        logarithmic(axes, "x", values)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    if faded:
        axes.set_facecolor("#f1f1f1")
        axes.xaxis.label.set_color(QUIET)


def _row(axes: Axes, i: int, line: Line, *, wide: bool) -> None:
    if line.span is None:
        word = "" if line.reference else "none"
        axes.text(0.5, i, word, transform=axes.get_yaxis_transform(), color=QUIET, ha="center", va="center", fontsize=8)
        return
    if line.reference:
        axes.axvline(line.span.value, color=QUIET, linewidth=0.8, linestyle=(0, (3, 3)), alpha=0.45, zorder=1)
    hollow = line.trait == "estimate"
    axes.errorbar(
        line.span.value, i, xerr=line.span.arms(logarithmic=wide), fmt="D" if line.reference else "o", color=line.colour,
        markersize=4 if line.reference else 6.5, markerfacecolor="white" if hollow else line.colour, elinewidth=1.6, zorder=3,
    )  # fmt: skip
    if line.trait == "bound":
        points_left(axes, line.span.value, i, line.colour)
