"""Autoregressive bijections: each element of the code depends on its own datum's element and on those before it.

    z_i = (x_i - m(x_<i)) exp(-s(x_<i)),     log |det dz/dx| = -sum_i s(x_<i)                 one pass of a masked network
    x_i = z_i exp(s(x_<i)) + m(x_<i)                                                          one element after the other

The Jacobian is triangular in the network's order. The way back needs x_<i before x_i: one of the walks of
sixfold/prob/sequential.py, with the code in the place of noise.

Source:  Masked Autoregressive Flow for Density Estimation (Papamakarios, Pavlakou & Murray, 2017), arXiv:1705.07057, Eq. (3)-(5).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from sixfold.prob.bijections import Bijection
from sixfold.prob.sequential import WAYS, Chain, Way


class Causal(Protocol):
    """A network that gives each element numbers from the elements before it, in one of its orders of D elements."""

    orders: Tensor
    """Permutations of the elements, (K, D)."""

    def __call__(self, x: Tensor, order: Tensor, cond: Tensor | None = None) -> Tensor:
        """Elements, (B, D, 1), each row in the order that ``order`` says, (B,), to numbers, (B, D, 2)."""
        ...

    def walk(self, x: Tensor, k: int, cond: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
        """Elements of order ``k``, each with its numbers, (B, 2); the caller writes one to ``x`` before it goes on."""
        ...


class MaskedAffine(Bijection):
    """z_i = (x_i - m(x_<i)) exp(-s(x_<i)): a normal distribution of each element given those before it, of unit noise z.

    The log-scale is bounded smoothly, s = bound * tanh(raw / bound), and no step stretches by more than exp(bound) either way.

    Args:
        net: gives raw log-scale and mean of each element; its first order is the one that the elements are taken in.
        bound: largest log-scale of one step; more sharpens in fewer steps and is less stable.
        way: back from codes: cached, fixed-point or naive. Where gradients are recorded it is naive, whatever this says.
    """

    def __init__(self, net: Causal, *, bound: float = 2.0, way: Way = "cached") -> None:
        super().__init__()
        self.net, self.bound, self.way = net, bound, way

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scale, mean = self._split(self._numbers(x, cond).to(x.dtype))
        return (x - mean) * (-log_scale).exp(), -log_scale.sum(1)

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scales = torch.zeros_like(z)

        def draw(numbers: Tensor, i: int | slice) -> Tensor:
            log_scale, mean = self._split(numbers.to(z.dtype))
            log_scales[:, i] = log_scale
            return z[:, i] * log_scale.exp() + mean

        # A walk writes in place, and a fixed point's last pass knows nothing of the way there: gradients survive neither.
        x, _ = WAYS["naive" if torch.is_grad_enabled() else self.way](self._chain(cond), torch.zeros_like(z), draw)
        return x, log_scales.sum(1)

    def _chain(self, cond: Tensor | None) -> Chain:
        def walk(x: Tensor) -> Iterator[tuple[int, Tensor]]:
            return self.net.walk(x.unsqueeze(-1), 0, cond)

        return Chain(self.net.orders[0].tolist(), lambda x: self._numbers(x, cond), walk)

    def _numbers(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """Raw log-scale and mean of every element, (B, D, 2)."""
        return self.net(x.unsqueeze(-1), x.new_zeros(len(x), dtype=torch.long), cond)

    def _split(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        raw, mean = numbers.unbind(-1)
        return self.bound * torch.tanh(raw / self.bound), mean
