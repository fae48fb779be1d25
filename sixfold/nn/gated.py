"""Gated causal convolutions in two stacks: every place of a grid sees all places before it, in the order of reading.

    a = above * v,    b = left * h + link * a                                 * a convolution
    v <- v + gate(a + V c),   h <- h + out * gate(b + H c)                    gate([s, t]) = tanh(s) sigmoid(t)

The vertical stack v sees whole rows above a place, the horizontal stack h the row to its left and, over ``link``, all that v sees
there: with kernels cut to a causal shape alone, places above to the right would stay unseen (the blind spot). Both stacks are
shifted once, at the input, so that all layers after it may see the place itself.

``walk`` gives the same places one by one. The vertical stack goes row by row and the horizontal one place by place, each keeps
what it will look back at, and the whole walk takes the arithmetic of one pass.

Source:  Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016), arXiv:1606.05328, section 2.2 to 2.4,
         Figure 2. Dilations: Multi-Scale Context Aggregation by Dilated Convolutions (Yu & Koltun, 2016), arXiv:1511.07122.
Differs: the vertical stack has residuals too; kernels are smaller and may be dilated; both stacks know where they are.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from sixfold.nn.patches import Within, layout


def gate(x: Tensor) -> Tensor:
    """Half of the channels, tanh of the first times sigmoid of the second half, (B, 2 W, ...) to (B, W, ...)."""
    signal, opening = x.chunk(2, dim=1)
    return signal.tanh() * opening.sigmoid()


def _at(conv: nn.Conv2d, taps: Tensor) -> Tensor:
    """A convolution of one row at the one place that its taps, (B, channels, columns), belong to, (B, outputs)."""
    return functional.linear(taps.flatten(1), conv.weight.flatten(1), conv.bias)


class GatedLayer(nn.Module):
    """Both stacks of one layer, (B, width, H, W) each.

    Args:
        width: channels of each stack.
        kernel: odd; v sees ``kernel`` columns, its own in the middle, in its row and ``kernel // 2`` above; h sees its own place
            and ``kernel // 2`` to its left.
        dilation: distance between the rows and columns seen; more sees further at the same cost.
        cond: size of the condition's features, 0 for none.
    """

    def __init__(self, width: int, *, kernel: int, dilation: int = 1, cond: int = 0) -> None:
        super().__init__()
        self.reach, self.dilation = kernel // 2 * dilation, dilation
        self.above = nn.Conv2d(width, 2 * width, (kernel // 2 + 1, kernel), dilation=dilation)
        self.left = nn.Conv2d(width, 2 * width, (1, kernel // 2 + 1), dilation=dilation)
        self.link = nn.Conv2d(2 * width, 2 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        self.cond = nn.Linear(cond, 4 * width, bias=False) if cond else None

    def forward(self, v: Tensor, h: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Both stacks behind this layer."""
        v, link = self.rows(functional.pad(v, (0, 0, self.reach, 0)), cond)
        b = self.left(functional.pad(h, (self.reach, 0))) + link
        return v, h + self.out(gate(b))

    def rows(self, v: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rows of the vertical stack, (B, width, R, W), and what they tell the horizontal one, (B, 2 width, R, W).

        Args:
            v: the rows before this layer, with ``reach`` more above them.
            cond: features of the condition, (B, C).
        """
        a = self.above(functional.pad(v, (self.reach, self.reach)))
        to_v, to_h = (0.0, 0.0) if self.cond is None or cond is None else self.cond(cond)[:, :, None, None].chunk(2, dim=1)
        return v[:, :, self.reach :] + gate(a + to_v), self.link(a) + to_h

    def step(self, h: Tensor, link: Tensor, line: Tensor, place: int) -> Tensor:
        """The horizontal stack at one place of a row, (B, width) to the same.

        Args:
            h: the stack before this layer.
            link: what the vertical stack tells it there, (B, 2 width).
            line: what ``h`` was at the places to the left, behind ``reach`` zeros, (B, width, reach + W); this one
                is written there.
            place: column, from 0; every one to the left must have been stepped through.
        """
        line[:, :, self.reach + place] = h
        b = _at(self.left, line[:, :, place : place + self.reach + 1 : self.dilation]) + link
        return h + functional.linear(gate(b), self.out.weight.flatten(1), self.out.bias)


class GatedStack(nn.Module):
    """Features of each place of a grid from the places before it alone, (B, channels, H, W) to (B, width, H, W).

    Args:
        channels: numbers of a place.
        grid: height and width H, W.
        width: channels of each stack; more holds more of the past and costs quadratically.
        depth: layers behind the first, at least 1, for they link the stacks; more sees further and is less additive.
        kernel: odd, at least 3; columns that a layer sees; more sees further and costs quadratically.
        dilate: layers double the distance between what they see this often before they begin anew; more sees further for nothing.
        cond: size of the condition's features, 0 for none.
    """

    def __init__(
        self, channels: int, grid: tuple[int, int], *, width: int, depth: int, kernel: int, dilate: int = 0, cond: int = 0
    ) -> None:
        super().__init__()
        self.grid, self.width, self.side = grid, width, kernel // 2
        self.above = nn.Conv2d(channels, width, (self.side + 1, kernel))
        self.left = nn.Conv2d(channels, width, (1, self.side + 1))
        self.place = nn.Parameter(0.1 * torch.randn(2, width, *grid))  # of the vertical and the horizontal stack
        self.layers = nn.ModuleList(
            GatedLayer(width, kernel=kernel, dilation=2 ** (i % (dilate + 1)), cond=cond) for i in range(depth)
        )

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """Features, (B, width, H, W).

        Args:
            x: the grid, (B, channels, H, W).
            cond: features of the condition, (B, C).
        """
        v = self._above(functional.pad(x, (0, 0, self.side + 1, -1))) + self.place[0]
        h: Tensor = self.left(functional.pad(x, (self.side + 1, -1))) + self.place[1]
        for layer in self.layers:
            v, h = layer(v, h, cond)
        return h

    def walk(self, x: Tensor, cond: Tensor | None = None) -> Iterator[tuple[int, int, Tensor]]:
        """Rows and columns in the order of reading, each with its features, (B, width), from the places of ``x`` before it.

        The caller writes the place into ``x[:, :, row, column]`` before it goes on.
        """
        layers = list(self._layers())
        pasts = [x.new_zeros(len(x), self.width, layer.reach, self.grid[1]) for layer in layers]
        for row in range(self.grid[0]):
            links = self._descend(x, row, pasts, cond)
            lines = [x.new_zeros(len(x), self.width, layer.reach + self.grid[1]) for layer in layers]
            for column in range(self.grid[1]):
                h = self._left(x[:, :, row], column) + self.place[1, :, row, column]
                for layer, link, line in zip(layers, links, lines, strict=True):
                    h = layer.step(h, link[:, :, column], line, column)
                yield row, column, h

    def _descend(self, x: Tensor, row: int, pasts: list[Tensor], cond: Tensor | None) -> list[Tensor]:
        """The vertical stack at a row: what each layer tells the horizontal one, (B, 2 width, W); ``pasts`` move on by a row."""
        first = row - self.side - 1
        v = self._above(functional.pad(x[:, :, max(first, 0) : row], (0, 0, max(-first, 0), 0))) + self.place[0, :, row : row + 1]
        links = []
        for i, layer in enumerate(self._layers()):
            rows = torch.cat([pasts[i], v], dim=2)
            pasts[i] = rows[:, :, 1:]
            v, link = layer.rows(rows, cond)
            links.append(link.squeeze(2))
        return links

    def _above(self, rows: Tensor) -> Tensor:
        out: Tensor = self.above(functional.pad(rows, (self.side, self.side)))
        return out

    def _left(self, line: Tensor, column: int) -> Tensor:
        """The first layer of the horizontal stack at a place of a row, (B, channels, W) to (B, width)."""
        first = column - self.side - 1
        return _at(self.left, functional.pad(line[:, :, max(first, 0) : column], (max(-first, 0), 0)))

    def _layers(self) -> Iterator[GatedLayer]:
        for layer in self.layers:
            assert isinstance(layer, GatedLayer)
            yield layer


class GatedDecoder(nn.Module):
    """Numbers of each element of an image from the elements before it in its order, (B, D, inputs) to (B, D, outputs).

    A place of the grid is a patch of the image with all its channels: the stacks go from patch to patch, a masked network from
    element to element within. The output starts as the bias of ``within``, whatever the input.

    Args:
        shape: of an image, (C, H, W).
        patch: height and width of a patch; larger ones make all but the masked network cheaper, with its square.
        inputs, outputs: numbers of one element, in and out.
        inner: hidden units of the network within a patch.
        cond: size of the condition's features, 0 for none.
        width, depth, kernel, dilate: as in :class:`GatedStack`.

    Raises:
        Unsupported: when patches do not divide the image.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        patch: int,
        inputs: int,
        outputs: int,
        inner: int,
        width: int,
        depth: int,
        kernel: int,
        dilate: int = 0,
        cond: int = 0,
    ) -> None:
        super().__init__()
        order, _ = layout(shape, (patch, patch))
        grid, channels = (shape[1] // patch, shape[2] // patch), order.shape[1] * inputs
        self.stack = GatedStack(channels, grid, width=width, depth=depth, kernel=kernel, dilate=dilate, cond=cond)
        self.within = Within(order, inputs=inputs, outputs=outputs, context=width, width=inner)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """Numbers of each element, (B, D, outputs).

        Args:
            x: embedded elements, (B, D, inputs).
            cond: features of the condition, (B, C).
        """
        patches = self.within.patches(x)
        h = self.stack(self._grid(patches), cond)
        out: Tensor = self.within(patches, h.flatten(2).transpose(1, 2))
        return out

    def walk(self, x: Tensor, cond: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
        """Elements in their order, each with its numbers, (B, outputs), given the elements of ``x`` before it.

        The caller writes the element into ``x[:, element]``, (B, inputs), before it goes on.
        """
        grid = self._grid(self.within.patches(x))
        for n, (row, column, h) in enumerate(self.stack.walk(grid, cond)):
            yield from self.within.walk(x, n, h)
            grid[:, :, row, column] = x[:, self.within.order[n]].flatten(1)

    def _grid(self, patches: Tensor) -> Tensor:
        """Patches as channels of their places, (B, N, P, inputs) to (B, P * inputs, H, W)."""
        return torch.unflatten(patches.flatten(2).transpose(1, 2), 2, self.stack.grid)  # channels last in memory: faster
