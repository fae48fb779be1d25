"""Importance-weighted autoencoder: the model of a variational autoencoder, trained on a tighter bound of several codes a datum.

    log p(x) >= L_K = E log 1/K sum_k w_k,   w_k = p(x|z_k) N(z_k; 0, I) / q(z_k|x),   z_k = mean + std eps_k       Eq. (8)

L_K rises with K to the truth, and asks less of the posterior: one good code among K is enough. Its plain gradient follows the
encoder both through the codes and through q; the noise of the second way grows with K relative to what it tells. With weights
w~_k = w_k / sum_j w_j there are three estimators of the encoder's gradient:

    plain    sum_k w~_k   d log w_k, through the codes and through q          unbiased, noisier as K grows
    stl      sum_k w~_k   d log w_k/dz_k dz_k,  q held fixed                  biased for K > 1, unbiased for K = 1
    dreg     sum_k w~_k^2 d log w_k/dz_k dz_k,  q held fixed                  unbiased, less noisy as K grows

The decoder's gradient is the same for all. Where q is the true posterior, stl and dreg have no noise at all.

Can: what a variational autoencoder can, with a tighter bound and posteriors that need not be Gaussian. Cannot: say how far the
bound is from the truth; train as cheaply, as each datum is decoded once for each of its codes; keep the encoder as sharp, as one
good code of many is enough.

Source:  Importance Weighted Autoencoders (Burda, Grosse & Salakhutdinov, 2016), arXiv:1509.00519, Eq. (8) and (14): plain;
         Sticking the Landing (Roeder, Wu & Duvenaud, 2017), arXiv:1703.09194, section 3: stl;
         Doubly Reparameterized Gradient Estimators (Tucker et al., 2019), arXiv:1810.04152, Eq. (8): dreg.
Differs: one stochastic layer; the KL's share of log w is weighed by a beta that rises to 1 over the first part of a run. With
         log w = log p(x|z) + beta (log N(z; 0, I) - log q(z|x)) the weights of dreg are (1 - beta) w~ + beta w~^2, by the same
         derivation, so that the gradient is unbiased for what the loss says at any moment.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from sixfold.core.model import Batch, Terms
from sixfold.core.signature import Count, Natural, Positive, Share
from sixfold.core.spec import DataSpec
from sixfold.models.vae._family import Autoencoder, NetworkName, divergence, log_ratio


class IWAE(Autoencoder):
    """A code with a standard normal prior, an encoder that proposes several and a decoder that turns them into data.

    Args:
        particles: draws K of the code for each datum in training; more make the bound tighter, cost in proportion and leave the
            posterior cruder. With 1 it is the evidence lower bound, its KL drawn rather than known.
        estimator: of the encoder's gradient: plain follows the code and the posterior; dreg squares the weights instead of the
            latter, with less noise; stl leaves the latter out, with the least noise and a bias when there are several particles.
        latent: size of the code; more keeps more of a datum and leaves holes in the prior when there is more than the data need.
        network: of encoder and decoder; conv shares what it learns across an image, needs fewer passes over the data and takes
            several times longer for each.
        width: hidden units a layer of both networks; with conv, channels at half the image's size.
        depth: hidden layers of both networks, 0 makes them linear; with conv, residual blocks at each size.
        components: mixed in the likelihood of one element: discretised logistics of grey levels, Gaussians of real data; more
            fit finer shapes. With 0 each grey level has a number of its own, which costs most, and real data have one Gaussian.
        start: standard deviation of a real element's likelihood before training, its spread in the data being 1; a small one
            makes the decoder listen to the code from the first step, at 1 it may learn to ignore it. Discrete data have none.
        beta_warmup: share of the run in which the weight of the prior against the posterior rises from 0; more lets the code
            become useful before it is taxed.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        particles: Count = 8,
        estimator: Literal["plain", "stl", "dreg"] = "dreg",
        latent: Count = 16,
        network: NetworkName = "mlp",
        width: Count = 256,
        depth: Natural = 2,
        components: Natural = 0,
        start: Positive = 0.1,
        beta_warmup: Share = 0.1,
    ) -> None:
        super().__init__(
            spec, latent=latent, network=network, width=width, depth=depth, components=components, start=start,
            beta_warmup=beta_warmup,
        )  # fmt: skip
        self.particles, self.estimator = particles, estimator

    def loss(self, batch: Batch, player: str) -> Terms:
        """The negative bound in nats, (B,), the same number for every estimator; ``recon`` is the mean over codes."""
        u, logdet = self.elements.encode(batch.x, self.dtype)
        mean, std = self._posterior(u, batch.cond)
        beta, eps = self._warmth(batch.progress), batch.draws.normal(self.particles, self.latent)
        z = mean[:, None] + std[:, None] * eps
        recon = self._recon(u, z, batch.cond)
        weight = recon + beta * (log_ratio(z, eps, std) if self.estimator == "plain" else _held(z, eps, std))
        if self.estimator == "dreg" and z.requires_grad:
            # What arrives at z is w~ d log w/dz; this makes it (1 - beta) w~ + beta w~^2 times d log w/dz.
            factor = 1 - beta + beta * weight.detach().softmax(1)
            z.register_hook(lambda gradient: factor.unsqueeze(2) * gradient)  # type: ignore[no-untyped-call]
        bound = weight.logsumexp(1) - math.log(self.particles) + logdet
        return Terms(-bound, recon=-recon.mean(1) - logdet, kl=divergence(mean, std))


def _held(z: Tensor, eps: Tensor, std: Tensor) -> Tensor:
    """The value of ``log_ratio`` with q held fixed: its gradient flows through the codes alone."""
    std = std.detach()
    standard = eps + (z - z.detach()) / std[:, None]  # eps as a function of z under that q
    return log_ratio(z, standard, std)


PRESETS = {
    "points": {
        "latent": 2, "width": 64, "depth": 3, "estimator": "plain", "beta_warmup": 0.05,
        "recipe": {"lr": 5e-3, "steps": 2000, "batch": 256, "ema": 0.99},
    },
    "mnist": {
        "latent": 32, "width": 512, "components": 1, "beta_warmup": 0.05,
        "recipe": {"lr": 1e-3, "steps": 16_000, "batch": 128, "precision": "bfloat16"},
    },
}  # fmt: skip
RECIPE = {"lr": 2e-3, "batch": 256, "steps": 1000}
