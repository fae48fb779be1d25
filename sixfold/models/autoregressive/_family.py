"""What autoregressive models share: likelihood, samplers and completion over any causal network.

    log p(x) = log 1/K sum_k prod_i p(x_i | elements before i in order k)                 K orders of the elements, mostly one

A model gives the numbers of every element in one pass, and the same in a walk along an order that computes each activation
once. Three samplers turn noise, drawn once for each element, into a datum, and all three into the same one: naive, cached and
fixed-point, as sixfold/prob/sequential.py has them.

Source:  top-p: The Curious Case of Neural Text Degeneration (Holtzman et al., 2020), arXiv:1904.09751.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from sixfold.core.draws import Draws
from sixfold.core.likelihood import Exact, LogProb, Measure
from sixfold.core.model import Array, Batch, Filled, GenerativeModel, Split, Terms
from sixfold.core.signature import Count, Natural, Positive, Share
from sixfold.core.spec import DataSpec
from sixfold.prob.codecs import Elements
from sixfold.prob.heads import PLAIN, Head, Taste
from sixfold.prob.sequential import WAYS, Chain, Draw, Way

NUMBERS = 2**25  # that a network holds at once while it scores or samples: 128 MB in float32
WALKED = 256  # data that go through a walk at once if they fit: its steps cost nearly as much for few as for many
START_ROWS = 10_000  # data that the start is taken from


class ChainRule(GenerativeModel, ABC):
    """A likelihood head on a causal network, in one order of the elements or an equal mixture of several.

    Args:
        spec: what one datum is.
        head: distribution of one element.
        held: numbers that a pass of the network holds for each datum, which decides how many data go through at once.
        kept: numbers that a walk keeps for each datum where they are many.
    """

    def __init__(self, spec: DataSpec, *, head: Head, held: int, kept: int = 1) -> None:
        super().__init__(spec)
        self.head = head
        self.elements = Elements(spec)
        self.rows = max(1, NUMBERS // held)
        self.walked = max(self.rows, min(WALKED, NUMBERS // kept))  # a pass holds all elements, a walk what it looks back at

    @property
    def at_once(self) -> int:
        """As many as go through one walk in each order, with room for orders that chance takes more often."""
        count, most = len(self.orders), min(self.walked, WALKED)
        return most if count == 1 else max(1, 3 * most * count // 4)

    @property
    @abstractmethod
    def orders(self) -> Tensor:
        """Permutations of the elements, (K, D); ``orders[k, p]`` is the element at position p."""

    @abstractmethod
    def numbers(self, seen: Tensor, order: Tensor, features: Tensor | None, draws: Draws | None = None) -> Tensor:
        """The head's numbers of each element, (B, D, outputs), from the elements before it alone.

        Args:
            seen: elements as the head embeds them, (B, D, inputs).
            order: which of the orders each row is seen in, (B,); all 0 where there is one.
            features: of the rows' conditions, (B, C).
            draws: randomness of dropout in training, none elsewhere; a network without dropout needs none.
        """

    @abstractmethod
    def walk(self, seen: Tensor, k: int, features: Tensor | None) -> Iterator[tuple[int, Tensor]]:
        """The elements of order ``k``, each with its numbers, (B, outputs), and nothing computed twice.

        Args:
            seen: embedded elements, (B, D, inputs); the caller writes each one there before it goes on to the next.
            k: which order.
            features: of the rows' conditions, (B, C).
        """

    @abstractmethod
    def start(self, marginal: Tensor) -> None:
        """Give each element these numbers, (D, outputs), whatever comes before it, from where it learns to depend on that."""

    @torch.no_grad()
    def prepare(self, data: Split) -> None:
        """Statistics of the codec; the network starts as the independent distribution of each element."""
        x = data.rows()
        self.elements.fit(x)
        few = x[:: max(1, len(x) // START_ROWS)]
        u, _ = self.elements.encode(few.to(self.device), self.dtype)
        self.start(self.head.marginal(u))

    def loss(self, batch: Batch, player: str) -> Terms:
        """Negative log-likelihood in nats; of a mixture that of one random order, whose mean is no less (Jensen)."""
        order = (batch.draws.stratified() * len(self.orders)).long()
        return Terms(-self._log_prob(batch.x, order, batch.cond, batch.draws if self.training else None))

    @torch.no_grad()
    def criterion(self, batch: Batch) -> Tensor:
        """Negative log-likelihood, (B,), of the mixture where there is one."""
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
        parts = self._parts(len(x), each=len(self.orders))
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
        top_k: Natural = 0,
        top_p: Share = 1.0,
        sampler: Way = "cached",
    ) -> Tensor:
        """Draws in data space, (num, *shape), in batches of bounded memory; exact ones unless values are cut or cooled.

        Args:
            num: how many.
            cond: a label or vector for all, or one for each.
            generator: source of randomness.
            temperature: of each element's distribution; below 1 gives likelier, less varied data.
            top_k: each element takes one of so many likeliest values, 0 of all; fewer is safer and less varied.
            top_p: each element takes one of the likeliest values that together hold this share; less is safer and less varied.
            sampler: cached computes everything once; fixed-point needs few passes over all elements; naive needs one for each
                element. The same noise gives the same data in all three.

        Raises:
            BadInput: for a condition that ``spec`` does not describe, or values to be cut of real data.
        """
        cond, taste = self.take_cond(cond, num), Taste(temperature, top_k, top_p)
        u = torch.zeros(num, self.spec.dims, device=self.device, dtype=torch.long if self.elements.codec is None else self.dtype)
        order = self.draws(num, generator).integers(len(self.orders))
        self._complete(u, torch.zeros_like(u, dtype=torch.bool), order, cond, generator, taste, sampler)
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
        temperature: Positive = 1.0,
        top_k: Natural = 0,
        top_p: Share = 1.0,
        sampler: Way = "cached",
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
            temperature: of each element's distribution, as in :meth:`sample`; other than 1 is not exact.
            top_k: values that each element is drawn from, as in :meth:`sample`; other than 0 is not exact.
            top_p: share that they hold, as in :meth:`sample`; other than 1 is not exact.
            sampler: as in :meth:`sample`.

        Raises:
            BadInput: when ``known`` is not boolean or of another shape, or values of real data are to be cut.
        """
        x, taste = self.take(x), Taste(temperature, top_k, top_p)
        cond, mask = self.take_cond(cond, len(x)), self.take_known(known, len(x)).flatten(1)
        first = self._come_first(mask)
        count = len(self.orders) * (1 if first else tries)
        parts = torch.split(torch.arange(len(x), device=self.device), max(1, self.walked // count))
        drawn = torch.cat([self._fill(x[part], mask[part], None if cond is None else cond[part], count, generator, taste, sampler)
                           for part in parts])  # fmt: skip
        return Filled(torch.where(mask.reshape(x.shape), x, drawn), first and taste == PLAIN)

    def _fill(
        self,
        x: Tensor,
        known: Tensor,
        cond: Tensor | None,
        count: int,
        generator: torch.Generator | None,
        taste: Taste,
        sampler: Way,
    ) -> Tensor:
        """One of ``count`` proposals for each datum, (B, *shape)."""
        u, known = self.elements.encode(x, self.dtype)[0].repeat_interleave(count, 0), known.repeat_interleave(count, 0)
        order = (torch.arange(count, device=self.device) % len(self.orders)).repeat(len(x))
        cond = None if cond is None else cond.repeat_interleave(count, 0)
        self._complete(u, known, order, cond, generator, taste, sampler)
        chosen = torch.zeros(len(x), device=self.device, dtype=torch.long)
        if count > 1:
            nats = torch.cat(
                [
                    self._nats(u[rows], order[rows], self._features(None if cond is None else cond[rows]))
                    for rows in self._parts(len(u), each=1)
                ]
            )
            weight = nats.where(known, 0.0).sum(1).reshape(len(x), count).softmax(1)
            chosen = torch.multinomial(weight, 1, generator=generator).squeeze(1)
        return self.elements.decode(u.reshape(len(x), count, -1)[torch.arange(len(x), device=self.device), chosen])

    def _complete(
        self,
        u: Tensor,
        known: Tensor,
        order: Tensor,
        cond: Tensor | None,
        generator: torch.Generator | None,
        taste: Taste,
        sampler: Way,
    ) -> None:
        """Draws the unknown elements of ``u`` in place, each row in its order."""
        features = self._features(cond)
        rows_of = [torch.split((order == k).nonzero().flatten(), self.walked) for k in range(len(self.orders))]
        parts = [(k, part) for k, split in enumerate(rows_of) for part in split if len(part)]
        for k, part in self.told(parts, len(parts)):
            noise = self.head.noise(self.draws(len(part), generator), self.spec.dims)
            few = self.walked if sampler == "cached" else self.rows
            for rows, some in zip(torch.split(part, few), torch.split(noise, few), strict=True):
                chain = self.chain(k, None if features is None else features[rows])
                u[rows], _ = WAYS[sampler](chain, u[rows], self._draw(u[rows], known[rows], some, taste))

    def _draw(self, given: Tensor, known: Tensor, noise: Tensor, taste: Taste) -> Draw:
        """How an element is drawn; one that is known stays what is given, (B, D)."""

        def draw(params: Tensor, i: int | slice) -> Tensor:
            return torch.where(known[:, i], given[:, i], self.head.pick(params, noise[:, i], taste))

        return draw

    def chain(self, k: int, features: Tensor | None) -> Chain:
        """Order ``k`` under the features of some rows' conditions, (B, C)."""

        def numbers(u: Tensor) -> Tensor:
            return self.numbers(self.head.embed(u, self.dtype), self.orders.new_full((len(u),), k), features)

        def walk(u: Tensor) -> Iterator[tuple[int, Tensor]]:
            seen = self.head.embed(u, self.dtype)
            for i, params in self.told(self.walk(seen, k, features), self.spec.dims):
                yield i, params
                seen[:, i] = self.head.embed(u[:, i], self.dtype)

        return Chain(self.orders[k].tolist(), numbers, walk)

    def _parts(self, num: int, *, each: int) -> Iterable[Tensor]:
        """Rows that go through at once where each one takes so many passes; one empty part of no rows."""
        return torch.split(torch.arange(num, device=self.device), max(1, self.rows // each))

    def _features(self, cond: Tensor | None) -> Tensor | None:
        return self.spec.cond.features(cond, self._state())

    def _nats(self, u: Tensor, order: Tensor, features: Tensor | None, draws: Draws | None = None) -> Tensor:
        """Of each element given those before it, (B, D)."""
        return self.head.log_prob(self.numbers(self.head.embed(u, self.dtype), order, features, draws), u)

    def _log_prob(self, x: Tensor, order: Tensor, cond: Tensor | None, draws: Draws | None = None) -> Tensor:
        """Nats of each datum in its order, (B,)."""
        u, logdet = self.elements.encode(x, self.dtype)
        return self._nats(u, order, self._features(cond), draws).sum(1) + logdet

    def _mixture(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """Log of the mean over orders of p_k(x), (B,)."""
        count = len(self.orders)
        order = torch.arange(count, device=x.device).repeat_interleave(len(x))
        many = x.repeat(count, *[1] * (x.ndim - 1))
        conds = None if cond is None else cond.repeat(count, *[1] * (cond.ndim - 1))
        return self._log_prob(many, order, conds).reshape(count, -1).logsumexp(0) - math.log(count)

    def _come_first(self, mask: Tensor) -> bool:
        """Whether the known elements of every datum are the first ones of every order."""
        turned = mask[:, self.orders]  # (B, K, D)
        return not bool((turned[..., 1:] & ~turned[..., :-1]).any())
