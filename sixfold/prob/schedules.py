"""Noise schedules: how much of the datum and how much noise a state holds at each time.

    z_t = alpha_t x + sigma_t eps,    alpha_t^2 + sigma_t^2 = 1,    log-SNR(t) = log alpha_t^2 / sigma_t^2 falls with t

A schedule is its log-SNR as a function of time, cut to [log_snr_min, log_snr_max] so that both ends are finite. The scale of z is
a convention: schedules with another one (variance exploding, straight paths) hold the same information at the same
log-SNR, so that they are variance preserving here as well (Kingma et al., 2021, Section 5.1).

    linear       alpha^2 = exp(-(0.1 t + 9.95 t^2)): the noise rate beta rises linearly from 0.1 to 20
    cosine       alpha = cos(pi t / 2): most time at log-SNR near zero, density sech(log-SNR / 2) / 2 pi
    rectified    alpha : sigma = 1 - t : t, the straight path of flow matching
    log-linear   log-SNR falls linearly: as much time at every noise level
    log-normal   log sigma / alpha ~ N(centre, spread^2) at a uniform time: time goes to the levels about the centre; for the
                 straight path's own time t the same is logit-normal

Source:  Variational Diffusion Models (Kingma, Salimans, Poole & Ho, 2021), arXiv:2107.00630, Sections 3.1 and 5.1;
         linear: Score-Based Generative Modeling through SDEs (Song et al., 2021), arXiv:2011.13456, Eq. (33);
         cosine: Improved DDPM (Nichol & Dhariwal, 2021), arXiv:2102.09672, Eq. (17); log-normal and the grid "karras":
         Elucidating the Design Space of Diffusion-Based Generative Models (Karras, Aittala, Aila & Laine, 2022),
         arXiv:2206.00364, Table 1 and Eq. (5).
Differs: the ends are cut by log-SNR rather than by an offset of the cosine or a clipped beta.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from sixfold.core.errors import BadInput

ScheduleName: TypeAlias = Literal["linear", "cosine", "rectified", "log-linear"]
DensityName: TypeAlias = Literal["log-normal", "linear", "cosine", "rectified", "log-linear"]
Spacing: TypeAlias = Literal["time", "quadratic", "log-snr", "karras"]

BETA_START, BETA_STOP = 0.1, 20.0
SPREADS = 7.0  # further from the centre of a log-normal, its distribution function cannot be told from 0 or 1
RHO = 7.0  # of Karras et al.: how much finer their grid is towards the data
ENDS_IN_NOISE = 1e-2  # largest SNR at t = 1 at which starting from pure noise is right; DDPM has 4e-5


class Curve(NamedTuple):
    """A log-SNR over all of its natural time, and the time of a log-SNR."""

    log_snr: Callable[[Tensor], Tensor]
    time: Callable[[Tensor], Tensor]


def _linear_log_snr(t: Tensor) -> Tensor:
    return -torch.expm1(BETA_START * t + (BETA_STOP - BETA_START) / 2 * t.square()).log()


def _linear_time(log_snr: Tensor) -> Tensor:
    spent = torch.nn.functional.softplus(-log_snr)  # integral of beta up to that time
    return 2 * spent / (BETA_START + (BETA_START**2 + 2 * (BETA_STOP - BETA_START) * spent).sqrt())


CURVES: dict[ScheduleName, Curve] = {
    "linear": Curve(_linear_log_snr, _linear_time),
    "cosine": Curve(lambda t: -2 * (math.pi / 2 * t).tan().log(), lambda s: 2 / math.pi * (-s / 2).exp().atan()),
    "rectified": Curve(lambda t: 2 * ((1 - t) / t).log(), lambda s: (-s / 2).sigmoid()),
    "log-linear": Curve(lambda t: -t, lambda s: -s),
}


def log_normal(centre: float, spread: float) -> Curve:
    """The curve whose log sigma / alpha is distributed as N(centre, spread^2) at a uniform time."""
    return Curve(
        lambda t: -2 * (centre + spread * torch.special.ndtri(t)),
        lambda s: torch.special.ndtr((-s / 2 - centre) / spread),
    )


def split(log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """Signal alpha and noise sigma of a log-SNR, each of its shape: alpha^2 = sigmoid(log-SNR), sigma^2 = sigmoid(-log-SNR)."""
    return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()


def columns(values: Tensor, like: Tensor) -> Tensor:
    """One number a row, (B,), shaped to multiply (B, *shape)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def noisy(u: Tensor, log_snr: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """States z = alpha u + sigma noise at each row's log-SNR, (B,), and v = alpha noise - sigma u, each (B, *shape)."""
    alpha, sigma = (columns(c, u) for c in split(log_snr))
    return alpha * u + sigma * noise, alpha * noise - sigma * u


@dataclass(frozen=True)
class Schedule:
    """A variance preserving schedule over t in [0, 1].

    Args:
        name: which curve.
        log_snr_max: at t = 0; more keeps finer detail in the least noisy state and leaves more levels to learn.
        log_snr_min: at t = 1; less makes the last state purer noise.
        centre: of log sigma / alpha, for log-normal; more gives more time to noisy states.
        spread: its standard deviation, for log-normal; more gives more time to the far levels.

    Raises:
        BadInput: when the ends are not in order, or too many spreads from the centre.

    Example:
        >>> alpha, sigma = Schedule("cosine")(torch.tensor(0.5))
        >>> bool(torch.isclose(alpha**2 + sigma**2, torch.tensor(1.0)))
        True
    """

    name: DensityName
    log_snr_max: float = 10.0
    log_snr_min: float = -10.0
    centre: float = -0.5
    spread: float = 1.2

    def __post_init__(self) -> None:
        if not self.log_snr_min < self.log_snr_max:
            raise BadInput(f"log_snr_min must lie below log_snr_max; got {self.log_snr_min} and {self.log_snr_max}.")
        far = max(abs(-end / 2 - self.centre) / self.spread for end in (self.log_snr_max, self.log_snr_min))
        if self.name == "log-normal" and far > SPREADS:
            raise BadInput(f"log-normal noise must end within {SPREADS:g} spreads of its centre; got {far:.3g}. Use more spread.")

    @property
    def _curve(self) -> Curve:
        return log_normal(self.centre, self.spread) if self.name == "log-normal" else CURVES[self.name]

    @property
    def _ends(self) -> tuple[float, float]:
        ends = self._curve.time(torch.tensor([self.log_snr_max, self.log_snr_min], dtype=torch.float64))
        return float(ends[0]), float(ends[1])

    @property
    def snr_stop(self) -> float:
        """Signal-to-noise ratio at t = 1."""
        return math.exp(self.log_snr_min)

    @property
    def ends_in_noise(self) -> bool:
        """Whether the last state is close enough to N(0, I) for sampling to start there."""
        return self.snr_stop <= ENDS_IN_NOISE

    def log_snr(self, t: Tensor) -> Tensor:
        """Logarithm log alpha_t^2 / sigma_t^2 at times in [0, 1], any shape; falls strictly."""
        start, stop = self._ends
        return self._curve.log_snr(start + (stop - start) * t)

    def time_of(self, log_snr: Tensor) -> Tensor:
        """The time with that log-SNR; the inverse of :meth:`log_snr`."""
        start, stop = self._ends
        return (self._curve.time(log_snr) - start) / (stop - start)

    def slope(self, t: Tensor) -> Tensor:
        """Derivative d log-SNR / dt, negative, of the shape of t."""
        derivative: Tensor = torch.func.jvp(self.log_snr, (t,), (torch.ones_like(t),))[1]
        return derivative

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha_t and sigma_t, each of the shape of t."""
        return split(self.log_snr(t))

    def grid(self, steps: int, spacing: Spacing = "time") -> Tensor:
        """Times from 1 (noise) down to 0 (data), (steps + 1,) in float64; both ends are included.

        Args:
            steps: intervals; more make a sampler more accurate and slower.
            spacing: ``time`` in equal steps of t, ``quadratic`` finer towards the data, ``log-snr`` in equal steps of log-SNR,
                ``karras`` in equal steps of (sigma / alpha)^(1 / 7), between the last two.
        """
        even = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)
        if spacing == "time":
            return even
        if spacing == "quadratic":
            return even.square()
        inner = self.time_of(self._even(even, spacing))
        return torch.cat([even[:1], inner[1:-1], even[-1:]])  # the ends exactly, whatever the inverse rounds to

    def _even(self, places: Tensor, spacing: Spacing) -> Tensor:
        """Log-SNR at places in [0, 1], even in log-SNR or in a root of sigma / alpha."""
        if spacing == "log-snr":
            return self.log_snr_max + (self.log_snr_min - self.log_snr_max) * places
        low, high = (math.exp(-end / (2 * RHO)) for end in (self.log_snr_max, self.log_snr_min))
        return -2 * RHO * (low + (high - low) * places).log()


SCHEDULES: tuple[ScheduleName, ...] = tuple(CURVES)
