"""Langevin chains: draws from p(u) = exp(-E(u) / T) / Z by walking downhill with noise.

    unadjusted   u' = u - h grad E(u) + sqrt(2 h T) n,   n ~ N(0, I)
    adjusted     the same proposal, accepted with probability min(1, exp((E(u) - E(u')) / T) q(u | u') / q(u' | u)),
                 q(u' | u) = N(u'; u - h grad E(u), 2 h T I);  a rejected chain stays where it is
    restart      now and then the proposal is a draw of the base N(0, b^2 I), with q(u' | u) = N(u'; 0, b^2 I)

The adjusted chain leaves exp(-E / T) unchanged for any step, restarts included: they carry chains between modes that the base
covers, and are rejected where they would distort the distribution. The unadjusted one leaves something wider unchanged: for
E = u^2 / 2 its variance is T / (1 - h / 2), and it explodes from h = 2 on. It takes every restart, which adds a share of the
base to what its chains are drawn from.

Source:  Exponential convergence of Langevin distributions and their discrete approximations (Roberts & Tweedie, 1996),
         Bernoulli 2(4), Section 1.4. Acceptance of 0.574: Optimal scaling of discrete approximations to Langevin diffusions
         (Roberts & Rosenthal, 1998), JRSS B 60(1), Theorem 2. Mixing kernels: Markov chains for exploring posterior
         distributions (Tierney, 1994), Annals of Statistics 22(4), Section 2.4.
Differs: the step may be drawn anew for each chain and time, log-uniform about its stated size. A mixture of kernels that each
         leave the target unchanged leaves it unchanged, and steps of all sizes reach the fine and the coarse shape of an energy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput, Diverged

OPTIMAL_ACCEPTANCE = 0.574
"""Share of accepted proposals at which adjusted chains move fastest in many dimensions."""

Energy = Callable[[Tensor], Tensor]
"""Maps states, (B, *shape), to energies in nats, (B,)."""


@dataclass(frozen=True)
class Kernel:
    """How a chain moves.

    Args:
        step: h; a larger one goes further, and is rejected more often (adjusted) or biased more (unadjusted).
        temperature: T, above 0; a lower one gathers the chains where the energy is low.
        metropolis: adjusted chains, which are unbiased in the long run.
        spread: steps are drawn between ``step / spread`` and ``step * spread``; 1 keeps them equal.
        restart: share of the proposals that are drawn from the base.
        base: standard deviation b of the base, about the origin.

    Raises:
        BadInput: for a step or temperature that is not positive, or a spread below 1.
    """

    step: float
    temperature: float = 1.0
    metropolis: bool = True
    spread: float = 1.0
    restart: float = 0.0
    base: float = 1.0

    def __post_init__(self) -> None:
        if not (self.step > 0 and self.temperature > 0 and self.spread >= 1):
            got = f"step {self.step:g}, temperature {self.temperature:g}, spread {self.spread:g}"
            raise BadInput(f"Langevin chains need a positive step and temperature and a spread of at least 1; got {got}.")


@dataclass(frozen=True)
class Point:
    """Where chains are: states (B, *shape), energies there (B,), and the energies' gradients, (B, *shape)."""

    u: Tensor
    energy: Tensor
    grad: Tensor


@dataclass(frozen=True)
class Walk:
    """Where chains have come to, and how.

    Args:
        u: states, (B, *shape), without gradient.
        energy: at the states, (B,).
        accepted: share of Langevin proposals that were accepted; one for unadjusted chains, zero when there were none.
        restarted: share of restarts that were accepted; likewise.
    """

    u: Tensor
    energy: Tensor
    accepted: Tensor
    restarted: Tensor


