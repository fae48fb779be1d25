"""Generative adversarial network: a generator x = G(z), z ~ N(0, I), that learns against a critic D of real and generated data.

    critic      min_D  E[ s(D(G(z)) - D(x)) ] + gamma/2 E[ |grad D(x)|^2 ] + gamma/2 E[ |grad D(G(z))|^2 ]      RpGAN + R1 + R2
    generator   min_G  E[ s(D(x) - D(G(z))) ],                                                   s = softplus

The critic judges pairs of a real and a generated datum, and both penalties are taken in every one of its steps; the two together
make the game converge where either alone, or neither, need not. The game and the penalty are parts (``prob/adversarial.py``), and
so are spectral normalisation of the critic (``nn/spectral.py``) and the networks: fully connected (``nn/mlp.py``) or, for images,
convolutional (``nn/dcgan.py``), where a class enters the critic by projection and the generator by its normalisation. No network
normalises over the batch: penalties are of each datum's own gradient, and pairs, where a game has them, are of one real
and one generated datum, so no loss couples the batch.

Vectors, tables and images, conditional on classes or vectors. Discrete data are dequantised for the critic, and samples
are floored back to levels.

Can: sample in one pass of one network; show how draws change as their codes do; be conditioned on classes or vectors. Cannot: say
how likely a datum is, or give its code; say how good the model is, as the two losses only say who is ahead; keep separate modes
apart, which stay joined by a few points, for G is continuous.

Source:  The GAN is dead; long live the GAN! A modern GAN baseline (Huang, Gokaslan, Kuleshov & Tompkin, 2025), arXiv:2501.05441,
         Section 2. Preset ``nonsaturating``: Generative adversarial nets (Goodfellow et al., 2014), arXiv:1406.2661, Section 3.
         ``r1``: Mescheder et al. (2018), arXiv:1801.04406, Section 4. ``hinge``: Miyato et al. (2018), arXiv:1802.05957,
         Section 4. ``lsgan``: Mao et al. (2017), arXiv:1611.04076. ``wgan-gp``: Gulrajani et al. (2017), arXiv:1704.00028,
         Algorithm 1. ``dcgan``: Radford, Metz & Chintala (2016), arXiv:1511.06434.
         Penalties now and then: StyleGAN2 (Karras et al., 2020), arXiv:1912.04958, Section 3.1.
Differs: gamma is in units of data after the codec and falls tenfold by a cosine over the run, which gives coverage first and
         sharpness later. The preset ``nonsaturating`` keeps both penalties. No batch normalisation in ``dcgan`` and ``lsgan``;
         networks are this library's, and so are learning rates and steps, but for the rate of ``dcgan``. A penalty that is
         taken every k steps leaves the optimiser as it is, which StyleGAN2 slows down by k / (k + 1).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.model import Array, Batch, GenerativeModel, Player, Split, Terms
from sixfold.core.signature import Count, NonNegative, Share
from sixfold.core.spec import DataSpec
from sixfold.nn.dcgan import Critic, Generator, Up
from sixfold.nn.mlp import MLP
from sixfold.nn.spectral import spectral as normalise
from sixfold.prob.adversarial import PENALTIES, GameName, PenaltyName, Place, between, game_of, gradient_penalty
from sixfold.prob.codecs import CodecName, codec_for

ROWS = 1024
"""Data generated at once, which bounds the memory that a convolutional generator takes for its features."""


class GAN(GenerativeModel):
    """A generator and a critic.

    Args:
        latent: size of the noise z; more lets samples vary in more ways.
        network: fully connected, or convolutional for images.
        width: mlp: hidden units a layer of both networks; conv: channels at half of the image's size, doubled where it halves
            again. More fits finer shapes and costs quadratically.
        depth: hidden layers of both networks; conv has as many as the image's size asks for.
        up: how the convolutional generator's grids become finer; bilinear is smoother and slower.
        game: which losses the two play for; relativistic keeps all modes more reliably than the others.
        smoothing: by how much the critic's target for real data is lowered from 1, in games that have one; more keeps it unsure.
        penalty: where the critic's slope is held down.
        gamma: weight of the penalty at the start of a run, for data of unit variance; more keeps the critic smoother, which is
            safer and blurs what the generator is told.
        gamma_end: weight at the end of a run; less sharpens details and lets the game swing.
        every: steps of the critic between two with a penalty, which then counts as many times; more saves up to half of the
            time and lets the game swing in between.
        spectral: divide each of the critic's layers by its largest singular value, which bounds its slope without a penalty.
        critic_steps: of the critic for each of the generator; more keeps the critic closer to its best and costs in proportion.
        codec: from data to the space of the networks; auto standardises real data and scales levels to [-1, 1].

    Raises:
        Unsupported: for tokens, which have no order to dequantise along, convolutions of what is no image, and smoothing in a
            game without targets.

    Example:
        >>> from sixfold.core.spec import Support
        >>> GAN(DataSpec((2,), Support("real"))).sample(3).shape
        torch.Size([3, 2])
    """

    turn: Tensor

    def __init__(
        self,
        spec: DataSpec,
        *,
        latent: Count = 8,
        network: Literal["mlp", "conv"] = "mlp",
        width: Count = 64,
        depth: Count = 3,
        up: Up = "transposed",
        game: GameName = "relativistic",
        smoothing: Share = 0.0,
        penalty: PenaltyName = "r1+r2",
        gamma: NonNegative = 1.0,
        gamma_end: NonNegative = 0.1,
        every: Count = 1,
        spectral: bool = False,
        critic_steps: Count = 1,
        codec: CodecName = "auto",
    ) -> None:
        super().__init__(spec)
        self.latent, self.gamma, self.gamma_end, self.every, self.critic_steps = latent, gamma, gamma_end, every, critic_steps
        self.game, self.penalty = game_of(game, smoothing=smoothing), PENALTIES[penalty]
        self.codec = codec_for(spec, codec)
        self.generator: nn.Module
        self.critic: nn.Module
        if network == "conv":
            self._convolve(width, up, bounded=spec.support.discrete and codec in ("auto", "scale"))
        else:
            self.generator = MLP(latent, spec.dims, width=width, depth=depth, cond=spec.cond.size)
            self.critic = MLP(spec.dims, 1, width=width, depth=depth, cond=spec.cond.size, act="leaky_relu")
        self.shape = spec.shape if network == "conv" else (spec.dims,)
        if spectral:
            normalise(self.critic)
        self.register_buffer("turn", torch.tensor(0))

    def _convolve(self, width: int, up: Up, *, bounded: bool) -> None:
        """Convolutional networks; a bounded generator cannot leave the range of the codec."""
        spec = self.spec
        if not spec.is_image:
            raise Unsupported(f"network 'conv' is for images, (C, H, W); got data of shape {spec.shape}. Use network='mlp'.")
        self.generator = Generator(self.latent, spec.shape, width=width, cond=spec.cond.size, up=up, bounded=bounded)
        self.critic = Critic(spec.shape, width=width, cond=spec.cond.size)

    def players(self) -> dict[str, Player]:
        critic, generator = (list(network.parameters()) for network in (self.critic, self.generator))
        return {"critic": Player(critic, steps=self.critic_steps), "generator": Player(generator)}

    def prepare(self, data: Split) -> None:
        """Statistics of the codec."""
        self.codec.fit(data.rows())

    def loss(self, batch: Batch, player: str) -> Terms:
        real, _ = self.codec.encode(batch.x, batch.draws)
        real, z = real.reshape(-1, *self.shape), batch.draws.normal(self.latent)
        cond = self.spec.cond.features(batch.cond, real)
        if player == "generator":
            return self._generator_loss(real, z, cond)
        return self._critic_loss(real, z, cond, batch)

    def after_step(self, player: str) -> None:
        """Count the critic's steps, for penalties that are not taken in each."""
        self.turn += player == "critic"

    def weight(self, progress: float) -> float:
        """Weight of the penalty at that share of the run, a half cosine from ``gamma`` to ``gamma_end``: its mean over steps."""
        return self.gamma_end + (self.gamma - self.gamma_end) * 0.5 * (1 + math.cos(math.pi * progress))

    def _critic_loss(self, real: Tensor, z: Tensor, cond: Tensor | None, batch: Batch) -> Terms:
        """Real data, (B, *shape), noise, (B, Z), and features of the condition, (B, C), to the critic's loss, (B,)."""
        with torch.no_grad():
            fake = self.generator(z, cond).to(real.dtype)
        due = self.every == 1 or int(self.turn) % self.every == 0
        weight = self.penalty.factor * self.every * self.weight(batch.progress)
        scores, penalties = self._judge(real, fake, cond, batch.draws, at=self.penalty.at if due and weight else ())
        game = self.game.critic(scores["real"], scores["fake"])
        parts = {f"penalty_{place}": value for place, value in penalties.items()}
        loss = sum((weight * value for value in penalties.values()), game)
        return Terms(loss, game=game, margin=scores["real"] - scores["fake"], **parts)

    def _judge(
        self, real: Tensor, fake: Tensor, cond: Tensor | None, draws: Draws, *, at: tuple[Place, ...]
    ) -> tuple[dict[Place, Tensor], dict[Place, Tensor]]:
        """Scores and penalties by place, (B,) each; data with a penalty and data without go through the critic apart."""
        points: dict[Place, Tensor] = {"real": real, "fake": fake}
        if "between" in at:
            points["between"] = between(real, fake, draws.uniform())
        scores: dict[Place, Tensor] = {}
        penalties: dict[Place, Tensor] = {}
        rest = tuple(place for place in points if place not in at)
        for places in filter(None, (at, rest)):
            x = torch.cat([points[place] for place in places]).requires_grad_(places is at)
            score = self.critic(x, None if cond is None else cond.repeat(len(places), 1)).squeeze(1).to(real.dtype)
            scores |= zip(places, score.chunk(len(places)), strict=True)
            if places is at:
                slopes = gradient_penalty(score, x, centre=self.penalty.centre)
                penalties |= zip(places, slopes.chunk(len(places)), strict=True)
        return scores, penalties

    def _generator_loss(self, real: Tensor, z: Tensor, cond: Tensor | None) -> Terms:
        """The same to the generator's loss, (B,); the critic enters as a fixed function."""
        with torch.no_grad():
            r = self.critic(real, cond).squeeze(1)
        fixed = {name: p.detach() for name, p in self.critic.named_parameters()}
        f = functional_call(self.critic, fixed, (self.generator(z, cond), cond)).squeeze(1)
        return Terms(self.game.generator(r.to(real.dtype), f.to(real.dtype)))

    @torch.no_grad()
    def decode(self, z: Array, cond: Array | int | None = None) -> Tensor:
        """The datum of each noise, (B, *shape), in data space.

        Args:
            z: noise, (B, Z), standard normal in training; a path through it gives a path through the data.
            cond: a label or vector for all, or one for each.

        Raises:
            BadInput: for noise of another size.
        """
        noise = torch.as_tensor(z).to(self.device, self.dtype)
        if noise.ndim != 2 or noise.shape[1] != self.latent:
            raise BadInput(f"noise must have shape (B, {self.latent}); got {tuple(noise.shape)}. Draw it with torch.randn.")
        features = self.spec.cond.features(self.take_cond(cond, len(noise)), noise)
        parts = torch.split(torch.arange(len(noise), device=self.device), ROWS)
        made = [self.generator(noise[part], None if features is None else features[part]) for part in parts]
        return self.codec.decode(torch.cat(made).reshape(-1, *self.spec.shape))

    def sample(self, num: int, *, cond: Array | int | None = None, generator: torch.Generator | None = None) -> Tensor:
        return self.decode(self.draws(num, generator).normal(self.latent), cond)


