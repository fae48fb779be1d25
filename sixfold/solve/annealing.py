"""Annealed importance sampling: the ratio of two normalising constants, by chains that are led from one law to the other.

    p_b(x) = f_b(x) / Z_b for b in [0, 1],  p_0 easy to draw from,   0 = b_0 < b_1 < ... < b_K = 1
    log w  = sum_k log f_{b_k}(x_{k-1}) - log f_{b_{k-1}}(x_{k-1})

    forward   x_0 ~ p_0, x_k by a transition that leaves p_{b_k} unchanged:         E[w]     = Z_1 / Z_0
    reverse   x_K ~ p_1, x_{k-1} by the same transitions in the opposite order:     E[1 / w] = Z_0 / Z_1

Both means are unbiased whatever the number of temperatures and however badly the chains mix. By Jensen's inequality the logarithm
of the first lies below log Z_1 in expectation and that of the second above: together they bracket it. More temperatures bring
them together. What can break the bracket is the start of the reverse run, which must be a draw of p_1: a start that lacks some
modes of p_1 gives an upper end that may lie below the truth, and nothing in the weights would show it.

Source:  Annealed Importance Sampling (Neal, 2001), Statistics and Computing 11. Accurate and conservative estimates
         of MRF log-likelihood using reverse annealing (Burda, Grosse & Salakhutdinov, 2015), arXiv:1412.8566. Sandwiching the
         marginal likelihood using bidirectional Monte Carlo (Grosse, Ghahramani & Adams, 2015), arXiv:1511.02543.
Differs: transitions must be reversible, so that the reverse run uses the very ones of the forward run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput

State = TypeVar("State")

RESAMPLES = 1000
"""Of a bootstrap interval, whose ends then move by a few hundredths of its width from seed to seed."""


class Family(Protocol[State]):
    """Unnormalised laws f_b that lead from an easy one, b = 0, to the one of interest, b = 1."""

    def rise(self, state: State, low: float, high: float) -> Tensor:
        """Log f_high(x) - log f_low(x) of each chain, (N,)."""
        ...

    def move(self, state: State, beta: float, draws: Draws) -> State:
        """Every chain after one transition that is reversible under p_beta, as one round of Gibbs sampling of two layers is."""
        ...


def forward(family: Family[State], start: State, betas: Sequence[float], draws: Draws) -> Tensor:
    """Log-weights of chains that are led from p_0 to p_1, (N,) in float64.

    Args:
        family: that they are led through.
        start: independent draws of p_0.
        betas: temperatures from 0 to 1, rising; more vary the weights less and cost a transition each.
        draws: randomness of the N chains.

    Raises:
        BadInput: for temperatures that do not rise from 0 to 1.

    Example:
        >>> class Scaled:  # f_b(x) = (1 + b)^2 for x in one of two places: Z_1 / Z_0 = 4
        ...     def rise(self, state, low, high):
        ...         return torch.full((len(state),), 2 * math.log((1 + high) / (1 + low)))
        ...
        ...     def move(self, state, beta, draws):
        ...         return draws.integers(2)
        >>> draws = Draws(3, generator=torch.Generator().manual_seed(0))
        >>> forward(Scaled(), draws.integers(2), [0.0, 0.5, 1.0], draws).exp()
        tensor([4.0000, 4.0000, 4.0000], dtype=torch.float64)
    """
    total, state = torch.zeros((), dtype=torch.float64, device=draws.device), start
    for low, high in _steps(betas):
        total = total + family.rise(state, low, high).double()
        state = family.move(state, high, draws)
    return total


def reverse(family: Family[State], start: State, betas: Sequence[float], draws: Draws) -> Tensor:
    """Log-weights log w of chains that are led back from p_1 to p_0, (N,) in float64; it is 1 / w whose mean is Z_0 / Z_1.

    Args:
        family: that they are led through.
        start: draws of p_1.
        betas: as in :func:`forward`, from 0 to 1.
        draws: randomness of the N chains.

    Raises:
        BadInput: for temperatures that do not rise from 0 to 1.
    """
    total, state = torch.zeros((), dtype=torch.float64, device=draws.device), start
    for low, high in reversed(_steps(betas)):
        state = family.move(state, high, draws)
        total = total + family.rise(state, low, high).double()
    return total


def _steps(betas: Sequence[float]) -> list[tuple[float, float]]:
    steps = list(pairwise(betas))
    if not steps or betas[0] != 0.0 or betas[-1] != 1.0 or any(low >= high for low, high in steps):
        raise BadInput(f"temperatures must rise from 0 to 1; got {len(betas)} of them, {list(betas[:3])} ... {list(betas[-3:])}.")
    return steps


@dataclass(frozen=True)
class LogZ:
    """An estimate of log Z_1 in nats, one for each group of chains; all tensors have the groups' shape.

    Args:
        value: the estimate.
        stderr: its standard error, by the bootstrap.
        low, high: ends of its 95% bootstrap interval. It is of the chance in the weights, not of the bias of the logarithm, and
            is too narrow when a few chains hold most of the weight: see ``ess``.
        ess: effective sample size, (sum w)^2 / sum w^2, between 1 and the number of chains; of 1 / w for a reverse run.
    """

    value: Tensor
    stderr: Tensor
    low: Tensor
    high: Tensor
    ess: Tensor


def log_z(weights: Tensor, log_z0: Tensor | float, *, backward: bool = False, seed: int = 0) -> LogZ:
    """What log-weights say about log Z_1.

    Args:
        weights: log-weights of N independent chains in each group, (*groups, N).
        log_z0: log Z_0 in nats, (*groups) or a number.
        backward: the weights are of :func:`reverse`: the estimate lies above the truth in expectation rather than below.
        seed: of the resampling.

    Example:
        >>> found = log_z(torch.tensor([1.0, 2.0]).log(), 0.5)
        >>> round(float(found.value), 4), round(float(found.ess), 4)
        (0.9055, 1.8)
    """
    sign = -1.0 if backward else 1.0
    own = sign * weights.double()
    generator = torch.Generator(own.device).manual_seed(seed)
    count = own.shape[-1]
    again = torch.randint(count, (RESAMPLES, count), generator=generator, device=own.device)
    spread = log_z0 + sign * _log_mean(own[..., again]).movedim(-1, 0)
    low, high = torch.quantile(spread, torch.tensor([0.025, 0.975], dtype=torch.float64, device=own.device), dim=0)
    return LogZ(log_z0 + sign * _log_mean(own), spread.std(0), low, high, (2 * own.logsumexp(-1) - (2 * own).logsumexp(-1)).exp())


def _log_mean(logs: Tensor) -> Tensor:
    """Logarithm of the mean over the last axis of exp(logs)."""
    return logs.logsumexp(-1) - math.log(logs.shape[-1])


@dataclass(frozen=True)
class Bracket:
    """Two estimates of log Z_1, of which one lies below it in expectation and the other, from draws of p_1, above.

    Args:
        lower: of a forward run.
        upper: of a reverse run.
    """

    lower: LogZ
    upper: LogZ

    @property
    def width(self) -> Tensor:
        """Upper less lower value, in nats; near or below zero when chance is larger than what the temperatures leave open."""
        return self.upper.value - self.lower.value

    @property
    def interval(self) -> tuple[Tensor, Tensor]:
        """From the low end of the lower estimate to the high end of the upper one."""
        return self.lower.low, self.upper.high


@runtime_checkable
class HasBracket(Protocol):
    """A model whose log Z can be bracketed."""

    def bracket(self, *, effort: int = ..., seed: int = ...) -> Bracket:
        """Lower and upper estimate of log Z in nats, one for each class; more ``effort``, in temperatures, narrows it."""
        ...