def langevin(energy: Energy, u: Tensor, draws: Draws, kernel: Kernel, *, steps: int) -> Walk:
    """Chains from ``u``, ``steps`` further on. No parameter of the energy receives a gradient.

    Args:
        energy: to walk on.
        u: where the chains start, (B, *shape).
        draws: their randomness, of B rows.
        kernel: how they move.
        steps: how far; more brings a chain nearer to exp(-E / T). Each costs one gradient of the energy.

    Raises:
        Diverged: when a state or its energy is not finite, or a proposal's energy is NaN. A proposal of infinite energy lies
            where the density is zero, and is rejected.

    Example:
        >>> draws = Draws(2000, generator=torch.Generator().manual_seed(0))
        >>> walk = langevin(lambda u: u.square().sum(1) / 2, draws.normal(1), draws, Kernel(0.5), steps=10)
        >>> 0.9 < float(walk.u.var()) < 1.1
        True
    """
    at = _evaluate(energy, u)
    sound = at.energy.isfinite().all()
    moved, tried = (at.energy.new_zeros(2) for _ in range(2))
    for _ in range(steps):
        h, noise, fresh = _sizes(kernel, draws), draws.normal(*u.shape[1:]), draws.uniform() < kernel.restart
        near = _drift(at, h) + _rows((2 * h * kernel.temperature).sqrt(), u) * noise
        to = _evaluate(energy, torch.where(_rows(fresh, u), kernel.base * noise, near))
        sound = sound & ~to.energy.isnan().any()
        accept = _accepts(at, to, h, noise, fresh, kernel, draws)
        at = _either(accept, to, at)
        moved += torch.stack([(accept & ~fresh).sum(), (accept & fresh).sum()])
        tried += torch.stack([(~fresh).sum(), fresh.sum()])
    if not bool(sound & at.u.isfinite().all() & at.energy.isfinite().all()):
        raise Diverged(f"a Langevin chain left the finite numbers within {steps} steps of {kernel.step:g}. Use a smaller step.")
    accepted, restarted = moved / tried.clamp(min=1)
    return Walk(at.u, at.energy, accepted, restarted)


def _evaluate(energy: Energy, u: Tensor) -> Point:
    with torch.enable_grad():
        u = u.detach().requires_grad_()
        value = energy(u)
        (grad,) = torch.autograd.grad(value.sum(), u)  # with respect to u alone: parameters are left out of the backward pass
    return Point(u.detach(), value.detach(), grad)


def _rows(x: Tensor, like: Tensor) -> Tensor:
    """One number per chain, (B,), shaped to multiply states."""
    return x.reshape(-1, *[1] * (like.ndim - 1))


def _sizes(kernel: Kernel, draws: Draws) -> Tensor:
    """A step for each chain, (B,)."""
    return kernel.step * ((2 * draws.uniform() - 1) * math.log(kernel.spread)).exp()


def _drift(at: Point, h: Tensor) -> Tensor:
    """Mean of the Langevin proposal, (B, *shape)."""
    return at.u - _rows(h, at.u) * at.grad


def _accepts(at: Point, to: Point, h: Tensor, noise: Tensor, fresh: Tensor, kernel: Kernel, draws: Draws) -> Tensor:
    """Which chains take their proposal, (B,), by the rule of Metropolis and Hastings."""
    if not kernel.metropolis:
        return torch.ones_like(fresh)
    back = _squares(at.u - _drift(to, h)) / (2 * h * kernel.temperature)
    proposed = torch.where(fresh, (_squares(to.u) - _squares(at.u)) / kernel.base**2, _squares(noise) - back) / 2
    return draws.uniform().log() < (at.energy - to.energy) / kernel.temperature + proposed


def _squares(x: Tensor) -> Tensor:
    """Squared length of each row, (B,)."""
    return x.square().flatten(1).sum(1)


def _either(accept: Tensor, new: Point, old: Point) -> Point:
    rows = _rows(accept, new.u)
    energy = torch.where(accept, new.energy, old.energy)
    return Point(torch.where(rows, new.u, old.u), energy, torch.where(rows, new.grad, old.grad))
