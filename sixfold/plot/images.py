"""Images as grids."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sixfold.core.errors import BadInput
from sixfold.core.spec import DataSpec

Pixels = NDArray[np.uint8]


def to_pixels(x: Tensor, spec: DataSpec, *, limits: tuple[float, float] | None = None) -> Pixels:
    """Images in data space as grey or colour bytes, (B, H, W, 1 or 3 or 4); real images are stretched to their range.

    Args:
        x: images, (B, C, H, W).
        spec: what one image is.
        limits: values drawn black and white, for states that are not in data space.

    Raises:
        BadInput: when the data are no images.
    """
    if not spec.is_image:
        raise BadInput(f"only images of shape (C, H, W) make pixels; got {spec.shape}. Save the samples as .npy instead.")
    values = x.detach().cpu().double()
    if limits is not None:
        values = (values - limits[0]) / max(limits[1] - limits[0], 1e-12)
    elif spec.support.discrete:
        values = values / (spec.support.count - 1)
    elif len(values):
        low, high = values.min(), values.max()
        values = (values - low) / (high - low).clamp_min(1e-12)
    return (values.permute(0, 2, 3, 1).numpy() * 255).round().clip(0, 255).astype(np.uint8)


def tile(pixels: Pixels, *, columns: int | None = None, gap: int = 1, background: int = 255) -> Pixels:
    """One picture of many, row by row, (B, H, W, C) to (H', W', C).

    Args:
        pixels: the images.
        columns: images a row; a square by default.
        gap: background pixels between images.
        background: grey value of the gaps.
    """
    num, height, width, channels = pixels.shape
    columns = columns or max(1, math.ceil(math.sqrt(num)))
    rows = math.ceil(num / columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), background, np.uint8)
    for i, image in enumerate(pixels):
        top, left = gap + (i // columns) * (height + gap), gap + (i % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def save_grid(x: Tensor, spec: DataSpec, path: Path, *, columns: int | None = None, zoom: int | None = None) -> Path:
    """Write a PNG grid of images; small images are enlarged by whole pixels to about 64 on a side.

    Args:
        x: images in data space, (B, C, H, W).
        spec: what one image is.
        path: of the PNG.
        columns: images a row.
        zoom: enlargement by whole pixels.
    """
    sheet = tile(to_pixels(x, spec), columns=columns)
    factor = zoom or max(1, 64 // spec.shape[1])
    sheet = sheet.repeat(factor, 0).repeat(factor, 1)
    Image.fromarray(sheet.squeeze(-1) if sheet.shape[-1] == 1 else sheet).save(path)
    return path
