"""Likelihood heads: from a network's numbers to the distribution of one element of a datum, for every support.

    Bernoulli            P(1) = sigmoid(a)                                     binary
    Categorical          P(v) = softmax(a)_v                                   levels, tokens
    Gaussian             p(x) = N(x; m, s^2)                                   real
    MixtureOfGaussians   p(x) = sum_j softmax(a)_j N(x; m_j, s_j^2)            real

Elements are independent given the numbers, so that a datum's log-probability is the sum over its elements. Probabilities come
from log-softmax and log-sigmoid and are never clamped: they sum to one over all values, and an unlikely one costs its full price.

A standard deviation is bounded below, s = floor + softplus(r). A likelihood with a free scale has no maximum: a network that
reproduces one training value gains without limit as s goes to 0 (Mattei & Frellsen, 2018, arXiv:1802.04826, section 2.1).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput
from sixfold.core.spec import DataSpec

FLOOR = 0.01  # of standardised data: a hundredth of an element's spread
PERIODS = (4, 16)  # in levels, of the waves that tell neighbouring levels apart


@dataclass(frozen=True)
class Taste:
    """Which part of a distribution is drawn from; the default is all of it as it is.

    Args:
        temperature: probabilities become p^(1 / temperature); below 1 favours the likely values.
        top_k: only so many of the likeliest values are kept, 0 keeps all; fewer is safer and less varied.
        top_p: only the likeliest values that together hold this share are kept (the nucleus), and always the likeliest one.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def logits(self, log_p: Tensor) -> Tensor:
        """Logits of what is left of probabilities over the last axis; first the temperature, then the number, then the share."""
        cooled = log_p / self.temperature
        if 0 < self.top_k < cooled.shape[-1]:
            cooled = _keep(cooled, torch.arange(cooled.shape[-1], device=cooled.device) < self.top_k)
        if self.top_p < 1.0:
            p = cooled.double().softmax(-1).sort(-1, descending=True).values
            before = p.cumsum(-1) - p  # 0 for the likeliest, which a share of 0 keeps as well
            cooled = _keep(cooled, (before < self.top_p) | (before == 0.0))
        return cooled

    @property
    def cuts(self) -> bool:
        """Whether some values may be left out."""
        return self.top_k > 0 or self.top_p < 1.0

    def cool(self) -> float:
        """The temperature, where there is no list of values to cut.

        Raises:
            BadInput: when values are to be cut.
        """
        if self.cuts:
            raise BadInput(
                f"real data have no list of values to cut; got top_k={self.top_k}, top_p={self.top_p}. Use temperature."
            )
        return self.temperature


PLAIN = Taste()


def _keep(logits: Tensor, ranks: Tensor) -> Tensor:
    """Logits without the values whose ranks, from the likeliest on, are not to be kept; of equals the first comes first."""
    rank = logits.argsort(dim=-1, descending=True, stable=True).argsort(-1)
    return logits.masked_fill(~ranks.expand_as(logits).gather(-1, rank), -math.inf)


def quantities(levels: Tensor, values: int, dtype: torch.dtype, *, fine: bool) -> Tensor:
    """Levels 0..k-1 as a network takes them: the place in [-1, 1] and, if ``fine``, sine and cosine of two waves along them.

    A network that is to continue an even 253 by 253 has to tell it from 254, which in [-1, 1] is the same to a hundredth.

    Source: Variational Diffusion Models (Kingma, Salimans, Poole & Ho, 2021), arXiv:2107.00630 (Fourier features).

    Args:
        levels: (...).
        values: k.
        dtype: of the result.
        fine: whether to add the waves.

    Returns:
        (..., 5), or (..., 1) without the waves.
    """
    place = levels.to(dtype).unsqueeze(-1)
    if not fine:
        return place * (2 / (values - 1)) - 1
    phase = torch.cat([place * (2 * math.pi / period) for period in PERIODS], -1)
    return torch.cat([place * (2 / (values - 1)) - 1, phase.sin(), phase.cos()], -1)


