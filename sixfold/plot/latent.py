"""Maps of two-dimensional codes."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from torch import Tensor

from sixfold.plot.style import framed

Colour = tuple[float, float, float, float]


def class_colours(count: int) -> list[Colour]:
    """A colour for each of ``count`` classes: ten distinct ones, beyond that along a wheel."""
    if count <= 10:
        return [mpl.colormaps["tab10"](i) for i in range(count)]
    return [mpl.colormaps["hsv"](i / count) for i in range(count)]


def latent_map(
    axes: Axes,
    codes: Tensor,
    labels: Tensor | None,
    *,
    classes: int = 0,
    colour: str = "#444444",
    title: str = "",
    size: float = 5,
) -> None:
    """Codes as points, (M, 2), coloured by class.

    Args:
        axes: to draw on.
        codes: in two dimensions.
        labels: class of each, (M,) integers; without them all points have ``colour``.
        classes: how many there are.
        colour: of points without a class.
        title: above the map.
        size: of the points.
    """
    palette = class_colours(classes)
    shades = colour if labels is None else [palette[int(k)] for k in labels]
    axes.scatter(codes[:, 0].numpy(), codes[:, 1].numpy(), s=size, c=shades, alpha=0.6, linewidths=0, rasterized=True)
    low, high = codes.double().quantile(0.005, 0), codes.double().quantile(0.995, 0)
    room = 0.1 * (high - low).clamp_min(1e-9)
    axes.set(xlim=(float((low - room)[0]), float((high + room)[0])), ylim=(float((low - room)[1]), float((high + room)[1])))
    axes.set_box_aspect(1)
    framed(axes, title)


def class_legend(axes: Axes, names: tuple[str, ...]) -> None:
    """The colours of the classes by name, on axes that show nothing else."""
    axes.set_axis_off()
    dots = [Line2D([], [], marker="o", linestyle="", color=c, markersize=5) for c in class_colours(len(names))]
    axes.legend(dots, names, loc="center left", fontsize=8, ncols=1 + (len(names) - 1) // 12, handletextpad=0.3, borderpad=0)
