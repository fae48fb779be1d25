"""Curves of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from sixfold.plot.style import DASHES, FAMILY_COLOURS, gridded

_CYCLE = [FAMILY_COLOURS[f] for f in ("autoregressive", "gan", "flow", "energy", "vae", "diffusion", "data")]

Floats: TypeAlias = NDArray[np.float64]
Curve: TypeAlias = "tuple[Sequence[float] | Floats, Sequence[float] | Floats]"
"""Points of a curve, ``(x, y)``."""


def smooth(values: Sequence[float] | Floats, window: int) -> Floats:
    """Centred moving average that shortens at the ends."""
    padded = np.convolve(values, np.ones(window), "same")
    return np.asarray(padded / np.convolve(np.ones(len(values)), np.ones(window), "same"))


def mean_curve(seeds: Sequence[Curve], *, points: int = 200) -> tuple[Floats, Floats]:
    """Mean of several curves where all of them are known, each read between its points.

    Args:
        seeds: curves over the same quantity, x ascending.
        points: of the mean.
    """
    x = np.linspace(max(c[0][0] for c in seeds), min(c[0][-1] for c in seeds), points)
    return x, np.mean([np.interp(x, *c) for c in seeds], 0)


def seeded(axes: Axes, seeds: Sequence[Curve], *, colour: str, dash: Any = "solid", label: str = "", window: int = 1) -> None:
    """One quantity over several seeds: each faint, their mean in front.

    Args:
        axes: to draw on.
        seeds: a curve a seed; empty ones are left out.
        colour, dash: of the lines, in matplotlib's terms.
        label: for the legend.
        window: points that are averaged along the curve before seeds are, more for noisier curves.
    """
    known = [(x, smooth(y, min(window, len(y)))) for x, y in seeds if len(x)]
    for x, y in known if len(known) > 1 else []:
        axes.plot(x, y, color=colour, alpha=0.3, linewidth=0.8)
    if known:
        x, y = mean_curve(known) if len(known) > 1 else known[0]
        axes.plot(x, y, color=colour, linestyle=dash, linewidth=1.6, label=label or None)


def level_limits(seeds: Sequence[Curve], *, cut: float = 0.06) -> tuple[float, float]:
    """Limits of a vertical axis that leave out the first steep share ``cut`` of training, and what has left the numbers."""
    late = [y for xs, ys in seeds for x, y in zip(xs, ys, strict=True) if x >= cut * max(xs) and np.isfinite(y)]
    low, high = (min(late), max(late)) if late else (0.0, 1.0)
    room = 0.06 * (high - low) or 1.0
    return low - room, high + room


def curves(axes: Axes, series: Mapping[str, Curve], *, xlabel: str, ylabel: str) -> None:
    """Named curves, each ``(x, y)``: the raw values faint, their moving average over one part in forty in front."""
    for i, (label, (x, y)) in enumerate(series.items()):
        colour, dash = _CYCLE[i % len(_CYCLE)], DASHES[i % len(DASHES)]
        axes.plot(x, y, color=colour, alpha=0.2, linewidth=0.7)
        axes.plot(x, smooth(y, max(1, len(y) // 40)), color=colour, linestyle=dash, linewidth=1.4, label=label)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    gridded(axes)
    if series:
        axes.legend(loc="best", fontsize=8)
