"""Integrals over an interval or a box, as nodes and weights.

    integral of f(x) dx  ~  sum_i  w_i f(x_i)

Gauss-Legendre is exact for polynomials of degree 2n - 1 on an interval. The lattice is the trapezoidal rule, which for a smooth
function that has died out at the border of the box converges faster than any power of the spacing; a Gaussian of standard
deviation s integrates to machine precision from a spacing of about s / 1.5 on.

Source:  Trefethen & Weideman, The Exponentially Convergent Trapezoidal Rule, SIAM Review 56 (2014), Section 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor


def gauss_legendre(low: float, high: float, num: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights, (num,) each in float64, of the rule that is exact up to degree 2 num - 1 on [low, high]."""
    nodes, weights = np.polynomial.legendre.leggauss(num)
    half = (high - low) / 2
    return torch.from_numpy(low + half * (nodes + 1)), torch.from_numpy(half * weights)


def lattice(low: Sequence[float], high: Sequence[float], counts: Sequence[int]) -> tuple[Tensor, float]:
    """Points of a regular grid over a box and the volume that each stands for.

    Args:
        low: lower corner, one number per axis.
        high: upper corner.
        counts: points per axis; more resolve finer detail. The points are the centres of the box's cells, the last axis
            varying fastest, so that ``values.reshape(counts)`` is the picture of a function.

    Returns:
        points, (prod(counts), D) in float64, and the volume of one cell.
    """
    axes, volume = [], 1.0
    for a, b, n in zip(low, high, counts, strict=True):
        volume *= (b - a) / n
        axes.append(a + (b - a) / n * (torch.arange(n, dtype=torch.float64) + 0.5))
    return torch.cartesian_prod(*axes).reshape(-1, len(axes)), volume


def counts_for(low: Sequence[float], high: Sequence[float], step: float) -> list[int]:
    """Points per axis of a lattice whose spacing is at most ``step``."""
    return [max(1, math.ceil((b - a) / step)) for a, b in zip(low, high, strict=True)]


def log_integral(
    log_density: Callable[[Tensor], Tensor], half_widths: Sequence[float], *, count: int, chunk: int = 2**15
) -> tuple[float, float]:
    """Log of the integral of exp(log_density) over a box about the origin, in nats, with an error bar.

    The integral is taken a second time over a box twice as wide with as many points, which halves the resolution and takes in
    what lay outside. Twice the difference bounds the first one's error when one of the two has at most half of it: the second
    where the box was too small, and the first, by far, where the points were too few for the second.

    Args:
        log_density: maps points (M, D) in float64 to (M,).
        half_widths: of the box, one number per axis.
        count: points per axis; more resolve finer detail.
        chunk: points evaluated at once; more take more memory.

    Returns:
        the logarithm of the integral, and the half-width of its error bar.
    """

    def total(scale: float) -> float:
        high = [scale * h for h in half_widths]
        points, volume = lattice([-h for h in high], high, [count] * len(high))
        values = torch.cat([log_density(part).double() for part in torch.split(points, chunk)])
        return float(values.logsumexp(0)) + math.log(volume)

    value = total(1.0)
    return value, 2 * abs(total(2.0) - value)
