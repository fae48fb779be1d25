"""U-Net of a noisy image, its noise level and a condition: shapes in, the same shapes out.

    h <- h + conv( silu( (1 + a) GN( conv( silu( GN(h) ) ) ) + b ) )        (a, b) linear in an embedding of level and condition

Patches of pixels are the channels of the finest stage, so that no convolution runs at full resolution; each stage has half the
resolution of the one before it and more channels, and the way up meets what the way down left at its resolution. Sizes that do
not halve evenly are rounded up on the way down and cut on the way up, 7x7 to 4x4 and back; none is padded to a power of two.

Every channel of the finest and the coarsest stage has a bias of its own at each place, and the condition moves those of the
coarsest: what is left of an image in much noise is the mean of its class, which convolutions alone would have to draw from the
image's border inwards. The condition enters as features, zeros where it is hidden, so that the hidden condition is a class of its
own: the one whose embedding is the noise level's alone. The last convolution starts at zero and so does the output.

Source:  U-Net (Ronneberger, Fischer & Brox, 2015), arXiv:1505.04597; Denoising Diffusion Probabilistic Models (Ho, Jain & Abbeel,
         2020), arXiv:2006.11239, Appendix B: residual blocks with a noise embedding, attention at a low resolution; Diffusion
         Models Beat GANs (Dhariwal & Nichol, 2021), arXiv:2105.05233, Section 3.1: scale and shift after the normalisation.
Differs: attention at the lowest resolution alone; biases by place. A stage's convolution to half the resolution also changes the
         channels, and the way up joins its two parts by one 1x1 convolution.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from sixfold.nn.mlp import Fourier, concat

GROUPS = 8  # of a normalisation, or fewer where they would not divide the channels


def norm(channels: int) -> nn.GroupNorm:
    """Normalisation of groups of channels over an image."""
    return nn.GroupNorm(math.gcd(channels, GROUPS), channels)


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with weights and biases at zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class Residual(nn.Module):
    """Two convolutions beside the identity, (B, channels, H, W) and (B, embedding) to the former; the identity at the start."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(channels), norm(channels)
        self.told = nn.Linear(embedding, 2 * channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = zeroed(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.told(embedding)[:, :, None, None].chunk(2, dim=1)
        inner = self.norm2(self.conv1(functional.silu(self.norm1(h))))
        out: Tensor = h + self.conv2(functional.silu(inner * (1 + scale) + shift))
        return out


class Attention(nn.Module):
    """Every position of an image looks at every other, (B, channels, H, W) to the same; the identity at the start.

    Written out, as PyTorch's own attention has no forward-mode derivative, which the divergence of a flow is made of.

    Args:
        channels: of the image, divisible by ``heads``.
        heads: attention maps.
    """

    def __init__(self, channels: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = norm(channels)
        self.maps = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, h: Tensor) -> Tensor:
        query, key, value = self.maps(self.norm(h)).flatten(2).unflatten(1, (3, self.heads, -1)).unbind(1)
        weights = (query.transpose(-1, -2) @ key / math.sqrt(query.shape[2])).softmax(-1)  # (B, heads, from, to)
        mixed = (value @ weights.transpose(-1, -2)).flatten(1, 2)
        out: Tensor = h + self.out(mixed.reshape(h.shape))
        return out


class UNet(nn.Module):
    """Images of one size, their log-SNR and features of a condition to images: (B, C, H, W), (B,), (B, cond) to (B, C, H, W).

    Args:
        shape: of an image, (C, H, W).
        cond: size of the condition's features, 0 for none.
        width: channels of the finest stage; the stage i times coarser in each direction by 2^i has 1 + i times as many.
        depth: residual blocks of each stage, on the way down and on the way up; more fits finer detail.
        stages: resolutions, each half of the one before it.
        patch: side of the squares of pixels that the finest stage takes as channels; more is faster and coarser.
        attention: whether positions of the coarsest stage look at each other.
    """

    def __init__(
        self, shape: tuple[int, ...], *, cond: int, width: int, depth: int, stages: int, patch: int, attention: bool
    ) -> None:
        super().__init__()
        self.patch, self.embedding = patch, 4 * width
        widths = [width * (1 + i) for i in range(stages)]
        self.level = Fourier(1, count=8, lowest=0.1, highest=2.0)
        self.told = nn.Sequential(
            nn.Linear(self.level.outputs + cond, self.embedding), nn.SiLU(), nn.Linear(self.embedding, self.embedding), nn.SiLU()
        )
        pixels = shape[0] * patch**2
        sizes = [tuple(-(-n // (patch * 2**i)) for n in shape[1:]) for i in range(stages)]
        self.stem = nn.Conv2d(pixels, width, 3, padding=1)
        self.fine = nn.Parameter(torch.zeros(width, *sizes[0]))
        self.coarse = nn.Parameter(torch.zeros(widths[-1], *sizes[-1]))
        self.drawn = nn.Linear(cond, self.coarse.numel(), bias=False) if cond else None
        self.down = nn.ModuleList(self._stage(channels, depth) for channels in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in pairwise(widths))
        self.attention = Attention(widths[-1], heads=max(1, math.gcd(widths[-1], 4))) if attention else None
        self.join = nn.ModuleList(nn.Conv2d(coarse + fine, fine, 1) for fine, coarse in pairwise(widths))
        self.up = nn.ModuleList(self._stage(channels, depth) for channels in widths)
        self.head = nn.Sequential(norm(width), nn.SiLU(), zeroed(nn.Conv2d(width, pixels, 3, padding=1)))

    def _stage(self, channels: int, depth: int) -> nn.ModuleList:
        return nn.ModuleList(Residual(channels, self.embedding) for _ in range(depth))

    def forward(self, z: Tensor, log_snr: Tensor, cond: Tensor | None = None) -> Tensor:
        if not len(z):
            return torch.zeros_like(z)  # PyTorch's shuffles lose the channels of no images
        told = self.told(concat(self.level(log_snr.unsqueeze(1)), cond))
        height, width = z.shape[-2:]
        whole = functional.pad(z, (0, -width % self.patch, 0, -height % self.patch))
        out: Tensor = self.head(self._fine(functional.pixel_unshuffle(whole, self.patch), told, self._places(cond)))
        return functional.pixel_shuffle(out, self.patch)[..., :height, :width]

    def _places(self, cond: Tensor | None) -> Tensor:
        """Biases of the coarsest stage, (1, channels, h, w) or one a row."""
        if self.drawn is None or cond is None:
            return self.coarse.unsqueeze(0)
        moved: Tensor = self.drawn(cond)
        return self.coarse + moved.reshape(-1, *self.coarse.shape)

    def _fine(self, patches: Tensor, told: Tensor, places: Tensor) -> Tensor:
        """Features of the finest stage, (B, width, H / patch, W / patch)."""
        h, left = self.stem(patches) + self.fine, []
        for i, blocks in enumerate(self.down):
            h = self.shrink[i - 1](h) if i else h
            h = _through(blocks, h + places if i == len(self.down) - 1 else h, told)
            left.append(h)
        h = h if self.attention is None else self.attention(h)
        h = _through(self.up[-1], h, told)
        for fine, join, blocks in reversed(list(zip(left, self.join, self.up, strict=False))):
            grown = functional.interpolate(h, scale_factor=2.0)[..., : fine.shape[-2], : fine.shape[-1]]
            h = _through(blocks, join(torch.cat([grown, fine], dim=1)), told)
        return h


def _through(blocks: nn.Module, h: Tensor, told: Tensor) -> Tensor:
    assert isinstance(blocks, nn.ModuleList)
    for block in blocks:
        h = block(h, told)
    return h
