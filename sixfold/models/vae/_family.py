"""What autoencoders with one Gaussian code share: networks, likelihood, and the importance-weighted bound.

    p(x) = integral of p(x|z) N(z; 0, I) dz,      q(z|x) = N(mean(x), diag std(x)^2)
    log p(x) >= E log 1/K sum_k w_k,              w_k = p(x|z_k) N(z_k; 0, I) / q(z_k|x),   z_k ~ q(z|x)

The likelihood p(x|z) has independent elements: Bernoulli (binary), categorical or a mixture of discretised logistics (levels),
categorical (tokens), or Gaussians with learned mean and variance (real data, standardised). K = 1 is the evidence lower bound.

Source:  Importance Weighted Autoencoders (Burda, Grosse & Salakhutdinov, 2016), arXiv:1509.00519, Eq. (8) and (14).
"""

from __future__ import annotations

import math
from abc import ABC
from dataclasses import replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.likelihood import LogProb, Lower, Measure
from sixfold.core.model import Array, Batch, DataSpec, GenerativeModel, Latent, Split
from sixfold.core.signature import Count, Positive
from sixfold.nn.mlp import MLP
from sixfold.nn.residual import ConvDecoder, ConvEncoder
from sixfold.prob.codecs import Elements
from sixfold.prob.logistics import mixture_for

NetworkName: TypeAlias = Literal["mlp", "conv"]

NUMBERS = 2**24  # of the decoder's widest layer held at once while a bound is computed: 64 MB
START_ROWS = 10_000  # data that a start is taken from


class Autoencoder(GenerativeModel, ABC):
    """A code with a standard normal prior, an encoder that guesses it and a decoder that turns it into data.

    A model's own class only adds the objective.

    Args:
        spec: what one datum is.
        latent: size of the code.
        network: of encoder and decoder.
        width, depth: of both networks.
        components: of the mixture in each element's likelihood.
        start: standard deviation of real elements' likelihood before training.
        beta_warmup: share of the run in which the weight of the KL rises from 0.

    Raises:
        Unsupported: for convolutions over data that are no images.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        latent: int,
        network: NetworkName,
        width: int,
        depth: int,
        components: int,
        start: float,
        beta_warmup: float,
    ) -> None:
        super().__init__(spec)
        self.latent, self.start, self.beta_warmup = latent, start, beta_warmup
        self.head = mixture_for(spec, components)
        self.elements = Elements(spec)
        seen, cond = self.head.inputs, spec.cond.size
        if network == "conv":
            if len(spec.shape) != 3:
                raise Unsupported(f"convolutions need images of shape (C, H, W); got {spec.shape}. Use network='mlp'.")
            self.encoder: MLP | ConvEncoder = ConvEncoder(spec.shape, seen, 2 * latent, width=width, depth=depth, cond=cond)
            self.decoder: MLP | ConvDecoder = ConvDecoder(
                spec.shape, latent, self.head.outputs, width=width, depth=depth, cond=cond
            )
        else:
            self.encoder = MLP(spec.dims * seen, 2 * latent, width=width, depth=depth, cond=cond)
            self.decoder = MLP(latent, spec.dims * self.head.outputs, width=width, depth=depth, cond=cond)

    @torch.no_grad()
    def prepare(self, data: Split) -> None:
        """Statistics of the codec; the decoder starts near each element's own distribution, real ones narrowed by ``start``."""
        x = data.rows()
        self.elements.fit(x)
        few = x[:: max(1, len(x) // START_ROWS)]
        u, _ = self.elements.encode(few.to(self.device), self.dtype)
        # Real data are taken as narrow as they will be once the code explains them: a wide likelihood learns to ignore the code.
        self.decoder.bias.copy_(self.head.marginal(u if self.elements.codec is None else self.start * u).flatten())

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
        rows = max(1, NUMBERS // (effort * self.decoder.widest))
        parts = torch.split(torch.arange(len(x), device=self.device), rows)
        nats = torch.cat([self._bound(x[part], None if cond is None else cond[part], effort, generator) for part in parts])
        return LogProb(nats, Lower, f"importance-weighted bound, K={effort}", self.spec.dims, Measure(self.spec.support.size))

    @torch.no_grad()
    def encode(self, x: Array, cond: Array | int | None = None, *, generator: torch.Generator | None = None) -> Latent:
        """A draw of each datum's code from the posterior, and the posterior's mean and standard deviation, (B, Z)."""
        x, cond = self.take(x), self.take_cond(cond, len(x))
        mean, std = self._posterior(self.elements.encode(x, self.dtype)[0], cond)
        return Latent(mean + std * self.draws(len(x), generator).normal(self.latent), mean, std)

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

    def _warmth(self, progress: float) -> float:
        """Share of its full weight that the KL has by then."""
        return min(1.0, progress / self.beta_warmup) if self.beta_warmup else 1.0

    def _posterior(self, u: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of q(z|x), (B, Z) each; the least one keeps its logarithm in the KL finite."""
        seen = self.head.embed(u, self.dtype).flatten(1)
        mean, raw = self.encoder(seen, self.spec.cond.features(cond, seen)).to(self.dtype).chunk(2, dim=1)
        return mean, functional.softplus(raw) + 1e-4

    def _params(self, z: Tensor, cond: Tensor | None) -> Tensor:
        """Numbers of the likelihood p(x|z), (B, D, outputs); in the model's dtype, as nats are summed over all elements."""
        params: Tensor = self.decoder(z, self.spec.cond.features(cond, z)).to(self.dtype)
        return params.reshape(len(z), self.spec.dims, self.head.outputs)

    def _recon(self, u: Tensor, z: Tensor, cond: Tensor | None) -> Tensor:
        """Log p(x|z) in nats, (B, K), at codes z, (B, K, Z)."""
        many = z.shape[1]
        params = self._params(z.flatten(0, 1), None if cond is None else cond.repeat_interleave(many, 0))
        return self.head.log_prob(params, u.repeat_interleave(many, 0)).sum(1).reshape(-1, many)

    def _bound(self, x: Tensor, cond: Tensor | None, effort: int, generator: torch.Generator | None) -> Tensor:
        """The importance-weighted bound, (B,), its codes taken in turns of bounded memory."""
        u, logdet = self.elements.encode(x, self.dtype)
        mean, std = self._posterior(u, cond)
        turn = max(1, NUMBERS // max(1, len(x) * self.decoder.widest))
        total = torch.full_like(logdet, -math.inf)
        for start in range(0, effort, turn):
            eps = self.draws(len(x), generator).normal(min(turn, effort - start), self.latent)
            z = mean[:, None] + std[:, None] * eps
            weight = self._recon(u, z, cond) + log_ratio(z, eps, std)
            total = torch.logaddexp(total, weight.logsumexp(1))
        return total - math.log(effort) + logdet


def log_ratio(z: Tensor, eps: Tensor, std: Tensor) -> Tensor:
    """Log N(z; 0, I) - log q(z|x) in nats, (B, K), at codes z = mean + std eps, (B, K, Z), of posteriors of that std, (B, Z)."""
    return 0.5 * (eps.square() - z.square()).sum(2) + std.log().sum(1, keepdim=True)


def divergence(mean: Tensor, std: Tensor) -> Tensor:
    """KL( N(mean, diag std^2) || N(0, I) ) in nats, (B,)."""
    return 0.5 * (mean.square() + std.square() - 1).sum(1) - std.log().sum(1)
