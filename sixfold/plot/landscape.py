"""A function of two parameters that is to be small, and where it is smallest."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FormatStrFormatter, NullFormatter, NullLocator
from torch import Tensor

from sixfold.plot.style import ENERGY


def landscape(axes: Axes, x: Tensor, y: Tensor, values: Tensor, *, colour: str, levels: int = 9) -> None:
    """Bright where the function is small, with contours and a star at its least value.

    Colours and contours go by the logarithm of what a value is above the least one, so that a flat valley shows its shape
    beside steep walls.

    Args:
        axes: to draw on; the second parameter has a logarithmic axis.
        x: values of the first parameter, (X,).
        y: of the second, (Y,), above zero.
        values: of the function, (Y, X).
        colour: of the star.
        levels: contours; more show finer differences.
    """
    above = (values - values.min()).double()
    shown = (above + 0.01 * above.median()).log().numpy()
    low, high = float(shown.min()), float(np.quantile(shown, 0.98))
    axes.pcolormesh(x.numpy(), y.numpy(), shown, cmap=ENERGY, vmin=low, vmax=high, shading="nearest", rasterized=True)
    heights = np.linspace(low, high, levels + 2)[1:-1]
    axes.contour(x.numpy(), y.numpy(), shown, levels=heights, colors="#333333", linewidths=0.5, linestyles="solid")
    best = int(values.argmin())
    at = float(x[best % len(x)]), float(y[best // len(x)])
    axes.plot(*at, marker="*", color=colour, markersize=13, markeredgecolor="white", markeredgewidth=0.9)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.5, 1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(xlim=(float(x[0]), float(x[-1])), ylim=(float(y[0]), float(y[-1])))
