"""Generative adversarial network: a generator x = G(z), z ~ N(0, I), that learns against a critic D of real and generated data.

    critic      min_D  E[ s(D(G(z)) - D(x)) ] + gamma/2 E[ |grad D(x)|^2 ] + gamma/2 E[ |grad D(G(z))|^2 ]      RpGAN + R1 + R2
    generator   min_G  E[ s(D(x) - D(G(z))) ],                                                   s = softplus

The critic judges pairs of a real and a generated datum, and both penalties are taken in every one of its steps; the two together
make the game converge where either alone, or neither, need not. Other games (``prob/adversarial.py``) take the pair's place
under the same penalties. Penalties are of each datum's own gradient, so the critic has no normalisation layers.

Vectors, tables and flattened images, conditional on classes or vectors. Discrete data are dequantised for the critic, and samples
are floored back to levels. A sample costs one pass of one network. There is no likelihood, no code of a given datum, and no
number that says how good the model is: the two losses only say who is ahead. Separate modes stay joined by a few points,
for G is continuous.

Source:  The GAN is dead; long live the GAN! A modern GAN baseline (Huang, Gokaslan, Kuleshov & Tompkin, 2025), arXiv:2501.05441,
         Section 2. Preset ``nonsaturating``: Generative adversarial nets (Goodfellow et al., 2014), arXiv:1406.2661, Section 3.
Differs: fully connected networks. gamma is in units of standardised data and falls tenfold by a cosine over the run, which gives
         coverage first and sharpness later. The preset ``nonsaturating`` keeps both penalties, which gamma=0 and gamma_end=0
         take away.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.func import functional_call

from sixfold.core.errors import BadInput
from sixfold.core.model import Array, Batch, GenerativeModel, Player, Split, Terms
from sixfold.core.signature import Count, NonNegative
from sixfold.core.spec import DataSpec
from sixfold.nn.mlp import MLP
from sixfold.prob.adversarial import GAMES, GameName, gradient_penalty
from sixfold.prob.codecs import CodecName, codec_for


class GAN(GenerativeModel):
    """A generator and a critic, each a fully connected network.

    Args:
        latent: size of the noise z; more lets samples vary in more ways.
        width: hidden units a layer of both networks; more fits finer shapes and costs quadratically.
        depth: hidden layers of both networks.
        game: which losses the two play for; relativistic keeps all modes more reliably than the others.
        gamma: weight of the penalties at the start of a run, for data of unit variance; more keeps the critic smoother, which is
            safer and blurs what the generator is told.
        gamma_end: weight at the end of a run; less sharpens details and lets the game swing.
        codec: from data to the space of the networks; auto standardises real data and scales levels to [-1, 1].

    Raises:
        Unsupported: for tokens, which have no order to dequantise along.

    Example:
        >>> from sixfold.core.spec import Support
        >>> GAN(DataSpec((2,), Support("real"))).sample(3).shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        latent: Count = 8,
        width: Count = 64,
        depth: Count = 3,
        game: GameName = "relativistic",
        gamma: NonNegative = 1.0,
        gamma_end: NonNegative = 0.1,
        codec: CodecName = "auto",
    ) -> None:
        super().__init__(spec)
        self.latent, self.gamma, self.gamma_end = latent, gamma, gamma_end
        self.game = GAMES[game]
        self.codec = codec_for(spec, codec)
        self.generator = MLP(latent, spec.dims, width=width, depth=depth, cond=spec.cond.size)
        self.critic = MLP(spec.dims, 1, width=width, depth=depth, cond=spec.cond.size, act="leaky_relu")

    def players(self) -> dict[str, Player]:
        return {name: Player(list(getattr(self, name).parameters())) for name in ("critic", "generator")}

    def prepare(self, data: Split) -> None:
        """Statistics of the codec."""
        self.codec.fit(data.rows())

    def loss(self, batch: Batch, player: str) -> Terms:
        real, _ = self.codec.encode(batch.x, batch.draws)
        real, z = real.flatten(1), batch.draws.normal(self.latent)
        cond = self.spec.cond.features(batch.cond, real)
        if player == "generator":
            return self._generator_loss(real, z, cond)
        return self._critic_loss(real, z, cond, self.penalty(batch.progress))

    def penalty(self, progress: float) -> float:
        """Weight of the penalties at that share of the run: a half cosine from ``gamma`` to ``gamma_end``."""
        return self.gamma_end + (self.gamma - self.gamma_end) * 0.5 * (1 + math.cos(math.pi * progress))

    def _critic_loss(self, real: Tensor, z: Tensor, cond: Tensor | None, gamma: float) -> Terms:
        """Real data, (B, D), noise, (B, Z), and features of the condition, (B, C), to the critic's loss, (B,)."""
        with torch.no_grad():
            fake = self.generator(z, cond)
        both = torch.cat([real, fake]).requires_grad_()
        score = self.critic(both, None if cond is None else cond.repeat(2, 1)).squeeze(1)
        (r, f), (r1, r2) = score.chunk(2), gradient_penalty(score, both).chunk(2)
        game = self.game.critic(r, f)
        return Terms(game + gamma / 2 * (r1 + r2), game=game, r1=r1, r2=r2, lead=r - f)

    def _generator_loss(self, real: Tensor, z: Tensor, cond: Tensor | None) -> Terms:
        """The same to the generator's loss, (B,); the critic enters as a fixed function."""
        with torch.no_grad():
            r = self.critic(real, cond).squeeze(1)
        fixed = {name: p.detach() for name, p in self.critic.named_parameters()}
        f = functional_call(self.critic, fixed, (self.generator(z, cond), cond)).squeeze(1)
        return Terms(self.game.generator(r, f))

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
        return self.codec.decode(self.generator(noise, features).reshape(-1, *self.spec.shape))

    def sample(self, num: int, *, cond: Array | int | None = None, generator: torch.Generator | None = None) -> Tensor:
        return self.decode(self.draws(num, generator).normal(self.latent), cond)


PRESETS = {"nonsaturating": {"game": "nonsaturating"}}
RECIPE = {"lr": 1e-3, "batch": 256, "steps": 4000, "betas": [0.0, 0.99], "floor": 0.2, "ema": 0.999}
