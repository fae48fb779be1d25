"""Walks between codes of a standard normal prior, along great circles.

    slerp(a, b, s) = sin((1 - s) w) / sin w  a + sin(s w) / sin w  b,       w the angle between a and b

In many dimensions normal codes lie near a sphere, and the middle of a straight line falls far inside it, where no code lies.

Source:  Animating Rotation with Quaternion Curves (Shoemake, 1985), SIGGRAPH; for codes: Sampling Generative Networks (White,
         2016), arXiv:1609.04468.
"""

from __future__ import annotations

import torch
from torch import Tensor

PARALLEL = 1e-4  # sine of the angle below which the circle is not determined, or no different from the line


def slerp(a: Tensor, b: Tensor, shares: Tensor) -> Tensor:
    """Codes on the way from ``a`` to ``b``, (T, B, Z): along the circle through both, straight where they lie on one line.

    Args:
        a, b: codes, (B, Z).
        shares: of the way, (T,), from 0 at ``a`` to 1 at ``b``.

    Example:
        >>> slerp(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([0.5]))
        tensor([[[0.7071, 0.7071]]])
    """
    angle = torch.nn.functional.cosine_similarity(a, b, dim=1).clamp(-1, 1).acos()
    s, sine = shares.to(a)[:, None], angle.sin()
    round_about = torch.stack([((1 - s) * angle).sin(), (s * angle).sin()]) / sine
    straight = torch.stack([1 - s, s]).expand(2, len(shares), len(a))
    first, second = torch.where(sine > PARALLEL, round_about, straight)
    found: Tensor = first[..., None] * a + second[..., None] * b
    return found
