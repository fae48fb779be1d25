"""A linear autoencoder whose likelihood, posterior and bounds are known, and small things that tests of autoencoders share."""

from __future__ import annotations

import math

import torch

from sixfold.core.draws import Draws
from sixfold.core.model import Batch
from sixfold.core.spec import DataSpec, Support
from sixfold.prob.heads import FLOOR

DIMS, LATENT, NOISE = 5, 2, 0.6


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(x, *, seed=0, cond=None, progress=1.0):
    return Batch(x, Draws(len(x), generator=seeded(seed), dtype=torch.float64), cond, progress)


def data(spec, num, seed=0):
    if spec.support.kind == "real":
        return torch.randn(num, *spec.shape, generator=seeded(seed), dtype=torch.float64)
    return torch.randint(0, spec.support.count, (num, *spec.shape), generator=seeded(seed)).to(spec.dtype)


def scrambled(model, *, seed=0, scale=0.5):
    """The model in float64 with random parameters."""
    for p in model.double().parameters():
        torch.nn.init.normal_(p, std=scale, generator=seeded(seed))
        seed += 1
    return model.eval()


def raw(scale, floor=0.0):
    """What softplus turns into ``scale`` beyond ``floor``."""
    return math.log(math.expm1(scale - floor))


def linear_gaussian(cls, *, spread=1.0, **options):
    """x = W z + b + NOISE eps with orthogonal columns of W, whose posterior is diagonal, and the encoder that gives it.

    Args:
        cls: of the model.
        spread: factor on the posterior's standard deviation; 1 is the true posterior.
        options: of the model.
    """
    model = cls(DataSpec((DIMS,), Support("real")), latent=LATENT, depth=0, **options).double()
    w = torch.linalg.qr(torch.randn(DIMS, LATENT, generator=seeded(3), dtype=torch.float64))[0] * torch.tensor(
        [2.0, 0.7], dtype=torch.float64
    )
    b = torch.randn(DIMS, generator=seeded(4), dtype=torch.float64)
    precision = 1 + w.square().sum(0) / NOISE**2
    (decoder,), (encoder,) = model.decoder.layers, model.encoder.layers
    for layer in (decoder, encoder):
        torch.nn.init.zeros_(layer.weight)
    decoder.weight.data.unflatten(0, (DIMS, 2))[:, 0] = w
    decoder.bias.data.unflatten(0, (DIMS, 2)).copy_(torch.stack([b, torch.full_like(b, raw(NOISE, FLOOR))], 1))
    encoder.weight.data[:LATENT] = w.T / NOISE**2 / precision[:, None]
    encoder.bias.data[:LATENT] = -encoder.weight.data[:LATENT] @ b
    encoder.bias.data[LATENT:] = torch.tensor([raw(spread / math.sqrt(p), 1e-4) for p in precision], dtype=torch.float64)
    truth = torch.distributions.MultivariateNormal(b, w @ w.T + NOISE**2 * torch.eye(DIMS, dtype=torch.float64))
    return model.eval(), truth
