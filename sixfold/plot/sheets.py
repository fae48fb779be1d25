"""Images in labelled rows and columns: walks, strips, completions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sixfold.plot.images import Pixels, tile
from sixfold.plot.style import QUIET, bare, figure

HALF = 5.4
"""Inches of a figure that shares a line of a page with another one, and has a phone's to itself."""

LARGEST = 0.62
"""Inches of a cell at most."""


def coloured(pixels: Pixels) -> Pixels:
    """Grey or colour bytes, (B, H, W, 1 or 3 or 4), as colours without transparency, (B, H, W, 3)."""
    if pixels.shape[-1] == 4:
        alpha = pixels[..., 3:] / 255.0
        return np.asarray((pixels[..., :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8))
    return pixels[..., :3] if pixels.shape[-1] == 3 else pixels.repeat(3, -1)


def covered(pixels: Pixels, known: NDArray[np.bool_], colour: str) -> Pixels:
    """Images whose unknown pixels are of a pale shade of one colour, (B, H, W, 3).

    Args:
        pixels: grey or colour bytes, (B, H, W, C).
        known: pixels that are shown, (H, W) or (B, H, W).
        colour: in matplotlib's terms.
    """
    shade = (255 * (0.35 * np.asarray(to_rgb(colour)) + 0.65)).round().astype(np.uint8)
    return np.where(known[..., None], coloured(pixels), shade)


def sheet(
    pixels: Pixels,
    columns: int,
    *,
    rows: Sequence[str] = (),
    heads: Sequence[str] = (),
    foot: str = "",
    gap: int = 1,
    width: float = HALF,
) -> Figure:
    """Images row by row, labelled at the left and at the top.

    Args:
        pixels: images, (R * columns, H, W, C).
        columns: images a row.
        rows: a label for each row, or none.
        heads: a label for each column, or none.
        foot: what the columns are, below.
        gap: white pixels between images.
        width: inches at most; cells are as large as it allows, and no larger than is good to look at.
    """
    count, high, wide = -(-len(pixels) // columns), pixels.shape[1], pixels.shape[2]
    left = 0.085 * max(map(len, rows), default=0) + 0.1
    cell = min((width - left) / columns, LARGEST * max(1.0, wide / high))
    room = 0.25 * (1 + max(label.count("\n") for label in heads)) if heads else 0.08
    made = figure(left + cell * columns, cell * high / wide * count + room + 0.25 * bool(foot))
    axes = bare(made.subplots())
    axes.imshow(tile(coloured(pixels), columns=columns, gap=gap), interpolation="nearest")
    axes.set_xticks([(wide + gap) * (i + 0.5) + gap / 2 - 0.5 for i in range(len(heads))], heads)
    axes.set_yticks([(high + gap) * (i + 0.5) + gap / 2 - 0.5 for i in range(len(rows))], rows)
    axes.tick_params(length=0, labelsize=8.5, labeltop=True, labelbottom=False, labelcolor="#333333", pad=2)
    axes.set_xlabel(foot, color=QUIET, fontsize=8.5)
    return made