class Head(ABC):
    """The distribution of one element given ``outputs`` numbers; a network sees an element as ``inputs`` numbers."""

    inputs: int = 1
    outputs: int = 1

    @abstractmethod
    def embed(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Elements as a network takes them, (..., D) to (..., D, inputs) of ``dtype``, of order one."""

    @abstractmethod
    def marginal(self, x: Tensor) -> Tensor:
        """Numbers for which each element is distributed as in data ``x``, (N, D): where learning starts, (D, outputs)."""

    @abstractmethod
    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Nats per element, (..., D), of ``x``, (..., D), under ``params``, (..., D, outputs)."""

    @abstractmethod
    def noise(self, draws: Draws, count: int) -> Tensor:
        """All the randomness that one draw of each of ``count`` elements takes, (B, count, some)."""

    @abstractmethod
    def pick(self, params: Tensor, noise: Tensor, taste: Taste = PLAIN) -> Tensor:
        """The draw of each element, (...), that its noise, (..., some), means under ``params``, (..., outputs)."""

    def sample(self, params: Tensor, draws: Draws, *, temperature: float = 1.0) -> Tensor:
        """One draw of each element, (B, D), from ``params``, (B, D, outputs).

        Args:
            params: a network's numbers.
            draws: randomness of B rows.
            temperature: of the distribution, proportional to p^(1 / temperature); below 1 favours the likely values.
        """
        return self.pick(params, self.noise(draws, params.shape[1]), Taste(temperature))

    @abstractmethod
    def mode(self, params: Tensor) -> Tensor:
        """The likeliest value of each element, (..., D); for pictures of a mean."""


class Discrete(Head):
    """Values 0..k-1, drawn by inversion of their cumulative distribution."""

    @abstractmethod
    def table(self, params: Tensor) -> Tensor:
        """Nats of every value up to a constant, (..., k), under ``params``, (..., outputs)."""

    def noise(self, draws: Draws, count: int) -> Tensor:
        return draws.uniform(count, 1)

    def pick(self, params: Tensor, noise: Tensor, taste: Taste = PLAIN) -> Tensor:
        return choose(taste.logits(self.table(params)), noise.squeeze(-1))


class Bernoulli(Discrete):
    """Values 0 and 1 from one logit."""

    def embed(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return (2 * x.to(dtype) - 1).unsqueeze(-1)

    def marginal(self, x: Tensor) -> Tensor:
        ones = x.double().sum(0)
        return ((ones + 0.5) / (len(x) - ones + 0.5)).log().unsqueeze(-1)  # half a count keeps constant elements finite

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        logit = params.squeeze(-1)
        return functional.logsigmoid((2 * x.to(logit.dtype) - 1) * logit)

    def table(self, params: Tensor) -> Tensor:
        return torch.cat([-params, params], dim=-1) / 2

    def mode(self, params: Tensor) -> Tensor:
        return (params.squeeze(-1) > 0).long()


class Categorical(Discrete):
    """Values 0..k-1 from k logits.

    Args:
        values: k.
        ordered: whether a value is a quantity (a grey level: the network sees a number in [-1, 1]) or a name (a token: it
            sees one of k directions).
        fine: whether it sees quantities with their waves, see :func:`quantities`.
    """

    def __init__(self, values: int, *, ordered: bool, fine: bool = False) -> None:
        self.outputs, self.ordered, self.fine = values, ordered, fine
        self.inputs = (1 + 2 * len(PERIODS) if fine else 1) if ordered else values

    def embed(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        if self.ordered:
            return quantities(x, self.outputs, dtype, fine=self.fine)
        return functional.one_hot(x.long(), self.outputs).to(dtype)

    def marginal(self, x: Tensor) -> Tensor:
        counts = torch.stack([(x == value).sum(0) for value in range(self.outputs)], dim=-1)
        return ((counts + 0.5) / (len(x) + 0.5 * self.outputs)).log()

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        return params.log_softmax(-1).gather(-1, x.long().unsqueeze(-1)).squeeze(-1)

    def table(self, params: Tensor) -> Tensor:
        return params

    def mode(self, params: Tensor) -> Tensor:
        return params.argmax(-1)


class Gaussian(Head):
    """A real number from a mean and a scale.

    Args:
        floor: smallest standard deviation; more keeps the density of repeated values from running away.
    """

    outputs = 2

    def __init__(self, *, floor: float = FLOOR) -> None:
        self.floor = floor

    def embed(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return x.to(dtype).unsqueeze(-1)

    def marginal(self, x: Tensor) -> Tensor:
        var, mean = torch.var_mean(x.double(), dim=0, correction=0)
        return torch.stack([mean, _raw_scale(var.sqrt(), self.floor)], dim=-1)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        mean, raw = params.unbind(-1)
        return _log_normal(x, mean, _scale(raw, self.floor))

    def noise(self, draws: Draws, count: int) -> Tensor:
        return draws.normal(count, 1)

    def pick(self, params: Tensor, noise: Tensor, taste: Taste = PLAIN) -> Tensor:
        mean, raw = params.unbind(-1)
        return mean + math.sqrt(taste.cool()) * _scale(raw, self.floor) * noise.squeeze(-1)

    def mode(self, params: Tensor) -> Tensor:
        return params[..., 0]


class MixtureOfGaussians(Head):
    """A real number from the weights, means and scales of ``components`` Gaussians.

    ``temperature`` acts on the choice of the component and on the Gaussian within it; both are p^(1 / temperature).

    Args:
        components: number K of Gaussians; more fit finer shapes and cost in proportion.
        floor: smallest standard deviation of a component.
    """

    def __init__(self, components: int, *, floor: float = FLOOR) -> None:
        self.components, self.floor = components, floor
        self.outputs = 3 * components

    def embed(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return x.to(dtype).unsqueeze(-1)

    def marginal(self, x: Tensor) -> Tensor:
        # One component a quantile, so that no two start alike, as wide as its neighbours are far.
        x, count = x.double(), self.components
        middles = (torch.arange(count, dtype=x.dtype, device=x.device) + 0.5) / count
        means = torch.quantile(x, middles, dim=0).T
        width = (x.amax(0) - x.amin(0)).unsqueeze(-1) / (2 * count)
        return torch.cat([torch.zeros_like(means), means, _raw_scale(width.expand_as(means), self.floor)], dim=-1)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        logits, mean, raw = params.chunk(3, dim=-1)
        parts = _log_normal(x.unsqueeze(-1), mean, _scale(raw, self.floor))
        return (logits.log_softmax(-1) + parts).logsumexp(-1)

    def noise(self, draws: Draws, count: int) -> Tensor:
        return torch.cat([draws.uniform(count, 1), draws.normal(count, 1)], dim=-1)

    def pick(self, params: Tensor, noise: Tensor, taste: Taste = PLAIN) -> Tensor:
        (logits, mean, raw), temperature = params.chunk(3, dim=-1), taste.cool()
        chosen = choose(logits / temperature, noise[..., 0]).unsqueeze(-1)
        mean, scale = (part.gather(-1, chosen).squeeze(-1) for part in (mean, _scale(raw, self.floor)))
        return mean + math.sqrt(temperature) * scale * noise[..., 1]

    def mode(self, params: Tensor) -> Tensor:
        """Mean of the component with the highest peak, which is the mode where components do not overlap."""
        logits, mean, raw = params.chunk(3, dim=-1)
        peak = (logits - _scale(raw, self.floor).log()).argmax(-1, keepdim=True)
        return mean.gather(-1, peak).squeeze(-1)


def head_for(spec: DataSpec, *, components: int = 1, floor: float = FLOOR, fine: bool = False) -> Head:
    """The head of data as ``spec`` describes them.

    Args:
        spec: what one datum is.
        components: Gaussians in the mixture of real data; 1 is a single Gaussian.
        floor: smallest standard deviation of real data, which the codec has standardised.
        fine: whether the network is to tell neighbouring levels apart, see :class:`Categorical`.
    """
    if spec.support.kind == "binary":
        return Bernoulli()
    if spec.support.discrete:
        return Categorical(spec.support.count, ordered=spec.support.kind == "levels", fine=fine)
    return Gaussian(floor=floor) if components == 1 else MixtureOfGaussians(components, floor=floor)


def _scale(raw: Tensor, floor: float) -> Tensor:
    return floor + functional.softplus(raw)


def _raw_scale(scale: Tensor, floor: float) -> Tensor:
    """Inverse of :func:`_scale`; scales at or below the floor become a little more than it."""
    return (scale - floor).clamp_min(0.1 * floor).expm1().log()


def _log_normal(x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    return -0.5 * ((x - mean) / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)


def choose(logits: Tensor, uniform: Tensor) -> Tensor:
    """Index of one of the last axis' logits, by inversion of the cumulative distribution; ``uniform`` is in [0, 1)."""
    # In float64: sums of many float32 probabilities would miss one by more than a uniform's own grain.
    edges = logits.double().softmax(-1).cumsum(-1)[..., :-1]
    return (uniform.double().unsqueeze(-1) >= edges).sum(-1)
