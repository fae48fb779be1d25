"""The density of the second coordinate given the first, cut out of a density over the plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from sixfold.plot.plane import Window, density_map
from sixfold.plot.sheets import HALF
from sixfold.plot.style import FAMILY_COLOURS, figure, gridded


@dataclass(frozen=True)
class Cut:
    """What is known of the second coordinate at one value of the first.

    Args:
        at: the first coordinate.
        density: of the second at the points of the axis, (P,).
        drawn: values of the second, (N,).
        truth: the true density, (P,), where it is known.
    """

    at: float
    density: Tensor
    drawn: Tensor
    truth: Tensor | None = None


def conditionals(nats: Tensor, window: Window, axis: Tensor, cuts: Sequence[Cut], *, colour: str) -> Figure:
    """A density over the plane with its cuts, and each cut as a curve over draws.

    Args:
        nats: log-density at ``window.grid(side)``, (side * side,).
        window: the part of the plane.
        axis: second coordinates of the curves, (P,).
        cuts: where and what.
        colour: of the model.
    """
    lines = -(-len(cuts) // 2)
    made = figure(HALF, 3.2 + 1.25 * lines)
    grid = made.add_gridspec(1 + lines, 2, height_ratios=[3.2, *[1.25] * lines])
    plane = made.add_subplot(grid[0, :])
    density_map(plane, nats, window)
    for i, cut in enumerate(cuts):
        plane.axvline(cut.at, color="white", linewidth=1.1, linestyle=(0, (4, 2)))
        plane.text(cut.at, window.high[1], f" {i + 1}", color="white", va="top", fontsize=9)
        _curve(made.add_subplot(grid[1 + i // 2, i % 2]), i, cut, axis, colour)
    made.axes[1].legend(fontsize=7.5, loc="best")
    return made


def _curve(axes: Axes, i: int, cut: Cut, axis: Tensor, colour: str) -> None:
    """One cut."""
    ends = (float(axis[0]), float(axis[-1]))
    axes.hist(cut.drawn.double().numpy(), bins=40, range=ends, density=True, color=colour, alpha=0.3)
    axes.plot(axis.numpy(), cut.density.numpy(), color=colour, linewidth=1.5, label="model")
    curves = [cut.density]
    if cut.truth is not None:
        dash = (0, (4, 2))
        axes.plot(axis.numpy(), cut.truth.numpy(), color=FAMILY_COLOURS["data"], linewidth=1.0, linestyle=dash, label="truth")
        curves.append(cut.truth)
    axes.set(yticks=[], ylim=(0, 1.2 * max(float(c.max()) for c in curves)), xlim=ends)
    axes.set_title(f"{i + 1}:  x₂ at x₁ = {cut.at:.2f}", fontsize=8.5, loc="left")
    gridded(axes, "x").spines["left"].set_visible(False)
