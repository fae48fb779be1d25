"""Denoising diffusion: data are drowned in noise step by step, and a network learns to take the noise out again.

    z_t = alpha_t u + sigma_t eps,      loss = E_t w(t) | network(z_t, t) - target |^2              Eq. (14) has eps and w = 1

u is the datum behind its codec: standardised, or dequantised and scaled to [-1, 1]. The target is eps, u, or
v = alpha eps - sigma u; time is uniform, and how much of it goes to each noise level is the schedule's choice. Any shape,
although the only network so far flattens it; conditional on classes or vectors, with guidance. Two likelihoods, a lower bound
of ancestral sampling and the density of the probability flow, are written out with what diffusion models share. Sampling
takes many network calls, and there is no short code of a datum.

Source:  Denoising Diffusion Probabilistic Models (Ho, Jain & Abbeel, 2020), arXiv:2006.11239, Algorithms 1 and 2.
         v: Progressive Distillation (Salimans & Ho, 2022), arXiv:2202.00512. Stratified times: Variational Diffusion Models
         (Kingma et al., 2021), arXiv:2107.00630. Guidance: Ho & Salimans (2022), arXiv:2207.12598. min-snr: Hang et al. (2023),
         arXiv:2303.09556.
Differs: time is continuous. v and the cosine schedule are the default, because v alone is accurate at both ends of the schedule;
         eps with a linear beta, as in the paper, is a preset. Each step's variance is the smaller of the paper's two.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.model import Array, Batch, Terms, Trajectory
from sixfold.core.signature import Count, Natural, NonNegative, Share
from sixfold.core.spec import DataSpec
from sixfold.models.diffusion._family import NETWORKS, PARAMETRISATIONS, Diffusion, NetworkName, Predict, columns
from sixfold.prob.codecs import CodecName, codec_for
from sixfold.prob.schedules import Schedule, ScheduleName, Spacing, split
from sixfold.solve.diffusion import Denoiser, ancestral, ddim

Weight: TypeAlias = Literal["simple", "eps", "x0", "v", "min-snr", "elbo"]
Sampler: TypeAlias = Literal["ancestral", "ddim"]

MIN_SNR = 5.0  # gamma of Hang et al.


class DDPM(Diffusion):
    """A network that sees a noisy datum, its noise level and a condition, with samplers and likelihoods around it.

    Args:
        predict: what the network is asked for: v is accurate at every noise level, eps only away from pure noise, x0 only
            away from clean data.
        schedule: how the noise grows with time, which is also how often each noise level is trained on.
        weight: of the squared error at each noise level: simple, of the predicted quantity as it is; eps, x0 or v, of this
            quantity whatever is predicted; min-snr, of x0 times the SNR up to 5; elbo, the bound in nats per dimension.
        network: which network; mlp flattens the datum.
        width: hidden units a layer; more fits finer shapes and costs quadratically.
        depth: hidden layers.
        fourier: frequencies at which an mlp sees each element of data of up to 8 dimensions; more reach finer structure.
        drop: share of conditions hidden in training, from which guidance learns the unconditional model; 0 rules guidance out.
        log_snr_max: log-SNR of the cleanest state; more keeps detail below exp(-log_snr_max / 2) and leaves more to learn.
        log_snr_min: log-SNR of the noisiest state, where sampling starts; it should be close to pure noise.
        codec: from data to the space that noise is added in; auto standardises real data and scales levels to [-1, 1].
            Standardised levels suit an mlp better where some elements hardly vary, as the border of digits.

    Raises:
        BadInput: when the schedule's ends are not in order.
        Unsupported: for tokens.

    Example:
        >>> from sixfold.core.spec import Support
        >>> model = DDPM(DataSpec((2,), Support("real")))
        >>> print(model.log_prob(torch.zeros(1, 2)).nats)
        tensor([-1.8379])
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        predict: Predict = "v",
        schedule: ScheduleName = "cosine",
        weight: Weight = "simple",
        network: NetworkName = "mlp",
        width: Count = 128,
        depth: Count = 3,
        fourier: Natural = 6,
        drop: Share = 0.1,
        log_snr_max: float = 10.0,
        log_snr_min: float = -10.0,
        codec: CodecName = "auto",
    ) -> None:
        super().__init__(spec, codec=codec_for(spec, codec), schedule=Schedule(schedule, log_snr_max, log_snr_min))
        self.predict, self.weight, self.drop = predict, weight, drop
        # Levels lie in [-1, 1] behind their codec, and so does what is expected of them.
        self.limit = 1.0 if spec.support.discrete and codec in ("auto", "scale") else math.inf
        cond = spec.cond.size + 1 if spec.cond.kind != "none" else 0
        self.network = NETWORKS[network](spec.shape, cond=cond, width=width, depth=depth, fourier=fourier)
        if not self.schedule.ends_in_noise:
            warnings.warn(
                f"the schedule does not end in noise: its SNR at t = 1 is {self.schedule.snr_stop:.2g}, but sampling starts"
                " from pure noise, so that samples will differ from the data. Use log_snr_min=-10.",
                UserWarning,
                stacklevel=2,
            )

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

    def velocity(self, z: Tensor, log_snr: Tensor, given: Tensor | None) -> Tensor:
        """The network's v at one log-SNR for all, (), or one a row, (B,)."""
        rows = log_snr.to(z.device, z.dtype).expand(len(z))
        alpha, sigma = (columns(c, z) for c in split(rows))
        return PARAMETRISATIONS[self.predict].to_v(self.network(z, rows, given), z, alpha, sigma)

    @torch.no_grad()
    def sample(
        self,
        num: int,
        *,
        cond: Array | int | None = None,
        generator: torch.Generator | None = None,
        steps: Count = 100,
        sampler: Sampler = "ancestral",
        eta: Share = 0.0,
        spacing: Spacing = "time",
        guidance: NonNegative = 1.0,
    ) -> Tensor:
        """Draws in data space, (num, *shape): a walk from noise to the cleanest state, then the mean of the datum given it.

        Args:
            num: how many.
            cond: condition, one for all or one a draw.
            generator: source of randomness.
            steps: of the walk, one network call each; the error falls in proportion.
            sampler: ancestral adds noise in each step, ddim follows the probability flow.
            eta: share of the noise that ddim adds in each step; at 1 it is ancestral.
            spacing: of the steps' times: even in time, quadratic (finer towards the data) or even in log-SNR.
            guidance: weight of the condition; 1 is the model's own conditional, more makes draws more typical of it and less
                diverse, 0 ignores it.

        Raises:
            BadInput: for a condition that ``spec`` does not describe, or an eta without ddim.
            Unsupported: for guidance of a model that has no condition, or was always shown it.
        """
        *_, (_, x) = self._walk(num, cond, generator, steps, sampler, eta, spacing, guidance)
        return self.codec.decode(x)

    @torch.no_grad()
    def trajectory(
        self,
        num: int,
        *,
        frames: Count = 20,
        cond: Array | int | None = None,
        generator: torch.Generator | None = None,
        steps: Count = 100,
        sampler: Sampler = "ancestral",
    ) -> Trajectory:
        """``frames`` states on the way from noise to the draws that :meth:`sample` gives for the same arguments.

        Args:
            num: how many draws.
            frames: how many states, at steps as evenly spaced as they can be; the last is the sample itself.
            cond: condition, one for all or one a draw.
            generator: source of randomness.
            steps: of the walk.
            sampler: which walk.
        """
        states = list(self._walk(num, cond, generator, steps, sampler, 0.0, "time", 1.0))
        kept = [states[i] for i in torch.linspace(len(states) - 1, 0, frames).round().long().flip(0)]
        return Trajectory(torch.stack([t for t, _ in kept]), torch.stack([self.codec.decode(z).to(self.dtype) for _, z in kept]))

    def _walk(
        self,
        num: int,
        cond: Array | int | None,
        generator: torch.Generator | None,
        steps: int,
        sampler: Sampler,
        eta: float,
        spacing: Spacing,
        guidance: float,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Times and states of sampling behind the codec: noise, one state a step, and the datum in place of the last."""
        if sampler == "ancestral" and eta:
            raise BadInput(f"eta is the noise of ddim; got eta={eta} with sampler='ancestral'. Use sampler='ddim'.")
        draws, times = self.draws(num, generator), self.schedule.grid(steps, spacing)
        denoiser = self._denoiser(num, self.take_cond(cond, num), guidance)
        z = draws.normal(*self.spec.shape)
        yield times[0], z
        if sampler == "ancestral":
            walk = ancestral(denoiser, self.schedule, z, times, draws=draws)
        else:
            walk = ddim(denoiser, self.schedule, z, times, draws=draws, eta=eta)
        for t, z in zip(times[1:], walk, strict=True):
            yield t, z if t > 0 else denoiser(z, t)

    def _denoiser(self, num: int, cond: Tensor | None, guidance: float) -> Denoiser:
        """E[u | z] at a time, within the data's range where that is bounded; guidance mixes it with the unconditional."""
        if guidance != 1 and (cond is None or not self.drop):
            why = "this model has no condition" if cond is None else "this model was always shown its condition (drop=0)"
            raise Unsupported(f"{why}, so it cannot be guided; got guidance={guidance:g}. Leave guidance at 1.")
        shown = self._given(cond, self._shown(num))

        def denoise(z: Tensor, t: Tensor) -> Tensor:
            log_snr = self.schedule.log_snr(t)
            v = self.velocity(z, log_snr, shown)
            if guidance != 1 and shown is not None:
                v = torch.lerp(self.velocity(z, log_snr, torch.zeros_like(shown)), v, guidance)
            alpha, sigma = split(log_snr)
            return (alpha * z - sigma * v).clamp(-self.limit, self.limit)

        return denoise


PRESETS = {
    "eps": {"predict": "eps", "schedule": "linear"},
    "x0": {"predict": "x0", "log_snr_max": 6.0},
    "pixels": {"codec": "standardise"},
}
RECIPE = {"lr": 1e-2, "batch": 1024, "steps": 1500, "ema": 0.99}
