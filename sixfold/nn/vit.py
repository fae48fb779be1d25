"""Vision transformer: images to the features of a class token.

    z_0 = [class; patches] + positions
    z  <- z + s_1 * Attention(LN(z)),   z <- z + s_2 * MLP(LN(z))          L times; s_1, s_2 learned per channel
    features = LN(z_L)[class]

Source:  An Image is Worth 16x16 Words (Dosovitskiy et al., 2021), arXiv:2010.11929, section 3.1.
         DINOv2: Learning Robust Visual Features without Supervision (Oquab et al., 2023), arXiv:2304.07193.
Differs: positions are interpolated to the grid of the image with antialiasing off and without the half-pixel offset of the
         original code, as in the Transformers library.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sixfold.nn.attention import Block


class VisionTransformer(nn.Module):
    """Features of images, (B, 3, H, W) to (B, width); H and W divisible by ``patch``.

    Args:
        width: numbers of a token, and features.
        depth: layers.
        heads: attention maps a layer.
        hidden: units between the two layers of each MLP.
        patch: height and width of a patch; smaller is finer and costs with its fourth power.
        grid: patches along one side of the images that positions were learned on.
        eps: of the normalisations.
    """

    def __init__(self, *, width: int, depth: int, heads: int, hidden: int, patch: int, grid: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.grid = grid
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + grid**2, width))
        self.blocks = nn.Sequential(*(Block(width, heads=heads, hidden=hidden, eps=eps) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=eps)

    def _positions(self, height: int, width: int) -> Tensor:
        """Positions of the class token and of a grid of patches, (1, 1 + height * width, W)."""
        learned = self.positions[:, 1:].transpose(1, 2).reshape(1, -1, self.grid, self.grid)
        at = functional.interpolate(learned, size=(height, width), mode="bicubic", align_corners=False)
        return torch.cat([self.positions[:, :1], at.flatten(2).transpose(1, 2)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.patches(x)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), maps.flatten(2).transpose(1, 2)], dim=1)
        out: Tensor = self.norm(self.blocks(tokens + self._positions(*maps.shape[2:]))[:, 0])
        return out
