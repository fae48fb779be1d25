"""The contract: what a generative model is, and what some of them can do beyond sampling.

Training is one loop over players. For each active player the loop takes ``loss(batch, player)``, moves that player's
parameters and no others, and calls ``after_step``. Everything else that a model can do is a protocol that it either has or
has not; ``isinstance(model, HasDensity)`` answers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from sixfold.core.dataset import Split
from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput
from sixfold.core.likelihood import Kind, LogProb
from sixfold.core.spec import Array, DataSpec

K_co = TypeVar("K_co", bound=Kind, covariant=True)
T = TypeVar("T")

Watch: TypeAlias = Callable[[float], None]
"""Called with the share that is done, in [0, 1]."""

ELEMENTS = 2**18  # of all data drawn at once: a network that holds a few hundred numbers for each of them takes some 100 MB
AT_ONCE = 10_000  # data of few elements beyond which a larger batch is no faster


@dataclass(frozen=True)
class Batch:
    """What a loss sees.

    Args:
        x: data in data space, (B, *shape).
        draws: the batch's randomness; a loss that uses it gives the same value however many processes share the batch.
        cond: labels (B,) or vectors (B, C).
        progress: of the run, in [0, 1]; every schedule is a function of it.
    """

    x: Tensor
    draws: Draws
    cond: Tensor | None = None
    progress: float = 1.0


class Terms:
    """A loss per datum and its named parts.

    Args:
        loss: what the player minimises the mean of, (B,).
        parts: named quantities to log, (B,) or scalar; they carry no gradient.
    """

    def __init__(self, loss: Tensor, **parts: Tensor) -> None:
        self.loss = loss
        self.parts = {name: part.detach() for name, part in parts.items()}


@dataclass(frozen=True)
class Player:
    """Whose parameters one loss moves.

    Args:
        parameters: that this player moves.
        steps: updates in each round of the run; a critic may take several.
        lr: factor on the recipe's learning rate.
        window: share of the run in which this player is active, ``(from, to)`` in progress; stages are disjoint windows.
    """

    parameters: Iterable[nn.Parameter]
    steps: int = 1
    lr: float = 1.0
    window: tuple[float, float] = (0.0, 1.0)

    def active(self, progress: float) -> bool:
        """Whether this player moves at ``progress``."""
        start, stop = self.window
        return start <= progress < stop or (progress >= 1.0 and stop >= 1.0)


def _within(outer: Watch, done: int, total: int, share: float) -> None:
    """Tell the outer loop that ``done`` of its ``total`` steps and a share of the next are done."""
    outer((done + share) / total)


class GenerativeModel(nn.Module, ABC):
    """A distribution over data as ``spec`` describes them, that can be trained and sampled.

    A subclass's constructor takes ``spec`` and then keyword-only, typed, defaulted options: that signature is its
    configuration. Everything that a resumed run needs is a parameter or a registered buffer.
    """

    couples_batch: bool = False
    """Whether the loss of one datum depends on the others' (MMD, total correlation): such a batch cannot be sharded."""

    name: str = ""
    """Registry name it was built under, as ``flow/realnvp``; set by :func:`sixfold.core.registry.build`."""

    options: dict[str, Any]
    """Constructor options it was built with; set by :func:`sixfold.core.registry.build`."""

    prepared: Tensor
    """Whether ``prepare`` has been called, as a buffer: a reloaded model keeps what it has learned."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.spec = spec
        self.options = {}
        self._told: Watch | None = None
        self.register_buffer("prepared", torch.tensor(False))

    def players(self) -> dict[str, Player]:
        """Who moves what, in the order of play. Default: one player with all parameters."""
        return {"model": Player(list(self.parameters()))}

    def prepare(self, data: Split) -> None:
        """Data-dependent start, once, before the first step: statistics of a codec, actnorm, mean pixel."""

    @abstractmethod
    def loss(self, batch: Batch, player: str) -> Terms:
        """Loss per datum that ``player`` minimises, with its parts."""

    def after_step(self, player: str) -> None:
        """After each update of ``player``: target networks, codebooks, clipping."""

    @torch.no_grad()
    def criterion(self, batch: Batch) -> Tensor | None:
        """What validation minimises, per datum, (B,); ``None`` when no such number can be trusted.

        Default: the loss of a single player; ``None`` for a game, whose losses do not say who is better.
        """
        players = self.players()
        return self.loss(batch, next(iter(players))).loss if len(players) == 1 else None

    @abstractmethod
    def sample(self, num: int, *, cond: Array | int | None = None, generator: torch.Generator | None = None) -> Tensor:
        """``num`` draws in data space, (num, *shape), of the data's dtype and range.

        With a generator the global one is left untouched. Models add options of their own as typed keywords. Memory may grow
        with ``num``; :meth:`stream` keeps it bounded.
        """

    @property
    def at_once(self) -> int:
        """Data that :meth:`stream` draws at a time unless told otherwise. Default: the fewer, the larger one datum is."""
        return max(1, min(AT_ONCE, ELEMENTS // self.spec.dims))

    def stream(
        self,
        num: int,
        *,
        at_once: int | None = None,
        cond: Array | int | None = None,
        generator: torch.Generator | None = None,
        watch: Watch | None = None,
        **options: Any,
    ) -> Iterator[Tensor]:
        """``num`` draws, batch after batch, each as :meth:`sample` gives it: memory does not grow with ``num``.

        A batch takes its noise from the generator as a whole, so that another ``at_once`` gives other draws from the same
        distribution; with the same one, more draws begin with the same full batches. Chains that start where training left
        some are dealt anew for each batch.

        Args:
            num: how many in all.
            at_once: draws in a batch, of which the last may have fewer; more are faster until they take too much memory.
            cond: a label or vector for all, or one for each of all draws.
            generator: source of randomness, for one batch after the other.
            watch: called with the share of all draws that is done, also within a batch where the sampler tells its steps.
            options: of :meth:`sample`.

        Raises:
            BadInput: for fewer than one at once, and what :meth:`sample` refuses.

        Example:
            >>> from sixfold.core.registry import build
            >>> from sixfold.core.spec import Support
            >>> model = build("flow/realnvp", DataSpec((2,), Support("real")))
            >>> [len(x) for x in model.stream(100, at_once=40)]
            [40, 40, 20]
        """
        few = self.at_once if at_once is None else at_once
        if few < 1:
            raise BadInput(f"at_once must be at least 1; got {few}. Leave it out for as many as the model's memory allows.")
        conds = self.take_cond(cond, num)

        def drawn() -> Iterator[Tensor]:
            for start in range(0, max(num, 1), few):  # one empty batch of none
                stop = min(start + few, num)
                own = None if conds is None else conds[start:stop]
                with self._watched(watch, start / max(num, 1), stop / max(num, 1)):
                    x = self.sample(stop - start, cond=own, generator=generator, **options)
                yield x

        return drawn()

    @contextmanager
    def _watched(self, watch: Watch | None, start: float, stop: float) -> Iterator[None]:
        """Within this block the steps that are told move ``watch`` from one share to another."""
        self._told = None if watch is None else lambda share: watch(start + share * (stop - start))
        try:
            yield
        finally:
            self._told = None
        if watch is not None:
            watch(stop)

    def told(self, steps: Iterable[T], total: int) -> Iterator[T]:
        """The steps of a sampler's loop, ``total`` of them, with a word to who watches after each; loops may nest."""
        outer = self._told
        if outer is None:
            yield from steps
            return
        try:
            for done, step in enumerate(steps):
                self._told = partial(_within, outer, done, total)
                yield step
                outer((done + 1) / total)
        finally:
            self._told = outer

    @property
    def device(self) -> torch.device:
        """Where the model's tensors live."""
        return self._state().device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the model's parameters."""
        return self._state().dtype

    def _state(self) -> Tensor:
        def floats() -> Iterator[Tensor]:
            yield from (p for p in self.parameters() if p.is_floating_point())
            yield from (b for b in self.buffers() if b.is_floating_point())

        return next(floats())

    def take(self, x: Array) -> Tensor:
        """Data checked against ``spec`` and moved to the model: real data in its dtype, discrete data as integers."""
        data = self.spec.check(x).to(self.device)
        return data.to(self.dtype) if data.is_floating_point() else data

    def take_cond(self, cond: Array | int | None, num: int) -> Tensor | None:
        """The condition checked against ``spec``, ``num`` rows, on the model's device."""
        checked = self.spec.check_cond(cond, num)
        return None if checked is None else checked.to(self.device)

    def take_known(self, known: Array, num: int) -> Tensor:
        """Which elements of ``num`` data are known, bool of shape (num, *shape), on the model's device; one mask serves all.

        Raises:
            BadInput: when it is not boolean or of another shape.
        """
        mask = torch.as_tensor(known).to(self.device)
        if mask.dtype != torch.bool or tuple(mask.shape) not in (self.spec.shape, (num, *self.spec.shape)):
            raise BadInput(f"known must be bool of shape {(num, *self.spec.shape)}; got {mask.dtype} {tuple(mask.shape)}.")
        return mask.expand(num, *self.spec.shape)

    def draws(self, num: int, generator: torch.Generator | None) -> Draws:
        """Randomness of ``num`` rows in the model's dtype on its device."""
        return Draws(num, generator=generator, device=self.device, dtype=self.dtype)


