"""Curves of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from sixfold.plot.style import DASHES, FAMILY_COLOURS

_CYCLE = [FAMILY_COLOURS[f] for f in ("autoregressive", "gan", "flow", "energy", "vae", "diffusion", "data")]


def smooth(values: Sequence[float], window: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Centred moving average that shortens at the ends."""
    padded = np.convolve(values, np.ones(window), "same")
    return np.asarray(padded / np.convolve(np.ones(len(values)), np.ones(window), "same"))


def curves(axes: Axes, series: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, xlabel: str, ylabel: str) -> None:
    """Named curves, each ``(x, y)``: the raw values faint, their moving average over one part in forty in front."""
    for i, (label, (x, y)) in enumerate(series.items()):
        colour, dash = _CYCLE[i % len(_CYCLE)], DASHES[i % len(DASHES)]
        axes.plot(x, y, color=colour, alpha=0.2, linewidth=0.7)
        axes.plot(x, smooth(y, max(1, len(y) // 40)), color=colour, linestyle=dash, linewidth=1.4, label=label)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(color="#dddddd", linewidth=0.5)
    if series:
        axes.legend(loc="best", fontsize=8)
