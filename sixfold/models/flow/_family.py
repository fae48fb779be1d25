"""What every normalizing flow shares: change of variables over a codec, a bijection and a base distribution.

The base is a standard normal and the codec is the way from data space to R^D:

    log p(x) = log N(f(u); 0, I) + log |det df/du| + log |det du/dx|,   u = codec(x)
"""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.likelihood import Exact, LogProb, Lower, Measure
from sixfold.core.model import Array, Batch, DataSpec, Draws, GenerativeModel, Latent, Layers, Split, Terms
from sixfold.core.signature import Count, NonNegative
from sixfold.prob.bijections import Bijection
from sixfold.prob.codecs import Chain
from sixfold.prob.unfold import stages

Way: TypeAlias = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""One direction of a bijection."""

START_ROWS = 10_000  # data that a start is taken from: their statistics are good to a hundredth of a standard deviation


class Flow(GenerativeModel, ABC):
    """A standard normal seen through a bijection; a flow's own class only builds the bijection.

    Args:
        spec: what one datum is.
        codec: between data space and the space of the bijection.
        bijection: of R^D, from data to code.
        start_rows: data that the bijection takes its start from; more make its statistics surer and take memory.
    """

    def __init__(self, spec: DataSpec, *, codec: Chain, bijection: Bijection, start_rows: int = START_ROWS) -> None:
        super().__init__(spec)
        self.codec = codec
        self.bijection = bijection
        self.start_rows = start_rows

    def prepare(self, data: Split) -> None:
        """Statistics of the codec, then the bijection's start; both are taken once and kept in buffers ever after."""
        if self.prepared:
            return
        x = self.take(data.rows(START_ROWS))
        # An unconditional model may be given rows with labels; it does not look at them.
        cond = None if self.spec.cond.kind == "none" or data.cond is None else self.take_cond(data.cond[: len(x)], len(x))
        self.codec.fit(x)
        x, cond = x[: self.start_rows], None if cond is None else cond[: self.start_rows]
        u, _ = self.codec.encode(x, self.draws(len(x), torch.Generator(self.device).manual_seed(0)))
        self.bijection.start(u.flatten(1), self._features(cond, u))
        self.prepared.fill_(True)

    def loss(self, batch: Batch, player: str) -> Terms:
        """Negative log-likelihood in nats, of discrete data its bound with one dequantisation."""
        z, logdet = self._to_code(batch.x, batch.cond, batch.draws)
        base = _log_normal(z)
        return Terms(-(base + logdet), base=base, logdet=logdet)

    @torch.no_grad()
    def log_prob(
        self, x: Array, cond: Array | int | None = None, *, effort: Count = 16, generator: torch.Generator | None = None
    ) -> LogProb[Lower]:
        """Log-likelihood in nats per datum, (B,): exact for real data, a lower bound for discrete data.

            log P(x) >= E_v[ log 1/K sum_k p(x + v_k) ],   v_k ~ U[0, 1)^D,   tighter as K grows (arXiv:1509.00519, Theorem 1)

        Args:
            x: data, (B, *shape).
            cond: condition, where the model has one.
            effort: K, dequantisations of each discrete datum; more tightens the bound and takes longer. Real data need none.
            generator: source of the dequantisation noise.

        Raises:
            BadInput: for data or a condition that ``spec`` does not describe.
        """
        data, dims = self.take(x), self.spec.dims
        c, draws = self.take_cond(cond, len(data)), self.draws(len(data), generator)
        if not self.codec.bounded:
            return LogProb(self._log_density(data, c, draws), Exact, "change of variables", dims)
        each = torch.stack([self._log_density(data, c, draws) for _ in range(effort)])
        nats, method = each.logsumexp(0) - math.log(effort), f"change of variables, {effort} dequantisations"
        return LogProb(nats, Lower, method, dims, Measure(self.spec.support.count))

    @torch.no_grad()
    def sample(
        self,
        num: int,
        *,
        cond: Array | int | None = None,
        temperature: NonNegative = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draws from the model in data space, (num, *shape).

        Args:
            num: how many.
            cond: condition, one for all or one a draw.
            temperature: standard deviation of the base; below 1 draws are more typical and less diverse, and no longer from
                the density that ``log_prob`` reports.
            generator: source of randomness.

        Raises:
            BadInput: for a condition that ``spec`` does not describe.
        """
        return self._to_data(temperature * self.draws(num, generator).normal(self.spec.dims), self.take_cond(cond, num))

    @torch.no_grad()
    def encode(self, x: Array, cond: Array | int | None = None, *, generator: torch.Generator | None = None) -> Latent:
        """The code of each datum, z = f(codec(x)), (B, D); of discrete data that of one random dequantisation.

        Raises:
            BadInput: for data or a condition that ``spec`` does not describe.
        """
        data = self.take(x)
        z, _ = self._to_code(data, self.take_cond(cond, len(data)), self.draws(len(data), generator))
        return Latent(z)

    @torch.no_grad()
    def decode(self, z: Array, cond: Array | int | None = None) -> Tensor:
        """The datum of each code, (B, D) to (B, *shape); the inverse of :meth:`encode`.

        Raises:
            BadInput: for codes of another size, or a condition that ``spec`` does not describe.
        """
        code = torch.as_tensor(z).to(self.device, self.dtype)
        if code.ndim != 2 or code.shape[1] != self.spec.dims:
            raise BadInput(f"codes must have shape (B, {self.spec.dims}); got {tuple(code.shape)}.")
        return self._to_data(code, self.take_cond(cond, len(code)))

    @torch.no_grad()
    def layers(self, x: Array, cond: Array | int | None = None, *, generator: torch.Generator | None = None) -> Layers:
        """From data behind the codec to the base, a state for each step that bends space, affine ones taken with it.

        The last state is the code of :meth:`encode` with its elements in their places among the data.

        Raises:
            BadInput: for data or a condition that ``spec`` does not describe.
        """
        data = self.take(x)
        u, _ = self.codec.encode(data, self.draws(len(data), generator))
        c = self._features(self.take_cond(cond, len(data)), u)
        return self._through([step.__call__ for step in stages(self.bijection)], u, c)

    @torch.no_grad()
    def layers_back(self, base: Tensor, cond: Array | int | None = None) -> Layers:
        """From the base, laid out as the last state of :meth:`layers`, (B, *shape), by the inverse of each step.

        Raises:
            BadInput: for a condition that ``spec`` does not describe.
        """
        z = base.to(self.device, self.dtype)
        c = self._features(self.take_cond(cond, len(z)), z)
        return self._through([step.inverse for step in reversed(stages(self.bijection))], z, c)

    def _through(self, ways: Sequence[Way], state: Tensor, cond: Tensor | None) -> Layers:
        """The states, each (B, *shape), and log-determinants of a batch that is led along."""
        states, logdets = [state.flatten(1)], []
        for way in ways:
            after, logdet = way(states[-1], cond)
            states.append(after)
            logdets.append(logdet)
        return Layers(torch.stack(states).reshape(-1, len(state), *self.spec.shape), torch.stack(logdets))

    @torch.enable_grad()
    def score(self, x: Array, t: float | None = None, *, cond: Array | int | None = None) -> Tensor:
        """Gradient d log p(x) / dx of real data, (B, *shape), by automatic differentiation; there are no noise levels ``t``.

        Raises:
            BadInput: for data or a condition that ``spec`` does not describe.
            Unsupported: for discrete data, whose probabilities have no gradient.
        """
        if self.codec.bounded:
            raise Unsupported("probabilities of discrete data have no gradient; got data with levels. Use log_prob.")
        data = self.take(x).detach().requires_grad_()
        nats = self._log_density(data, self.take_cond(cond, len(data)), self.draws(len(data), None))
        return torch.autograd.grad(nats.sum(), data)[0]

    def _features(self, cond: Tensor | None, like: Tensor) -> Tensor | None:
        return self.spec.cond.features(cond, like)

    def _to_code(self, x: Tensor, cond: Tensor | None, draws: Draws) -> tuple[Tensor, Tensor]:
        """z, (B, D), and log |det dz/dx| with the codec's share, (B,)."""
        u, outer = self.codec.encode(x, draws)
        z, inner = self.bijection(u.flatten(1), self._features(cond, u))
        return z, inner + outer

    def _to_data(self, z: Tensor, cond: Tensor | None) -> Tensor:
        u, _ = self.bijection.inverse(z, self._features(cond, z))
        return self.codec.decode(u.reshape(len(z), *self.spec.shape))

    def _log_density(self, x: Tensor, cond: Tensor | None, draws: Draws) -> Tensor:
        z, logdet = self._to_code(x, cond, draws)
        return _log_normal(z) + logdet


def _log_normal(z: Tensor) -> Tensor:
    """Standard normal log-density in nats, (B,)."""
    return -0.5 * (z.square().sum(1) + z.shape[1] * math.log(2 * math.pi))
