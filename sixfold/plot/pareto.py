"""Two scores of several models against each other, with intervals, and the models that no other one beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Literal, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from sixfold.plot.scale import Scale, Side, Span, Trait, logarithmic, points_left
from sixfold.plot.style import INK, QUIET, gridded

Point: TypeAlias = tuple[float, float]
Pixel: TypeAlias = NDArray[np.float64]

_AXES: tuple[Literal["x", "y"], ...] = ("x", "y")
_TOWARDS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
_REACHES = (8.0, 14.0, 22.0)


@dataclass(frozen=True)
class Mark:
    """A point of the plot.

    Args:
        label: written beside it.
        x, y: its scores.
        colour, marker: of the point, in matplotlib's terms.
        trait: of ``x``: an arrow points to where the true value may lie below a bound; a point that is an estimate is hollow.
        quiet: for references: small, grey letters, never on the front.
    """

    label: str
    x: Span
    y: Span
    colour: str
    marker: str = "o"
    trait: Trait = "value"
    quiet: bool = False


def front(points: Sequence[Point], sides: tuple[Side, Side]) -> list[int]:
    """Points that no other one equals or beats in both scores and beats in one, ordered by the first score.

    Args:
        points: pairs of scores.
        sides: which way each is better, ``lower`` or ``higher``.

    Example:
        >>> front([(1, 3), (2, 2), (3, 3)], ("lower", "lower"))
        [0, 1]
    """
    signs = tuple(1.0 if side == "lower" else -1.0 for side in sides)
    turned = [(x * signs[0], y * signs[1]) for x, y in points]
    kept = [i for i, p in enumerate(turned) if not any(_beats(q, p) for q in turned)]
    return sorted(kept, key=lambda i: points[i])


def _beats(q: Point, p: Point) -> bool:
    return q[0] <= p[0] and q[1] <= p[1] and q != p


def pareto(axes: Axes, marks: Sequence[Mark], x: Scale, y: Scale, *, with_front: bool = True) -> list[int]:
    """Draw the points with their intervals, their labels and the front.

    Args:
        axes: to draw on; the figure is laid out once, because labels are placed by what they would cover.
        marks: points.
        x, y: what the axes show.
        with_front: join the points of the front; nothing is joined where an axis has no better side.

    Returns:
        Which marks are on the front.
    """
    values = [m.x.value for m in marks], [m.y.value for m in marks]
    logs = [scale.is_logarithmic(v) for scale, v in zip((x, y), values, strict=True)]
    gridded(axes)
    for mark in marks:
        _draw(axes, mark, logs)
    axes.margins(0.16, 0.16)
    for which, wide, numbers in zip(_AXES, logs, values, strict=True):
        if wide:
            logarithmic(axes, which, numbers)
    axes.set(xlabel=x.label, ylabel=y.label)
    best = _front_of(marks, x, y) if with_front else []
    steps = _steps([(marks[i].x.value, marks[i].y.value) for i in best], x)
    axes.plot([p[0] for p in steps], [p[1] for p in steps], color=QUIET, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    axes.get_figure(root=True).draw_without_rendering()  # type: ignore[union-attr]
    place_labels(axes, marks, steps)
    return best


def _front_of(marks: Sequence[Mark], x: Scale, y: Scale) -> list[int]:
    if "none" in (x.better, y.better):
        return []
    loud = [i for i, m in enumerate(marks) if not m.quiet]
    return [loud[i] for i in front([(marks[i].x.value, marks[i].y.value) for i in loud], (x.better, y.better))]


def _draw(axes: Axes, mark: Mark, logs: Sequence[bool]) -> None:
    hollow = mark.trait == "estimate"
    axes.errorbar(
        mark.x.value, mark.y.value, xerr=mark.x.arms(logarithmic=logs[0]), yerr=mark.y.arms(logarithmic=logs[1]),
        fmt=mark.marker, color=mark.colour, markersize=5 if mark.quiet else 8, markerfacecolor="white" if hollow else mark.colour,
        markeredgecolor=mark.colour if hollow else "white", markeredgewidth=1.5 if hollow else 0.8,
        elinewidth=1.2, alpha=0.7 if mark.quiet else 1.0, zorder=2 if mark.quiet else 3,
    )  # fmt: skip
    if mark.trait == "bound":
        points_left(axes, mark.x.value, mark.y.value, mark.colour)


def _steps(best: Sequence[Point], x: Scale) -> list[Point]:
    """Corners of the front: at each value of the first score the best second one that is had with no worse a first."""
    corners = [(b[0], a[1]) if x.better == "lower" else (a[0], b[1]) for a, b in pairwise(best)]
    return [point for pair in zip_longest(best, corners) for point in pair if point is not None]


def place_labels(axes: Axes, marks: Sequence[Mark], steps: Sequence[Point] = ()) -> None:
    """Write each label on the side of its point where it covers least: other labels, points, intervals, steps, the edge."""
    scale = axes.figure.dpi / 72.0
    bounds = axes.get_window_extent()
    taken = [box for mark in marks for box in _boxes(axes, mark)]
    taken += [_thin(*axes.transData.transform([a, b])) for a, b in pairwise(steps)]
    for mark in marks:
        made = axes.annotate(
            mark.label, (mark.x.value, mark.y.value), textcoords="offset points", xytext=(0, 0), ha="left", va="bottom",
            fontsize=7.5 if mark.quiet else 8.5, style="italic" if mark.quiet else "normal", color=QUIET if mark.quiet else INK,
        )  # fmt: skip
        made.set_in_layout(False)
        size = made.get_window_extent()
        x, y = axes.transData.transform((mark.x.value, mark.y.value))
        places = [_beside(x, y, size, side, reach * scale) for reach in _REACHES for side in _TOWARDS]
        best = min(places, key=lambda box: _covered(box, taken, bounds) + 0.5 * abs(box.x0 - x))
        made.set_position(((best.x0 - x) / scale, (best.y0 - y) / scale))
        taken.append(best)


def _boxes(axes: Axes, mark: Mark) -> list[Bbox]:
    """What a point and its intervals cover, in pixels."""
    place = axes.transData.transform
    x, y = place((mark.x.value, mark.y.value))
    across = place([(mark.x.low, mark.y.value), (mark.x.high, mark.y.value)])
    along = place([(mark.x.value, mark.y.low), (mark.x.value, mark.y.high)])
    bars = [_thin(*ends) for ends in (across, along) if np.isfinite(ends).all()]
    return [Bbox.from_extents(x - 6, y - 6, x + 6, y + 6), *bars]


def _thin(a: Pixel, b: Pixel) -> Bbox:
    """What a straight line between two points covers."""
    return Bbox.from_extents(min(a[0], b[0]) - 1, min(a[1], b[1]) - 1, max(a[0], b[0]) + 1, max(a[1], b[1]) + 1)


def _beside(x: float, y: float, size: Bbox, towards: tuple[int, int], reach: float) -> Bbox:
    """Where a text of this size lies beside a point, so far from it on that side."""
    left = x + reach * towards[0] + size.width * (towards[0] - 1) / 2
    low = y + reach * towards[1] + size.height * (towards[1] - 1) / 2
    return Bbox.from_bounds(left, low, size.width, size.height)


def _covered(box: Bbox, taken: Sequence[Bbox], bounds: Bbox) -> float:
    """Pixels of a box that others take, and many times those that lie outside."""
    common = sum(_area(Bbox.intersection(box, other)) for other in taken)
    return common + 10.0 * (_area(box) - _area(Bbox.intersection(box, bounds)))


def _area(box: Bbox | None) -> float:
    return 0.0 if box is None else abs(box.width * box.height)
