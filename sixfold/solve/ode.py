"""Ordinary differential equations at fixed steps, with the integral of the divergence along the way.

    dx/dt = f(x, t),        d log p(x_t) / dt = -div f(x_t, t) = -sum_i df_i / dx_i

The divergence is exact by one forward-mode derivative per dimension, or Hutchinson's unbiased estimate v . (df/dx) v with random
signs v, whose variance is twice the sum of squares of the symmetric Jacobian off its diagonal.

Source:  Neural Ordinary Differential Equations (Chen et al., 2018), arXiv:1806.07366, Theorem 1; FFJORD (Grathwohl et al., 2019),
         arXiv:1810.01367, Eq. (7); Heun's and Runge's methods as in Hairer, Norsett & Wanner, Solving ODEs I, Section II.1.
Differs: fixed steps, so that each row is solved alike whatever else is in its batch; the error is read off by halving the step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

Field: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(state (B, *shape), time ()) to the state's rate of change, (B, *shape)."""

Divergence: TypeAlias = Callable[[Callable[[Tensor], Tensor], Tensor], tuple[Tensor, Tensor]]
"""(f, x) to f(x), (B, *shape), and its divergence, (B,)."""

Method: TypeAlias = Literal["heun", "rk4"]

EXACT_DIMS = 8  # up to here the exact divergence, one derivative per dimension, costs no more than a few probes


class Tableau(NamedTuple):
    """An explicit Runge-Kutta method: what each stage adds of the stages before it, their weights in the step, and its order."""

    stages: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    order: int


TABLEAUS: dict[Method, Tableau] = {
    "heun": Tableau(((), (1.0,)), (1 / 2, 1 / 2), 2),
    "rk4": Tableau(((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), 4),
}

_State: TypeAlias = tuple[Tensor, ...]
_Rates: TypeAlias = Callable[[_State, Tensor], _State]


def _advance(state: _State, h: Tensor, weights: tuple[float, ...], rates: list[_State]) -> _State:
    """The state + h sum_j weights_j rates_j, part by part."""
    for weight, rate in zip(weights, rates, strict=True):
        if weight:
            state = tuple(part + (weight * h).to(change.dtype) * change for part, change in zip(state, rate, strict=True))
    return state


def _solve(rates: _Rates, state: _State, times: Tensor, method: Method) -> _State:
    tableau = TABLEAUS[method]
    for t, h in zip(times[:-1], times.diff(), strict=True):
        found: list[_State] = []
        for stage in tableau.stages:
            found.append(rates(_advance(state, h, stage, found), t + sum(stage) * h))
        state = _advance(state, h, tableau.weights, found)
    return state


def integrate(field: Field, x: Tensor, times: Tensor, *, method: Method = "rk4") -> Tensor:
    """The state at the last time.

    Args:
        field: f(x, t).
        x: state at the first time, (B, *shape).
        times: of the solution, (T,), rising or falling; each interval is one step, more of them are more accurate.
        method: ``heun`` (order 2, two evaluations a step) or ``rk4`` (order 4, four evaluations).

    Example:
        >>> integrate(lambda x, t: -x, torch.ones(1, 1), torch.linspace(0, 1, 9)).round(decimals=4)
        tensor([[0.3679]])
    """
    (out,) = _solve(lambda state, t: (field(state[0], t),), (x,), times, method)
    return out


def integrate_with_divergence(
    field: Field, x: Tensor, times: Tensor, *, divergence: Divergence, method: Method = "rk4"
) -> tuple[Tensor, Tensor]:
    """The state at the last time and the integral of the divergence from the first time to it, in nats.

    log p(x_last) = log p(x_first) - integral, so that from data to noise log p(data) = log p(noise) + integral.

    Args:
        field: f(x, t).
        x: state at the first time, (B, *shape).
        times: of the solution, (T,).
        divergence: :func:`exact_divergence` or a :func:`hutchinson_divergence`.
        method: as for :func:`integrate`.

    Returns:
        state (B, *shape) and integral (B,).
    """

    def rates(state: _State, t: Tensor) -> _State:
        return divergence(lambda y: field(y, t), state[0])

    state, integral = _solve(rates, (x, x.new_zeros(len(x))), times, method)
    return state, integral


def exact_divergence(f: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """f(x) and the sum of df_i / dx_i, (B,), by one forward-mode derivative per dimension; rows must not mix in f."""
    shape = x.shape[1:]
    basis = torch.eye(shape.numel(), dtype=x.dtype, device=x.device).reshape(-1, 1, *shape).expand(-1, *x.shape)
    value, diagonal = torch.func.vmap(lambda direction: _along(f, x, direction))(basis)
    return value[0], diagonal.sum(0)


def hutchinson_divergence(signs: Tensor) -> Divergence:
    """An unbiased estimate of the divergence by one forward-mode derivative.

    Args:
        signs: independent +1 and -1, (B, *shape), held fixed along a solution so that its integrand is smooth.
    """
    return lambda f, x: _along(f, x, signs)


def _along(f: Callable[[Tensor], Tensor], x: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """f(x) and v . (df/dx) v, (B,), for directions v, (B, *shape)."""
    found = torch.func.jvp(f, (x,), (direction,))
    return found[0], (found[1] * direction).flatten(1).sum(1)
