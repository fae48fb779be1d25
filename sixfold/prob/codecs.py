"""Codecs: the way from data space to the space a model works in, and back, with the log-determinant between.

    log p(x) = log p_u(u) + log |det du/dx|                    for a bijection u of real data
    log P(x) >= E_v[ log p_u(u(x + v)) + log |det du/dx| ]     for uniform dequantisation, v ~ U[0, 1)^D

The second is a lower bound by Jensen's inequality (Theis et al., 2016, arXiv:1511.01844, section 3.1): an exact density of
dequantised data bounds the probability of the discrete data from below.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sixfold.core.draws import Draws
from sixfold.core.errors import Unsupported
from sixfold.core.spec import DataSpec

CodecName = Literal["auto", "standardise", "unit", "scale", "logit"]
NoiseName = Literal["uniform", "levels"]

NEARLY_UNIFORM = 0.573  # log of the scale at which such noise is closest to uniform, 0.017 nats away

# An optimiser moves each parameter by about its learning rate, and noise has further to go than a network's weights. On digits
# after 350 steps: 2.07 bits per dimension with the factor, 2.10 without, 2.16 with uniform noise.
RATE = 10.0

REACH = 9.0  # sigmoid(9) = 1 - 1.2e-4: of 256 levels float32 still tells the datum from its neighbour


class Codec(nn.Module, ABC):
    """One step between data space and model space, on batches of shape (B, *shape)."""

    def fit(self, x: Tensor) -> None:
        """Take statistics from training data, once."""

    @abstractmethod
    def encode(self, x: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Model space, (B, *shape) floats, and log |det du/dx| in nats, (B,)."""

    @abstractmethod
    def decode(self, u: Tensor) -> Tensor:
        """Data space; the inverse of :meth:`encode` (of its floor, after dequantisation)."""


class Centred(Draws):
    """Draws whose uniform numbers are all one half: data with levels go to the middle of their cells, always the same."""

    def uniform(self, *shape: int) -> Tensor:
        return torch.full((self.size, *shape), 0.5, device=self.device, dtype=self.dtype)


