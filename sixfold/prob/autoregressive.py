"""Autoregressive bijections: each element of the code depends on its own datum's element and on those before it.

    z_i = (x_i - m(x_<i)) exp(-s(x_<i)),     log |det dz/dx| = -sum_i s(x_<i)                 one pass of a masked network
    x_i = z_i exp(s(x_<i)) + m(x_<i)                                                          one element after the other

The Jacobian is triangular in the network's order. The way back needs x_<i before x_i, and three ways lead to the same x:

    naive         the whole network for each element: D passes, nothing to get wrong; the oracle of the others, and the one that
                  gradients go through
    cached        a walk that computes each hidden unit once, when the last element that it sees is known: the arithmetic of one
                  pass in D steps
    fixed-point   x <- z exp(s(x)) + m(x) for all elements at once until nothing changes: the first k are final after k passes,
                  mostly many more, so that few passes do where elements depend on their past weakly

Source:  Masked Autoregressive Flow for Density Estimation (Papamakarios, Pavlakou & Murray, 2017), arXiv:1705.07057, Eq. (3)-(5).
         fixed-point: Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving (Song, Meng, Liao & Ermon,
         2021), arXiv:2002.03629, Algorithm 1 (Jacobi).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, Protocol

import torch
from torch import Tensor

from sixfold.prob.bijections import Bijection

InverseName = Literal["cached", "fixed-point", "naive"]


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

    def __init__(self, net: Causal, *, bound: float = 2.0, way: InverseName = "cached") -> None:
        super().__init__()
        self.net, self.bound, self.way = net, bound, way

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scale, mean = self._pass(x, cond)
        return (x - mean) * (-log_scale).exp(), -log_scale.sum(1)

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        ways: dict[InverseName, Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]] = {
            "cached": self._cached,
            "fixed-point": self._fixed_point,
            "naive": self._naive,
        }
        # A walk writes in place, and a fixed point's last pass knows nothing of the way there: gradients survive neither.
        x, log_scale = ways["naive" if torch.is_grad_enabled() else self.way](z, cond)
        return x, log_scale.sum(1)

    def _pass(self, x: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        """Log-scale and mean of every element, (B, D) each."""
        out = self.net(x.unsqueeze(-1), x.new_zeros(len(x), dtype=torch.long), cond).to(x.dtype)
        return self._split(out)

    def _split(self, out: Tensor) -> tuple[Tensor, Tensor]:
        raw, mean = out.unbind(-1)
        return self.bound * torch.tanh(raw / self.bound), mean

    def _naive(self, z: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        x, log_scale, element = torch.zeros_like(z), torch.zeros_like(z), torch.arange(z.shape[1], device=z.device)
        for i in self.net.orders[0].tolist():
            log_scale, mean = self._pass(x, cond)
            x = torch.where(element == i, z * log_scale.exp() + mean, x)
        return x, log_scale

    def _cached(self, z: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        x, log_scale = torch.zeros_like(z), torch.zeros_like(z)
        for i, out in self.net.walk(x.unsqueeze(-1), 0, cond):
            log_scale[:, i], mean = self._split(out.to(z.dtype))
            x[:, i] = z[:, i] * log_scale[:, i].exp() + mean
        return x, log_scale

    def _fixed_point(self, z: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        # Elements that are not final yet can grow with every pass, and where they overflow a mask makes 0 * inf of them.
        x, log_scale, most = torch.zeros_like(z), torch.zeros_like(z), torch.finfo(z.dtype).max ** 0.5
        for _ in range(z.shape[1]):
            log_scale, mean = self._pass(x, cond)
            after = (z * log_scale.exp() + mean).clamp(-most, most)
            if torch.equal(after, x):
                break
            x = after
        return x, log_scale
