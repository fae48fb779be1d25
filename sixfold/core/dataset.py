"""What a model is fitted to: rows as stored, in three fixed parts, with the truth where it is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput
from sixfold.core.spec import Conditioning, DataSpec


class Truth(Protocol):
    """A known distribution: what a model of toy data is measured against."""

    def log_prob(self, x: Tensor) -> Tensor:
        """True log-density in nats, (B,)."""
        ...

    def sample(self, num: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws, (num, *shape)."""
        ...

    @property
    def best_nll(self) -> float:
        """Entropy in nats: the least expected negative log-likelihood that any model can reach."""
        ...


@dataclass(frozen=True)
class Split:
    """Rows of one part of a data set, kept as stored and batched by indexing.

    Args:
        x: data, (N, *stored shape), on the CPU.
        cond: labels (N,) or vectors (N, C); ``None`` without conditioning.
        draw: turns stored rows into data at random for every batch (dynamic binarisation); ``None`` takes them as they are.
        labels: classes of rows that are not conditioned on them, (N,): for pictures alone, no batch holds them.
    """

    x: Tensor
    cond: Tensor | None = None
    draw: Callable[[Tensor, Draws], Tensor] | None = None
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor, draws: Draws) -> tuple[Tensor, Tensor | None]:
        """Rows at ``index`` as data and condition, moved to the device of ``draws``."""
        x = self.x.index_select(0, index).to(draws.device, non_blocking=True)
        cond = None if self.cond is None else self.cond.index_select(0, index).to(draws.device, non_blocking=True)
        return (x if self.draw is None else self.draw(x, draws)), cond

    def rows(self, num: int | None = None, *, seed: int = 0) -> Tensor:
        """The first ``num`` rows as data (all by default); random ones of ``draw`` are fixed by ``seed``."""
        x = self.x if num is None else self.x[:num]
        return x if self.draw is None else self.draw(x, Draws(len(x), generator=torch.Generator().manual_seed(seed)))


@dataclass(frozen=True)
class Dataset:
    """A data set in three fixed parts. Model selection uses ``valid``; nothing but the last score touches ``test``.

    Args:
        name: as the user wrote it, ``digits`` or ``folder:pictures``.
        spec: what one datum is, without conditioning.
        train, valid, test: the parts; ``cond`` holds labels when the source has them.
        classes: names of the classes, empty without labels.
        columns: names of the elements of a table's row, empty where they have none.
        truth: the distribution that toy data come from.
    """

    name: str
    spec: DataSpec
    train: Split
    valid: Split
    test: Split
    classes: tuple[str, ...] = field(default=())
    columns: tuple[str, ...] = field(default=())
    truth: Truth | None = None

    def conditional(self) -> Dataset:
        """The same data with labels (or vectors) as the condition.

        Raises:
            BadInput: when the source has none.
        """
        cond = self.train.cond
        if cond is None:
            raise BadInput(f"{self.name} has no labels to condition on. Leave --conditional out.")
        kind = Conditioning("vector", cond.shape[1]) if cond.is_floating_point() else Conditioning("classes", len(self.classes))
        return replace(self, spec=replace(self.spec, cond=kind))

    def unconditional(self) -> Dataset:
        """The same data without a condition; classes stay known as ``labels``."""

        def free(part: Split) -> Split:
            return replace(part, cond=None, labels=part.cond if self.classes and part.cond is not None else part.labels)

        spec, (train, valid, test) = self.spec.without_cond(), map(free, (self.train, self.valid, self.test))
        return replace(self, spec=spec, train=train, valid=valid, test=test)
