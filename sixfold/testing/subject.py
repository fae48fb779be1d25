"""A model under check: built, prepared, trained for a moment, and the data that go with it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sixfold.core.dataset import Dataset, Split
from sixfold.core.draws import Draws
from sixfold.core.likelihood import Kind, LogProb
from sixfold.core.model import Batch, GenerativeModel, HasDensity
from sixfold.core.registry import build
from sixfold.core.spec import DataSpec
from sixfold.data.sources import load
from sixfold.evaluate.likelihood import log_prob_of
from sixfold.testing.checks import SkippedError, seeded
from sixfold.train.loop import fit_model
from sixfold.train.recipe import Recipe

ROWS = 4096
"""Training data that are used, the first ones: enough for a short training."""


@dataclass
class Subject:
    """What a check works on. Every model that it hands out is the check's own.

    Args:
        name: registry name or ``module:Class``.
        data: to train it on and to compare with.
        options: of the constructor.
        recipe: of the short training.
        unused: names of parameters that the loss is known not to depend on.
        seed: of the initial weights.
    """

    name: str
    data: Dataset
    options: Mapping[str, Any]
    recipe: Recipe
    unused: frozenset[str] = frozenset()
    seed: int = 0

    @property
    def spec(self) -> DataSpec:
        """What one datum is."""
        return self.data.spec

    @property
    def conditional(self) -> bool:
        """Whether the data come with a condition."""
        return self.spec.cond.kind != "none"

    def blank(self, **overrides: Any) -> GenerativeModel:
        """The model as its constructor leaves it; always the same weights."""
        torch.default_generator.manual_seed(self.seed)
        return build(self.name, self.spec, **{**self.options, **overrides})

    def fresh(self, **overrides: Any) -> GenerativeModel:
        """The model before its first step, prepared on the data."""
        model = self.blank(**overrides)
        model.prepare(self.data.train)
        model.prepared.fill_(True)
        return model

    @cached_property
    def training(self) -> GenerativeModel | Exception:
        """The short training: the trained model, or what stopped it."""
        model = self.blank()
        try:
            fit_model(model, self.data, self.recipe)
        except Exception as error:
            return error
        return model

    def trained(self) -> GenerativeModel:
        """The model after the short training, in evaluation mode; the check is skipped when that failed."""
        if isinstance(self.training, Exception):
            raise SkippedError("the short training failed")
        return copy.deepcopy(self.training)

    def able(self, protocol: type) -> Any:
        """The trained model if it has a capability; else the check is skipped."""
        model = self.trained()
        if not isinstance(model, protocol):
            raise SkippedError(f"the model is no {protocol.__name__}")
        return model

    def rows(self, num: int, *, start: int = 0, part: str = "valid") -> tuple[Tensor, Tensor | None]:
        """Validation data and their conditions, from the first again when they run out; or those of another part."""
        split: Split = getattr(self.data, part)
        x, cond = split.batch(torch.arange(start, start + num) % len(split), Draws(num, generator=seeded(7)))
        return x, cond if self.conditional else None

    def one_cond(self, num: int | None = None) -> Tensor | None:
        """The first datum's condition, alone or ``num`` times."""
        _, cond = self.rows(1)
        return None if cond is None else cond[0] if num is None else cond.expand(num, *cond.shape[1:])

    def batch(self, num: int, *, seed: int = 1, start: int = 0, progress: float = 0.5, shard: tuple[int, int] = (0, 1)) -> Batch:
        """A batch of training: the ``num`` rows that are this shard's share."""
        x, cond = self.rows(num, start=start + shard[0] * num)
        return Batch(x, Draws(num, generator=seeded(seed), shard=shard), cond, progress)

    def samples(self, model: GenerativeModel, num: int, *, seed: int = 3, part: str = "valid") -> Tensor:
        """Draws under the conditions of the data."""
        return model.sample(num, cond=self.rows(num, part=part)[1], generator=seeded(seed))

    def log_prob(self, model: Any, x: Tensor, cond: Tensor | None, *, seed: int = 5, **options: Any) -> LogProb[Kind]:
        """Log-probabilities with their kind, without gradient."""
        with torch.no_grad():
            return log_prob_of(model, x, cond, generator=seeded(seed), **options)

    def given(self, method: Callable[..., Any], cond: Tensor | None) -> dict[str, Tensor | None]:
        """The condition as a keyword for a method; the check is skipped when it is needed and the method takes none."""
        if not self.conditional:
            return {}
        if "cond" not in inspect.signature(method).parameters:
            raise SkippedError(f"{method.__name__} takes no condition")
        return {"cond": cond}

    def kind(self, *kinds: type[Kind]) -> type[Kind]:
        """Kind of the model's numbers if it is among those; else the check is skipped."""
        if self._kind not in kinds:
            raise SkippedError(f"the likelihood is of kind {self._kind.__name__}")
        return self._kind

    @cached_property
    def _kind(self) -> type[Kind]:
        return self.log_prob(self.able(HasDensity), *self.rows(1)).kind

    def box(self) -> tuple[Tensor, Tensor]:
        """Corners of the box of the data, widened by half its size on each side, (D,) each."""
        x = self.data.train.rows(ROWS).flatten(1).double()
        low, high = x.amin(0), x.amax(0)
        return low - (high - low) / 2, high + (high - low) / 2


def data_for(data: Dataset | DataSpec | str | None) -> Dataset:
    """Data to check a model on: as given, by name, made up for a specification, or two moons."""
    if isinstance(data, DataSpec):
        return made_up(data)
    found = data if isinstance(data, Dataset) else load(data or "moons")
    train = found.train
    return replace(found, train=Split(train.x[:ROWS], None if train.cond is None else train.cond[:ROWS], train.draw))


def made_up(spec: DataSpec) -> Dataset:
    """Clustered data of any specification, which their condition tells apart: 4000 rows to train on, 500 for each other part.

    Example:
        >>> from sixfold.core.spec import Support
        >>> made_up(DataSpec((6,), Support("binary"))).train.x.shape
        torch.Size([4000, 6])
    """
    generator = seeded(0)
    classes = spec.cond.size if spec.cond.kind == "classes" else 2
    centres = torch.rand(classes, *spec.shape, generator=generator)
    train, valid, test = (_part(spec, centres, num, generator) for num in (4000, 500, 500))
    return Dataset("made up", spec, train, valid, test, classes=tuple(f"cluster {i}" for i in range(classes)))


def _part(spec: DataSpec, centres: Tensor, num: int, generator: torch.Generator) -> Split:
    label = torch.randint(len(centres), (num,), generator=generator)
    cond: Tensor | None = label if spec.cond.kind == "classes" else None
    if spec.cond.kind == "vector":
        cond = torch.randn(num, spec.cond.size, generator=generator)
        label = (cond[:, 0] > 0).long()
    return Split(_about(centres[label], spec, generator), cond)


def _about(centre: Tensor, spec: DataSpec, generator: torch.Generator) -> Tensor:
    """Data near their centres in [0, 1]; every value stays possible, for a tenth of discrete elements are anything at all."""
    noise = torch.randn(centre.shape, generator=generator)
    if not spec.support.discrete:
        return 4 * centre + 0.5 * noise
    count = spec.support.count
    near = (count * (centre + 0.1 * noise)).floor().clamp(0, count - 1).long()
    anything = torch.randint(count, near.shape, generator=generator)
    return torch.where(torch.rand(near.shape, generator=generator) < 0.1, anything, near).to(spec.dtype)
