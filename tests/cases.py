"""One line a model: how ``tests/test_models.py`` checks it. A new model or preset needs one here, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sixfold.core.likelihood import Estimate, Exact, Kind, Lower, Numerical, Unnormalised
from sixfold.core.spec import Conditioning, DataSpec, Support


@dataclass(frozen=True)
class Case:
    """A model on data, small enough to be checked in seconds.

    Args:
        name: registry name, with or without preset.
        data: name of a data set, or a specification that clustered data are made up for.
        options: of the constructor: few units, as the checks are about facts and not about quality.
        steps: of the short training; more make the checks of the group ``learn`` surer.
        kind: of its likelihood, ``None`` without one.
        batch, lr: of the short training, where the recipe's are not for so few steps.
        unused: parameters that the loss is known not to depend on.
    """

    name: str
    data: str | DataSpec = "moons"
    options: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 200
    kind: type[Kind] | None = None
    batch: int = 128
    lr: float = 5e-3
    unused: Collection[str] = ()

    def __str__(self) -> str:
        return f"{self.name}-{self.data if isinstance(self.data, str) else told(self.data)}"


def told(spec: DataSpec) -> str:
    """A specification in a few words."""
    what = f"{spec.support.kind}{'x'.join(map(str, spec.shape))}"
    return what if spec.cond.kind == "none" else f"{what}|{spec.cond.kind}"


CLASSES = DataSpec((2,), Support("real"), Conditioning("classes", 3))
VECTOR = DataSpec((2,), Support("real"), Conditioning("vector", 2))
SPACE = DataSpec((5,), Support("real"))
GREY = DataSpec((1, 2, 2), Support("levels", 4))
STRIPE = DataSpec((1, 2, 3), Support("binary"), Conditioning("classes", 3))
STAMP = DataSpec((1, 8, 8), Support("levels", 17), Conditioning("classes", 3))
CELLS = DataSpec((1, 2, 2), Support("real"), Conditioning("vector", 2))
STAMPS = DataSpec((1, 4, 4), Support("levels", 4), Conditioning("classes", 3))
BITS = DataSpec((6,), Support("binary"), Conditioning("classes", 3))
CODES = DataSpec((2, 3), Support("tokens", 3))
TOKENS = DataSpec((3,), Support("tokens", 5))
PIXELS = DataSpec((1, 2, 3), Support("binary"))
MANY = DataSpec((1, 5, 5), Support("binary"))

MADE = {"width": 24, "components": 4, "orders": 3}
TRANSFORMER = {"width": 16, "depth": 1, "inner": 16, "components": 4}
ALONE = ("net.within.masked.first",)  # an element alone in its patch has none before it there
PIXELCNN = {"width": 8, "depth": 2, "inner": 16}
VAE = {"width": 24, "latent": 2}
FLOW = {"width": 24, "couplings": 4}
GLOW = {"width": 8, "couplings": 1}
MAF = {"width": 24, "layers": 3}
EBM = {"width": 24, "chains": 512}
RBM = {"hidden": 8, "chains": 200, "scatter": 0.1}
DDPM = {"width": 24, "depth": 2}
UNET = {"network": "unet", "channels": 8}
GAN = {"width": 24}

CASES = (
    Case("autoregressive/made", options=MADE, kind=Exact),
    Case("autoregressive/made:one", CLASSES, {"width": 24, "components": 4}, kind=Exact),
    Case("autoregressive/made", "mixture1d", MADE, kind=Exact, unused=("net.first", "net.direct")),  # nothing to depend on
    Case("autoregressive/made", VECTOR, MADE, kind=Exact),
    Case("autoregressive/made", GREY, MADE, kind=Exact),
    Case("autoregressive/made", BITS, MADE, kind=Exact),
    Case("autoregressive/made", TOKENS, MADE, kind=Exact),
    Case("autoregressive/made", "digits", MADE, kind=Exact),
    Case("autoregressive/made:mnist", "digits", {"width": 24}, kind=Exact),
    Case("autoregressive/pixelcnn", GREY, PIXELCNN, steps=120, kind=Exact, unused=ALONE),
    Case("autoregressive/pixelcnn", STRIPE, {**PIXELCNN, "dilate": 1}, steps=120, kind=Exact, unused=ALONE),
    Case("autoregressive/pixelcnn", CODES, PIXELCNN, steps=120, kind=Exact, unused=ALONE),
    Case("autoregressive/pixelcnn:mnist", "digits", {"width": 8, "depth": 2, "inner": 16}, steps=120, kind=Exact),
    Case("autoregressive/transformer", options=TRANSFORMER, kind=Exact, unused=ALONE),
    Case("autoregressive/transformer", VECTOR, TRANSFORMER, kind=Exact, unused=ALONE),
    Case("autoregressive/transformer", GREY, TRANSFORMER, kind=Exact, unused=ALONE),
    Case("autoregressive/transformer", BITS, {**TRANSFORMER, "patch": 2, "dropout": 0.1}, kind=Exact),
    Case("autoregressive/transformer", TOKENS, TRANSFORMER, kind=Exact, unused=ALONE),
    Case("autoregressive/transformer:mnist", "digits", {"width": 16, "depth": 1, "inner": 16}, kind=Exact),
    Case("vae/vae", options=VAE, kind=Lower),
    Case("vae/vae:beta", CLASSES, VAE, kind=Lower),
    Case("vae/vae:plane", GREY, {"width": 24}, kind=Lower),
    Case("vae/vae:mnist", BITS, VAE, kind=Lower),
    Case("vae/vae", STRIPE, {"width": 4, "network": "conv", "depth": 1, "latent": 2}, kind=Lower),
    Case("vae/vae", TOKENS, VAE, kind=Lower),
    Case("vae/vae", "digits", VAE, steps=800, kind=Lower),
    Case("vae/iwae", BITS, VAE, kind=Lower),
    Case("vae/iwae:points", options={"width": 24}, kind=Lower),
    Case("vae/iwae:mnist", GREY, VAE | {"estimator": "stl"}, kind=Lower),
    Case("flow/realnvp", options=FLOW, kind=Exact),
    Case("flow/realnvp:deep", CLASSES, {"width": 16, "couplings": 6}, kind=Exact),
    Case("flow/realnvp", VECTOR, FLOW, kind=Exact),
    Case("flow/realnvp", SPACE, FLOW, kind=Exact),
    Case("flow/realnvp", GREY, FLOW, kind=Lower),
    Case("flow/realnvp", "digits", FLOW, kind=Lower),
    Case("flow/realnvp:images", GREY, FLOW, kind=Lower),
    Case("flow/glow", CELLS, GLOW, steps=100, kind=Exact),
    Case("flow/glow:additive", GREY, GLOW, steps=100, kind=Lower),
    Case("flow/glow:mnist", STAMPS, GLOW, steps=100, kind=Lower),
    Case("flow/maf", options=MAF, kind=Exact),
    Case("flow/maf", CLASSES, MAF, kind=Exact),
    Case("flow/maf", VECTOR, MAF, kind=Exact),
    Case("flow/maf", SPACE, MAF | {"mixing": "reversal", "inverse": "fixed-point", "direct": True}, kind=Exact),
    Case("flow/maf", GREY, MAF, kind=Lower),
    Case("flow/maf", "digits", MAF, kind=Lower),
    Case("gan/gan", options=GAN),
    Case("gan/gan:nonsaturating", CLASSES, GAN),
    Case("gan/gan", GREY, GAN),
    Case("gan/gan", "digits", GAN),
    Case("gan/gan:r1", SPACE, GAN),
    Case("gan/gan:hinge", VECTOR, GAN, unused=("critic.layers.6.bias",)),  # in the margins it shifts r and f alike
    Case("gan/gan:lsgan", BITS, GAN),
    Case("gan/gan:wgan-gp", options=GAN, steps=60, unused=("critic.layers.6.bias",)),  # likewise
    Case("gan/gan:dcgan", "digits", {"width": 4}, steps=100),
    Case("gan/gan:mnist", STAMP, {"width": 4}, steps=100),
    Case("energy/ebm", options=EBM, kind=Numerical),
    Case("energy/ebm:unadjusted", "mixture1d", EBM, kind=Numerical),
    Case("energy/ebm", SPACE, EBM, kind=Unnormalised),
    Case("energy/ebm", "digits", EBM, steps=600, kind=Unnormalised),
    Case("energy/dsm", options=DDPM, steps=600, lr=1e-2, kind=Numerical),
    Case("energy/dsm", CLASSES, DDPM, steps=600, lr=1e-2, kind=Numerical),
    Case("energy/dsm", VECTOR, DDPM, kind=Unnormalised),
    Case("energy/dsm", GREY, DDPM, kind=Unnormalised),
    Case("energy/dsm:mnist", STAMP, UNET, steps=60, kind=Unnormalised),
    Case("energy/dsm:mnist", MANY, UNET | {"attention": False}, steps=100, kind=Unnormalised),
    Case("energy/rbm", BITS, RBM, steps=400, kind=Exact, lr=0.5),
    Case("energy/rbm:cd", PIXELS, RBM | {"chains": 0}, steps=400, kind=Exact, lr=0.5),
    Case("energy/rbm:mnist", MANY, RBM | {"hidden": 22}, kind=Estimate, lr=0.5),
    Case("diffusion/ddpm", options=DDPM, steps=600, lr=1e-2, kind=Numerical),
    Case("diffusion/ddpm:eps", CLASSES, DDPM, steps=800, lr=1e-2, kind=Numerical),
    Case("diffusion/ddpm:x0", SPACE, DDPM, kind=Numerical),
    Case("diffusion/ddpm", GREY, DDPM, kind=Lower),
    Case("diffusion/ddpm:pixels", GREY, DDPM, kind=Lower),
    Case("diffusion/ddpm", "digits", DDPM, kind=Lower),
    Case("diffusion/edm", options=DDPM, steps=600, lr=1e-2, kind=Numerical),
    Case("diffusion/edm:ddpm", SPACE, DDPM, kind=Numerical),
    Case("diffusion/edm:flow", CLASSES, DDPM, steps=600, lr=1e-2, kind=Numerical),
    Case("diffusion/edm", GREY, DDPM, kind=Lower),
    Case("diffusion/edm:mnist", MANY, UNET, kind=Lower),
    Case("diffusion/edm:mnist-ddpm", GREY, DDPM, kind=Lower),
    Case("diffusion/edm:mnist-flow", "digits", UNET | {"attention": False}, kind=Lower),
)
