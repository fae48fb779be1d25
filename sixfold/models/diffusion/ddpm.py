"""Denoising diffusion: data are drowned in noise step by step, and a network learns to take the noise out again.

    z_t = alpha_t u + sigma_t eps,      loss = E_t w(t) | network(z_t, t) - target |^2              Eq. (14) has eps and w = 1

u is the datum behind its codec: standardised, or dequantised and scaled to [-1, 1]. The target is eps, u,
v = alpha eps - sigma u, or eps - u; time is uniform, and how much of it goes to each noise level is the schedule's choice. Any
shape, which the network flattens. Two likelihoods, a lower bound of ancestral sampling and the density of the probability flow,
are written out with what diffusion models share.

Can: bound how likely data are, and give the density of its flow numerically for few real dimensions; trade samples' quality for
network calls; be conditioned on classes or vectors, with guidance. Cannot: sample in few network calls; give a short code of a
datum; take tokens; see that pixels are neighbours.

Source:  Denoising Diffusion Probabilistic Models (Ho, Jain & Abbeel, 2020), arXiv:2006.11239, Algorithms 1 and 2.
         v: Progressive Distillation (Salimans & Ho, 2022), arXiv:2202.00512. Stratified times: Variational Diffusion Models
         (Kingma et al., 2021), arXiv:2107.00630. Guidance: Ho & Salimans (2022), arXiv:2207.12598. min-snr: Hang et al. (2023),
         arXiv:2303.09556.
Differs: time is continuous. v and the cosine schedule are the default, because v alone is accurate at both ends of the schedule;
         eps with a linear beta, as in the paper, is a preset. Each step's variance is the smaller of the paper's two.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from sixfold.core.model import Array, Trajectory
from sixfold.core.signature import Count, Natural, NonNegative, Share
from sixfold.core.spec import DataSpec
from sixfold.models.diffusion._family import Diffusion, Predict, Way, Weight
from sixfold.nn.timed import TimedMLP
from sixfold.prob.codecs import CodecName, codec_for
from sixfold.prob.schedules import Schedule, ScheduleName, Spacing
from sixfold.solve.diffusion import Sampler

NetworkName: TypeAlias = Literal["mlp"]
NETWORKS: dict[NetworkName, type[TimedMLP]] = {"mlp": TimedMLP}


class DDPM(Diffusion):
    """A network that sees a noisy datum, its noise level and a condition, with samplers and likelihoods around it.

    Args:
        predict: what the network is asked for: v is accurate at every noise level, eps only away from pure noise, x0 only
            away from clean data; flow is what straight paths follow.
        schedule: how the noise grows with time, which is also how often each noise level is trained on.
        weight: of the squared error at each noise level: simple, of the predicted quantity as it is; eps, x0, v or flow, of this
            quantity whatever is predicted; min-snr, of x0 times the SNR up to 5; elbo, the bound in nats per dimension.
        network: which network; mlp flattens the datum. diffusion/edm has one of convolutions.
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
        cond = spec.cond.size + 1 if spec.cond.kind != "none" else 0
        super().__init__(
            spec,
            codec=codec_for(spec, codec),
            schedule=Schedule(schedule, log_snr_max, log_snr_min),
            network=NETWORKS[network](spec.shape, cond=cond, width=width, depth=depth, fourier=fourier),
            predict=predict,
            weight=weight,
            drop=drop,
        )

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
        return self._end(num, cond, generator, Way(steps, sampler, eta, spacing, guidance))

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
        spacing: Spacing = "time",
        guidance: NonNegative = 1.0,
    ) -> Trajectory:
        return self._frames(num, frames, cond, generator, Way(steps, sampler, 0.0, spacing, guidance))


PRESETS = {
    "eps": {"predict": "eps", "schedule": "linear"},
    "x0": {"predict": "x0", "log_snr_max": 6.0},
    "pixels": {"codec": "standardise"},
}
RECIPE = {"lr": 1e-2, "batch": 1024, "steps": 1500, "ema": 0.99}
