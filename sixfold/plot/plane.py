"""Two-dimensional data: points and densities on the same axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from numpy.typing import NDArray
from torch import Tensor

from sixfold.plot.style import DENSITY, ERROR, framed


@dataclass(frozen=True)
class Window:
    """The part of the plane that is shown, the same for every picture of one data set."""

    low: tuple[float, float]
    high: tuple[float, float]

    @classmethod
    def around(cls, x: Tensor, *, margin: float = 0.12) -> Window:
        """A square around the bulk of the points, (N, 2): robust to far outliers, ``margin`` of its side wider."""
        x = x.double()
        low, high = x.quantile(0.001, dim=0), x.quantile(0.999, dim=0)
        centre, half = (low + high) / 2, float((high - low).max()) / 2 * (1 + 2 * margin)
        return cls((float(centre[0]) - half, float(centre[1]) - half), (float(centre[0]) + half, float(centre[1]) + half))

    def grid(self, side: int) -> Tensor:
        """Cell centres, (side * side, 2) float32, the first coordinate running fastest."""
        axes = [(torch.arange(side) + 0.5) / side * (b - a) + a for a, b in zip(self.low, self.high, strict=True)]
        y, x = torch.meshgrid(axes[1], axes[0], indexing="ij")
        return torch.stack([x.flatten(), y.flatten()], dim=1)

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top, as matplotlib takes them."""
        return self.low[0], self.high[0], self.low[1], self.high[1]


def points(axes: Axes, x: Tensor, window: Window, *, colour: str, title: str = "", size: float = 1.5) -> None:
    """Points, (N, 2), in their family's colour."""
    axes.scatter(x[:, 0].cpu().numpy(), x[:, 1].cpu().numpy(), s=size, c=colour, alpha=0.35, linewidths=0, rasterized=True)
    axes.set(xlim=(window.low[0], window.high[0]), ylim=(window.low[1], window.high[1]), aspect="equal")
    framed(axes, title)


def density(
    axes: Axes,
    log_density: Callable[[Tensor], Tensor],
    window: Window,
    *,
    top: float | None = None,
    side: int = 120,
    title: str = "",
) -> None:
    """A density over the window.

    Args:
        axes: to draw on.
        log_density: nats at points (N, 2), as (N,).
        window: the part of the plane.
        top: density drawn brightest, so that several pictures share a scale; the largest shown by default.
        side: cells a side.
        title: above the picture.
    """
    density_map(axes, log_density(window.grid(side)), window, top=top, title=title)


def density_map(axes: Axes, nats: Tensor, window: Window, *, top: float | None = None, title: str = "") -> None:
    """A density that is known over a grid of the window.

    Args:
        axes: to draw on.
        nats: log-density at ``window.grid(side)``, (side * side,).
        window: the part of the plane.
        top: density drawn brightest; the largest shown by default.
        title: above the picture.
    """
    axes.imshow(_square(nats.exp()), origin="lower", extent=window.extent, cmap=DENSITY, vmin=0, vmax=top, aspect="equal")
    framed(axes, title)


def error_map(axes: Axes, nats: Tensor, truth: Tensor, window: Window, *, limit: float, title: str = "") -> AxesImage:
    """Where a density is larger than the truth (red) and where smaller (blue); white where they agree.

    Args:
        axes: to draw on.
        nats: log-density of the model at ``window.grid(side)``, (side * side,).
        truth: that of the truth.
        window: the part of the plane.
        limit: difference drawn darkest, so that several pictures share a scale.
        title: above the picture.

    Returns:
        The image, for a colour bar.
    """
    values = _square(nats.exp() - truth.exp())
    image = axes.imshow(values, origin="lower", extent=window.extent, cmap=ERROR, vmin=-limit, vmax=limit, aspect="equal")
    framed(axes, title)
    return image


def _square(values: Tensor) -> NDArray[np.float64]:
    """A picture of values over a grid, (side * side,) to (side, side)."""
    side = math.isqrt(len(values))
    return np.asarray(values.detach().cpu().double().view(side, side).numpy())
