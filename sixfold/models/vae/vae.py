"""Variational autoencoder: p(x) = integral of p(x|z) N(z; 0, I) dz, trained on a lower bound.

    log p(x) >= E_q(z|x)[ log p(x|z) ] - beta KL( q(z|x) || N(0, I) )                              Eq. (3), beta = 1

The posterior q(z|x) = N(mean, diag std^2) comes from the encoder, the likelihood p(x|z) from the decoder, elements independent
given z; both networks are fully connected or convolutions over images, and may be conditioned on classes or a vector. The first
term takes one draw of the code, the second is known. Where posteriors are far from Gaussian, as for points in the plane, the
bound stays far from the truth: ``vae/iwae`` trains on a tighter one. ``log_prob`` is the tighter one for either.

Can: give a short code of each datum and a datum of each code; sample in one pass; bound from below how likely data are; be
conditioned on classes or a vector. Cannot: say how far the bound is from the truth; leave fine detail to anything but noise, as
elements are independent given the code; use a code that the decoder has learned to ignore.

Source:  Auto-Encoding Variational Bayes (Kingma & Welling, 2014), arXiv:1312.6114, Algorithm 1 and Appendix B and C.
         Importance Weighted Autoencoders (Burda, Grosse & Salakhutdinov, 2016), arXiv:1509.00519, Eq. (8): ``log_prob``.
Differs: beta weighs the KL (Higgins et al., 2017) and rises to its value over the first part of a run; SiLU networks; the
         likelihood of real data starts narrow (``start``), since a wide one learns to ignore the code.
"""

from __future__ import annotations

from sixfold.core.model import Batch, Terms
from sixfold.core.signature import Count, Natural, NonNegative, Positive, Share
from sixfold.core.spec import DataSpec
from sixfold.models.vae._family import Autoencoder, NetworkName, divergence


class VAE(Autoencoder):
    """A code with a standard normal prior, an encoder that guesses it and a decoder that turns it into data.

    Args:
        latent: size of the code; more keeps more of a datum and leaves holes in the prior when there is more than the data need.
        network: of encoder and decoder; conv shares what it learns across an image, needs fewer passes over the data and takes
            several times longer for each.
        width: hidden units a layer of both networks; with conv, channels at half the image's size.
        depth: hidden layers of both networks, 0 makes them linear; with conv, residual blocks at each size.
        components: mixed in the likelihood of one element: discretised logistics of grey levels, Gaussians of real data; more
            fit finer shapes. With 0 each grey level has a number of its own, which costs most, and real data have one Gaussian.
        beta: weight of the KL; above 1 the code is simpler and closer to the prior and reconstructions blur, below 1 the reverse.
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
        network: NetworkName = "mlp",
        width: Count = 256,
        depth: Natural = 2,
        components: Natural = 0,
        beta: NonNegative = 1.0,
        start: Positive = 0.1,
        beta_warmup: Share = 0.1,
    ) -> None:
        super().__init__(
            spec, latent=latent, network=network, width=width, depth=depth, components=components, start=start,
            beta_warmup=beta_warmup,
        )  # fmt: skip
        self.beta = beta

    def loss(self, batch: Batch, player: str) -> Terms:
        """The negative bound in nats, (B,), with its two parts."""
        u, logdet = self.elements.encode(batch.x, self.dtype)
        mean, std = self._posterior(u, batch.cond)
        z = mean[:, None] + std[:, None] * batch.draws.normal(1, self.latent)
        recon = -self._recon(u, z, batch.cond)[:, 0] - logdet
        kl = divergence(mean, std)  # Appendix B
        return Terms(recon + self.beta * self._warmth(batch.progress) * kl, recon=recon, kl=kl)


PRESETS = {
    "beta": {"beta": 4.0},
    "plane": {
        "latent": 2, "width": 512, "depth": 3, "components": 1, "beta_warmup": 0.05,
        "recipe": {"lr": 1e-3, "minutes": 10.0, "batch": 256},
    },
    "mnist": {
        "latent": 32, "width": 512, "components": 1, "beta_warmup": 0.05,
        "recipe": {"lr": 1e-3, "minutes": 10.0, "batch": 256},
    },
}  # fmt: skip
RECIPE = {"lr": 2e-3, "batch": 256, "steps": 1000}
