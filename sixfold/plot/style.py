"""One visual language: a colour for each family, a colour map for density, quiet axes.

The colours are Okabe and Ito's, told apart by colour-blind readers; lines also differ in dash, so that they survive grey
printing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

FAMILY_COLOURS = {
    "autoregressive": "#0072B2",
    "vae": "#E69F00",
    "flow": "#009E73",
    "gan": "#D55E00",
    "energy": "#CC79A7",
    "diffusion": "#56B4E9",
    "latent": "#8C6D1F",
    "data": "#444444",
}
DASHES = ("solid", (0, (6, 2)), (0, (4, 2, 1, 2)), (0, (1, 1.5)), (0, (8, 2, 1, 2, 1, 2)), (0, (3, 1.5)), (0, (2, 4)))
DENSITY = "magma"
ENERGY = "viridis_r"  # as for densities, bright is likely
ERROR = "RdBu_r"
INK = "#333333"
QUIET = "#767676"

_RC: Any = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": "#333333",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
    "image.interpolation": "nearest",
}


def family_colour(name: str) -> str:
    """Colour of a model's family by its registry name, grey for what belongs to none."""
    return FAMILY_COLOURS.get(name.partition("/")[0], "#777777")


def gridded(axes: Axes, axis: Literal["both", "x", "y"] = "both") -> Axes:
    """Axes with thin grid lines behind what they show."""
    axes.grid(axis=axis, color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib settings of the house; the caller's own are restored."""
    with mpl.rc_context(_RC):
        yield


def figure(width: float, height: float) -> Figure:
    """An empty figure in inches, on a canvas of its own: no window system and no global state."""
    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def bare(axes: Axes, title: str = "") -> Axes:
    """Axes without ticks, for pictures."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if title:
        axes.set_title(title)
    return axes


def framed(axes: Axes, title: str = "") -> Axes:
    """Axes without ticks in a thin frame, so that windows of equal size look equal."""
    bare(axes, title)
    for spine in axes.spines.values():
        spine.set(visible=True, color="#cccccc", linewidth=0.8)
    return axes


def save(made: Figure, path: Path, *, dpi: int = 110) -> Path:
    """Write the figure as PNG, without a time stamp so that equal figures are equal files."""
    made.savefig(path, dpi=dpi, metadata={"Software": ""})
    return path
