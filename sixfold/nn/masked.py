"""Masked multi-layer perceptron: every output sees only the inputs that come before it in a given order.

Source:  MADE: Masked Autoencoder for Distribution Estimation (Germain, Gregor, Murray & Larochelle, 2015), arXiv:1502.03509,
         section 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional


def _weight(*shape: int, fan_in: int) -> nn.Parameter:
    """Uniform on +-1 / sqrt(fan_in), PyTorch's own start of a linear layer."""
    return nn.Parameter(torch.empty(shape).uniform_(-1, 1) / math.sqrt(fan_in))


class MaskedMLP(nn.Module):
    """Numbers of each element from the elements before it, (B, D, inputs) to (B, D, outputs), in one of several orders.

    A hidden unit of degree m sees the first m elements of the order, and the element at position p (from 0) hears the units of
    degree at most p (Eq. 12 and 13). Units and weights are shared by all orders; a bias tells units which one it is. Weights are
    multiplied by masks where they are used and never changed, so that a masked weight has gradient zero. The output starts as
    ``bias``, whatever the input.

    Args:
        orders: permutations of 0..D-1, (K, D); ``orders[k, p]`` is the element at position p.
        inputs, outputs: numbers of one element, in and out.
        width: hidden units a layer; more fits finer shapes and costs quadratically.
        depth: residual blocks of two layers behind the first layer.
        cond: size of the condition's features, which every unit sees; 0 for none.
        direct: connect inputs to outputs also directly (section 4.1); D * D * inputs * outputs more weights.
    """

    orders: Tensor
    degrees: Tensor

    def __init__(
        self, orders: Tensor, *, inputs: int, outputs: int, width: int, depth: int, cond: int = 0, direct: bool = True
    ) -> None:
        super().__init__()
        count, dims = orders.shape
        # Units of degree 0 see the condition alone; without one they would be constants.
        lowest = 0 if cond else min(1, dims - 1)
        self.register_buffer("orders", orders)
        self.register_buffer("degrees", lowest + torch.arange(width) * (dims - lowest) // width)  # ascending, for walk
        self.first = _weight(width, dims, inputs, fan_in=dims * inputs)
        self.told = _weight(count, width, fan_in=1)
        self.cond = nn.Linear(cond, width, bias=False) if cond else None
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(2 * depth))
        self.last = nn.Parameter(torch.zeros(dims, outputs, width))
        self.direct = nn.Parameter(torch.zeros(dims, outputs, dims, inputs)) if direct else None
        self.bias = nn.Parameter(torch.zeros(dims, outputs))

    def forward(self, x: Tensor, order: Tensor, cond: Tensor | None = None) -> Tensor:
        """Numbers of each element, (B, D, outputs).

        Args:
            x: embedded elements, (B, D, inputs).
            order: which of the orders each row is seen in, (B,), int64.
            cond: features of the condition, (B, C).
        """
        context = self._context(order, cond)
        if len(self.orders) == 1:
            return self._pass(x, [len(x)], context)
        # Rows of one order side by side: hidden layers are the same for all, only the outer ones differ.
        rows = order.argsort(stable=True)
        counts = order.bincount(minlength=len(self.orders)).tolist()
        return self._pass(x.index_select(0, rows), counts, context.index_select(0, rows)).index_select(0, rows.argsort())

    def _pass(self, x: Tensor, counts: list[int], context: Tensor) -> Tensor:
        """Numbers of each element of so many rows in each order in turn."""
        h = torch.cat([functional.linear(part.flatten(1), self._first(k)) for k, part in enumerate(torch.split(x, counts))])
        h = h + context
        mask = self._hidden_mask()
        for one, two in zip(self.hidden[::2], self.hidden[1::2], strict=True):
            h = h + _masked(two, mask, _masked(one, mask, h))
        seen = self._seen(functional.silu(h), x.flatten(1))
        parts = [functional.linear(part, self._last(k).flatten(0, 1)) for k, part in enumerate(torch.split(seen, counts))]
        return torch.cat(parts).reshape(-1, *self.bias.shape) + self.bias

    def walk(self, x: Tensor, k: int, cond: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
        """Elements in order ``k``, each with its numbers, (B, outputs), given the elements of ``x`` before it.

        The caller writes the element into ``x[:, element]``, (B, inputs), before it goes on. Each unit is computed once, as soon
        as the last element that it sees is known: the whole walk does the arithmetic of one forward pass.
        """
        first, last, mask = self._first(k), self._last(k), self._hidden_mask()
        order = self.orders.new_full((len(x),), k)
        context = self._context(order, cond)
        width = context.shape[1]
        layers = [x.new_zeros(len(x), width) for _ in range(len(self.hidden) + 1)]
        for position, element in enumerate(self.orders[k].tolist()):
            known = x.flatten(1)
            new = self._units(position)
            h = functional.linear(known, first[new]) + context[:, new]
            layers[0][:, new] = functional.silu(h)
            for i, layer in enumerate(self.hidden):
                assert isinstance(layer, nn.Linear)
                out = functional.linear(layers[i], mask[new] * layer.weight[new], layer.bias[new])
                h = h + out if i % 2 else h
                layers[i + 1][:, new] = functional.silu(h if i % 2 else out)
            yield element, functional.linear(self._seen(layers[-1], known), last[element]) + self.bias[element]

    def _context(self, order: Tensor, cond: Tensor | None) -> Tensor:
        """What units know before any element: the order and the condition, (B, width)."""
        told = self.told.index_select(0, order)
        return told if self.cond is None or cond is None else told + self.cond(cond)

    def _units(self, position: int) -> slice:
        """Hidden units that see exactly the first ``position`` elements."""
        bounds = torch.tensor([position, position + 1], device=self.degrees.device)
        start, stop = torch.searchsorted(self.degrees, bounds).tolist()
        return slice(start, stop)

    def _hidden_mask(self) -> Tensor:
        """Which unit hears which, (width, width); one of the same degree is heard."""
        return (self.degrees[:, None] >= self.degrees).to(self.bias.dtype)

    def _first(self, k: int) -> Tensor:
        """Weights from elements to units in order ``k``, (width, D * inputs)."""
        seen = self.degrees[:, None] > self.orders[k].argsort()
        return (seen.unsqueeze(-1).to(self.first.dtype) * self.first).flatten(1)

    def _seen(self, units: Tensor, elements: Tensor) -> Tensor:
        """What the output layer sees, (B, width) or, with direct connections, (B, width + D * inputs)."""
        return units if self.direct is None else torch.cat([units, elements], dim=1)

    def _last(self, k: int) -> Tensor:
        """Weights to the output from what it sees in order ``k``, (D, outputs, width) or (D, outputs, width + D * inputs)."""
        position = self.orders[k].argsort()
        heard = (position[:, None] >= self.degrees).to(self.last.dtype)
        units = heard.unsqueeze(1) * self.last
        if self.direct is None:
            return units
        before = (position[:, None] > position).to(self.last.dtype)
        return torch.cat([units, (before[:, None, :, None] * self.direct).flatten(2)], dim=-1)


def _masked(layer: nn.Module, mask: Tensor, h: Tensor) -> Tensor:
    """A linear layer between hidden units, before it the nonlinearity."""
    assert isinstance(layer, nn.Linear)
    return functional.linear(functional.silu(h), mask * layer.weight, layer.bias)
