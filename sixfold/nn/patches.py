"""Decoder-only transformer over patches: every element sees only those before it, patch by patch and within its patch.

    z_n = W [patches told to n] + position_n + (condition, n = 0)          told: the one before n, and of images those above n
    h   = LN(Block(...Block(z)))                                           causal: h_n sees patches before n
    out_n = Within(patch n, h_n)                                           causal within the patch

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


class Within(nn.Module):
    """From a context of each patch to the numbers of its elements, each given those before it in the patch.

        out_n = b_n + V h_n + MaskedMLP(patch n, h_n)

    The output starts as ``bias``, whatever the input.

    Args:
        order: elements of each patch, (N, P), as of :func:`layout`.
        inputs, outputs: numbers of one element, in and out.
        context: size of h_n.
        width: hidden units; few for each element blur how elements of one patch depend on each other.
    """

    order: Tensor

    def __init__(self, order: Tensor, *, inputs: int, outputs: int, context: int, width: int) -> None:
        super().__init__()
        size = order.shape[1]
        self.register_buffer("order", order)
        self.masked = MaskedMLP(
            torch.arange(size)[None], inputs=inputs, outputs=outputs, width=width, depth=1, cond=context, direct=size > 1
        )
        self.aside = nn.Linear(context, size * outputs, bias=False)  # the masked network's units see little of it early on
        nn.init.zeros_(self.aside.weight)
        self.bias = nn.Parameter(torch.zeros(order.numel(), outputs))

    def patches(self, x: Tensor) -> Tensor:
        """Elements by patch, (B, D, inputs) to (B, N, P, inputs)."""
        return x.index_select(1, self.order.flatten()).reshape(len(x), *self.order.shape, x.shape[-1])

    def forward(self, patches: Tensor, context: Tensor) -> Tensor:
        """Numbers of all elements, (B, D, outputs), from the patches, (B, N, P, inputs), and their contexts, (B, N, C)."""
        h = context.flatten(0, 1)
        out = self.masked(patches.flatten(0, 1), h.new_zeros(len(h), dtype=torch.long), h) + self._aside(h)
        back = self.order.flatten().argsort()
        numbers: Tensor = out.reshape(len(context), *self.bias.shape).index_select(1, back) + self.bias
        return numbers

    def walk(self, x: Tensor, n: int, context: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Elements of patch ``n``, each with its numbers, (B, outputs); the caller writes it into ``x`` before it goes on.

        Args:
            x: embedded elements, (B, D, inputs).
            n: which patch.
            context: of the patch, (B, C).
        """
        elements, aside = self.order[n].tolist(), self._aside(context)
        seen = x[:, elements]
        for p, numbers in self.masked.walk(seen, 0, context):
            yield elements[p], numbers + aside[:, p] + self.bias[elements[p]]
            seen[:, p] = x[:, elements[p]]

    def _aside(self, context: Tensor) -> Tensor:
        """What the context says of each element of its patch alone, (B, P, outputs)."""
        out: Tensor = self.aside(context)
        return out.reshape(len(out), self.order.shape[1], self.bias.shape[1])


class PatchDecoder(nn.Module):
    """Numbers of each element from the elements before it in its order, (B, D, inputs) to (B, D, outputs).

    Args:
        shape: of one datum, channels first where it has more than one axis.
        patch: size of a patch along each axis but that of channels.
        inputs, outputs: numbers of one element, in and out.
        width: numbers of a token, divisible by ``heads``.
        depth: layers of attention.
        heads: attention maps a layer.
        inner: hidden units of the network within a patch.
        dropout: share of numbers that each part of a layer leaves out in training.
        cond: size of the condition's features, 0 for none.

    Raises:
        Unsupported: when patches do not divide the datum.
    """

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
        self.dropout = dropout
        self.register_buffer("told", told)
        self.embed = nn.Linear(told.shape[1] * order.shape[1] * inputs, width)
        self.positions = nn.Parameter(0.1 * torch.randn(len(order), width))
        self.classes = nn.Linear(cond, width, bias=False) if cond else None
        self.blocks = nn.ModuleList(
            Block(width, heads=heads, hidden=4 * width, causal=True, scale=1 / math.sqrt(2 * depth), dropout=dropout)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.within = Within(order, inputs=inputs, outputs=outputs, context=width, width=inner)

    def forward(self, x: Tensor, cond: Tensor | None = None, draws: Draws | None = None) -> Tensor:
        """Numbers of each element, (B, D, outputs).

        Args:
            x: embedded elements, (B, D, inputs).
            cond: features of the condition, (B, C).
            draws: randomness of dropout; none for evaluation.
        """
        patches = self.within.patches(x)
        z = dropped(self._tokens(patches, slice(None), cond), self.dropout, draws)
        for block in self.blocks:
            z = block(z, draws)
        out: Tensor = self.within(patches, self.norm(z))
        return out

    def walk(self, x: Tensor, cond: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
        """Elements in their order, each with its numbers, (B, outputs), given the elements of ``x`` before it.

        The caller writes the element into ``x[:, element]``, (B, inputs), before it goes on. Keys, values and units are computed
        once: the whole walk does the arithmetic of one forward pass, and keeps 2 * depth * N * width numbers for each datum.
        """
        memories = [(block, block.memory(len(x), len(self.told))) for block in self._layers()]
        for n in range(len(self.told)):
            z = self._tokens(self.within.patches(x), slice(n, n + 1), cond)
            for block, memory in memories:
                z = block.step(z, memory, n)
            yield from self.within.walk(x, n, self.norm(z).squeeze(1))

    def _layers(self) -> Iterator[Block]:
        for block in self.blocks:
            assert isinstance(block, Block)
            yield block

    def _tokens(self, patches: Tensor, at: slice, cond: Tensor | None) -> Tensor:
        """What the tokens at some places are before attention, (B, T, width)."""
        known = functional.pad(patches.flatten(2), (0, 0, 0, 1))  # a patch of zeros at the end is told where there is none
        z: Tensor = self.embed(known[:, self.told[at]].flatten(2)) + self.positions[at]
        if self.classes is None or cond is None or at.start:
            return z
        return torch.cat([z[:, :1] + self.classes(cond).unsqueeze(1), z[:, 1:]], dim=1)


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
