"""MADE: a masked autoencoder that gives every element's distribution given the elements before it, in several orders at once.

    log p(x) = log 1/K sum_k prod_i p(x_i | elements before i in order k)                 a mixture of K orders, by logsumexp

Each factor is a Bernoulli (binary), a categorical (tokens and few levels), a mixture of discretised logistics (many levels) or a
mixture of Gaussians (real data, standardised). A hidden unit sees the first m elements of an order, an output hears only units
that see less than it may.

Can: say how likely data are, exactly, in one pass an order; sample with the arithmetic of one pass; complete data, exactly where
the known elements come first in every order; be conditioned on classes or a vector. Cannot: give a code of a datum; draw all
elements at once, as each waits for those before it; know that pixels are neighbours.

Training takes one random order for each datum, whose mean loss is at least that of the mixture (Jensen) and costs the same for
any number of orders; validation and ``log_prob`` take the mixture.

Source:  MADE: Masked Autoencoder for Distribution Estimation (Germain, Gregor, Murray & Larochelle, 2015), arXiv:1502.03509,
         Eq. (8)-(13), sections 4.1 to 4.4. Logistics: PixelCNN++ (Salimans et al., 2017), arXiv:1701.05517, section 2.1.
Differs: degrees of hidden units are spread evenly and fixed, not drawn, so that an order changes the masks of the first and the
         last layer alone and each datum of a batch can have its own; residual blocks with SiLU; units are told the order; the
         ensemble averages probabilities of whole data, which unlike an average of conditionals is a distribution.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from sixfold.core.draws import Draws
from sixfold.core.signature import Count, Natural
from sixfold.core.spec import DataSpec
from sixfold.models.autoregressive._family import ChainRule
from sixfold.nn.masked import MaskedMLP
from sixfold.prob.logistics import mixture_for


class MADE(ChainRule):
    """Exact likelihood by the chain rule, in a mixture of orders.

    Args:
        orders: the natural one and random ones, at most D!; more costs evaluation in proportion and training nothing, regularises
            and makes each order learn slower.
        width: hidden units a layer; more fits finer dependence and costs quadratically.
        depth: residual blocks of two layers; more lets dependence be less additive.
        components: mixed in the distribution of one element: Gaussians of real data, and discretised logistics of levels where
            these take fewer numbers, three a component, than one a level; more fits sharper and odder shapes.
        direct: connect elements to outputs also directly; D * D weights times the numbers of an element.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        orders: Count = 8,
        width: Count = 256,
        depth: Natural = 1,
        components: Count = 16,
        direct: bool = True,
    ) -> None:
        fewer = spec.support.kind != "levels" or spec.support.count > 3 * components
        head = mixture_for(spec, components if fewer else 0)
        super().__init__(spec, head=head, held=spec.dims * head.outputs)
        self.net = MaskedMLP(
            permutations(spec.dims, orders), inputs=head.inputs, outputs=head.outputs,
            width=width, depth=depth, cond=spec.cond.size, direct=direct,
        )  # fmt: skip

    @property
    def orders(self) -> Tensor:
        return self.net.orders

    def numbers(self, seen: Tensor, order: Tensor, features: Tensor | None, draws: Draws | None = None) -> Tensor:
        out: Tensor = self.net(seen, order, features)
        return out

    def walk(self, seen: Tensor, k: int, features: Tensor | None) -> Iterator[tuple[int, Tensor]]:
        return self.net.walk(seen, k, features)

    def start(self, marginal: Tensor) -> None:
        self.net.bias.copy_(marginal)


def permutations(dims: int, count: int) -> Tensor:
    """The natural order and distinct random ones, at most all D! of them, (K, D); the same for equal arguments."""
    generator = torch.Generator().manual_seed(0)
    found = {tuple(range(dims)): None}
    while len(found) < min(count, math.factorial(dims)):
        found[tuple(torch.randperm(dims, generator=generator).tolist())] = None
    return torch.tensor(list(found))


PRESETS = {
    "one": {"orders": 1},
    "mnist": {
        "orders": 2, "width": 1024, "depth": 1, "components": 5,
        "recipe": {"lr": 2e-3, "batch": 128, "minutes": 10.0, "validate_rows": 1000},
    },
}  # fmt: skip
RECIPE = {"lr": 2e-3, "batch": 256, "steps": 500}
