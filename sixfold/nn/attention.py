"""Layers of self-attention, over a whole sequence or one token at a time.

    z <- z + s_1 * Attention(LN(z)),   z <- z + s_2 * MLP(LN(z))                              s_1, s_2 learned per channel

A causal layer lets a token see itself and those before it. Then keys and values of a token never change, so that ``step`` keeps
them: the steps of a sequence take the arithmetic of one pass over it, and memory that is set aside once.

Source:  Attention Is All You Need (Vaswani et al., 2017), arXiv:1706.03762, section 3.2.
         On Layer Normalization in the Transformer Architecture (Xiong et al., 2020), arXiv:2002.04745: norm before each part.
         Going deeper with Image Transformers (Touvron et al., 2021), arXiv:2103.17239, section 2 (LayerScale).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sixfold.core.draws import Draws


class Block(nn.Module):
    """One layer, (B, T, width) to the same.

    Args:
        width: numbers of a token, divisible by ``heads``.
        heads: attention maps a layer.
        hidden: units between the two layers of the MLP.
        eps: of the normalisations.
        causal: whether a token sees itself and those before it alone.
        scale: where s_1 and s_2 start; less keeps a deep network close to the identity at first.
        dropout: share of the numbers that each part leaves out in training; more regularises.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        hidden: int,
        eps: float = 1e-5,
        causal: bool = False,
        scale: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.causal, self.dropout = heads, causal, dropout
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.scale1, self.scale2 = (nn.Parameter(torch.full((width,), scale)) for _ in range(2))

    def forward(self, z: Tensor, draws: Draws | None = None) -> Tensor:
        """The layer's output, (B, T, width); with ``draws`` it drops out."""
        query, key, value = self._maps(z)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self._rest(z, mixed, draws)

    def memory(self, rows: int, tokens: int) -> Tensor:
        """Room for keys and values of ``tokens`` tokens, (2, rows, heads, tokens, width / heads)."""
        width = len(self.scale1)
        return self.scale1.new_zeros(2, rows, self.heads, tokens, width // self.heads)

    def step(self, z: Tensor, memory: Tensor, place: int) -> Tensor:
        """What ``forward`` gives for the token at ``place`` alone, (B, 1, width) to the same.

        Args:
            z: the token.
            memory: keys and values of the tokens before it, from :meth:`memory`; its own are written there.
            place: of the token in the sequence, from 0; every earlier one must have been stepped through.
        """
        assert self.causal, "a later token would change what has been computed"
        query, key, value = self._maps(z)
        memory[0, :, :, place : place + 1], memory[1, :, :, place : place + 1] = key, value
        keys, values = memory[:, :, :, : place + 1]
        return self._rest(z, functional.scaled_dot_product_attention(query, keys, values), None)

    def _maps(self, z: Tensor) -> list[Tensor]:
        """Queries, keys and values by head, (B, heads, T, width / heads) each."""
        z = self.norm1(z)
        return [layer(z).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)]

    def _rest(self, z: Tensor, mixed: Tensor, draws: Draws | None) -> Tensor:
        """The layer behind its attention maps."""
        z = z + self.scale1 * dropped(self.out(mixed.transpose(1, 2).flatten(2)), self.dropout, draws)
        return z + self.scale2 * dropped(self.fc2(functional.gelu(self.fc1(self.norm2(z)))), self.dropout, draws)


def dropped(z: Tensor, share: float, draws: Draws | None) -> Tensor:
    """``z`` with a share of its numbers left out and the others enlarged to the same mean; all of it without ``draws``."""
    if draws is None or share == 0:
        return z
    return z * ((draws.uniform(*z.shape[1:]) >= share).to(z.dtype) / (1 - share))
