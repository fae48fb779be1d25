"""Vision transformer: images to the features of a class token.

    z_0 = [class; patches] + positions
    z  <- z + s_1 * Attention(LN(z)),   z <- z + s_2 * MLP(LN(z))          L times; s_1, s_2 learned per channel
    features = LN(z_L)[class]

Source:  An Image is Worth 16x16 Words (Dosovitskiy et al., 2021), arXiv:2010.11929, section 3.1.
         DINOv2: Learning Robust Visual Features without Supervision (Oquab et al., 2023), arXiv:2304.07193.
         Going deeper with Image Transformers (Touvron et al., 2021), arXiv:2103.17239, section 2 (LayerScale).
Differs: positions are interpolated to the grid of the image with antialiasing off and without the half-pixel offset of the
         original code, as in the Transformers library.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """One layer, (B, T, width) to the same.

    Args:
        width: numbers of a token, divisible by ``heads``.
        heads: attention maps a layer.
        hidden: units between the two layers of the MLP.
        eps: of the normalisations.
    """

    def __init__(self, width: int, *, heads: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.scale1, self.scale2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))

    def _split(self, z: Tensor) -> Tensor:
        """Channels by head, (B, heads, T, width / heads)."""
        return z.reshape(*z.shape[:2], self.heads, -1).transpose(1, 2)

    def _attend(self, z: Tensor) -> Tensor:
        query, key, value = (self._split(layer(z)) for layer in (self.query, self.key, self.value))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def forward(self, z: Tensor) -> Tensor:
        z = z + self.scale1 * self._attend(self.norm1(z))
        out: Tensor = z + self.scale2 * self.fc2(functional.gelu(self.fc1(self.norm2(z))))
        return out


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
