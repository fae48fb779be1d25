"""Networks of a noisy state, its noise level and a condition: shapes in, the same shapes out."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from sixfold.core.errors import Unsupported
from sixfold.core.spec import DataSpec
from sixfold.nn.mlp import MLP, Fourier
from sixfold.nn.unet import UNet

NetworkName: TypeAlias = Literal["auto", "mlp", "unet"]

SMALL = 8  # images with a shorter side are left to an MLP
FOURIER_DIMS = 8  # more dimensions than this have no use for single frequencies of each


class TimedMLP(nn.Module):
    """A fully connected network of a state, its noise level and a condition: (B, *shape), (B,), (B, C) to (B, *shape).

    In few dimensions it also sees sines and cosines of the state, each of frequency k damped by exp(-k^2 sigma^2 / 2). That is
    what noise leaves of it on average: nothing finer than sigma is to be learned, and what is hidden cannot make the flow rough.

    Args:
        shape: of a state.
        cond: size of the condition's features, 0 for none.
        width, depth: of the hidden layers.
        fourier: frequencies of the features of each element in up to 8 dimensions; more reach finer structure.
    """

    def __init__(self, shape: tuple[int, ...], *, cond: int, width: int, depth: int, fourier: int) -> None:
        super().__init__()
        dims = math.prod(shape)
        self.level = Fourier(1, count=8, lowest=0.1, highest=2.0)
        self.detail = Fourier(dims, count=fourier, lowest=1.0, highest=16.0) if fourier and dims <= FOURIER_DIMS else None
        inputs = dims + self.level.outputs + (self.detail.outputs if self.detail else 0)
        self.body = MLP(inputs, dims, width=width, depth=depth, cond=cond, zero=True)

    def forward(self, z: Tensor, log_snr: Tensor, cond: Tensor | None = None) -> Tensor:
        flat = z.flatten(1)
        parts = [flat, self.level(log_snr.unsqueeze(1)), *([self._detail(flat, log_snr)] if self.detail else [])]
        out: Tensor = self.body(torch.cat(parts, dim=1), cond)
        return out.reshape(z.shape)

    def _detail(self, flat: Tensor, log_snr: Tensor) -> Tensor:
        """Damped features, (B, D) to (B, 2 D F), in the order of the undamped ones."""
        assert self.detail is not None
        blur = (-0.5 * (-log_snr).sigmoid().unsqueeze(1) * self.detail.frequencies.square()).exp()
        features: Tensor = self.detail(flat) * blur.repeat(1, 2 * flat.shape[1])
        return features


def flagged(features: Tensor | None, shown: Tensor) -> Tensor | None:
    """Features of a condition, (B, C), and a flag that it is shown, (B, C + 1); zeros where ``shown``, (B,), is 0."""
    return None if features is None else torch.cat([features, torch.ones_like(features[:, :1])], 1) * shown.unsqueeze(1)


def check_guidance(guidance: float, cond: Tensor | None, drop: float) -> None:
    """Whether a model trained with this share of hidden conditions can weigh this one otherwise than by 1.

    Raises:
        Unsupported: for guidance without a condition, or of a model that was always shown it.
    """
    if guidance != 1 and (cond is None or not drop):
        why = "this model has no condition" if cond is None else "this model was always shown its condition (drop=0)"
        raise Unsupported(f"{why}, so it cannot be guided; got guidance={guidance:g}. Leave guidance at 1.")


def timed_network(
    name: NetworkName,
    spec: DataSpec,
    *,
    cond: int,
    width: int,
    depth: int,
    fourier: int,
    channels: int,
    blocks: int,
    stages: int,
    patch: int,
    attention: bool,
) -> TimedMLP | UNet:
    """The network of a model's name for it: ``mlp``, ``unet`` for images, ``auto`` the latter for images of at least 8x8 pixels.

    Args:
        name: which.
        spec: of the data that the states have the shape of.
        cond: size of the condition's features, 0 for none.
        width, depth, fourier: of a :class:`TimedMLP`.
        channels, blocks, stages, patch, attention: of a :class:`sixfold.nn.unet.UNet`, where the first two are width and depth.

    Raises:
        Unsupported: for a unet of anything but images.
    """
    if name == "unet" and not spec.is_image:
        raise Unsupported(f"a unet is for images of shape (channels, height, width); got {spec.shape}. Use network='mlp'.")
    if name == "unet" or (name == "auto" and spec.is_image and min(spec.shape[1:]) >= SMALL):
        return UNet(spec.shape, cond=cond, width=channels, depth=blocks, stages=stages, patch=patch, attention=attention)
    return TimedMLP(spec.shape, cond=cond, width=width, depth=depth, fourier=fourier)
