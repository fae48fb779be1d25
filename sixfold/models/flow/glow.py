"""Glow: a normalizing flow of images in several scales, with an exact density and an exact inverse at the same cost.

    log p(x) = log N(z; 0, I) + log |det dz/dx|
    step:   actnorm,  invertible 1x1 convolution y_ij = W x_ij,  affine coupling y_b = x_b * exp(s(x_a)) + t(x_a)       Table 1
    scale:  squeeze, steps, then half of the channels is code, z_b ~ N(mean(x_a), std(x_a)^2), and the other half goes on

log |det| is a sum of log-scales, and H W log |det W| of a 1x1 convolution. The prior of a factored half is one more coupling,
from what goes on, and the code is what this makes a standard normal of. The code is one vector, (B, D), the coarsest scale first;
at 0 each part is the mode of its normal, given the coarser ones. Images whose sides halve ``levels`` times, conditional on
classes or vectors. Discrete data are dequantised, and the density of the dequantised data bounds their probability from
below.

Can: say how likely real images are, exactly, in one pass; sample and encode in one pass each, without loss; be conditioned on
classes or vectors. Cannot: make the code smaller, so that every pixel's noise is carried through all steps of its scale; take
tokens, or images whose sides are odd.

Source:  Glow: Generative Flow with Invertible 1x1 Convolutions (Kingma & Dhariwal, 2018), arXiv:1807.03039, Section 3, Table 1.
         Multi-scale architecture: Dinh, Sohl-Dickstein & Bengio (2017), arXiv:1605.08803, Section 3.6.
Differs: log-scales are bounded by ``bound * tanh(raw / bound)`` (a sigmoid there). The couplings' networks have no actnorm of
         their own. A split's prior has a coupling's network rather than one layer. The last scale is normalised at each element
         rather than at each channel, and its condition scales and shifts that. Levels pass a logit, and their noise is learned.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.model import DataSpec
from sixfold.core.signature import Count, Natural, Positive
from sixfold.models.flow._family import Flow
from sixfold.nn.convolution import ConvMLP
from sixfold.nn.mlp import Activation
from sixfold.prob.bijections import (
    ActNorm,
    AffineCoupling,
    Bijection,
    Compose,
    Conditional,
    FactorOut,
    MixingName,
    PerPixel,
    Reshape,
    Squeeze,
    mixing_for,
)
from sixfold.prob.codecs import CodecName, NoiseName, codec_for

Shape = tuple[int, int, int]

START_ROWS = 512  # images that a start is taken from: each channel's statistics pool their pixels
MARGIN = 1e-5  # of the logit: levels at the ends, where images pile up, get half of the line, and their noise room for a bell


class Glow(Flow):
    """Steps of actnorm, invertible 1x1 convolution and coupling in several scales, over a standard normal.

    Args:
        levels: scales; each halves both sides, and all but the last factor out half of the channels. More see the image as a
            whole. 0 is as many as the sides halve, up to 3.
        couplings: steps in each scale; more bend finer shapes and cost linearly.
        width: hidden channels of a coupling's network; more fits finer shapes and costs quadratically.
        depth: hidden layers of a coupling's network, all but the first at each pixel by itself.
        act: nonlinearity of the networks; relu trains fastest, silu has a smooth score.
        coupling: affine scales and shifts; additive only shifts, which keeps volume and fits less.
        mixing: of the channels: lu, any invertible matrix; rotation, any orthogonal one; permutation, a fixed random one.
        bound: largest log-scale of one coupling; more sharpens in fewer couplings and is less stable.
        codec: from data to the space of the flow; auto standardises real data and takes the logit of data with levels.
        noise: of the dequantisation: levels, learned for each level, for images that pile up at some of them; or uniform.

    Raises:
        Unsupported: for data that are no images, whose sides are odd, and for tokens.
        BadInput: for more levels than the sides halve.

    Example:
        >>> import torch
        >>> from sixfold.core.spec import Support
        >>> model = Glow(DataSpec((1, 4, 4), Support("real")), couplings=1)
        >>> print(model.log_prob(torch.zeros(1, 1, 4, 4)).nats)
        tensor([-14.7030])
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        levels: Natural = 0,
        couplings: Count = 4,
        width: Count = 64,
        depth: Count = 2,
        act: Activation = "relu",
        coupling: Literal["affine", "additive"] = "affine",
        mixing: MixingName = "lu",
        bound: Positive = 1.0,
        codec: CodecName = "auto",
        noise: NoiseName = "levels",
    ) -> None:
        shape, most = _image(spec)
        if levels > most:
            raise BadInput(f"sides of {shape[1]} x {shape[2]} halve {most} times; got levels={levels}. Use {most} or fewer.")
        network = partial(ConvMLP, width=width, depth=depth, cond=spec.cond.size, act=act, zero=True)

        def step(channels: int) -> list[Bijection]:
            move = AffineCoupling(channels, network, bound=bound, additive=coupling == "additive")
            return [PerPixel(ActNorm(channels)), PerPixel(mixing_for(mixing, channels)), move]

        def scale(shape: Shape, levels: int) -> Bijection:
            channels, height, width = 4 * shape[0], shape[1] // 2, shape[2] // 2
            parts = [Squeeze(), *(part for _ in range(couplings) for part in step(channels))]
            if levels == 1:
                return Compose(*parts, _top((channels, height, width), spec.cond.size, bound))
            rest = scale((channels // 2, height, width), levels - 1)
            return Compose(*parts, AffineCoupling(channels, network, bound=bound), FactorOut((channels, height, width), rest))

        # One scale for all pixels: a convolution takes them for alike, and a stroke where there never was one stays in range.
        name = "logit" if codec == "auto" and spec.support.discrete else codec
        super().__init__(
            spec,
            codec=codec_for(spec, name, shared=True, noise=noise, margin=MARGIN),
            bijection=Compose(Reshape((spec.dims,), shape), scale(shape, levels or min(most, 3))),
            start_rows=START_ROWS,
        )


def _image(spec: DataSpec) -> tuple[Shape, int]:
    """The image's shape, and how many times its sides halve."""
    if len(spec.shape) != 3:
        raise Unsupported(f"convolutions need images, (channels, height, width); got {spec.shape}. Use flow/realnvp.")
    channels, height, width = spec.shape
    most = min((side & -side).bit_length() - 1 for side in (height, width))
    if most == 0:
        raise Unsupported(f"each level halves both sides; got {height} x {width}, of which one is odd. Use flow/realnvp.")
    return (channels, height, width), most


def _top(shape: Shape, cond: int, bound: float) -> Bijection:
    """The prior of the last scale: a normal of its own for each element, under each condition."""
    dims = shape[0] * shape[1] * shape[2]
    own = [Conditional(dims, cond, bound=bound)] if cond else []
    return Compose(Reshape(shape, (dims,)), ActNorm(dims), *own)


PRESETS = {
    "additive": {"coupling": "additive"},
    "mnist": {"couplings": 6, "recipe": {"batch": 64, "steps": 3200, "ema": 0.998, "precision": "bfloat16"}},
}
RECIPE = {"lr": 2e-3, "batch": 128, "steps": 1000, "clip": 100.0}
