"""Transformer: a decoder-only transformer over patches, each drawn from the patches before it and element by element within.

    log p(x | c) = sum_n sum_i log p(x_ni | x_n1 .. x_n(i-1), h_n),    h_n = Transformer(c, patches before n)

Each factor is a Bernoulli (binary), a categorical (tokens, levels), a mixture of discretised logistics (levels) or of Gaussians
(real data, standardised). Patches of an image are read as text is; within one a small masked network goes on element by element,
so that the likelihood is exact for any size of patch, and takes one pass. The class or vector c enters with the first token,
which every later one attends to. A sample keeps keys and values and takes the arithmetic of one pass in D steps.

Can: say how likely data are, exactly, in one pass; take images, sequences and tokens; complete data, exactly where the known
elements come first; be conditioned on classes or a vector. Cannot: give a code of a datum; draw all elements at once; make long
sequences cheap, as attention grows with the square of their length.

Source:  Attention Is All You Need (Vaswani et al., 2017), arXiv:1706.03762. Generative Pretraining from Pixels (Chen et al.,
         2020): a decoder on pixels. MADE (Germain et al., 2015), arXiv:1502.03509: within a patch.
Differs: patches with an exact factorisation within, where the paper reduces images to a palette of colours; a token is told of
         the patches above its own as well as of the one before it; scales of layers are learned (Touvron et al., 2021,
         arXiv:2103.17239); every element has an output bias of its own, which starts at its distribution in the training data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput
from sixfold.core.signature import Count, Natural, Share
from sixfold.core.spec import DataSpec
from sixfold.models.autoregressive._family import ChainRule
from sixfold.nn.patches import PatchDecoder
from sixfold.prob.logistics import mixture_for


class Transformer(ChainRule):
    """Exact likelihood by the chain rule, patch by patch.

    Args:
        width: numbers of a token, divisible by ``heads``; more fits finer dependence and costs quadratically.
        depth: layers of attention; more lets dependence be less direct.
        heads: attention maps a layer; more attend to more places at once, each by fewer numbers.
        patch: side of a patch, along every axis but that of channels and no longer than it; larger makes sequences shorter and
            cheaper, and leaves more to the small network within the patch.
        inner: hidden units of the network within a patch; more fits finer dependence within it.
        dropout: share of numbers left out of each part of a layer in training; more regularises and learns slower.
        components: mixed in the distribution of one element: discretised logistics of levels, Gaussians of real data; more fit
            odder shapes. 0 takes a categorical, a single Gaussian.

    Raises:
        BadInput: when heads do not divide the width, or nothing is left by dropout.
        Unsupported: when patches do not divide the datum.

    Example:
        >>> from sixfold.core.spec import DataSpec, Support
        >>> digits = DataSpec((1, 8, 8), Support("binary"))
        >>> Transformer(digits, patch=2).sample(3, temperature=0.5).shape
        torch.Size([3, 1, 8, 8])
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        width: Count = 64,
        depth: Count = 2,
        heads: Count = 4,
        patch: Count = 1,
        inner: Count = 64,
        dropout: Share = 0.0,
        components: Natural = 8,
    ) -> None:
        if width % heads:
            nearest = width + -width % heads
            raise BadInput(f"width must be divisible by heads; got width={width}, heads={heads}. Try width={nearest}.")
        if dropout == 1.0:
            raise BadInput("dropout: a share of 1 leaves nothing to learn from; expected less than 1. Try 0.1.")
        head = mixture_for(spec, components, fine=True)
        axes = spec.shape[1:] or spec.shape
        size = tuple(min(patch, axis) for axis in axes)
        memory = 2 * depth * width * (math.prod(axes) // math.prod(size))  # keys and values
        held = spec.dims * head.outputs + 5 * memory // depth  # of one layer at a time, its MLP being the widest
        super().__init__(spec, head=head, held=max(held, memory), kept=memory)
        self.net = PatchDecoder(
            spec.shape, patch=size, inputs=head.inputs, outputs=head.outputs, width=width, depth=depth, heads=heads,
            inner=inner, dropout=dropout, cond=spec.cond.size,
        )  # fmt: skip

    @property
    def orders(self) -> Tensor:
        return self.net.within.order.reshape(1, -1)

    def numbers(self, seen: Tensor, order: Tensor, features: Tensor | None, draws: Draws | None = None) -> Tensor:
        out: Tensor = self.net(seen, features, draws)
        return out

    def walk(self, seen: Tensor, k: int, features: Tensor | None) -> Iterator[tuple[int, Tensor]]:
        return self.net.walk(seen, features)

    def start(self, marginal: Tensor) -> None:
        self.net.within.bias.copy_(marginal)


PRESETS = {
    "mnist": {
        "width": 128, "depth": 4, "heads": 4, "patch": 4, "inner": 256,
        "recipe": {"lr": 2e-3, "batch": 64, "minutes": 10.0},
    },
}  # fmt: skip
RECIPE = {"lr": 3e-3, "batch": 128, "steps": 1000}
