"""Two-player games: what a critic and a generator minimise, as pure functions of the critic's scores.

With r = D(x) on real data, f = D(G(z)) on generated data and s = softplus, per pair of a real and a generated datum:

    game            critic                        generator
    relativistic    s(f - r)                      s(r - f)
    nonsaturating   s(-r) + s(f)                  s(-f)
    hinge           relu(1 - r) + relu(1 + f)     -f
    least_squares   (r - 1)^2 / 2 + f^2 / 2       (f - 1)^2 / 2
    wasserstein     f - r                         -f

At its best critic, D = log p(x) / q(x), the non-saturating game's critic loss is log 4 - 2 JS(p, q). The Wasserstein game means
something only while the critic's slope is held near one, by ``gradient_penalty(..., centre=1)`` between real and generated data,
or near zero.

Source:  relativistic: The relativistic discriminator (Jolicoeur-Martineau, 2018), arXiv:1807.00734, Section 3.
         nonsaturating: Generative adversarial nets (Goodfellow et al., 2014), arXiv:1406.2661, Eq. (1) and Section 3.
         hinge: Geometric GAN (Lim & Ye, 2017), arXiv:1705.02894.
         least_squares: Least squares GAN (Mao et al., 2017), arXiv:1611.04076, Eq. (9) with a = 0 and b = c = 1.
         wasserstein: Wasserstein GAN (Arjovsky, Chintala & Bottou, 2017), arXiv:1701.07875.
         slope one: Improved training of Wasserstein GANs (Gulrajani et al., 2017), arXiv:1704.00028, Eq. (3).
         slope zero, R1 and R2: Mescheder, Geiger & Nowozin (2018), arXiv:1801.04406, Eq. (9) and (10).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

GameName = Literal["relativistic", "nonsaturating", "hinge", "least_squares", "wasserstein"]


@dataclass(frozen=True)
class Game:
    """What each player minimises.

    Args:
        critic: loss of the critic from the scores of real and of generated data, both (B,), for each pair, (B,).
        generator: loss of the generator, the same way.
    """

    critic: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]


GAMES: dict[GameName, Game] = {
    "relativistic": Game(lambda r, f: softplus(f - r), lambda r, f: softplus(r - f)),
    "nonsaturating": Game(lambda r, f: softplus(-r) + softplus(f), lambda r, f: softplus(-f)),
    "hinge": Game(lambda r, f: relu(1 - r) + relu(1 + f), lambda r, f: -f),
    "least_squares": Game(lambda r, f: ((r - 1).square() + f.square()) / 2, lambda r, f: (f - 1).square() / 2),
    "wasserstein": Game(lambda r, f: f - r, lambda r, f: -f),
}


def gradient_penalty(score: Tensor, x: Tensor, *, centre: float = 0.0) -> Tensor:
    """(|grad of D at x| - centre)^2 for each datum, (B,), differentiable in the critic's parameters.

    R1 is this at real data, R2 at generated data, each with ``centre=0`` and times gamma / 2; a WGAN-GP penalty is this between
    the two with ``centre=1``. The norm is that of one datum's gradient, never of the batch's, so the critic must score
    each datum by itself (no batch normalisation).

    Args:
        score: D(x), (B,), computed from ``x``.
        x: where the slope is taken, (B, *shape), requiring gradients.
        centre: slope that costs nothing.
    """
    (grad,) = torch.autograd.grad(score.sum(), x, create_graph=True)
    square = grad.flatten(1).square().sum(1)
    # The root has no derivative at a slope of zero, where a critic with dead units may well be.
    return square if centre == 0 else ((square + 1e-12).sqrt() - centre).square()
