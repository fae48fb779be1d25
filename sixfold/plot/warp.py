"""Lines of the plane that a map bends, and frames between the states of a map that is made of layers.

A mesh is a set of paths, (P, L, 2): L lines of P points each. Whoever has a map sends its points through, flattened to
(P * L, 2), and draws what comes out as :attr:`sixfold.plot.clouds.Panel.mesh`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from sixfold.plot.plane import Window


def mesh(window: Window, *, lines: int = 13, fine: int = 100) -> Tensor:
    """A square mesh over a window, (fine, 2 * lines, 2) float32, upright lines first.

    Args:
        window: that it fills from border to border.
        lines: upright ones, and as many level ones.
        fine: points along each; more stay smooth where a map bends them hard.

    Example:
        >>> mesh(Window((0.0, 0.0), (1.0, 1.0)), lines=2, fine=2)[:, 1].tolist()
        [[1.0, 0.0], [1.0, 1.0]]
    """
    (left, bottom), (right, top) = window.low, window.high
    along, level = torch.linspace(bottom, top, fine), torch.linspace(left, right, fine)
    upright = torch.cartesian_prod(along, torch.linspace(left, right, lines)).flip(1).reshape(fine, lines, 2)
    flat = torch.cartesian_prod(level, torch.linspace(bottom, top, lines)).reshape(fine, lines, 2)
    return torch.cat([upright, flat], dim=1)


def rings(radii: Sequence[float], *, fine: int = 400) -> Tensor:
    """Closed circles about the origin, (fine, R, 2) float32: contours of a standard normal.

    Args:
        radii: of the R circles.
        fine: points along each.

    Example:
        >>> rings([2.0], fine=3).norm(dim=-1).flatten().tolist()
        [2.0, 2.0, 2.0]
    """
    angle = torch.linspace(0, 2 * math.pi, fine)
    return torch.stack([angle.cos(), angle.sin()], dim=-1)[:, None] * torch.tensor(radii)[:, None]


def between(states: Tensor, frames: int) -> Tensor:
    """Frames of an animation through some states, (T, ...) to (frames, ...), as evenly spaced as can be.

    From one state to the next everything moves straight. That is for the eye: what is true of a map is true of its states alone.

    Args:
        states: the first and last of which are the first and last frame.
        frames: at least two.

    Example:
        >>> between(torch.tensor([0.0, 1.0, 3.0]), 5).tolist()
        [0.0, 0.5, 1.0, 2.0, 3.0]
    """
    place = torch.linspace(0, len(states) - 1, frames)
    before = place.floor().long().clamp_max(max(0, len(states) - 2))
    share = (place - before).reshape(-1, *[1] * (states.ndim - 1))
    return torch.lerp(states[before], states[(before + 1).clamp_max(len(states) - 1)], share.to(states.dtype))


def carried(states: Callable[[Tensor], Tensor], lines: Tensor) -> Tensor:
    """What a map makes of a mesh after each of its steps, (T, P, L, 2).

    Args:
        states: from points, (N, 2), to where they are after each step, (T, N, 2).
        lines: of the mesh, (P, L, 2).

    Example:
        >>> carried(lambda x: torch.stack([x, 2 * x]), torch.ones(3, 4, 2)).shape
        torch.Size([2, 3, 4, 2])
    """
    return states(lines.flatten(0, 1)).reshape(-1, *lines.shape)


def turns(states: Tensor) -> Tensor:
    """Turns, with a mirror where one helps, that lay each state as near as can be on the one before it, (T, 2, 2).

    ``states @ turns(states)`` is easier to follow with the eye. Distances and volumes stay what they are, and so does a base that
    looks alike from all sides. The first turn is none.

    Args:
        states: the same points again and again, (T, N, 2).

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
        >>> both = torch.stack([x, x.flip(1)])
        >>> torch.allclose(both @ turns(both), x.expand(2, 2, 2), atol=1e-6)
        True
    """
    found = [torch.eye(2, dtype=states.dtype)]
    for before, after in pairwise(states):
        left, _, right = torch.linalg.svd(after.T @ before @ found[-1])  # orthogonal Procrustes problem (Schoenemann, 1966)
        found.append(left @ right)
    return torch.stack(found)
