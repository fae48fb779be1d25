"""Walks along an order of elements, each of which follows from numbers that a causal network gives it from those before it.

Three ways lead to the same result when each element's draw is a function of its numbers and of noise that is fixed beforehand:

    naive         the whole network for each element: D passes, nothing to get wrong; the oracle of the others, and the one that
                  gradients go through
    cached        a walk that computes each activation once, when all that it sees is known: the arithmetic of one pass in D steps
    fixed-point   u <- draw(network(u)) for all elements at once until nothing changes: one element more is final after each
                  pass, mostly many more, so that few passes do where elements depend on their past weakly

Source:  fixed-point: Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving (Song, Meng, Liao & Ermon,
         2021), arXiv:2002.03629, Algorithm 1 (Jacobi). Predictive Sampling with Forecasting Autoregressive Models (Wiggers &
         Hoogeboom, 2020), arXiv:2002.09928, section 2.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Way: TypeAlias = Literal["cached", "naive", "fixed-point"]
Draw: TypeAlias = Callable[[Tensor, int | slice], Tensor]
"""From the numbers of one element, (B, outputs), or of all, (B, D, outputs), and which they are, to values, (B,) or (B, D)."""


@dataclass(frozen=True)
class Chain:
    """One order of the elements and the network that goes with it, bound to a condition.

    Args:
        order: all elements, each behind those that it depends on.
        numbers: elements, (B, D), to numbers, (B, D, outputs); those of an element depend on none but earlier ones.
        walk: the same one by one: given elements, (B, D), yields each element of the order with its numbers, (B, outputs).
            The caller writes the element into the tensor that it gave before it goes on; what is not reached yet is not read.
    """

    order: list[int]
    numbers: Callable[[Tensor], Tensor]
    walk: Callable[[Tensor], Iterator[tuple[int, Tensor]]]


def naive(chain: Chain, u: Tensor, draw: Draw) -> tuple[Tensor, int]:
    """All elements drawn, (B, D), from a start ``u`` that may be anything valid, and the number of passes: one for each."""
    element = torch.arange(u.shape[1], device=u.device)
    for i in chain.order:
        u = torch.where(element == i, draw(chain.numbers(u)[:, i], i).unsqueeze(1), u)
    return u, len(chain.order)


def cached(chain: Chain, u: Tensor, draw: Draw) -> tuple[Tensor, int]:
    """As :func:`naive`, with the arithmetic of one pass."""
    u = u.clone()
    for i, numbers in chain.walk(u):
        u[:, i] = draw(numbers, i)
    return u, 1


def fixed_point(chain: Chain, u: Tensor, draw: Draw) -> tuple[Tensor, int]:
    """As :func:`naive`, all elements at once until a pass changes none."""
    for count, _ in enumerate(chain.order, start=1):
        drawn = _held(draw(chain.numbers(u), slice(None)))
        if torch.equal(drawn, u):
            return u, count
        u = drawn
    return u, len(chain.order)


def _held(u: Tensor) -> Tensor:
    """Values that can be squared: what is not final yet can grow with every pass until a mask makes 0 * inf of it."""
    most = torch.finfo(u.dtype).max ** 0.5 if u.is_floating_point() else None
    return u if most is None else u.clamp(-most, most)


WAYS: dict[Way, Callable[[Chain, Tensor, Draw], tuple[Tensor, int]]] = {
    "cached": cached,
    "naive": naive,
    "fixed-point": fixed_point,
}
