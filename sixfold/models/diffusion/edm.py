"""Denoiser of images and points in a few steps: data of unit variance, log-normal noise in training, a second-order solver.

    D(x; s) = c_skip x + c_out F(c_in x, s),       loss = E_s c_out^-2 | D(y + s n; s) - y |^2            Eq. (7), (8)
    c_skip = d^2 / (s^2 + d^2),  c_out = s d / sqrt(s^2 + d^2),  c_in = 1 / sqrt(s^2 + d^2),      log s ~ N(centre, spread^2)

d is the standard deviation of the data. Here the codec divides by it, so that d = 1, s is sigma / alpha of a variance preserving
state z = c_in x, and F is -v. Whatever else the network may be asked for is the same denoiser with another weight of its error:
eps (ddpm), or the velocity of straight paths (flow). The flow's uniform time is the schedule "rectified", its logit-normal time
is log-normal noise. Images go through a U-Net and anything else through an MLP. The likelihoods are those of every
diffusion model: a lower bound, in bits per dimension of dequantised images as well, and the probability flow.

Can: sample in some 20 network calls; bound how likely data are, and give the density of its flow numerically for few real
dimensions; be conditioned on classes or vectors, with guidance. Cannot: sample in one call; give a short code of a datum; take
tokens.

Source:  Elucidating the Design Space of Diffusion-Based Generative Models (Karras, Aittala, Aila & Laine, 2022),
         arXiv:2206.00364, Table 1 and Section 5. flow: Flow Straight and Fast (Liu, Gong & Liu, 2022), arXiv:2209.03003; Flow
         Matching (Lipman et al., 2022), arXiv:2210.02747. ddpm: Ho, Jain & Abbeel (2020), arXiv:2006.11239.
Differs: noise is cut at both ends, and a batch draws one level from each of its equal shares. The centre is -0.5, which is the
         paper's -1.2 for its d = 0.5. Sampling is by DPM-Solver++ 2M, even in log-SNR; Heun and the paper's grid are there to
         choose. No churn, no dropout, no augmentation. The flow's network sees z and its log-SNR, which are the straight path's
         state and time up to a factor.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sixfold.core.model import Array, Trajectory
from sixfold.core.signature import Count, Natural, NonNegative, Positive, Share
from sixfold.core.spec import DataSpec
from sixfold.models.diffusion._family import Diffusion, Predict, Way, Weight
from sixfold.nn.timed import NetworkName, timed_network
from sixfold.prob.codecs import CodecName, codec_for
from sixfold.prob.schedules import DensityName, Schedule, Spacing
from sixfold.solve.diffusion import Sampler


class EDM(Diffusion):
    """A denoiser for data of unit variance, with samplers and likelihoods around it.

    Args:
        predict: what the network is asked for: v is accurate at every noise level, eps only away from pure noise, x0 only
            away from clean data, flow is the velocity eps - x0 of straight paths.
        noise: how often each noise level is trained on: log-normal, or evenly over a schedule's time.
        centre: of the logarithm of the noise over the data's standard deviation, for log-normal; more trains the overall shape,
            less the fine detail.
        spread: its standard deviation; more reaches further levels more often.
        weight: of the squared error at each noise level: simple, of the predicted quantity as it is; eps, x0, v or flow, of this
            quantity whatever is predicted; min-snr, of x0 times the SNR up to 5; elbo, the bound in nats per dimension.
        network: mlp flattens the datum, unet is for images; auto takes unet for images of at least 8x8 pixels.
        width: hidden units of an mlp's layer; more fits finer shapes and costs quadratically.
        depth: hidden layers of an mlp.
        fourier: frequencies at which an mlp sees each element of data of up to 8 dimensions; more reach finer structure.
        channels: of a unet's finest stage, twice as many in the next; more fits finer shapes and costs quadratically.
        blocks: residual blocks of each of its stages, down and up.
        stages: its resolutions, each half of the one before it.
        patch: side of the squares of pixels that it starts from; more is faster and coarser.
        attention: whether positions at its lowest resolution look at each other.
        drop: share of conditions hidden in training, from which guidance learns the unconditional model; 0 rules guidance out.
        log_snr_max: log-SNR of the cleanest state; more keeps detail below exp(-log_snr_max / 2) and leaves more to learn.
        log_snr_min: log-SNR of the noisiest state, where sampling starts; it should be close to pure noise.
        codec: from data to the space that noise is added in; auto standardises each element of real data, and all elements of
            data with levels by one mean and one scale.

    Raises:
        BadInput: when the ends are not in order, or more than 7 spreads from the centre.
        Unsupported: for tokens, and for a unet of anything but images.

    Example:
        >>> from sixfold.core.spec import Support
        >>> EDM(DataSpec((1, 8, 8), Support("levels", 4)), channels=8).sample(2, steps=3).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        predict: Predict = "v",
        noise: DensityName = "log-normal",
        centre: float = -0.5,
        spread: Positive = 1.2,
        weight: Weight = "simple",
        network: NetworkName = "auto",
        width: Count = 128,
        depth: Count = 3,
        fourier: Natural = 6,
        channels: Count = 32,
        blocks: Count = 1,
        stages: Count = 2,
        patch: Count = 2,
        attention: bool = True,
        drop: Share = 0.1,
        log_snr_max: float = 10.0,
        log_snr_min: float = -10.0,
        codec: CodecName = "auto",
    ) -> None:
        cond = spec.cond.size + 1 if spec.cond.kind != "none" else 0
        super().__init__(
            spec,
            codec=codec_for(spec, "unit" if codec == "auto" and spec.support.discrete else codec),
            schedule=Schedule(noise, log_snr_max, log_snr_min, centre, spread),
            network=timed_network(
                network,
                spec,
                cond=cond,
                width=width,
                depth=depth,
                fourier=fourier,
                channels=channels,
                blocks=blocks,
                stages=stages,
                patch=patch,
                attention=attention,
            ),
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
        steps: Count = 20,
        sampler: Sampler = "dpm++2m",
        eta: Share = 0.0,
        spacing: Spacing = "log-snr",
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
        steps: Count = 20,
        sampler: Sampler = "dpm++2m",
        spacing: Spacing = "log-snr",
        guidance: NonNegative = 1.0,
    ) -> Trajectory:
        return self._frames(num, frames, cond, generator, Way(steps, sampler, 0.0, spacing, guidance))


PRESETS = {
    "ddpm": {"predict": "eps", "noise": "linear"},
    "flow": {"predict": "flow", "noise": "rectified"},
    "mnist": {
        "log_snr_max": 11.0,
        "recipe": {"steps": 5200, "batch": 128, "lr": 2e-3, "ema": 0.999, "precision": "bfloat16", "betas": [0.9, 0.99]},
    },
    "mnist-ddpm": {
        "predict": "eps",
        "noise": "cosine",
        "log_snr_max": 11.0,
        "recipe": {"steps": 5200, "batch": 128, "lr": 2e-3, "ema": 0.999, "precision": "bfloat16", "betas": [0.9, 0.99]},
    },
    "mnist-flow": {
        "predict": "flow",
        "noise": "rectified",
        "log_snr_max": 11.0,
        "recipe": {"steps": 5200, "batch": 128, "lr": 2e-3, "ema": 0.999, "precision": "bfloat16", "betas": [0.9, 0.99]},
    },
}
RECIPE = {"lr": 1e-2, "batch": 1024, "steps": 1500, "ema": 0.99}
