"""Two-player games: what a critic and a generator minimise, as pure functions of the critic's scores.

With r = D(x) on real data, f = D(G(z)) on generated data and s = softplus, per pair of a real and a generated datum:

    game            critic                        generator
    relativistic    s(f - r)                      s(r - f)
    nonsaturating   s(-r) + s(f)                  s(-f)
    hinge           relu(1 - r) + relu(1 + f)     -f
    least_squares   (r - 1)^2 / 2 + f^2 / 2       (f - 1)^2 / 2
    wasserstein     f - r                         -f

At its best critic, D = log p(x) / q(x), the non-saturating game's critic loss is log 4 - 2 JS(p, q). The Wasserstein game means
something only while the critic's slope is held near one, or near zero, by a penalty or by its weights.

A penalty holds down the critic's slope at real data, at generated ones, or between the two, for each datum:

    penalty   weight gamma times
    r1        |grad D(x)|^2 / 2
    r2        |grad D(G(z))|^2 / 2
    r1+r2     the sum of both
    gp        (|grad D(y)| - 1)^2,    y = u x + (1 - u) G(z),    u uniform on [0, 1), one for each pair
    gp0       |grad D(y)|^2

Source:  relativistic: The relativistic discriminator (Jolicoeur-Martineau, 2018), arXiv:1807.00734, Section 3.
         nonsaturating: Generative adversarial nets (Goodfellow et al., 2014), arXiv:1406.2661, Eq. (1) and Section 3.
         hinge: Geometric GAN (Lim & Ye, 2017), arXiv:1705.02894.
         least_squares: Least squares GAN (Mao et al., 2017), arXiv:1611.04076, Eq. (9) with a = 0 and b = c = 1.
         wasserstein: Wasserstein GAN (Arjovsky, Chintala & Bottou, 2017), arXiv:1701.07875.
         smoothing: Improved techniques for training GANs (Salimans et al., 2016), arXiv:1606.03498, Section 3.4.
         r1, r2: Which training methods for GANs do actually converge? (Mescheder et al., 2018), arXiv:1801.04406, Eq. (9), (10).
         r1+r2: The GAN is dead; long live the GAN! (Huang et al., 2025), arXiv:2501.05441, Section 2.
         gp: Improved training of Wasserstein GANs (Gulrajani et al., 2017), arXiv:1704.00028, Eq. (3).
         gp0: Improving generalization and stability of GANs (Thanh-Tung, Tran & Venkatesh, 2019), arXiv:1902.03984.
Differs: gp0 takes its points on the straight line between the two, where the paper's own weights depend on the data's codes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from sixfold.core.errors import Unsupported

GameName = Literal["relativistic", "nonsaturating", "hinge", "least_squares", "wasserstein"]
PenaltyName = Literal["none", "r1", "r2", "r1+r2", "gp", "gp0"]
Place = Literal["real", "fake", "between"]


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


def game_of(name: GameName, *, smoothing: float = 0.0) -> Game:
    """A game by name, its critic's target for real data, and for these alone, lowered from 1 to ``1 - smoothing``.

    The target is a probability in the non-saturating game and a score in the least-squares game. Generated data keep their
    target of 0: raised too, it would hold the generator where it already is.

    Args:
        name: of the game.
        smoothing: more keeps the critic from being sure of real data; at its best, sigmoid(D) = (1 - smoothing) p / (p + q).

    Raises:
        Unsupported: for smoothing in a game that has no targets.
    """
    game = GAMES[name]
    if not smoothing:
        return game
    if name == "nonsaturating":  # (1 - t) s(-r) + t s(r) = s(-r) + t r
        return Game(lambda r, f: game.critic(r, f) + smoothing * r, game.generator)
    if name == "least_squares":
        return Game(lambda r, f: game.critic(r + smoothing, f), game.generator)
    raise Unsupported(
        f"the game {name!r} has no targets to smooth; got smoothing={smoothing}. Use nonsaturating or least_squares."
    )


@dataclass(frozen=True)
class Penalty:
    """Where a critic's slope is held, and to what.

    Args:
        at: the places.
        centre: slope that costs nothing.
        factor: of the weight.
    """

    at: tuple[Place, ...] = ()
    centre: float = 0.0
    factor: float = 1.0


PENALTIES: dict[PenaltyName, Penalty] = {
    "none": Penalty(),
    "r1": Penalty(("real",), factor=0.5),
    "r2": Penalty(("fake",), factor=0.5),
    "r1+r2": Penalty(("real", "fake"), factor=0.5),
    "gp": Penalty(("between",), centre=1.0),
    "gp0": Penalty(("between",)),
}


def between(real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """A point on the line from each generated datum to the real one of its pair, (B, *shape).

    Args:
        real, fake: the ends, (B, *shape).
        share: of the real one in [0, 1], one number for each pair, (B,).
    """
    share = share.reshape(-1, *[1] * (real.ndim - 1))
    return share * real + (1 - share) * fake


def gradient_penalty(score: Tensor, x: Tensor, *, centre: float = 0.0) -> Tensor:
    """(|grad of D at x| - centre)^2 for each datum, (B,), differentiable in the critic's parameters.

    The square is a sum over the elements of a datum, not a mean, and the norm is that of one datum's gradient, never of the
    batch's, so the critic must score each datum by itself (no batch normalisation).

    Args:
        score: D(x), (B,), computed from ``x``.
        x: where the slope is taken, (B, *shape), requiring gradients.
        centre: slope that costs nothing.
    """
    (grad,) = torch.autograd.grad(score.sum(), x, create_graph=True)
    square = grad.flatten(1).square().sum(1)
    # The root has no derivative at a slope of zero, where a critic with dead units may well be.
    return square if centre == 0 else ((square + 1e-12).sqrt() - centre).square()
