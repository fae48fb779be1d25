"""Residual convolutions from small images to vectors and back.

    h <- h + W_2 * silu( W_1 * silu(h) )        W_2 starts at 0, so that no normalisation is needed

An encoder halves the image twice, 28x28 to 14x14 to 7x7, and a decoder goes the same way back; all the work is done at half the
size and below, where it is cheap. Odd sizes are rounded up on the way down and cut on the way back. No statistics of the batch
are taken: what comes out for one image does not depend on the others.

Source:  Identity Mappings in Deep Residual Networks (He et al., 2016), arXiv:1603.05027, Figure 4 (e): the block;
         Fixup Initialization (Zhang, Dauphin & Ma, 2019), arXiv:1901.09321, section 3: a start at zero, not normalisation;
         Real-Time Single Image Super-Resolution (Shi et al., 2016), arXiv:1609.05158, section 3.2: from half to full size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from sixfold.nn.mlp import MLP


def halved(size: int) -> int:
    """What a convolution with stride 2 makes of a size."""
    return (size + 1) // 2


class Residual(nn.Module):
    """Two convolutions beside the identity, (B, channels, H, W) to the same; the identity itself at the start."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = h + self.second(functional.silu(self.first(functional.silu(h))))
        return out


class ConvEncoder(nn.Module):
    """Images, as the vectors of their elements, to vectors: (B, C H W inputs) and (B, cond) to (B, outputs).

    Args:
        shape: of an image, (C, H, W).
        inputs: numbers that tell one element, next to each other.
        outputs: size of the vector.
        width: channels at half the size, twice as many at a quarter; more sees finer differences and costs quadratically.
        depth: residual blocks at each of the two sizes.
        cond: size of the condition's features, 0 for none.
    """

    def __init__(self, shape: tuple[int, ...], inputs: int, outputs: int, *, width: int, depth: int, cond: int = 0) -> None:
        super().__init__()
        channels, *size = shape
        self.shape, self.inputs = shape, inputs
        self.stages = nn.Sequential(
            nn.Conv2d(channels * inputs, width, 3, stride=2, padding=1),
            *(Residual(width) for _ in range(depth)),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            *(Residual(2 * width) for _ in range(depth)),
            nn.SiLU(),
            nn.Flatten(),
        )
        height, across = (halved(halved(n)) for n in size)
        self.top = MLP(2 * width * height * across, outputs, width=8 * width, depth=1, cond=cond)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        planes = x.reshape(len(x), *self.shape, self.inputs).movedim(-1, 2).flatten(1, 2)
        out: Tensor = self.top(self.stages(planes), cond)
        return out


class ConvDecoder(nn.Module):
    """Vectors to images, as the vectors of their elements: (B, inputs) and (B, cond) to (B, C H W outputs).

    Every number of an image has a bias of its own: a network of convolutions would have to learn where in the image it is.

    Args:
        shape: of an image, (C, H, W).
        inputs: size of the vector.
        outputs: numbers to give for one element, next to each other.
        width: channels at half the size, twice as many at a quarter; more draws finer shapes and costs quadratically.
        depth: residual blocks at each of the two sizes.
        cond: size of the condition's features, 0 for none.
    """

    def __init__(self, shape: tuple[int, ...], inputs: int, outputs: int, *, width: int, depth: int, cond: int = 0) -> None:
        super().__init__()
        self.shape, self.outputs = shape, outputs
        self.middle = tuple(halved(n) for n in shape[1:])
        self.least = tuple(halved(n) for n in self.middle)
        self.top = MLP(inputs, 2 * width * self.least[0] * self.least[1], width=8 * width, depth=1, cond=cond)
        self.small = nn.Sequential(*(Residual(2 * width) for _ in range(depth)), nn.SiLU())
        self.grow = nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1)
        self.large = nn.Sequential(*(Residual(width) for _ in range(depth)), nn.SiLU())
        self.patches = nn.Conv2d(width, 4 * shape[0] * outputs, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(math.prod(shape) * outputs))
        self.widest = max(self.bias.numel(), width * math.prod(self.middle))

    def forward(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        h = self.small(self.top(z, cond).unflatten(1, (-1, *self.least)))
        h = self.large(self.grow(h)[..., : self.middle[0], : self.middle[1]])
        planes = functional.pixel_shuffle(self.patches(h), 2)[..., : self.shape[1], : self.shape[2]]
        return planes.reshape(len(z), self.shape[0], self.outputs, *self.shape[1:]).movedim(2, -1).flatten(1) + self.bias
