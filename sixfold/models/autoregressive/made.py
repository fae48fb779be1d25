"""MADE: a masked autoencoder that gives every element's distribution given the elements before it, in several orders at once.

    log p(x) = log 1/K sum_k prod_i p(x_i | elements before i in order k)                 a mixture of K orders, by logsumexp

Each factor is a Bernoulli (binary), a categorical (levels, tokens) or a mixture of Gaussians (real data, standardised). A hidden
unit sees the first m elements of an order, an output hears only units that see less than it may. The likelihood is exact and
takes one pass an order; a sample takes the arithmetic of one pass in D steps. It can be conditioned on classes or a vector and
completes data, exactly where the known elements come first in every order. It gives no code of a datum.

Training takes one random order for each datum, whose mean loss is at least that of the mixture (Jensen) and costs the same for
any number of orders; validation and ``log_prob`` take the mixture.

Source:  MADE: Masked Autoencoder for Distribution Estimation (Germain, Gregor, Murray & Larochelle, 2015), arXiv:1502.03509,
         Eq. (8)-(13), sections 4.1 to 4.4.
Differs: degrees of hidden units are spread evenly and fixed, not drawn, so that an order changes the masks of the first and the
         last layer alone and each datum of a batch can have its own; residual blocks with SiLU; units are told the order; the
         ensemble averages probabilities of whole data, which unlike an average of conditionals is a distribution.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sixfold.core.errors import BadInput
from sixfold.core.likelihood import Exact, LogProb, Measure
from sixfold.core.model import Array, Batch, Filled, GenerativeModel, Split, Terms
from sixfold.core.signature import Count, Natural, Positive
from sixfold.core.spec import DataSpec
from sixfold.nn.masked import MaskedMLP
from sixfold.prob.codecs import Elements
from sixfold.prob.heads import head_for

NUMBERS = 2**25  # of the network's output held at once while a likelihood is computed: 128 MB


class MADE(GenerativeModel):
    """Exact likelihood by the chain rule, in a mixture of orders.

    Args:
        orders: the natural one and random ones, at most D!; more costs evaluation in proportion and training nothing, regularises
            and makes each order learn slower.
        width: hidden units a layer; more fits finer dependence and costs quadratically.
        depth: residual blocks of two layers; more lets dependence be less additive.
        components: Gaussians in the mixture of a real element; more fits sharper and odder shapes. Discrete data ignore it.
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
        super().__init__(spec)
        self.head = head_for(spec, components=components)
        self.elements = Elements(spec)
        self.net = MaskedMLP(
            permutations(spec.dims, orders), inputs=self.head.inputs, outputs=self.head.outputs,
            width=width, depth=depth, cond=spec.cond.size, direct=direct,
        )  # fmt: skip

    @torch.no_grad()
    def prepare(self, data: Split) -> None:
        """Statistics of the codec; the output starts as the independent distribution of each element."""
        x = data.rows()
        self.elements.fit(x)
        few = x[:: max(1, len(x) // 10_000)]
        u, _ = self.elements.encode(few.to(self.device), self.dtype)
        self.net.bias.copy_(self.head.marginal(u))

    def loss(self, batch: Batch, player: str) -> Terms:
        order = (batch.draws.stratified() * len(self.net.orders)).long()
        return Terms(-self._log_prob(batch.x, order, batch.cond))

    @torch.no_grad()
    def criterion(self, batch: Batch) -> Tensor:
        """Negative log-likelihood of the mixture of orders, (B,)."""
        return -self.log_prob(batch.x, batch.cond).nats

    @torch.no_grad()
    def log_prob(
        self, x: Array, cond: Array | int | None = None, *, effort: Count = 1, generator: torch.Generator | None = None
    ) -> LogProb[Exact]:
        """Exact nats per datum, (B,).

        Args:
            x: data, (B, *shape).
            cond: labels (B,) or vectors (B, C).
            effort: nothing grows with it, the value is exact.
            generator: unused, nothing is drawn.
        """
        x, cond = self.take(x), self.take_cond(cond, len(x))
        rows = max(1, NUMBERS // (self.net.bias.numel() * len(self.net.orders)))
        parts = torch.split(torch.arange(len(x), device=self.device), rows)
        nats = torch.cat([self._mixture(x[part], None if cond is None else cond[part]) for part in parts])
        return LogProb(nats, Exact, "chain rule", self.spec.dims, Measure(self.spec.support.size))

    @torch.no_grad()
    def sample(
        self,
        num: int,
        *,
        cond: Array | int | None = None,
        generator: torch.Generator | None = None,
        temperature: Positive = 1.0,
    ) -> Tensor:
        """Exact draws, (num, *shape), each in an order of its own.

        Args:
            num: how many.
            cond: a label or vector for all, or one for each.
            generator: source of randomness.
            temperature: of each element's distribution; below 1 gives likelier, less varied data.
        """
        draws = self.draws(num, generator)
        cond = self.take_cond(cond, num)
        u = torch.zeros(num, self.spec.dims, device=self.device, dtype=torch.long if self.elements.codec is None else self.dtype)
        known = torch.zeros_like(u, dtype=torch.bool)
        self._complete(u, known, draws.integers(len(self.net.orders)), cond, generator, temperature)
        return self.elements.decode(u)

    @torch.no_grad()
    def fill(
        self,
        x: Array,
        known: Array,
        *,
        cond: Array | int | None = None,
        generator: torch.Generator | None = None,
        tries: Count = 16,
    ) -> Filled:
        """Data with their unknown elements drawn given the known ones, (B, *shape).

        Every order proposes completions that meet the known elements on their way; one is chosen with probability proportional to
        prod p(known element | elements before it). Where the known elements come first in every order that is the exact
        conditional, by the orders' posterior; elsewhere it is importance resampling, exact only as ``tries`` grows.

        Args:
            x: data, (B, *shape); unknown elements can hold any valid value.
            known: bool, (B, *shape) or (*shape).
            cond: a label or vector for all, or one for each.
            generator: source of randomness.
            tries: completions that each order proposes where one is not exact; more comes closer to the conditional.

        Raises:
            BadInput: when ``known`` is not boolean or of another shape.
        """
        x = self.take(x)
        cond, mask = self.take_cond(cond, len(x)), self._known(known, len(x))
        exact = self._come_first(mask)
        count = len(self.net.orders) * (1 if exact else tries)
        u = self.elements.encode(x, self.dtype)[0].repeat_interleave(count, 0)
        order = (torch.arange(count, device=self.device) % len(self.net.orders)).repeat(len(x))
        conds = None if cond is None else cond.repeat_interleave(count, 0)
        weight = self._complete(u, mask.repeat_interleave(count, 0), order, conds, generator, 1.0).reshape(len(x), count)
        chosen = torch.multinomial(weight.softmax(1), 1, generator=generator).squeeze(1)
        drawn = self.elements.decode(u.reshape(len(x), count, -1)[torch.arange(len(x), device=self.device), chosen])
        return Filled(torch.where(mask.reshape(x.shape), x, drawn), exact)

    def _known(self, known: Array, num: int) -> Tensor:
        """Which elements are known, (B, D)."""
        mask = torch.as_tensor(known).to(self.device)
        if mask.dtype != torch.bool or tuple(mask.shape) not in (self.spec.shape, (num, *self.spec.shape)):
            raise BadInput(f"known must be bool of shape {(num, *self.spec.shape)}; got {mask.dtype} {tuple(mask.shape)}.")
        return mask.expand(num, *self.spec.shape).flatten(1)

    def _come_first(self, mask: Tensor) -> bool:
        """Whether the known elements of every datum are the first ones of every order."""
        turned = mask[:, self.net.orders]  # (B, K, D)
        return not bool((turned[..., 1:] & ~turned[..., :-1]).any())

    def _log_prob(self, x: Tensor, order: Tensor, cond: Tensor | None) -> Tensor:
        """Nats of each datum in its order, (B,)."""
        u, logdet = self.elements.encode(x, self.dtype)
        features = self.spec.cond.features(cond, logdet)
        params = self.net(self.head.embed(u, self.dtype), order, features)
        return self.head.log_prob(params, u).sum(1) + logdet

    def _mixture(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """Log of the mean over orders of p_k(x), (B,)."""
        count = len(self.net.orders)
        order = torch.arange(count, device=x.device).repeat_interleave(len(x))
        many = x.repeat(count, *[1] * (x.ndim - 1))
        conds = None if cond is None else cond.repeat(count, *[1] * (cond.ndim - 1))
        return self._log_prob(many, order, conds).reshape(count, -1).logsumexp(0) - math.log(count)

    def _complete(
        self, u: Tensor, known: Tensor, order: Tensor, cond: Tensor | None, generator: torch.Generator | None, temperature: float
    ) -> Tensor:
        """Draws the unknown elements of ``u`` in place; returns nats of the known ones given those before them, (B,)."""
        weight = torch.zeros(len(u), device=self.device, dtype=self.dtype)
        features = self.spec.cond.features(cond, weight)
        for k in range(len(self.net.orders)):
            rows = (order == k).nonzero().flatten()
            draws, seen = self.draws(len(rows), generator), self.head.embed(u[rows], self.dtype)
            for i, params in self.net.walk(seen, k, None if features is None else features[rows]):
                drawn = self.head.sample(params.unsqueeze(1), draws, temperature=temperature).squeeze(1)
                u[rows, i] = torch.where(known[rows, i], u[rows, i], drawn)
                nats = self.head.log_prob(params, u[rows, i])
                weight[rows] += torch.where(known[rows, i], nats, 0.0)
                seen[:, i] = self.head.embed(u[rows, i], self.dtype)
        return weight


def permutations(dims: int, count: int) -> Tensor:
    """The natural order and distinct random ones, at most all D! of them, (K, D); the same for equal arguments."""
    generator = torch.Generator().manual_seed(0)
    found = {tuple(range(dims)): None}
    while len(found) < min(count, math.factorial(dims)):
        found[tuple(torch.randperm(dims, generator=generator).tolist())] = None
    return torch.tensor(list(found))


PRESETS = {"one": {"orders": 1}}
RECIPE = {"lr": 2e-3, "batch": 256, "steps": 500}
