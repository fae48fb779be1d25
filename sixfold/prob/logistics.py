"""Grey levels from a mixture of discretised logistics: three numbers a component instead of one a level.

    P(v) = sum_j softmax(a)_j [ F((x + h - m_j) / s_j) - F((x - h - m_j) / s_j) ],   x = 2 v / (k - 1) - 1,   h = 1 / (k - 1)

with F the logistic function, and the tails counted to the first and the last level, so that probabilities sum to one. Levels near
each other are likely together, which a categorical likelihood has to learn for each.

Source:  PixelCNN++ (Salimans et al., 2017), arXiv:1701.05517, section 2.1, Eq. (1) and (2).
Differs: log(F(b) - F(a)) = log F(b) + log F(-a) + log(1 - e^(a - b)) at any distance, where the original code switches to the
         density; channels are independent.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from sixfold.core.draws import Draws
from sixfold.core.spec import DataSpec
from sixfold.prob.heads import PERIODS, PLAIN, Head, Taste, choose, head_for, quantities

MANY = 64  # levels, from which on neighbours look alike in [-1, 1]


class MixtureOfLogistics(Head):
    """Levels 0..k-1 from the weights, means and scales of ``components`` logistics.

    A temperature acts on the choice of the component, p^(1 / temperature), and multiplies the scale within it; where levels are
    cut as well, it acts on their probabilities.

    Args:
        values: k.
        components: number K of logistics; more fit finer shapes and cost in proportion.
        fine: whether a network sees levels with their waves, see :func:`~sixfold.prob.heads.quantities`.
    """

    def __init__(self, values: int, components: int, *, fine: bool = False) -> None:
        self.values, self.components, self.fine = values, components, fine
        self.inputs = 1 + 2 * len(PERIODS) if fine else 1
        self.half = 1 / (values - 1)
        self.floor = 0.1 * self.half  # at which a level in the middle of a logistic has all but e^-10 of it
        self.outputs = 3 * components

    def embed(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return quantities(x, self.values, dtype, fine=self.fine)

    def marginal(self, x: Tensor) -> Tensor:
        """One component for each equal part of the range, as heavy, far and wide as the data in it."""
        place = self._place(x.double())
        part = ((place + 1) / 2 * self.components).long().clamp_max(self.components - 1)
        starts = [self._start(place, part == j, j) for j in range(self.components)]
        return torch.cat([torch.stack(numbers, -1) for numbers in zip(*starts, strict=True)], -1)

    def _start(self, place: Tensor, inside: Tensor, j: int) -> tuple[Tensor, Tensor, Tensor]:
        """Logit, mean and raw scale, (D,) each, of the component for the data ``inside`` the ``j``-th part of the range."""
        count = inside.sum(0)
        mean = (place * inside).sum(0) / count.clamp_min(1)
        std = (((place - mean) * inside).square().sum(0) / count.clamp_min(1)).sqrt()
        mean = torch.where(count > 0, mean, (2 * j + 1) / self.components - 1)
        scale = torch.where(count > 0, std * math.sqrt(3) / math.pi, 0.5 / self.components)
        # Half a count keeps empty parts possible; a constant element starts a little wider than the least scale.
        return (count + 0.5).log(), mean, (scale.clamp_min(3 * self.floor) - self.floor).expm1().log()

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        logits, mean, scale = self._parts(params)
        x = x.unsqueeze(-1)
        off = self._place(x.to(params.dtype)) - mean
        below = torch.where(x < self.values - 1, functional.logsigmoid((off + self.half) / scale), 0.0)
        above = torch.where(x > 0, functional.logsigmoid((self.half - off) / scale), 0.0)
        inner = torch.where((x > 0) & (x < self.values - 1), (-torch.expm1(-2 * self.half / scale)).log(), 0.0)
        return (logits.log_softmax(-1) + below + above + inner).logsumexp(-1)

    def noise(self, draws: Draws, count: int) -> Tensor:
        return draws.uniform(count, 2)

    def pick(self, params: Tensor, noise: Tensor, taste: Taste = PLAIN) -> Tensor:
        if taste.cuts:
            return choose(taste.logits(self._table(params)), noise[..., 0])
        (logits, mean, scale), temperature = self._parts(params), taste.temperature
        edges = (logits / temperature).double().softmax(-1).cumsum(-1)[..., :-1]
        chosen = (noise[..., :1].double() >= edges).sum(-1, keepdim=True)
        mean, scale = (part.gather(-1, chosen).squeeze(-1) for part in (mean, scale))
        # A uniform of exactly 0 is at the end of the line, which the last level on that side takes in.
        return self._level(mean + temperature * scale * noise[..., 1].logit())

    def _table(self, params: Tensor) -> Tensor:
        """Nats of every level, (..., k)."""
        return self.log_prob(params.unsqueeze(-2), torch.arange(self.values, device=params.device))

    def mode(self, params: Tensor) -> Tensor:
        """The likeliest of the first and the last level, which hold the tails, and those at the components' means.

        That is the mode where components do not overlap.
        """
        means = self._level(self._parts(params)[1])
        ends = torch.tensor([0, self.values - 1], device=means.device).expand(*means.shape[:-1], 2)
        peaks = torch.cat([ends, means], dim=-1)
        nats = self.log_prob(params.unsqueeze(-2).expand(*peaks.shape, -1), peaks)
        return peaks.gather(-1, nats.argmax(-1, keepdim=True)).squeeze(-1)

    def _parts(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, means and scales, (..., K) each."""
        logits, mean, raw = params.chunk(3, dim=-1)
        return logits, mean, self.floor + functional.softplus(raw)

    def _place(self, levels: Tensor) -> Tensor:
        """Where levels lie in [-1, 1]."""
        return levels * (2 * self.half) - 1

    def _level(self, place: Tensor) -> Tensor:
        """The level that a place belongs to."""
        return ((place + 1) / (2 * self.half)).clamp(0, self.values - 1).round().long()


def mixture_for(spec: DataSpec, components: int, *, fine: bool = False) -> Head:
    """The head of data as ``spec`` describes them, mixed where they are quantities.

    Args:
        spec: what one datum is.
        components: logistics of grey levels, Gaussians of real data; 0 takes a categorical, a single Gaussian.
        fine: whether the network is to tell neighbouring levels apart; only where there are too many to do so anyway.
    """
    fine = fine and spec.support.kind == "levels" and spec.support.count >= MANY
    if components and spec.support.kind == "levels":
        return MixtureOfLogistics(spec.support.count, components, fine=fine)
    return head_for(spec, components=max(1, components), fine=fine)