PRESETS = {
    "nonsaturating": {"game": "nonsaturating"},
    "r1": {"game": "nonsaturating", "penalty": "r1", "gamma_end": 1.0},
    "hinge": {"game": "hinge", "penalty": "none", "spectral": True, "recipe": {"betas": [0.0, 0.9]}},
    "lsgan": {"game": "least_squares", "penalty": "none", "recipe": {"betas": [0.5, 0.999]}},
    "wgan-gp": {
        "game": "wasserstein", "penalty": "gp", "gamma": 10.0, "gamma_end": 10.0, "critic_steps": 5,
        "recipe": {"steps": 1300, "betas": [0.0, 0.9]},
    },
    "dcgan": {
        "network": "conv", "latent": 100, "width": 32, "game": "nonsaturating", "penalty": "none",
        "recipe": {"lr": 2e-4, "batch": 64, "steps": 10_000, "betas": [0.5, 0.999], "precision": "bfloat16"},
    },
    "mnist": {
        "network": "conv", "latent": 64, "width": 32,
        "recipe": {"lr": 5e-4, "batch": 64, "steps": 8000, "precision": "bfloat16"},
    },
}  # fmt: skip
RECIPE = {"lr": 1e-3, "batch": 256, "steps": 4000, "betas": [0.0, 0.99], "floor": 0.2, "ema": 0.999}
