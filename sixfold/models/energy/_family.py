"""What energy-based models share: chains that persist, the frames of a chain, and what tells one energy from another."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from sixfold.solve.quadrature import log_integral

BOX = 5.0  # half width of the quadrature's box in standard deviations of the base: outside, it holds 6e-7 of its mass
ROUNDING = 1e-5  # of float32 energies of a few nats


def dealt(order: Tensor, count: int) -> Tensor:
    """A chain of ``count`` for each of B random numbers, (B,), in their order; none twice before all have been taken."""
    return order.argsort() % count


def frame_steps(frames: int, steps: int) -> list[int]:
    """After how many steps of a chain each frame is taken, from 0 on: densest at the start where chains move most."""
    return [max(i, round(steps * (i / max(frames - 1, 1)) ** 2)) for i in range(frames)]


def digest(tensors: Iterable[Tensor]) -> str:
    """A hash of tensors, bit for bit: log Z belongs to one state of the parameters and to no other."""
    raw = (t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() for t in tensors)
    return hashlib.sha256(b"".join(raw)).hexdigest()[:16]


def log_z(energy: Callable[[Tensor], Tensor], half_widths: list[float], *, count: int) -> tuple[float, float]:
    """Log Z of an energy of points (M, D) to (M,), by quadrature over a box, and the half-width of its error bar; in nats."""
    value, error = log_integral(lambda u: -energy(u), half_widths, count=count)
    return value, error + ROUNDING
