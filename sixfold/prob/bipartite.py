"""Two layers of binary units, connected between and not within: what can be said of them in closed form.

    log f(v, h) = v.b + h.c + v W h                      h in {0, 1}^H;  v in {0, 1}^V, its last C units a group with one unit on
    log f(v)    = v.b + sum_j softplus(c_j + (v W)_j)    hidden units summed out: minus the free energy
    p(h_j = 1 | v) = sigmoid(c_j + (v W)_j)              p(v_i = 1 | h) = sigmoid(b_i + (W h)_i), in the group a softmax

    log Z = log sum_v f(v) = log sum_h exp( h.c + sum_i softplus(b_i + (W h)_i) )        either sum, the shorter one; no group

The tempered family leads from independent visible units with biases b0 to these: its member at beta has biases
(1 - beta) b0 + beta b and beta c and weights beta W.

Source: On the Quantitative Analysis of Deep Belief Networks (Salakhutdinov & Murray, 2008), ICML.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, one_hot, softplus

from sixfold.core.draws import Draws

LOG_ROWS = 12
"""States enumerated at once, as a power of two: with 784 units 13 MB."""


@dataclass(frozen=True)
class Bipartite:
    """Visible and hidden units and what connects them.

    Args:
        weight: W, (V, H).
        visible: b, (V,).
        hidden: c, (H,) for all rows alike or (N, H) for each its own.
        group: C, how many visible units, the last ones, are a group of which exactly one is on; 0 for none.
    """

    weight: Tensor
    visible: Tensor
    hidden: Tensor
    group: int = 0

    def given(self, label: Tensor | None) -> Bipartite:
        """The other units where the group is in given states, (N,): hidden biases are c + W_label, (N, H)."""
        free = len(self.visible) - self.group
        hidden = self.hidden if label is None else self.hidden + self.weight[free:][label]
        return Bipartite(self.weight[:free], self.visible[:free], hidden)

    def drive(self, v: Tensor) -> Tensor:
        """Logits of the hidden units, (N, H), of visible ones, (N, V) as floats."""
        return v @ self.weight + self.hidden

    def back(self, h: Tensor) -> Tensor:
        """Logits of the visible units, (N, V), of hidden ones, (N, H) as floats."""
        return h @ self.weight.T + self.visible

    def log_density(self, v: Tensor) -> Tensor:
        """Log f(v) in nats, (N,)."""
        return v @ self.visible + softplus(self.drive(v)).sum(1)

    def gibbs(self, v: Tensor, draws: Draws, *, steps: int, known: Tensor | None = None) -> Tensor:
        """Chains after rounds of h given v and v given h, (N, V).

        Args:
            v: where they start, (N, V) as floats.
            draws: their randomness, of N rows.
            steps: rounds; more bring a chain nearer to the law.
            known: bool, broadcast to (N, V): units that stay as they are, of a group all or none.
        """
        for _ in range(steps):
            drawn = self._visit(self.back(fire(self.drive(v), draws)), draws)
            v = drawn if known is None else torch.where(known, v, drawn)
        return v

    def _visit(self, logits: Tensor, draws: Draws) -> Tensor:
        """Visible units with these logits, (N, V)."""
        free = logits.shape[1] - self.group
        units = fire(logits[:, :free], draws)
        if not self.group:
            return units
        noisy = logits[:, free:] - (-draws.uniform(self.group).log()).log()  # Gumbel's trick
        return torch.cat([units, one_hot(noisy.argmax(1), self.group).to(units)], 1)

    def pseudo(self, v: Tensor, draws: Draws) -> Tensor:
        """Unbiased draw of the pseudo-log-likelihood sum_i log p(v_i | the others) over units outside the group, in nats, (N,).

        One random unit of each row is turned over, and the difference in log f is the row's own: the logistic of a mean over rows
        would be too high.
        """
        free = len(self.visible) - self.group
        unit, logits = draws.integers(free), self.drive(v)
        turn = 1 - 2 * v.gather(1, unit[:, None])
        turned = softplus(logits + turn * self.weight[unit]) - softplus(logits)
        return free * logsigmoid(-turn[:, 0] * self.visible[unit] - turned.sum(1))

    def log_z(self) -> Tensor:
        """Log Z by enumeration of the smaller layer, in float64: (1,) or, for hidden biases of N rows, (N,)."""
        assert not self.group, "a group is given its state before states are enumerated"
        V, H = self.weight.shape
        shorter = self._over_hidden if H <= V else self._over_visible
        parts = [shorter(part).double().logsumexp(0) for part in states(min(V, H), self.weight)]
        return torch.stack(parts).logsumexp(0)

    def _over_hidden(self, h: Tensor) -> Tensor:
        """Log sum_v f(v, h) for each of M states and each row of biases, (M, N)."""
        return h @ self.hidden.reshape(-1, h.shape[1]).T + softplus(self.back(h)).sum(1, keepdim=True)

    def _over_visible(self, v: Tensor) -> Tensor:
        """Log f(v) for each of M states and each row of biases, (M, N)."""
        drive = (v @ self.weight)[:, None, :] + self.hidden.reshape(-1, self.weight.shape[1])
        return (v @ self.visible)[:, None] + softplus(drive).sum(-1)


def states(units: int, like: Tensor) -> list[Tensor]:
    """All 2^units states of binary units as floats like ``like``, in parts of bounded size; the first unit varies slowest."""
    places = torch.arange(units - 1, -1, -1, device=like.device)
    numbers = torch.arange(2**units, device=like.device)
    return [(part[:, None] >> places & 1).to(like.dtype) for part in torch.split(numbers, 2**LOG_ROWS)]


def fire(logits: Tensor, draws: Draws) -> Tensor:
    """Independent binary units with these logits, (N, units), zeros and ones in the draws' dtype."""
    return (draws.uniform(logits.shape[1]) < logits.sigmoid()).to(draws.dtype)


@dataclass(frozen=True)
class Visit:
    """Where chains are.

    Args:
        v: visible units, (N, V).
        drive: logits of the hidden units at beta = 1, (N, H).
        tilt: v.(b - b0), (N,).
    """

    v: Tensor
    drive: Tensor
    tilt: Tensor


@dataclass(frozen=True)
class Tempered:
    """From independent visible units to a bipartite law without a group, with exact Gibbs transitions: a family to anneal.

    Args:
        end: the law at beta = 1.
        base: biases b0 of the visible units at beta = 0, (V,). Those of the data's means make the way short.
    """

    end: Bipartite
    base: Tensor

    @property
    def log_z0(self) -> float:
        """Log Z at beta = 0, where hidden units are on half of the time."""
        return float(softplus(self.base.double()).sum()) + self.end.weight.shape[1] * math.log(2.0)

    def at(self, v: Tensor) -> Visit:
        """Chains in given states, (N, V)."""
        return Visit(v, self.end.drive(v), v @ (self.end.visible - self.base))

    def start(self, draws: Draws) -> Visit:
        """Independent draws of the law at beta = 0."""
        return self.at(fire(self.base.expand(draws.size, -1), draws))

    def rise(self, state: Visit, low: float, high: float) -> Tensor:
        """Log f_high(v) - log f_low(v), (N,); hidden units are subtracted one by one, for their sums lose digits."""
        hidden = softplus(high * state.drive) - softplus(low * state.drive)
        return (high - low) * state.tilt + hidden.sum(1)

    def move(self, state: Visit, beta: float, draws: Draws) -> Visit:
        """Hidden units given visible ones and back, at beta: reversible in the visible units."""
        h = fire(beta * state.drive, draws)
        return self.at(fire(torch.lerp(self.base, self.end.back(h), beta), draws))
