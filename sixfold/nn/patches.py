"""Decoder-only transformer over patches: every element sees only those before it, patch by patch and within its patch.

    z_n = W [patches told to n] + position_n + (class token, n = 0)        told: the one before n, and of images those above n
    h   = LN(Block(...Block(z)))                                           causal: h_n sees patches before n
    out_n = b_n + V h_n + MaskedMLP(patch n, h_n)                          causal within the patch, which it sees as numbers

A token stands for what its patch is drawn from, and so the first stands for the condition alone: it is the class token. With
patches of one element this is the usual transformer; larger ones make sequences shorter by the number of their elements, and
attention cheaper by its square, for the same exact chain rule.

Source:  Language Models are Unsupervised Multitask Learners (Radford et al., 2019), section 2.3 (GPT-2), and Generative
         Pretraining from Pixels (Chen et al., 2020): a decoder on pixels. MADE (Germain et al., 2015), arXiv:1502.03509: within
         the patch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from sixfold.core.draws import Draws
from sixfold.core.errors import Unsupported
from sixfold.nn.attention import Block, dropped
from sixfold.nn.masked import MaskedMLP


class PatchDecoder(nn.Module):
    """Numbers of each element from the elements before it in ``order``, (B, D, inputs) to (B, D, outputs).

    The output starts as ``bias``, whatever the input.

    Args:
        shape: of one datum, channels first where it has more than one axis.
        patch: size of a patch along each axis but that of channels.
        inputs, outputs: numbers of one element, in and out.
        width: numbers of a token, divisible by ``heads``.
        depth: layers of attention.
        heads: attention maps a layer.
        inner: hidden units of the network within a patch; few for each element blur how elements depend on each other.
        dropout: share of numbers that each part of a layer leaves out in training.
        cond: size of the condition's features, 0 for none.

    Raises:
        Unsupported: when patches do not divide the datum.
    """

    order: Tensor
    told: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        patch: tuple[int, ...],
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        heads: int,
        inner: int,
        dropout: float = 0.0,
        cond: int = 0,
    ) -> None:
        super().__init__()
        order, told = layout(shape, patch)
        count, size = order.shape
        self.dropout = dropout
        self.register_buffer("order", order.flatten())
        self.register_buffer("told", told)
        self.embed = nn.Linear(told.shape[1] * size * inputs, width)
        self.positions = nn.Parameter(0.1 * torch.randn(count, width))
        self.classes = nn.Linear(cond, width, bias=False) if cond else None
        self.blocks = nn.ModuleList(
            Block(width, heads=heads, hidden=4 * width, causal=True, scale=1 / math.sqrt(2 * depth), dropout=dropout)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.inner = MaskedMLP(
            torch.arange(size)[None], inputs=inputs, outputs=outputs, width=inner, depth=1, cond=width, direct=size > 1
        )
        self.project = nn.Linear(width, size * outputs, bias=False)
        nn.init.zeros_(self.project.weight)
        self.bias = nn.Parameter(torch.zeros(order.numel(), outputs))

    def forward(self, x: Tensor, cond: Tensor | None = None, draws: Draws | None = None) -> Tensor:
        """Numbers of each element, (B, D, outputs).

        Args:
            x: embedded elements, (B, D, inputs).
            cond: features of the condition, (B, C).
            draws: randomness of dropout; none for evaluation.
        """
        patches = self._patches(x)
        z = dropped(self._tokens(patches, cond), self.dropout, draws)
        for block in self.blocks:
            z = block(z, draws)
        h = self.norm(z).flatten(0, 1)
        within = self.inner(patches.flatten(0, 1), self.order.new_zeros(len(h)), h)
        out = (within + self._aside(h)).reshape(len(x), *self.bias.shape)
        numbers: Tensor = out.index_select(1, self.order.argsort()) + self.bias
        return numbers

    def walk(self, x: Tensor, cond: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
        """Elements in their order, each with its numbers, (B, outputs), given the elements of ``x`` before it.

        The caller writes the element into ``x[:, element]``, (B, inputs), before it goes on. Keys, values and units are computed
        once: the whole walk does the arithmetic of one forward pass, and keeps 2 * depth * N * width numbers for each datum.
        """
        count, size = len(self.told), len(self.order) // len(self.told)
        memories = [self._block(i).memory(len(x), count) for i in range(len(self.blocks))]
        for n, elements in enumerate(self.order.reshape(count, size).tolist()):
            patches = self._patches(x)
            h = self._step(patches, n, cond, memories)
            aside, seen = self._aside(h), patches[:, n].clone()
            for p, params in self.inner.walk(seen, 0, h):
                yield elements[p], params + aside[:, p] + self.bias[elements[p]]
                seen[:, p] = x[:, elements[p]]

    def _block(self, layer: int) -> Block:
        block = self.blocks[layer]
        assert isinstance(block, Block)
        return block

    def _patches(self, x: Tensor) -> Tensor:
        """Elements by patch, (B, N, P, inputs)."""
        count = len(self.told)
        return x.index_select(1, self.order).reshape(len(x), count, len(self.order) // count, x.shape[-1])

    def _tokens(self, patches: Tensor, cond: Tensor | None) -> Tensor:
        """What each token is before attention, (B, N, width)."""
        known = functional.pad(patches.flatten(2), (0, 0, 0, 1))  # a patch of zeros at the end is told where there is none
        return self._token(known[:, self.told].flatten(2), slice(None), cond)

    def _step(self, patches: Tensor, n: int, cond: Tensor | None, memories: list[Tensor]) -> Tensor:
        """Context of patch ``n`` alone, (B, width), from its neighbours and the memories of the layers."""
        known = functional.pad(patches.flatten(2), (0, 0, 0, 1))
        z = self._token(known[:, self.told[n]].flatten(1).unsqueeze(1), slice(n, n + 1), cond)
        for i, memory in enumerate(memories):
            z = self._block(i).step(z, memory, n)
        out: Tensor = self.norm(z).squeeze(1)
        return out

    def _token(self, told: Tensor, at: slice, cond: Tensor | None) -> Tensor:
        """Tokens at some places, (B, T, width), from the patches told to them, (B, T, K * P * inputs)."""
        z: Tensor = self.embed(told) + self.positions[at]
        if self.classes is None or cond is None or at.start:
            return z
        return torch.cat([z[:, :1] + self.classes(cond).unsqueeze(1), z[:, 1:]], dim=1)

    def _aside(self, h: Tensor) -> Tensor:
        """What the context says of each element of its patch alone, (B, P, outputs)."""
        out: Tensor = self.project(h).unflatten(1, (-1, self.bias.shape[1]))
        return out


def layout(shape: tuple[int, ...], patch: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Where patches lie: elements of each, (N, P), in their order, and which patches each is told of, (N, K).

    Patches run as text does, elements within them too, and channels of one place follow each other. A patch is told of the one
    before it, and of those above it, to the left and to the right; N stands for none.

    Raises:
        Unsupported: when a patch does not divide its axis.

    Example:
        >>> layout((1, 2, 4), (2, 2))[0].tolist()
        [[0, 1, 4, 5], [2, 3, 6, 7]]
    """
    axes = shape[1:] if len(shape) > 1 else shape
    if any(axis % size for axis, size in zip(axes, patch, strict=True)):
        raise Unsupported(f"patches of {patch} do not divide data of {axes}. Choose a patch that divides them; 1 always does.")
    split = [part for axis, size in zip(axes, patch, strict=True) for part in (axis // size, size)]
    places = torch.arange(math.prod(shape)).reshape(-1, *split)  # channels, then grid and patch alternating
    order = places.permute(*range(1, places.ndim, 2), *range(2, places.ndim, 2), 0).reshape(-1, math.prod(patch) * len(places))
    return order, _told(tuple(split[::2]))


def _told(grid: tuple[int, ...]) -> Tensor:
    """Patches that each patch of a grid is told of, (N, K)."""
    count = math.prod(grid)
    before = torch.arange(-1, count - 1).remainder(count + 1)  # -1 becomes N, none
    if len(grid) == 1:
        return before[:, None]
    place = functional.pad(torch.arange(count).reshape(-1, *grid[-2:]), (1, 1, 1, 0), value=count)
    above = [place[:, :-1, i : i + grid[-1]].flatten() for i in range(3)]
    return torch.stack([before, *above], dim=1)
