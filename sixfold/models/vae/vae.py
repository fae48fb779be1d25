"""Variational autoencoder: p(x) = integral of p(x|z) N(z; 0, I) dz, trained on a lower bound.

    log p(x) >= E_q(z|x)[ log p(x|z) ] - beta KL( q(z|x) || N(0, I) )                              Eq. (3), beta = 1
    log p(x) >= E log 1/K sum_k p(x|z_k) N(z_k; 0, I) / q(z_k|x),   z_k ~ q(z|x)                   importance-weighted

The posterior q(z|x) = N(mean, diag std^2) comes from the encoder, the likelihood p(x|z) from the decoder: Bernoulli (binary),
categorical (levels, tokens) or Gaussian with learned mean and variance (real data, standardised), elements independent given z.
``log_prob`` is the second bound, which rises with K to the truth; the truth itself is out of reach. It can be conditioned on
classes or a vector.

Source:  Auto-Encoding Variational Bayes (Kingma & Welling, 2014), arXiv:1312.6114, Algorithm 1 and Appendix B and C.
         Importance Weighted Autoencoders (Burda, Grosse & Salakhutdinov, 2016), arXiv:1509.00519, Eq. (8) and (14).
Differs: beta weighs the KL (Higgins et al., 2017) and rises to its value over the first part of a run; SiLU networks; the
         likelihood of real data starts narrow (``start``), since a wide one learns to ignore the code. The second bound is the
         objective when ``particles`` is more than 1; of points in the plane the first stays far from the truth (``:points``).
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from sixfold.core.errors import BadInput
from sixfold.core.likelihood import LogProb, Lower, Measure
from sixfold.core.model import Array, Batch, GenerativeModel, Latent, Split, Terms
from sixfold.core.signature import Count, Natural, NonNegative, Positive, Share
from sixfold.core.spec import DataSpec
from sixfold.nn.mlp import MLP
from sixfold.prob.codecs import Elements
from sixfold.prob.heads import head_for

NUMBERS = 2**24  # of the decoder's output held at once while a bound is computed: 64 MB


class VAE(GenerativeModel):
    """A code with a standard normal prior, an encoder that guesses it and a decoder that turns it into data.

    Args:
        latent: size of the code; more keeps more of a datum and leaves holes in the prior when there is more than the data need.
        width: hidden units a layer of both networks.
        depth: hidden layers of both networks; 0 makes them linear.
        beta: weight of the KL; above 1 the code is simpler and closer to the prior and reconstructions blur, below 1 the reverse.
        particles: draws of the code for each datum in training; above 1 the objective is the importance-weighted bound, which is
            tighter, costs in proportion and leaves the posterior cruder.
        start: standard deviation of a real element's likelihood before training, its spread in the data being 1; a small one
            makes the decoder listen to the code from the first step, at 1 it may learn to ignore it. Discrete data have none.
        beta_warmup: share of the run in which the weight of the KL rises from 0; more lets the code become useful before it is
            taxed.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        latent: Count = 16,
        width: Count = 256,
        depth: Natural = 2,
        beta: NonNegative = 1.0,
        particles: Count = 1,
        start: Positive = 0.1,
        beta_warmup: Share = 0.1,
    ) -> None:
        super().__init__(spec)
        self.latent, self.beta, self.particles, self.start, self.beta_warmup = latent, beta, particles, start, beta_warmup
        self.head = head_for(spec)
        self.elements = Elements(spec)
        net = partial(MLP, width=width, depth=depth, cond=spec.cond.size)
        self.encoder = net(spec.dims * self.head.inputs, 2 * latent)
        self.decoder = net(latent, self.numbers)

    @torch.no_grad()
    def prepare(self, data: Split) -> None:
        """Statistics of the codec; the decoder starts near each element's own distribution, real ones narrowed by ``start``."""
        x = data.rows()
        self.elements.fit(x)
        few = x[:: max(1, len(x) // 10_000)]
        u, _ = self.elements.encode(few.to(self.device), self.dtype)
        last = self.decoder.layers[-1]
        assert isinstance(last, nn.Linear)
        # Real data are taken as narrow as they will be once the code explains them: see ``start``.
        last.bias.copy_(self.head.marginal(u if self.elements.codec is None else self.start * u).flatten())

    def loss(self, batch: Batch, player: str) -> Terms:
        u, logdet = self.elements.encode(batch.x, self.dtype)
        mean, std = self._posterior(u, batch.cond)
        recon, ratio = self._weigh(u, mean, std, batch.draws.normal(self.particles, self.latent), batch.cond)
        beta = self.beta * min(1.0, batch.progress / self.beta_warmup) if self.beta_warmup else self.beta
        kl = 0.5 * (mean.square() + std.square() - 1).sum(1) - std.log().sum(1)  # Appendix B
        weighted = (recon + beta * ratio).logsumexp(1) - math.log(self.particles)
        bound = recon[:, 0] - beta * kl if self.particles == 1 else weighted  # one draw: the KL is known, which is less noisy
        return Terms(-bound - logdet, recon=-recon.mean(1) - logdet, kl=kl)

    @torch.no_grad()
    def criterion(self, batch: Batch) -> Tensor:
        """The loss at the end of the warm-up, (B,): that of two moments of a run can be compared."""
        return self.loss(replace(batch, progress=1.0), "model").loss

    @torch.no_grad()
    def log_prob(
        self, x: Array, cond: Array | int | None = None, *, effort: Count = 128, generator: torch.Generator | None = None
    ) -> LogProb[Lower]:
        """Importance-weighted lower bound in nats per datum, (B,); with ``effort=1`` it is one draw of the evidence lower bound.

        Args:
            x: data, (B, *shape).
            cond: labels (B,) or vectors (B, C).
            effort: draws K of the code for each datum; the expected bound rises with it to the truth, at a cost in proportion.
            generator: of the codes.
        """
        x, cond = self.take(x), self.take_cond(cond, len(x))
        rows = max(1, NUMBERS // (effort * self.numbers))
        parts = torch.split(torch.arange(len(x), device=self.device), rows)
        nats = torch.cat([self._bound(x[part], None if cond is None else cond[part], effort, generator) for part in parts])
        return LogProb(nats, Lower, f"importance-weighted bound, K={effort}", self.spec.dims, Measure(self.spec.support.size))

    @torch.no_grad()
    def encode(self, x: Array, cond: Array | int | None = None, *, generator: torch.Generator | None = None) -> Latent:
        """A draw of each datum's code from the posterior, and the posterior's mean, (B, Z)."""
        x, cond = self.take(x), self.take_cond(cond, len(x))
        mean, std = self._posterior(self.elements.encode(x, self.dtype)[0], cond)
        return Latent(mean + std * self.draws(len(x), generator).normal(self.latent), mean)

    @torch.no_grad()
    def decode(self, z: Array, cond: Array | int | None = None) -> Tensor:
        """The likeliest datum of each code, (B, *shape), without the noise of the likelihood.

        Args:
            z: codes, (B, Z).
            cond: a label or vector for all, or one for each.

        Raises:
            BadInput: for codes of another size.
        """
        code = torch.as_tensor(z).to(self.device, self.dtype)
        if code.ndim != 2 or code.shape[1] != self.latent:
            raise BadInput(f"codes must have shape (B, {self.latent}); got {tuple(code.shape)}. `encode` gives such codes.")
        return self.elements.decode(self.head.mode(self._params(code, self.take_cond(cond, len(code)))))

    @torch.no_grad()
    def sample(
        self,
        num: int,
        *,
        cond: Array | int | None = None,
        generator: torch.Generator | None = None,
        temperature: Positive = 1.0,
    ) -> Tensor:
        """Draws from the model, (num, *shape): a code from the prior and data from its likelihood, noise included.

        Args:
            num: how many.
            cond: a label or vector for all, or one for each.
            generator: source of randomness.
            temperature: of prior and likelihood; below 1 gives likelier, less varied data.
        """
        draws, cond = self.draws(num, generator), self.take_cond(cond, num)
        z = math.sqrt(temperature) * draws.normal(self.latent)
        return self.elements.decode(self.head.sample(self._params(z, cond), draws, temperature=temperature))

    @property
    def numbers(self) -> int:
        """How many the decoder gives for one datum."""
        return self.spec.dims * self.head.outputs

    def _posterior(self, u: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of q(z|x), (B, Z) each; the least one keeps its logarithm in the KL finite."""
        seen = self.head.embed(u, self.dtype).flatten(1)
        mean, raw = self.encoder(seen, self.spec.cond.features(cond, seen)).chunk(2, dim=1)
        return mean, functional.softplus(raw) + 1e-4

    def _params(self, z: Tensor, cond: Tensor | None) -> Tensor:
        """Numbers of the likelihood p(x|z), (B, D, outputs)."""
        params: Tensor = self.decoder(z, self.spec.cond.features(cond, z))
        return params.reshape(len(z), self.spec.dims, self.head.outputs)

    def _weigh(self, u: Tensor, mean: Tensor, std: Tensor, eps: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        """Log p(x|z) and log N(z; 0, I) - log q(z|x) in nats, (B, K) each, at the codes z = mean + std eps, eps (B, K, Z)."""
        z = mean[:, None] + std[:, None] * eps
        ratio = 0.5 * (eps.square() - z.square()).sum(2) + std.log().sum(1, keepdim=True)
        many = eps.shape[1]
        params = self._params(z.flatten(0, 1), None if cond is None else cond.repeat_interleave(many, 0))
        recon = self.head.log_prob(params, u.repeat_interleave(many, 0)).sum(1)
        return recon.reshape(ratio.shape), ratio

    def _bound(self, x: Tensor, cond: Tensor | None, effort: int, generator: torch.Generator | None) -> Tensor:
        """The importance-weighted bound, (B,), its codes taken in turns of bounded memory."""
        u, logdet = self.elements.encode(x, self.dtype)
        mean, std = self._posterior(u, cond)
        turn = max(1, NUMBERS // max(1, len(x) * self.numbers))
        total = torch.full_like(logdet, -math.inf)
        for start in range(0, effort, turn):
            eps = self.draws(len(x), generator).normal(min(turn, effort - start), self.latent)
            recon, ratio = self._weigh(u, mean, std, eps, cond)
            total = torch.logaddexp(total, (recon + ratio).logsumexp(1))
        return total - math.log(effort) + logdet


PRESETS = {
    "beta": {"beta": 4.0},
    "plane": {"latent": 2},
    "iwae": {"particles": 8},
    "points": {
        "latent": 2, "width": 64, "depth": 3, "particles": 8, "beta_warmup": 0.05,
        "recipe": {"lr": 5e-3, "steps": 2000, "batch": 256, "ema": 0.99},
    },
}  # fmt: skip
RECIPE = {"lr": 2e-3, "batch": 256, "steps": 1000}
