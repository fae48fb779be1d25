"""What diffusion models share: a network that is asked for v, or what v follows from, and all that follows from v alone.

With z = alpha u + sigma eps, alpha^2 + sigma^2 = 1 and v = alpha eps - sigma u, each of eps, u, v follows from z and any other,
and so does the flow eps - u of straight paths:

    eps = sigma z + alpha v        u = alpha z - sigma v        |d eps|^2 = alpha^2 |d v|^2        |d u|^2 = sigma^2 |d v|^2
    flow = (sigma - alpha) z + (alpha + sigma) v                |d flow|^2 = (alpha + sigma)^2 |d v|^2

v is the hub because these conversions have no division: eps loses u where alpha vanishes, u loses eps where sigma does. At
alpha : sigma = 1 : y it is -F of Karras et al. for data of unit variance, and z is their c_in x. A loss is

    E_t w(t) | network(z_t, t) - target |^2,      time t uniform: how much of it goes to each noise level is the schedule's choice


    score  grad log p(z) = -(z + alpha / sigma v_hat)
    bound  log p(u) >= log N(u; 0, I) + 1/2 E int a(l) ( |v|^2 - |v - v_hat|^2 ) dl,      l from log_snr_min to log_snr_max + 1
    ode    dz/dphi = v_hat(z, phi),  tan phi = sigma / alpha:      log p(u) = log N(z_end; 0, I) + int div v_hat dphi

The bound is that of ancestral sampling in infinitely many steps, prior and decoder included: a(l) = alpha^2 at log-SNR l, and
the last unit stands for the decoder N(u_hat(z), sigma^2 I) at l = log_snr_max, with a = 1. It is written against the model
whose v_hat is 0, that is N(0, I), for which it is exact; its noise vanishes where v_hat does. The ode is the density of the
probability flow, which DDIM follows. The two agree only where the network is right.

Source:  Progressive Distillation (Salimans & Ho, 2022), arXiv:2202.00512, Section 4 and Appendix D: v and the flow in phi;
         Variational Diffusion Models (Kingma et al., 2021), arXiv:2107.00630, Eq. (11) to (17): the bound;
         Score-Based Generative Modeling through SDEs (Song et al., 2021), arXiv:2011.13456, Section 4.3: the ode;
         Classifier-Free Diffusion Guidance (Ho & Salimans, 2022), arXiv:2207.12598; min-snr: Hang et al. (2023),
         arXiv:2303.09556.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Annotated, Literal, NamedTuple, TypeAlias

import torch
from annotated_types import Ge
from torch import Tensor, nn

from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.likelihood import Estimate, Kind, LogProb, Lower, Measure, Numerical
from sixfold.core.model import Array, Batch, GenerativeModel, Split, Terms, Trajectory
from sixfold.core.signature import Count, NonNegative, Share
from sixfold.core.spec import DataSpec
from sixfold.nn.timed import check_guidance, flagged
from sixfold.prob.codecs import Chain, Codec
from sixfold.prob.schedules import Schedule, Spacing, columns, noisy, split
from sixfold.solve.diffusion import Denoiser, Sampler, walk
from sixfold.solve.ode import EXACT_DIMS, exact_divergence, hutchinson_divergence, integrate_with_divergence

Predict: TypeAlias = Literal["v", "eps", "x0", "flow"]
Weight: TypeAlias = Literal["simple", "eps", "x0", "v", "flow", "min-snr", "elbo"]

MIN_SNR = 5.0  # gamma of Hang et al.


class Parametrisation(NamedTuple):
    """One of the quantities: to v and from v, each of (quantity, z, alpha, sigma), and its squared error over that of v."""

    to_v: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    from_v: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    error: Callable[[Tensor, Tensor], Tensor]


PARAMETRISATIONS: dict[Predict, Parametrisation] = {
    "v": Parametrisation(lambda v, z, a, s: v, lambda v, z, a, s: v, lambda a, s: torch.ones_like(a)),
    "eps": Parametrisation(lambda e, z, a, s: (e - s * z) / a, lambda v, z, a, s: s * z + a * v, lambda a, s: a.square()),
    "x0": Parametrisation(lambda x, z, a, s: (a * z - x) / s, lambda v, z, a, s: a * z - s * v, lambda a, s: s.square()),
    "flow": Parametrisation(
        lambda f, z, a, s: (f - (s - a) * z) / (a + s),
        lambda v, z, a, s: (s - a) * z + (a + s) * v,
        lambda a, s: (a + s).square(),
    ),
}


class Way(NamedTuple):
    """How a model walks from noise to data; see :meth:`Diffusion.sample`."""

    steps: int
    sampler: Sampler
    eta: float = 0.0
    spacing: Spacing = "time"
    guidance: float = 1.0


def log_normal(z: Tensor) -> Tensor:
    """Log-density log N(z; 0, I) in nats, (B, *shape) to (B,)."""
    return -0.5 * (z.square() + math.log(2 * math.pi)).flatten(1).sum(1)


class Diffusion(GenerativeModel, ABC):
    """A model that denoises; its own class says with what network, codec and schedule, and how it samples unless told otherwise.

    Args:
        spec: what one datum is.
        codec: between data space and the space that noise is added in.
        schedule: of the noise, and of the time spent on each of its levels in training.
        network: of states (B, *shape), log-SNRs (B,) and features of a condition (B, C + 1) to what it is asked for.
        predict: what that is.
        weight: of the squared error at each noise level.
        drop: share of conditions hidden in training.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        codec: Chain,
        schedule: Schedule,
        network: nn.Module,
        predict: Predict,
        weight: Weight,
        drop: float,
    ) -> None:
        super().__init__(spec)
        self.codec, self.schedule, self.network = codec, schedule, network
        self.predict, self.weight, self.drop = predict, weight, drop
        if not schedule.ends_in_noise:
            warnings.warn(
                f"the schedule does not end in noise: its SNR at t = 1 is {schedule.snr_stop:.2g}, but sampling starts"
                " from pure noise, so that samples will differ from the data. Use log_snr_min=-10.",
                UserWarning,
                stacklevel=3,
            )

    def velocity(self, z: Tensor, log_snr: Tensor, given: Tensor | None) -> Tensor:
        """v_hat, (B, *shape), of states at one log-SNR for all, (), or one a row, (B,), given features of a condition."""
        rows = log_snr.to(z.device, z.dtype).expand(len(z))
        alpha, sigma = (columns(c, z) for c in split(rows))
        return PARAMETRISATIONS[self.predict].to_v(self.network(z, rows, given), z, alpha, sigma)

    def loss(self, batch: Batch, player: str) -> Terms:
        """Weighted mean square error of the predicted quantity at one random time a datum, (B,); ``v`` is that of v."""
        u, _ = self.codec.encode(batch.x, batch.draws)
        t = batch.draws.stratified()
        log_snr = self.schedule.log_snr(t)
        z, v = self._noisy(u, log_snr, batch.draws)
        shown = (batch.draws.uniform() >= self.drop).to(u.dtype)
        out = self.network(z, log_snr, self._given(batch.cond, shown))
        alpha, sigma = split(log_snr)
        asked = PARAMETRISATIONS[self.predict]
        error = (out - asked.from_v(v, z, columns(alpha, u), columns(sigma, u))).square().flatten(1).mean(1)
        scale = asked.error(alpha, sigma)
        return Terms(self._weights(t, alpha, sigma, scale) * error, v=error / scale)

    def _weights(self, t: Tensor, alpha: Tensor, sigma: Tensor, scale: Tensor) -> Tensor:
        """Weight, (B,), of the error of what is predicted, which is ``scale`` times the error of v."""
        if self.weight == "simple":
            return torch.ones_like(alpha)
        if self.weight == "elbo":
            return -0.5 * self.schedule.slope(t) * alpha.square() / scale
        if self.weight == "min-snr":
            return (alpha / sigma).square().clamp(max=MIN_SNR) * sigma.square() / scale
        return PARAMETRISATIONS[self.weight].error(alpha, sigma) / scale

    @abstractmethod
    def sample(
        self,
        num: int,
        *,
        cond: Array | int | None = None,
        generator: torch.Generator | None = None,
        steps: Count = ...,
        sampler: Sampler = ...,
        eta: Share = ...,
        spacing: Spacing = ...,
        guidance: NonNegative = ...,
    ) -> Tensor:
        """Draws in data space, (num, *shape): a walk from noise to the cleanest state, then the mean of the datum given it.

        Args:
            num: how many.
            cond: condition, one for all or one a draw.
            generator: source of randomness.
            steps: of the walk, one network call each (heun: two) and one in the end; the error falls with the sampler's order.
            sampler: ancestral and euler-maruyama add noise in each step, at order 1; the others follow the probability flow,
                ddim at order 1, heun and dpm++2m at 2, dpm++3m at up to 3.
            eta: share of the noise that ddim adds in each step; at 1 it is ancestral.
            spacing: of the steps' times: even in time, quadratic (finer towards the data), even in log-SNR, or even in
                the seventh root of the noise's share (karras).
            guidance: weight of the condition; 1 is the model's own conditional, more makes draws more typical of it and less
                diverse, 0 ignores it. Any but 1 takes twice the network calls.

        Raises:
            BadInput: for a condition that ``spec`` does not describe, or an eta without ddim.
            Unsupported: for guidance of a model that has no condition, or was always shown it.
        """

    @abstractmethod
    def trajectory(
        self,
        num: int,
        *,
        frames: Count = 20,
        cond: Array | int | None = None,
        generator: torch.Generator | None = None,
        steps: Count = ...,
        sampler: Sampler = ...,
        spacing: Spacing = ...,
        guidance: NonNegative = ...,
    ) -> Trajectory:
        """``frames`` states on the way from noise to the draws that :meth:`sample` gives for the same arguments.

        Args:
            num: how many draws.
            frames: how many states, at steps as evenly spaced as they can be; the last is the sample itself.
            cond: condition, one for all or one a draw.
            generator: source of randomness.
            steps: of the walk.
            sampler: which walk.
            spacing: of its times.
            guidance: weight of the condition.
        """

    @torch.no_grad()
    def noised(self, x: Array, times: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Data at times from 0, data, to 1, noise: (T, B, *shape) floats in data space, as the states of :meth:`trajectory`.

        A datum keeps its noise over all times, of which each shows more: z_t = alpha_t u + sigma_t eps.

        Args:
            x: data, (B, *shape).
            times: (T,), in [0, 1].
            generator: of the noise.

        Raises:
            BadInput: for data that ``spec`` does not describe.
        """
        data = self.take(x)
        draws = self.draws(len(data), generator)
        u, _ = self.codec.encode(data, draws)
        noise = draws.normal(*self.spec.shape)
        scales = [(c.to(u) for c in self.schedule(t)) for t in times.double()]
        return torch.stack([self.codec.decode(alpha * u + sigma * noise).to(self.dtype) for alpha, sigma in scales])

    def _end(self, num: int, cond: Array | int | None, generator: torch.Generator | None, way: Way) -> Tensor:
        """Draws in data space, (num, *shape)."""
        *_, (_, x) = self._walk(num, cond, generator, way)
        return self.codec.decode(x)

    def _frames(self, num: int, frames: int, cond: Array | int | None, generator: torch.Generator | None, way: Way) -> Trajectory:
        """Some of the states of a way, in data space as floats."""
        states = list(self._walk(num, cond, generator, way))
        kept = [states[i] for i in torch.linspace(len(states) - 1, 0, frames).round().long().flip(0)]
        return Trajectory(torch.stack([t for t, _ in kept]), torch.stack([self.codec.decode(z).to(self.dtype) for _, z in kept]))

    def _walk(
        self, num: int, cond: Array | int | None, generator: torch.Generator | None, way: Way
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Times and states of sampling behind the codec: noise, one state a step, and the datum in place of the last."""
        if way.eta and way.sampler != "ddim":
            raise BadInput(f"eta is the noise of ddim; got eta={way.eta} with sampler={way.sampler!r}. Use sampler='ddim'.")
        draws, times = self.draws(num, generator), self.schedule.grid(way.steps, way.spacing)
        denoiser = self._denoiser(num, self.take_cond(cond, num), way.guidance)
        start = draws.normal(*self.spec.shape)
        yield times[0], start
        states = walk(way.sampler, denoiser, self.schedule, start, times, draws=draws, eta=way.eta)
        for t, z in self.told(zip(times[1:], states, strict=True), len(times) - 1):
            yield t, z if t > 0 else denoiser(z, t)

    def _denoiser(self, num: int, cond: Tensor | None, guidance: float) -> Denoiser:
        """E[u | z] at a time, within the data's range where that is bounded; guidance mixes it with the unconditional."""
        check_guidance(guidance, cond, self.drop)
        shown, limits = self._given(cond, self._shown(num)), self._limits()

        def denoise(z: Tensor, t: Tensor) -> Tensor:
            log_snr = self.schedule.log_snr(t)
            v = self.velocity(z, log_snr, shown)
            if guidance != 1 and shown is not None:
                v = torch.lerp(self.velocity(z, log_snr, torch.zeros_like(shown)), v, guidance)
            alpha, sigma = split(log_snr)
            u = alpha * z - sigma * v
            return u if limits is None else u.clamp(*limits)

        return denoise

    def _limits(self) -> tuple[Tensor, Tensor] | None:
        """Least and largest datum behind the codec, each (*shape); real data have none."""
        if not self.spec.support.discrete:
            return None
        ends = torch.tensor([0.0, 1.0], device=self.device, dtype=self.dtype)
        ends = ends.reshape(2, *[1] * len(self.spec.shape)).expand(2, *self.spec.shape)  # of what is dequantised
        for part in list(self.codec.parts)[1:]:
            assert isinstance(part, Codec)
            ends, _ = part.encode(ends, self.draws(2, None))
        return ends[0], ends[1]

    def prepare(self, data: Split) -> None:
        """Statistics of the codec."""
        self.codec.fit(data.rows())

    def _noisy(self, u: Tensor, log_snr: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """A draw of the state z at each row's log-SNR, (B,), given the datum, and v of the same noise."""
        return noisy(u, log_snr, draws.normal(*self.spec.shape))

    def _given(self, cond: Tensor | None, shown: Tensor) -> Tensor | None:
        """Features of the condition and a flag that it is shown, (B, C + 1)."""
        return flagged(self.spec.cond.features(cond, shown), shown)

    def _shown(self, num: int) -> Tensor:
        return torch.ones(num, device=self.device, dtype=self.dtype)

    @torch.no_grad()
    def log_prob(
        self,
        x: Array,
        cond: Array | int | None = None,
        *,
        effort: Count = 16,
        method: Literal["auto", "bound", "ode"] = "auto",
        probes: Annotated[int, Ge(2)] = 4,
        generator: torch.Generator | None = None,
    ) -> LogProb[Kind]:
        """Nats per datum, (B,), by the variational bound or the probability flow; the kind says which.

        ============================  =================================================================
        bound                         Lower, in expectation over its noise, with the standard error
        ode, real, up to 8 elements   Numerical; the tolerance is the change from half the steps, at least the mean one
        ode, real, more               Estimate without bias, up to the same tolerance
        ode, discrete                 Estimate, biased low: of a bound, by dequantisation
        ============================  =================================================================

        Args:
            x: data, (B, *shape).
            cond: labels (B,) or vectors (B, C).
            effort: in units of four network calls: Runge-Kutta steps of the ode, rounded up to an even number, or a quarter of
                the noise levels of the bound; more is more accurate and slower.
            method: auto takes the ode for real data of up to 8 elements, else the bound.
            probes: repetitions of an Estimate, each with its own random trace and dequantisation; more narrow it.
            generator: source of randomness.

        Raises:
            BadInput: for data or a condition that ``spec`` does not describe.
        """
        data = self.take(x)
        given = self._given(self.take_cond(cond, len(data)), self._shown(len(data)))
        exact = self.spec.dims <= EXACT_DIMS and not self.spec.support.discrete
        if method == "bound" or (method == "auto" and not exact):
            return self._bound(data, given, 4 * effort, self.draws(len(data), generator))
        return self._ode(data, given, -(-effort // 2), 1 if exact else probes, generator)

    def _bound(self, x: Tensor, given: Tensor | None, levels: int, draws: Draws) -> LogProb[Lower]:
        """The integral by one draw in each of ``levels`` equal cells of log-SNR."""
        low, high = self.schedule.log_snr_min, self.schedule.log_snr_max
        places = low + (high + 1 - low) * (torch.arange(levels, device=x.device) + draws.uniform(levels)) / levels
        found = [self._one_level(x, given, place, draws) for place in places.unbind(1)]
        terms = torch.stack(found)
        # Neighbouring cells hardly differ in mean, so that their differences are the noise.
        noise = terms.diff(dim=0).square().sum(0) / (2 * levels * (levels - 1))
        method, measure = f"variational bound, {levels} noise levels", Measure(self.spec.support.size)
        return LogProb(terms.mean(0), Lower, method, self.spec.dims, measure, stderr=noise.sqrt())

    def _one_level(self, x: Tensor, given: Tensor | None, place: Tensor, draws: Draws) -> Tensor:
        """The bound from one log-SNR a datum, (B,), drawn evenly from the whole range."""
        low, high = self.schedule.log_snr_min, self.schedule.log_snr_max
        u, logdet = self.codec.encode(x, draws)
        log_snr = place.clamp(max=high)
        z, v = self._noisy(u, log_snr, draws)
        gain = (v.square() - (v - self.velocity(z, log_snr, given)).square()).flatten(1).sum(1)
        density = torch.where(place > high, 1.0, log_snr.sigmoid())
        return log_normal(u) + logdet + (high + 1 - low) / 2 * density * gain

    def _ode(
        self, x: Tensor, given: Tensor | None, steps: int, repeats: int, generator: torch.Generator | None
    ) -> LogProb[Numerical] | LogProb[Estimate]:
        """The probability flow solved in ``steps`` and in twice as many, for each of the repetitions of a datum."""
        x, given = x.repeat_interleave(repeats, 0), None if given is None else given.repeat_interleave(repeats, 0)
        draws = self.draws(len(x), generator)
        u, logdet = self.codec.encode(x, draws)
        signs = 2 * draws.integers(2, *self.spec.shape).to(u.dtype) - 1
        divergence = exact_divergence if self.spec.dims <= EXACT_DIMS else hutchinson_divergence(signs)

        def solve(steps: int) -> Tensor:
            def field(z: Tensor, phi: Tensor) -> Tensor:
                return self.velocity(z, -2 * phi.tan().log(), given)

            z, integral = integrate_with_divergence(field, u, self._angles(steps), divergence=divergence)
            return (log_normal(z) + integral + logdet).reshape(-1, repeats)

        coarse, fine = solve(steps), solve(2 * steps)
        change = (fine - coarse).mean(1).abs()
        tolerance = change.maximum(change.mean())  # where the error changes its sign, a datum's own change is no measure of it
        method, measure = f"probability flow, {2 * steps} steps", Measure(self.spec.support.size)
        if repeats == 1:
            return LogProb(fine[:, 0], Numerical, method, self.spec.dims, measure, tolerance=tolerance)
        squares = (fine - fine.mean(1, keepdim=True)).square().sum(1)  # std would warn of no data
        stderr = (squares / (repeats * (repeats - 1))).sqrt()
        bias: Literal["low", "none"] = "low" if self.spec.support.discrete else "none"
        return LogProb(fine.mean(1), Estimate, method, self.spec.dims, measure, stderr, tolerance, bias)

    def _angles(self, steps: int) -> Tensor:
        """Angles phi from data to noise, (steps + 1,), denser towards the data, where the flow bends most."""
        ends = torch.tensor([self.schedule.log_snr_max, self.schedule.log_snr_min], dtype=torch.float64)
        start, stop = (-ends / 2).exp().atan().unbind()
        return start + (stop - start) * torch.linspace(0, 1, steps + 1, dtype=torch.float64).square()

    @torch.no_grad()
    def score(self, x: Array, t: float | None = None, *, cond: Array | int | None = None) -> Tensor:
        """Gradient d log p_t / dx in data space, (B, *shape): where a state of the trajectory becomes likelier.

        Args:
            x: states at time t in data space, (B, *shape); data themselves are states at t = 0.
            t: time in [0, 1]; ``None`` is 0, the cleanest state.
            cond: condition, one for all or one a row.

        Raises:
            BadInput: for a time outside [0, 1].
            Unsupported: for discrete data, whose probability has no gradient.
        """
        if self.spec.support.discrete:
            raise Unsupported("a score is the gradient of a density; got discrete data. Fit real data to have one.")
        if t is not None and not 0 <= t <= 1:
            raise BadInput(f"t must lie in [0, 1], from data to noise; got {t}.")
        data = self.take(x)
        given = self._given(self.take_cond(cond, len(data)), self._shown(len(data)))
        out = torch.func.vjp(lambda y: self.codec.encode(y, self.draws(len(y), None))[0], data)
        z, pull = out[0], out[1]
        log_snr = self.schedule.log_snr(torch.tensor(t or 0.0, dtype=torch.float64))
        alpha, sigma = split(log_snr)
        found: Tensor = pull(-(z + alpha / sigma * self.velocity(z, log_snr, given)))[0]
        return found
