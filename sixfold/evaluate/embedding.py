"""What feature spaces are made of: scaling, framing, principal components, a fixed random network.

Source:  random network: What is the best multi-stage architecture for object recognition? (Jarrett, Kavukcuoglu, Ranzato &
         LeCun, 2009), section 3.2. Delving Deep into Rectifiers (He et al., 2015), arXiv:1502.01852, Eq. 10 (its variance).
Differs: filters sum to zero instead of a contrast normalisation, and weights are drawn from PCG64's integers, which are the same
         on every machine.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

RANDOM_WIDTHS, RANDOM_GRID, RANDOM_SEED = (16, 32, 32), 2, 0
SMALLEST = 8
"""Height and width of the smallest image that the random network takes."""


class Affine(nn.Module):
    """Data as floats, moved and scaled: (x - low) / span."""

    low: Tensor
    span: Tensor

    def __init__(self, low: Tensor, span: Tensor) -> None:
        super().__init__()
        self.register_buffer("low", low)
        self.register_buffer("span", span)

    def forward(self, x: Tensor) -> Tensor:
        return (x.float() - self.low) / self.span


class Projection(nn.Module):
    """Coordinates of flat data along directions from their mean, (B, D) to (B, K)."""

    mean: Tensor
    directions: Tensor

    def __init__(self, mean: Tensor, directions: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("directions", directions)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) @ self.directions


class Frame(nn.Module):
    """Images of another size at the size that a network takes, bicubic with antialiasing, (B, C, H, W) to (B, C, size, size).

    Args:
        size: height and width to give.
        inner: of them, how much the image fills; the rest is a black border.
    """

    def __init__(self, size: int, inner: int) -> None:
        super().__init__()
        self.inner, self.border = inner, (size - inner) // 2

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (self.inner, self.inner):
            x = functional.interpolate(x, size=(self.inner, self.inner), mode="bicubic", antialias=True).clamp(0, 1)
        return functional.pad(x, (self.border,) * 4)


def principal(x: Tensor, count: int) -> Tensor:
    """Directions of largest variance, first the largest, each with its largest element positive, (D, K), K at most ``count``.

    Args:
        x: centred data, (N, D).
        count: directions wanted; there are fewer where the data span fewer, but at least one.
    """
    wide = x.shape[1] > len(x)
    values, vectors = torch.linalg.eigh(x @ x.T if wide else x.T @ x)
    values, vectors = values.flip(0)[:count], vectors.flip(1)[:, :count]
    rank = max(1, int((values > 1e-10 * values[0]).sum()))  # rounding of the products is about 1e-16 of the largest
    found = vectors[:, :rank]
    found = functional.normalize(x.T @ found, dim=0) if wide else found
    largest = found.gather(0, found.abs().argmax(0, keepdim=True))
    return torch.where(largest < 0, -found, found)


def random_network(channels: int) -> nn.Sequential:
    """Convolutional network with fixed random weights, images in [0, 1] of at least 8x8 to (B, 128)."""
    bits = np.random.PCG64(RANDOM_SEED)
    stages: list[nn.Module] = []
    for a, b in pairwise((channels, *RANDOM_WIDTHS)):
        with torch.device("meta"):  # PyTorch's own random weights would move the global generator
            convolution = nn.Conv2d(a, b, 3, padding=1, bias=False)
        convolution.load_state_dict({"weight": _contrasts(bits, convolution.weight.shape)}, assign=True)
        stages += [convolution, nn.ReLU(inplace=True), nn.AvgPool2d(2)]
    return nn.Sequential(*stages[:-1], nn.AdaptiveAvgPool2d(RANDOM_GRID), nn.Flatten())


def _contrasts(bits: np.random.PCG64, shape: torch.Size) -> Tensor:
    """Filters that sum to zero, since others all see mostly how bright an image is.

    Each weight is uniform with variance 2 / fan-in before the filter's mean is taken off. The mean is taken in integers, so that
    no machine's order of summation shows in the last bit.

    Args:
        bits: source of raw integers.
        shape: filters, their inputs, height and width.
    """
    fan_in = shape[1:].numel()
    drawn = torch.from_numpy((bits.random_raw(shape.numel()) >> np.uint64(40)).astype(np.int64)).reshape(shape)  # 24 bits each
    centred = drawn * fan_in - drawn.sum((1, 2, 3), keepdim=True)
    return (centred.double() / (fan_in * 2**23) * math.sqrt(6 / fan_in)).float()
