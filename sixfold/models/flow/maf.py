"""MAF: a normalizing flow of autoregressive layers, each element scaled and shifted by functions of all elements before it.

    log p(x) = log N(z; 0, I) + log |det dz/dx|,   z = f_n(... f_1(x))
    f_i:  actnorm,  then a mixing of the elements,  then  z_i = (x_i - m(x_<i)) exp(-s(x_<i))                  Eq. (3)-(5)

A layer is MADE with a normal for each element, and a stack of them no longer has normal conditionals: the next layer models the
noise that this one leaves. Density takes one pass of the networks. A sample takes its elements one after the other, which costs
the arithmetic of one pass where every hidden unit is computed once; run the other way round it would be the inverse
autoregressive flow (Kingma et al., 2016), which samples in one pass. Trained by maximum likelihood.

Can: say how likely real data are, exactly, in one pass; encode without loss; be conditioned on classes or vectors. Discrete data
are dequantised, and the density of the dequantised data bounds their probability from below. Cannot: sample in one pass, as
elements come one after the other; tear space apart, so that separate modes stay joined by thin filaments; know of images' grid,
which it flattens.

Source:  Masked Autoregressive Flow for Density Estimation (Papamakarios, Pavlakou & Murray, 2017), arXiv:1705.07057, Section 3.
         Mixing and actnorm: Glow (Kingma & Dhariwal, 2018), arXiv:1807.03039, Sections 3.1 and 3.2.
Differs: learned mixing, unless it is ``reversal`` as there, and actnorm in place of batch normalisation, which makes the density
         of one datum depend on the others. Log-scales are bounded by ``bound * tanh(raw / bound)``. Residual networks with SiLU
         (two hidden layers of ReLU there). The base is a normal, not a mixture. The inverse is fast.
"""

from __future__ import annotations

from typing import Literal

import torch

from sixfold.core.errors import Unsupported
from sixfold.core.model import DataSpec
from sixfold.core.signature import Count, Natural, Positive
from sixfold.models.flow._family import Flow
from sixfold.nn.masked import MaskedMLP
from sixfold.prob.autoregressive import MaskedAffine
from sixfold.prob.bijections import ActNorm, Bijection, Compose, Permutation, mixing_for
from sixfold.prob.codecs import CodecName, codec_for
from sixfold.prob.sequential import Way

Mixing = Literal["auto", "lu", "rotation", "permutation", "reversal"]


class MAF(Flow):
    """Masked autoregressive layers with actnorm and mixing between them, over a standard normal.

    Args:
        layers: autoregressive layers; more bend finer shapes and cost linearly.
        width: hidden units of a layer's network; more fits finer shapes and costs quadratically.
        depth: residual blocks of a layer's network, of two hidden layers each.
        direct: connect elements to outputs also directly, D * D weights twice: dependence that is linear needs no units.
        mixing: between layers: lu, any invertible matrix; rotation, any orthogonal one; permutation, a fixed random one;
            reversal, the order of the layer before backwards; auto is reversal for images and for two elements, which it lets
            take turns, and lu for everything else.
        bound: largest log-scale of one layer; more sharpens in fewer layers and is less stable.
        inverse: of a layer: cached computes each unit once; fixed-point needs few passes over all elements, which suits devices
            that are quick at large ones; naive needs one pass for each element. All three give the same data.
        codec: from data to the space of the flow; auto standardises real data and takes the logit of data with levels.

    Raises:
        Unsupported: for one-dimensional data, which have nothing to depend on, and for tokens.

    Example:
        >>> from sixfold.core.spec import Support
        >>> model = MAF(DataSpec((2,), Support("real")), layers=2)
        >>> print(model.log_prob(torch.zeros(1, 2)).nats)
        tensor([-1.8379])
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        layers: Count = 5,
        width: Count = 64,
        depth: Natural = 1,
        direct: bool = False,
        mixing: Mixing = "auto",
        bound: Positive = 1.0,
        inverse: Way = "cached",
        codec: CodecName = "auto",
    ) -> None:
        if spec.dims < 2:
            raise Unsupported("an element needs others before it; got data with one element. Use autoregressive/made.")
        order = torch.arange(spec.dims)[None]

        def step() -> list[Bijection]:
            net = MaskedMLP(order, inputs=1, outputs=2, width=width, depth=depth, cond=spec.cond.size, direct=direct)
            return [ActNorm(spec.dims), _mixing(mixing, spec), MaskedAffine(net, bound=bound, way=inverse)]

        levels = codec == "auto" and spec.support.discrete  # as of RealNVP
        super().__init__(
            spec,
            codec=codec_for(spec, "logit" if levels else codec),
            bijection=Compose(*(part for _ in range(layers) for part in step())),
        )


def _mixing(name: Mixing, spec: DataSpec) -> Bijection:
    """The mixing before a layer, one that fits the data where none is named."""
    if name == "auto":
        name = "reversal" if spec.is_image or spec.dims == 2 else "lu"
    return Permutation(torch.arange(spec.dims).flip(0)) if name == "reversal" else mixing_for(name, spec.dims)


RECIPE = {"lr": 1e-2, "batch": 512, "steps": 1000, "clip": 5.0}