@dataclass(frozen=True)
class Latent:
    """A code: one draw or the code itself, and mean and standard deviation of its posterior where there is one; (B, Z) each."""

    z: Tensor
    mean: Tensor | None = None
    std: Tensor | None = None


@dataclass(frozen=True)
class Trajectory:
    """The steps of sampling, for plots.

    Args:
        times: of each frame, (T,), in the model's own time, from noise to data.
        frames: states in data space's shape as floats, (T, B, *shape).
    """

    times: Tensor
    frames: Tensor


@dataclass(frozen=True)
class Layers:
    """What a model's steps between data and base make of a batch.

    Args:
        states: before the first step and after each, (T + 1, B, *shape) floats, every element where it was.
        logdets: log |det| of each step in the direction it was taken, in nats, (T, B).
    """

    states: Tensor
    logdets: Tensor


@dataclass(frozen=True)
class Filled:
    """Completed data, (B, *shape), and whether they are draws from the model's exact conditional."""

    x: Tensor
    exact: bool


@runtime_checkable
class HasDensity(Protocol[K_co]):
    """A model that says something about the log-probability of data as given."""

    def log_prob(
        self, x: Array, cond: Array | int | None = None, *, effort: int = ..., generator: torch.Generator | None = None
    ) -> LogProb[K_co]:
        """Nats per datum, (B,), with their kind. More ``effort`` tightens a bound or narrows an estimate."""
        ...


