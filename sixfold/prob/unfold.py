"""A flow's steps one by one, each as a map of the layout that data come in, for pictures of what happens between data and base.

    z = f_n( ... f_1(x)),     step i:  y -> r_i^-1( f_i( r_i(y) ) ),     r_i the rearrangements on the way to it

Rearrangements (shapes, squeezes, permutations) move elements about and change none: taken out of the steps, every state is of
the shape of the data, each element in its place, and the last one is the code in another order, a draw of the same base. What a
scale has factored out stays where it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor

from sixfold.prob.bijections import Bijection, Compose, FactorOut, Permutation, PerPixel, Reshape, Squeeze


class Behind(Bijection):
    """A bijection seen from before a rearrangement: y -> way^-1(step(way(y))), with the step's log-determinant.

    Args:
        way: the rearrangement, log-determinant 0.
        step: of rearranged batches, which keeps their shape.
    """

    def __init__(self, way: Bijection, step: Bijection) -> None:
        super().__init__()
        self.way, self.step, self.bends = way, step, step.bends

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, logdet = self.step(self.way(x)[0], cond)
        return self.way.inverse(z)[0], logdet

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, logdet = self.step.inverse(self.way(z)[0], cond)
        return self.way.inverse(x)[0], logdet


class Front(Bijection):
    """A bijection of the first channels, the others stay as they are: (B, C, H, W) to (B, C, H, W).

    Args:
        cut: channels that move.
        step: of images of so many channels, which keeps their shape.
    """

    def __init__(self, cut: int, step: Bijection) -> None:
        super().__init__()
        self.cut, self.step, self.bends = cut, step, step.bends

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, logdet = self.step(x[:, : self.cut], cond)
        return torch.cat([z, x[:, self.cut :]], dim=1), logdet

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, logdet = self.step.inverse(z[:, : self.cut], cond)
        return torch.cat([x, z[:, self.cut :]], dim=1), logdet


def unfold(bijection: Bijection) -> list[Bijection]:
    """The steps of a nested bijection in their order, none a rearrangement, each of the shape that the whole one takes.

    Their composition is the whole one up to the order of the code's elements; log-determinants add up to its own.
    """
    if isinstance(bijection, Compose):
        return list(_unfold_all([cast("Bijection", part) for part in bijection.parts]))
    if isinstance(bijection, FactorOut):
        return [Front(bijection.cut, step) for step in unfold(bijection.rest)]
    return [bijection]


def _unfold_all(parts: list[Bijection]) -> Iterator[Bijection]:
    way: list[Bijection] = []
    for part in parts:
        if _rearranges(part):
            way.append(part)
            continue
        for step in unfold(part):
            yield Behind(Compose(*way), step) if way else step
        assert part is parts[-1] or not isinstance(part, Compose | FactorOut), "a step behind one that may change the layout"


def _rearranges(part: Bijection) -> bool:
    return isinstance(part, Squeeze | Reshape | Permutation) or (isinstance(part, PerPixel) and _rearranges(part.channels))


def stages(bijection: Bijection) -> list[Bijection]:
    """The steps of :func:`unfold`, affine ones together with the next that bends, or with the last one.

    Example:
        >>> from sixfold.prob.bijections import ActNorm
        >>> len(stages(Compose(ActNorm(2), Permutation(torch.tensor([1, 0])), ActNorm(2))))
        1
    """
    found: list[list[Bijection]] = [[]]
    for step in unfold(bijection):
        found[-1].append(step)
        if step.bends:
            found.append([])
    *whole, rest = found
    if whole:
        whole[-1] += rest
    return [Compose(*steps) for steps in whole or [rest]]