class Dequantise(Codec):
    """Levels 0..k-1 to [0, 1): u = (x + v) / k with v uniform, log-determinant -D log k.

    Args:
        levels: k.
        dtype: data space's integer type.
    """

    def __init__(self, levels: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.levels = levels
        self.data_dtype = dtype

    def encode(self, x: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        u = (x.to(draws.dtype) + draws.uniform(*x.shape[1:])) / self.levels
        return u, u.new_full((len(x),), -x[0].numel() * math.log(self.levels) if len(x) else 0.0)

    def decode(self, u: Tensor) -> Tensor:
        return (u * self.levels).floor().clamp(0, self.levels - 1).to(self.data_dtype)


class LevelNoise(Dequantise):
    """Dequantisation with noise learned for each level: u = (x + v) / k, v = sigmoid(f(m_x + s_x e)), e standard normal.

    f(r) = R tanh(r / R) with R = 9 keeps v so far from 0 and 1 that float32 does not round a datum into the next level.

        log P(x) >= E_e[ log p(u) - log k - log q(v | x) ]

    The bound holds whatever m and s are, and they are learned by tightening it. Uniform noise has corners, and no affine map
    makes a normal of it: a pixel that is always the same costs log(2 pi e / 12) / 2 = 0.18 nats, and with a bell's noise none.

    Source:  variational dequantisation: Flow++ (Ho et al., 2019), arXiv:1902.00275, section 3.1.
    Differs: the noise depends on the element's own level alone, so that there is no second flow. Parameters count tenfold.

    Args:
        levels: k.
        dtype: data space's integer type.
    """

    def __init__(self, levels: int, dtype: torch.dtype) -> None:
        super().__init__(levels, dtype)
        self.mean = nn.Parameter(torch.zeros(levels))
        self.log_std = nn.Parameter(torch.full((levels,), NEARLY_UNIFORM / RATE))

    def encode(self, x: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        e, level = draws.normal(*x.shape[1:]), x.long()
        log_std = RATE * self.log_std[level]
        reach = (RATE * self.mean[level] + log_std.exp() * e) / REACH
        raw = REACH * reach.tanh()
        # dv/de = s f' v (1 - v), so that -log q(v) = log s + log f' + log v + log(1 - v) - log N(e); f' = 1 - tanh^2.
        bend = 2 * (math.log(2.0) - reach - functional.softplus(-2 * reach))
        slope = log_std + bend + functional.logsigmoid(raw) + functional.logsigmoid(-raw)
        spread = slope + 0.5 * e.square() + 0.5 * math.log(2 * math.pi)
        return (x.to(draws.dtype) + raw.sigmoid()) / self.levels, (spread - math.log(self.levels)).flatten(1).sum(1)


class Affine(Codec):
    """u = (x - shift) / scale with the same numbers for every element, log-determinant -D log scale."""

    def __init__(self, *, shift: float, scale: float) -> None:
        super().__init__()
        self.shift, self.scale = shift, scale

    def encode(self, x: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        return (x - self.shift) / self.scale, x.new_full((len(x),), -x[0].numel() * math.log(self.scale) if len(x) else 0.0)

    def decode(self, u: Tensor) -> Tensor:
        return u * self.scale + self.shift


class Standardise(Codec):
    """u = (x - mean) / std, statistics of the training data for each element; constant elements keep scale 1.

    Args:
        shape: of one datum.
        shared: one scale for all elements, which keeps angles and the aspect of a plot.
        centred: one mean for all elements too, so that an image keeps its flat areas.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shape: tuple[int, ...], *, shared: bool = False, centred: bool = False) -> None:
        super().__init__()
        self.shared, self.centred = shared, centred
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))

    def fit(self, x: Tensor) -> None:
        x = x.double()
        mean = x.mean().expand(x.shape[1:]) if self.centred else x.mean(0)
        var = (x - mean).square().mean(0)
        std = (var.mean().expand_as(var) if self.shared else var).sqrt()
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-8 * (1 + mean.abs()), std, 1.0))

    def encode(self, x: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        return (x - self.mean) / self.std, -self.std.log().sum().expand(len(x))

    def decode(self, u: Tensor) -> Tensor:
        return u * self.std + self.mean


class Logit(Codec):
    """[0, 1] to the real line: u = logit(margin + (1 - 2 margin) x), so that a density on R^D fits bounded data.

    Args:
        margin: distance kept from 0 and 1; larger flattens the tails and loses contrast at the ends.
    """

    def __init__(self, *, margin: float = 0.01) -> None:
        super().__init__()
        self.margin = margin

    def encode(self, x: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        p = self.margin + (1 - 2 * self.margin) * x
        slope = math.log1p(-2 * self.margin) - p.log() - torch.log1p(-p)  # d logit(p) / dx
        return p.log() - torch.log1p(-p), slope.flatten(1).sum(1)

    def decode(self, u: Tensor) -> Tensor:
        # The margin makes the inverse reach a little outside [0, 1]; data space is the closed interval.
        return ((u.sigmoid() - self.margin) / (1 - 2 * self.margin)).clamp(0, 1)


class Chain(Codec):
    """Codecs one after the other; log-determinants add up.

    Args:
        bounded: whether the result bounds discrete data from below (a dequantisation is among them).
    """

    def __init__(self, *parts: Codec) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.bounded = any(isinstance(part, Dequantise) for part in parts)

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Each part sees what the parts before it make of the data."""
        draws = Draws(len(x), generator=torch.Generator(x.device).manual_seed(0), dtype=torch.float64)
        for part in self.parts:
            assert isinstance(part, Codec)
            part.fit(x)
            x, _ = part.encode(x, draws)

    def encode(self, x: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        total = torch.zeros(len(x), device=x.device, dtype=draws.dtype)
        for part in self.parts:
            x, logdet = part.encode(x, draws)  # type: ignore[operator]
            total = total + logdet
        return x, total

    def decode(self, u: Tensor) -> Tensor:
        for part in reversed(self.parts):
            u = part.decode(u)  # type: ignore[operator]
        return u


def codec_for(
    spec: DataSpec, name: CodecName = "auto", *, shared: bool = False, noise: NoiseName = "uniform", margin: float = 0.01
) -> Chain:
    """The codec of a continuous model for data as ``spec`` describes them.

    ``auto``: real data are standardised; levels are dequantised and scaled to [-1, 1].
    ``logit``: levels are dequantised and mapped to the real line, then standardised (flows).
    ``unit``: one mean and one scale for all elements, so that together they have mean 0 and variance 1.

    Args:
        spec: what one datum is.
        name: which way.
        shared: standardise all elements by one mean and one scale.
        noise: of the dequantisation, uniform or learned for each level.
        margin: of the logit; larger flattens the tails and loses contrast at the ends.

    Raises:
        Unsupported: for unordered tokens, which no dequantisation makes continuous, and for a codec that does not apply.
    """
    if spec.support.kind == "tokens":
        raise Unsupported("tokens have no order to dequantise along; got tokens. Use an autoregressive model.")
    if not spec.support.discrete:
        if name in ("scale", "logit"):
            raise Unsupported(f"codec {name!r} is for data with levels; got real data. Use codec='standardise'.")
        return Chain(_standardise(spec, name, shared=shared))
    first = (LevelNoise if noise == "levels" else Dequantise)(spec.support.count, spec.dtype)
    if name == "logit":
        return Chain(first, Logit(margin=margin), _standardise(spec, name, shared=shared))
    if name in ("standardise", "unit"):
        return Chain(first, _standardise(spec, name, shared=shared))
    return Chain(first, Affine(shift=0.5, scale=0.5))


def _standardise(spec: DataSpec, name: CodecName, *, shared: bool) -> Standardise:
    alike = shared or name == "unit"
    return Standardise(spec.shape, shared=alike, centred=alike)


class Elements(nn.Module):
    """Data as the flat elements of a likelihood head, (B, D): discrete ones as they are, real ones standardised.

    Args:
        spec: what one datum is.
    """

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.spec = spec
        self.codec = None if spec.support.discrete else codec_for(spec)

    def fit(self, x: Tensor) -> None:
        """Take the statistics of real training data."""
        if self.codec is not None:
            self.codec.fit(x)

    def encode(self, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Elements, (B, D), and the log-determinant, (B,), which is 0 for discrete data; floats are of ``dtype``."""
        if self.codec is None:
            return x.flatten(1).long(), torch.zeros(len(x), device=x.device, dtype=dtype)
        u, logdet = self.codec.encode(x, Draws(len(x), device=x.device, dtype=dtype))  # real data draw nothing
        return u.flatten(1), logdet

    def decode(self, u: Tensor) -> Tensor:
        """Data of elements, (B, D) to (B, *shape)."""
        u = u.reshape(-1, *self.spec.shape)
        return u.to(self.spec.dtype) if self.codec is None else self.codec.decode(u)