@runtime_checkable
class HasLatent(Protocol):
    """A model with a code for each datum."""

    def encode(self, x: Array, cond: Array | int | None = None, *, generator: torch.Generator | None = None) -> Latent:
        """The code of each datum."""
        ...

    def decode(self, z: Array, cond: Array | int | None = None) -> Tensor:
        """The most typical datum of each code, in data space."""
        ...


@runtime_checkable
class HasPrior(Protocol):
    """A model that makes data of standard normal codes."""

    latent: int
    """Numbers of a code, Z."""

    def decode(self, z: Array, cond: Array | int | None = None) -> Tensor:
        """The most typical datum of each code, (B, Z), in data space."""
        ...


@runtime_checkable
class HasLayers(Protocol):
    """A model that goes between data and a standard normal base by steps that can be taken back."""

    def layers(self, x: Array, cond: Array | int | None = None, *, generator: torch.Generator | None = None) -> Layers:
        """From data, as the first step sees them, to the base."""
        ...

    def layers_back(self, base: Tensor, cond: Array | int | None = None) -> Layers:
        """From states of the base, (B, *shape), to what the first step of :meth:`layers` sees, by the steps' inverses."""
        ...


@runtime_checkable
class HasScore(Protocol):
    """A model that gives the gradient of its log-density."""

    def score(self, x: Array, t: float | None = None) -> Tensor:
        """Gradient d log p_t(x) / dx, (B, *shape); ``t`` is a noise level where the model has them."""
        ...


@runtime_checkable
class HasEnergy(Protocol):
    """A model with an energy: low where data are likely, log p(x) = -energy(x) - log Z."""

    def energy(self, x: Array) -> Tensor:
        """Energy per datum in nats, (B,)."""
        ...


@runtime_checkable
class HasTrajectory(Protocol):
    """A model that can show the steps of its sampling."""

    def trajectory(self, num: int, *, frames: int = ..., generator: torch.Generator | None = None) -> Trajectory:
        """``frames`` states on the way from noise to ``num`` samples."""
        ...


@runtime_checkable
class Noises(Protocol):
    """A model of data at growing noise."""

    def noised(self, x: Array, times: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """The data at those times of the model, (T, B, *shape) floats in data space; one noise for all times."""
        ...


@runtime_checkable
class Fills(Protocol):
    """A model that completes data."""

    def fill(self, x: Array, known: Array, *, generator: torch.Generator | None = None) -> Filled:
        """``x`` with the elements where ``known`` (bool, same shape) is false drawn anew."""
        ...


__all__ = [
    "Array",
    "Batch",
    "DataSpec",
    "Draws",
    "Filled",
    "Fills",
    "GenerativeModel",
    "HasDensity",
    "HasEnergy",
    "HasLatent",
    "HasLayers",
    "HasPrior",
    "HasScore",
    "HasTrajectory",
    "Latent",
    "Layers",
    "Noises",
    "Player",
    "Split",
    "Terms",
    "Trajectory",
]
