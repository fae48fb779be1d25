"""Toy distributions in one and two dimensions whose density is known, with the least loss that any model can reach.

    moons         two half circles, uniform along each, blurred                       p(x) = integral N(x; c(t), s^2 I) dt
    spirals       two arms, denser outwards, blurred                                  the same
    rings         four concentric circles, blurred                                    a Bessel function of the radius
    ring8, grid25 8 Gaussians on the unit circle, 25 on a grid                        finite mixture
    checkerboard  8 of 16 squares, blurred                                            sum of products of error functions
    pinwheel      5 Gaussians twisted about the origin                                the twist keeps volume
    mixture1d     three Gaussians on the line                                         finite mixture

Every density is exact, or quadrature to 1e-10, smooth and strictly positive, so its logarithm exists wherever a model
asks. ``best_nll`` is the entropy, -integral p log p, summed over a lattice finer than the smallest detail.

Source:  two moons: scikit-learn ``make_moons``.
         ring8, grid25: PacGAN (Lin, Khetan, Fanti & Oh, 2018), arXiv:1712.04086, Section 4.1.
         checkerboard, spirals, rings: FFJORD (Grathwohl et al., 2019), arXiv:1810.01367, Section 4.1.
         pinwheel: Composing graphical models with neural networks (Johnson et al., 2016), arXiv:1603.06277, Figure 1.
Differs: moons and rings are uniform along the curve, not at equal angles of a fixed number of points. The checkerboard's edges
         are blurred by 0.05 and the spirals have Gaussian noise alone, so that their densities are smooth. The pinwheel
         twists by the radius, not by the first coordinate, which makes the map invertible and its Jacobian constant.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sixfold.solve.quadrature import counts_for, gauss_legendre, lattice

TAIL = 7.0  # standard deviations beyond which a Gaussian holds less than 3e-12 of its mass
CHUNK = 2**22  # distances held at once while a mixture is evaluated: 32 MB


class Toy(ABC):
    """A known distribution with a box around it and a class for each draw."""

    @property
    @abstractmethod
    def low(self) -> tuple[float, ...]:
        """Lower corner of a box outside which there is practically nothing."""

    @property
    @abstractmethod
    def high(self) -> tuple[float, ...]:
        """Upper corner of that box."""

    @property
    @abstractmethod
    def scale(self) -> float:
        """Size of the smallest detail."""

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Names of the labels."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """True log-density in nats, (B,), computed in float64 and returned in the dtype of ``x``."""

    @abstractmethod
    def labelled(self, num: int, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Independent draws, (num, D) in float32, and the class of each, (num,) in int64."""

    def sample(self, num: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws, (num, D) in float32."""
        return self.labelled(num, generator=generator)[0]

    @cached_property
    def best_nll(self) -> float:
        """Entropy in nats: the least expected negative log-likelihood of any model."""
        return entropy(self)


def entropy(toy: Toy, *, finer: float = 1.0) -> float:
    """-integral p log p over the toy's box, in nats, to 1e-6; ``finer`` divides the spacing, which is half the scale."""
    points, volume = lattice(toy.low, toy.high, counts_for(toy.low, toy.high, toy.scale / (2 * finer)))
    log_p = toy.log_prob(points)
    return -float((log_p.exp() * log_p).sum()) * volume


def _device(generator: torch.Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device


def _normal(num: int, dims: int, generator: torch.Generator | None) -> Tensor:
    return torch.randn(num, dims, generator=generator, device=_device(generator), dtype=torch.float64)


def _uniform(num: int, generator: torch.Generator | None) -> Tensor:
    return torch.rand(num, generator=generator, device=_device(generator), dtype=torch.float64)


def _choice(num: int, count: int, generator: torch.Generator | None) -> Tensor:
    return torch.randint(count, (num,), generator=generator, device=_device(generator))


@dataclass(frozen=True, eq=False)
class Mixture(Toy):
    """Isotropic Gaussians of one width.

    Args:
        centres: means, (K, D), float64.
        std: standard deviation of each.
        weights: probability of each, (K,), summing to one; ``None`` makes them equal.

    Example:
        >>> Mixture(torch.zeros(1, 2, dtype=torch.float64), 1.0).log_prob(torch.zeros(1, 2))
        tensor([-1.8379])
    """

    centres: Tensor
    std: float
    weights: Tensor | None = None

    @property
    def low(self) -> tuple[float, ...]:
        return tuple((self.centres.amin(0) - TAIL * self.std).tolist())

    @property
    def high(self) -> tuple[float, ...]:
        return tuple((self.centres.amax(0) + TAIL * self.std).tolist())

    @property
    def scale(self) -> float:
        return self.std

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(f"mode {k}" for k in range(len(self.centres)))

    @cached_property
    def log_weights(self) -> Tensor:
        """Logarithms of the weights, (K,)."""
        count = len(self.centres)
        return torch.full((count,), -math.log(count), dtype=torch.float64) if self.weights is None else self.weights.log()

    def log_prob(self, x: Tensor) -> Tensor:
        rows = max(1, CHUNK // len(self.centres))
        return torch.cat([self._log_prob(part) for part in torch.split(x.double(), rows)]).to(x.dtype)

    def _log_prob(self, x: Tensor) -> Tensor:
        c, log_w = self.centres.to(x.device), self.log_weights.to(x.device)
        square = x.square().sum(1, keepdim=True) - 2 * x @ c.T + c.square().sum(1)
        norm = x.shape[1] / 2 * math.log(2 * math.pi * self.std**2)
        return torch.logsumexp(log_w - square / (2 * self.std**2), dim=1) - norm

    def labelled(self, num: int, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        edges = self.log_weights.exp().cumsum(0)[:-1].to(_device(generator))
        mode = torch.bucketize(_uniform(num, generator), edges, right=True)
        noise = _normal(num, self.centres.shape[1], generator)
        return (self.centres.to(noise.device)[mode] + self.std * noise).float(), mode


@dataclass(frozen=True, eq=False)
class NoisyCurve(Toy):
    """Points along curves, blurred by an isotropic Gaussian; the density is the integral along the curves.

    Args:
        branches: by name, each maps a position t in [0, 1], (B,), to points of the plane, (B, 2); t is uniform and a branch is
            as likely as another.
        noise: standard deviation of the blur.
        nodes: of the quadrature along one branch; more resolve a longer curve or less noise.
    """

    branches: dict[str, Callable[[Tensor], Tensor]]
    noise: float
    nodes: int = 128

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.branches)

    @cached_property
    def quadrature(self) -> Mixture:
        """The curve as Gaussians at the nodes. t = s^2 keeps a branch smooth that moves like the root of t at its start."""
        s, w = gauss_legendre(0.0, 1.0, self.nodes)
        centres = torch.cat([branch(s.square()) for branch in self.branches.values()])
        return Mixture(centres, self.noise, (2 * s * w).repeat(len(self.branches)) / len(self.branches))

    @property
    def low(self) -> tuple[float, ...]:
        return self.quadrature.low

    @property
    def high(self) -> tuple[float, ...]:
        return self.quadrature.high

    @property
    def scale(self) -> float:
        return self.noise

    def log_prob(self, x: Tensor) -> Tensor:
        return self.quadrature.log_prob(x)

    def labelled(self, num: int, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        label = _choice(num, len(self.branches), generator)
        t, noise = _uniform(num, generator), _normal(num, 2, generator)
        points = torch.stack([branch(t) for branch in self.branches.values()])[label, torch.arange(num, device=t.device)]
        return (points + self.noise * noise).float(), label


@dataclass(frozen=True)
class Rings(Toy):
    """Circles about the origin, equally likely, blurred by an isotropic Gaussian.

    p(x) = mean over R of exp(-(r^2 + R^2) / 2 s^2) I0(r R / s^2) / (2 pi s^2), with r = |x|.

    Args:
        radii: of the circles.
        noise: standard deviation s of the blur.
    """

    radii: tuple[float, ...]
    noise: float

    @property
    def low(self) -> tuple[float, ...]:
        return (-max(self.radii) - TAIL * self.noise,) * 2

    @property
    def high(self) -> tuple[float, ...]:
        return (max(self.radii) + TAIL * self.noise,) * 2

    @property
    def scale(self) -> float:
        return self.noise

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(f"radius {radius:g}" for radius in self.radii)

    def log_prob(self, x: Tensor) -> Tensor:
        # The tiny term keeps the gradient of the root finite at the origin.
        r = (x.double().square().sum(1, keepdim=True) + 1e-30).sqrt()
        radii, var = torch.tensor(self.radii, dtype=torch.float64, device=x.device), self.noise**2
        # i0e is I0 scaled by exp(-r R / s^2), which completes the square.
        log_ring = torch.special.i0e(r * radii / var).log() - (r - radii).square() / (2 * var)
        return (torch.logsumexp(log_ring, dim=1) - math.log(2 * math.pi * var * len(self.radii))).to(x.dtype)

    def labelled(self, num: int, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        label = _choice(num, len(self.radii), generator)
        angle, noise = 2 * math.pi * _uniform(num, generator), _normal(num, 2, generator)
        radius = torch.tensor(self.radii, dtype=torch.float64, device=angle.device)[label]
        return (radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1) + self.noise * noise).float(), label


@dataclass(frozen=True)
class Checkerboard(Toy):
    """Uniform on every other square of a 4 x 4 board over [-4, 4]^2, blurred by an isotropic Gaussian.

    Args:
        noise: standard deviation of the blur.
    """

    noise: float = 0.05

    @property
    def low(self) -> tuple[float, ...]:
        return (-4 - TAIL * self.noise,) * 2

    @property
    def high(self) -> tuple[float, ...]:
        return (4 + TAIL * self.noise,) * 2

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(f"square {k}" for k in range(8))

    @property
    def scale(self) -> float:
        return self.noise

    @cached_property
    def corners(self) -> Tensor:
        """Lower left corner of each filled square, (8, 2)."""
        filled = [(i, j) for i in range(4) for j in range(4) if (i + j) % 2 == 0]
        return torch.tensor(filled, dtype=torch.float64) * 2 - 4

    def log_prob(self, x: Tensor) -> Tensor:
        start = (x.double()[:, None] - self.corners.to(x.device)) / self.noise
        log_sides = _log_normal_mass(start - 2 / self.noise, start)
        return (torch.logsumexp(log_sides.sum(2), dim=1) - math.log(32.0)).to(x.dtype)

    def labelled(self, num: int, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        label = _choice(num, 8, generator)
        place = 2 * _uniform(2 * num, generator).reshape(num, 2)
        noise = _normal(num, 2, generator)
        return (self.corners.to(place.device)[label] + place + self.noise * noise).float(), label


def _log_normal_mass(low: Tensor, high: Tensor) -> Tensor:
    """log(Phi(high) - Phi(low)) for low < high, by the smaller tail so that nothing cancels far out."""
    flip = low > 0
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    upper: Tensor = torch.special.log_ndtr(high)
    lower: Tensor = torch.special.log_ndtr(low)
    return upper + torch.log1p(-(lower - upper).exp())


@dataclass(frozen=True)
class Pinwheel(Toy):
    """Arms of Gaussians at radius 1, turned by an angle that grows with the radius, everything times 2.

    x = 2 R(2 pi k / arms + twist exp|f|) f  with  f ~ N((1, 0), diag(radial^2, tangential^2)). A rotation by a function of the
    radius keeps area, so the Jacobian is 4.

    Args:
        arms: how many.
        radial: spread along an arm.
        tangential: spread across it.
        twist: angle in radians per e-fold of the exponential of the radius; 0 leaves straight arms.
    """

    arms: int = 5
    radial: float = 0.3
    tangential: float = 0.1
    twist: float = 0.25

    @property
    def low(self) -> tuple[float, ...]:
        return (-2 - 2 * TAIL * self.radial,) * 2

    @property
    def high(self) -> tuple[float, ...]:
        return (2 + 2 * TAIL * self.radial,) * 2

    @property
    def scale(self) -> float:
        """The smallest detail: the width of an arm where the twist has sheared it thin."""
        return self.tangential

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(f"arm {k}" for k in range(self.arms))

    def log_prob(self, x: Tensor) -> Tensor:
        y = x.double() / 2
        radius = (y.square().sum(1) + 1e-30).sqrt()  # the tiny term keeps the root's gradient finite at the origin
        turn = torch.arange(self.arms, dtype=torch.float64, device=x.device) * (2 * math.pi / self.arms)
        along, across = _rotate(y[:, None], -(turn + self.twist * radius[:, None].exp())).unbind(-1)
        square = ((along - 1) / self.radial).square() + (across / self.tangential).square()
        norm = math.log(2 * math.pi * self.radial * self.tangential * 4 * self.arms)
        return (torch.logsumexp(-square / 2, dim=1) - norm).to(x.dtype)

    def labelled(self, num: int, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        label = _choice(num, self.arms, generator)
        noise = _normal(num, 2, generator)
        f = noise * noise.new_tensor([self.radial, self.tangential]) + noise.new_tensor([1.0, 0.0])
        turn = label * (2 * math.pi / self.arms) + self.twist * f.norm(dim=1).exp()
        return (2 * _rotate(f, turn)).float(), label


def _rotate(points: Tensor, angle: Tensor) -> Tensor:
    """Points (..., 2) turned counter-clockwise by the angle in radians, (...)."""
    x, y = points.unbind(-1)
    return torch.stack([angle.cos() * x - angle.sin() * y, angle.sin() * x + angle.cos() * y], dim=-1)


def moons(noise: float = 0.1) -> NoisyCurve:
    """Two interleaving half circles of radius 1."""

    def outer(t: Tensor) -> Tensor:
        return torch.stack([(math.pi * t).cos(), (math.pi * t).sin()], dim=1)

    def inner(t: Tensor) -> Tensor:
        return torch.stack([1 - (math.pi * t).cos(), 0.5 - (math.pi * t).sin()], dim=1)

    return NoisyCurve({"outer": outer, "inner": inner}, noise)


def spirals(noise: float = 0.1) -> NoisyCurve:
    """Two arms of one and a half turns out to radius pi; the angle is 3 pi times the root of t."""

    def arm(t: Tensor) -> Tensor:
        angle = 3 * math.pi * t.sqrt()
        return (angle / 3)[:, None] * torch.stack([-angle.cos(), angle.sin()], dim=1)

    return NoisyCurve({"first": arm, "second": lambda t: -arm(t)}, noise, nodes=384)


def rings(noise: float = 0.08) -> Rings:
    """Four circles."""
    return Rings((0.75, 1.5, 2.25, 3.0), noise)


def ring8() -> Mixture:
    """Eight Gaussians of standard deviation 0.01 on the unit circle."""
    angle = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    return Mixture(torch.stack([angle.cos(), angle.sin()], dim=1), 0.01)


def grid25() -> Mixture:
    """Twenty-five Gaussians of standard deviation 0.05 on {-4, -2, 0, 2, 4}^2."""
    axis = torch.arange(-4, 5, 2, dtype=torch.float64)
    return Mixture(torch.cartesian_prod(axis, axis), 0.05)


def mixture1d() -> Mixture:
    """Three Gaussians of standard deviation 0.3 at -2, 0 and 1.5 with weights 0.3, 0.2 and 0.5."""
    centres = torch.tensor([[-2.0], [0.0], [1.5]], dtype=torch.float64)
    return Mixture(centres, 0.3, torch.tensor([0.3, 0.2, 0.5], dtype=torch.float64))


TOYS: dict[str, Callable[[], Toy]] = {
    "moons": moons,
    "spirals": spirals,
    "rings": rings,
    "ring8": ring8,
    "grid25": grid25,
    "checkerboard": Checkerboard,
    "pinwheel": Pinwheel,
    "mixture1d": mixture1d,
}
