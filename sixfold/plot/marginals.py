"""Histograms of single elements of the data."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from torch import Tensor


def marginal(axes: Axes, series: Mapping[str, tuple[Tensor, str]], *, title: str = "", bins: int = 60) -> tuple[float, float]:
    """Outlined histograms over the range of the first series.

    Args:
        axes: to draw on.
        series: numbers and colour by label, numbers (N,); the first are the data.
        title: above.
        bins: of each histogram, more show more noise.

    Returns:
        The range that is shown.
    """
    data = next(iter(series.values()))[0].double()
    low, high = float(data.min()), float(data.max())
    for label, (x, colour) in series.items():
        axes.hist(x.double().numpy(), bins=bins, range=(low, high), density=True, histtype="step", color=colour, label=label)
    axes.set_title(title)
    return low, high
