"""Numbers with intervals on an axis that says which way is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

Side = Literal["lower", "higher", "none"]
Trait = Literal["value", "bound", "estimate"]
"""A number as it is, one that the true value cannot exceed, or a stochastic estimate."""

WIDE = 20.0
"""Ratio of the largest to the smallest number beyond which an axis is logarithmic."""

_WORDS = {"lower": "   ← better", "higher": "   better →", "none": ""}


@dataclass(frozen=True)
class Span:
    """A number with its interval; ``low`` and ``high`` equal it where nothing is random."""

    value: float
    low: float
    high: float

    def arms(self, *, logarithmic: bool) -> list[list[float]]:
        """Lengths below and above the number, as matplotlib takes them; on a logarithmic axis they stay positive."""
        low = max(self.low, self.value / 1e3) if logarithmic else self.low
        return [[max(0.0, self.value - low)], [max(0.0, self.high - self.value)]]


@dataclass(frozen=True)
class Scale:
    """What an axis shows: its name, and which way is better; ``none`` for numbers without a better side."""

    name: str
    better: Side = "none"

    @property
    def label(self) -> str:
        """Name with an arrow towards the better side; along a vertical axis, text turns and the arrow with it."""
        return self.name + _WORDS[self.better]

    def is_logarithmic(self, values: Sequence[float]) -> bool:
        """Whether the axis is: of distances and costs that are far apart, never of shares, which are better high."""
        return self.better == "lower" and is_wide(values)


def is_wide(values: Sequence[float]) -> bool:
    """Whether positive numbers spread so far that they need a logarithmic axis.

    Example:
        >>> is_wide([1, 10]), is_wide([1, 100]), is_wide([-1, 100])
        (False, True, False)
    """
    return bool(values) and min(values) > 0.0 and max(values) > WIDE * min(values)


def logarithmic(axes: Axes, which: Literal["x", "y"], values: Sequence[float]) -> None:
    """Make an axis logarithmic and as long as its numbers need, not their intervals; its ticks are plain numbers."""
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    room = (max(values) / min(values)) ** 0.12
    (axes.set_xlim if which == "x" else axes.set_ylim)(min(values) / room, max(values) * room)
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(numticks=6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def points_left(axes: Axes, x: float, y: float, colour: str) -> None:
    """A small arrow to the left of a point: the true value may lie there."""
    arrow = {"arrowstyle": "<|-", "color": colour, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 4}
    made = axes.annotate("", (x, y), xytext=(-20, 0), textcoords="offset points", arrowprops=arrow)
    made.set_in_layout(False)
