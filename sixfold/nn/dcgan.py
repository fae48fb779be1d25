"""Convolutional generator and critic, of DCGAN's size: vectors to images, and images to one score each.

    generator   h = dense(z, c) on the coarsest grid;   h <- act(N(up(h); c)) from grid to grid;   x = up(h), or its tanh
    critic      h <- act(conv(x)) from grid to grid;    phi = act(A h);    D(x, c) = w' phi + c' V phi + b
    N(h; c)     = (g + G c) h / rms(h) + (t + T c)      at each pixel, rms over its channels

Grids halve from the image's to one with a side below eight, rounding down: 28, 14, 7; 32, 16, 8, 4; 8, 4. Channels double where
grids halve, three times at most. The critic has no normalisation and the generator's is of one pixel, so that no datum depends
on the rest of its batch.

Source:  Unsupervised representation learning with deep convolutional GANs (Radford, Metz & Chintala, 2016), arXiv:1511.06434.
         A dense layer at the coarse end: InfoGAN (Chen et al., 2016), arXiv:1606.03657, Appendix C.1.
         N: Progressive growing of GANs (Karras et al., 2018), arXiv:1710.10196, Section 4.2 (pixelwise).
         c in N: A learned representation for artistic style (Dumoulin et al., 2017), arXiv:1610.07629, Eq. (5).
         c' V phi: cGANs with projection discriminator (Miyato & Koyama, 2018), arXiv:1802.05637, Eq. (3).
Differs: no batch normalisation, which would couple the data of a batch and make a penalty of single gradients meaningless; phi
         comes from a dense layer, where the projection's source sums over pixels.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

from sixfold.nn.mlp import concat

Up = Literal["transposed", "bilinear"]
Grid = tuple[int, int]


def grids(height: int, width: int) -> list[Grid]:
    """The sizes from an image's to the coarsest one.

    Example:
        >>> grids(28, 28)
        [(28, 28), (14, 14), (7, 7)]
    """
    found = [(height, width)]
    while min(found[-1]) >= 8:
        found.append((found[-1][0] // 2, found[-1][1] // 2))
    return found


def channels(image: int, width: int, count: int) -> list[int]:
    """Channels at each of ``count`` grids, the image's first; a lone grid has a second number for the inside of the network."""
    return [image, *(width << min(i, 3) for i in range(max(1, count - 1)))]


def act(h: Tensor) -> Tensor:
    """Leaky rectification by 0.2."""
    return leaky_relu(h, 0.2)


class PixelNorm(nn.Module):
    """Features over their root mean square, then scaled and shifted as the condition says, (B, C, ...) to the same.

    Args:
        channels: C.
        cond: size of the condition's features, 0 for none.
    """

    def __init__(self, channels: int, *, cond: int) -> None:
        super().__init__()
        self.style = nn.Parameter(torch.cat([torch.ones(channels), torch.zeros(channels)]))
        self.by = nn.Linear(cond, 2 * channels, bias=False) if cond else None
        if self.by is not None:
            nn.init.zeros_(self.by.weight)

    def forward(self, h: Tensor, cond: Tensor | None) -> Tensor:
        style = self.style if self.by is None else self.style + self.by(cond)
        gain, shift = style.reshape(-1, 2 * h.shape[1], *[1] * (h.ndim - 2)).chunk(2, dim=1)
        # The mean is of squares of bfloat16 in mixed precision, hence the large guard.
        return h * (h.square().mean(1, keepdim=True) + 1e-6).rsqrt() * gain + shift


class Rise(nn.Module):
    """From one grid to the next finer one, (B, inputs, h, w) to (B, outputs, H, W).

    Args:
        inputs, outputs: channels.
        grid: (H, W), the finer one; of the same size as the coarser for a plain convolution.
        up: a transposed convolution of 4x4, or a bilinear enlargement and a convolution of 3x3, with 9 / 4 of its products.
    """

    def __init__(self, inputs: int, outputs: int, grid: Grid, *, up: Up) -> None:
        super().__init__()
        self.grid, self.transposed = list(grid), up == "transposed"
        self.conv: nn.Module = (
            nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
            if self.transposed
            else nn.Conv2d(inputs, outputs, 3, padding=1)
        )

    def forward(self, h: Tensor) -> Tensor:
        finer: Tensor
        if self.transposed:
            finer = self.conv(h, output_size=self.grid)
        else:
            finer = self.conv(interpolate(h, size=self.grid, mode="bilinear", align_corners=False))
        return finer


class Generator(nn.Module):
    """Vectors to images, (B, latent) and (B, cond) to (B, *shape).

    Args:
        latent: size of the vectors.
        shape: of an image, channels first.
        width: channels at half of the image's size, twice as many at a quarter and so on; eight times as many dense units.
        cond: size of the condition's features, 0 for none.
        up: how grids become finer.
        bounded: end in a tanh, for images in [-1, 1].
    """

    def __init__(self, latent: int, shape: tuple[int, ...], *, width: int, cond: int, up: Up, bounded: bool) -> None:
        super().__init__()
        sizes = grids(*shape[1:])
        counts = channels(shape[0], width, len(sizes))
        self.coarse, self.bounded = (counts[-1], *sizes[-1]), bounded
        self.dense = nn.Linear(latent + cond, 8 * width)
        self.place = nn.Linear(8 * width, counts[-1] * sizes[-1][0] * sizes[-1][1])
        self.norms = nn.ModuleList(PixelNorm(n, cond=cond) for n in (8 * width, *reversed(counts[1:])))
        finer, up = (sizes[-2::-1], up) if len(sizes) > 1 else (sizes, "bilinear")  # a lone grid stays as it is
        steps = zip(pairwise(reversed(counts)), finer, strict=True)
        self.rises = nn.ModuleList(Rise(a, b, grid, up=up) for (a, b), grid in steps)

    def forward(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        first, *norms = self.norms
        h = self.place(act(first(self.dense(concat(z, cond)), cond))).reshape(-1, *self.coarse)
        for norm, rise in zip(norms, self.rises, strict=True):
            h = rise(act(norm(h, cond)))
        out: Tensor = h.tanh() if self.bounded else h
        return out


class Critic(nn.Module):
    """Images to a score each, (B, *shape) and (B, cond) to (B, 1).

    Args:
        shape: of an image, channels first.
        width: channels at half of the image's size, twice as many at a quarter and so on; eight times as many features.
        cond: size of the condition's features, 0 for none.
    """

    def __init__(self, shape: tuple[int, ...], *, width: int, cond: int) -> None:
        super().__init__()
        sizes = grids(*shape[1:])
        counts = channels(shape[0], width, len(sizes))[: len(sizes)]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(counts))
        self.features = nn.Linear(counts[-1] * sizes[-1][0] * sizes[-1][1], 8 * width)
        self.score = nn.Linear(8 * width, 1)
        self.match = nn.Linear(cond, 8 * width, bias=False) if cond else None

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        for conv in self.convs:
            x = act(conv(x))
        phi = act(self.features(x.flatten(1)))
        score: Tensor = self.score(phi)
        return score if self.match is None else score + (self.match(cond) * phi).sum(1, keepdim=True)
