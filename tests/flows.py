"""Small things that tests of flows share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from sixfold.core.spec import DataSpec
from sixfold.solve.quadrature import gauss_legendre

M = TypeVar("M", bound=nn.Module)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def shaken(module: M, amount: float = 0.3) -> M:
    """The module in float64, away from its start, where the identity would hide mistakes."""
    module.double()
    for i, parameter in enumerate(module.parameters()):
        parameter.data += amount * normal(*parameter.shape, seed=i)
    return module


def log_det(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """log |det| of the Jacobian of each datum by autograd, (B,)."""

    def summed(flat: Tensor) -> Tensor:
        return function(flat.reshape(x.shape)).flatten(1).sum(0)

    # Data do not see each other, so the Jacobian of the sum over the batch holds each datum's own.
    jacobian = torch.autograd.functional.jacobian(summed, x.flatten(1)).transpose(0, 1)
    return torch.linalg.slogdet(jacobian)[1]


def mass_and_bound(spec: DataSpec, codec: str, x: Tensor, *, margin: float = 0.01) -> tuple[float, float]:
    """log P(x) and E_v[log p(x + v)] of a standard normal seen through an unfitted codec, pixel by pixel by quadrature.

    u runs through the logit or through 2 y - 1, for y = (x + v) / k in [0, 1].
    """
    v, w = gauss_legendre(0.0, 1.0, 60)
    levels = spec.support.count
    y = (x.flatten().double()[:, None] + v) / levels
    p = margin + (1 - 2 * margin) * y
    u, slope = (
        ((p / (1 - p)).log(), (1 - 2 * margin) / (p * (1 - p))) if codec == "logit" else (2 * y - 1, torch.full_like(y, 2.0))
    )
    density = torch.exp(-0.5 * u**2) / math.sqrt(2 * math.pi) * slope / levels
    return float((density @ w).log().sum()), float((density.log() @ w).sum())
