"""A suite: what is compared, as a small YAML file.

    title: Six families on points of the plane
    data: [moons, ring8]
    seeds: 3
    rows: 10000                      # test data and samples that are scored, at most
    budget: {minutes: 0.5}           # of each training; without one, each model's own recipe decides
    metrics: [likelihood, samples]   # groups, all by default
    near: {mnist: [fashion-mnist]}   # outliers that are hard to tell, for the anomaly scores
    models:
      made: autoregressive/made
      vae: {model: {moons: vae/iwae:points, "*": vae/vae}, settings: {latent: 2}}

Every model trains on the same splits with the same budget and seeds; the checkpoint with the best validation criterion is
scored, or the last one where a model has none (as a GAN).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from sixfold.compare.job import Job
from sixfold.core.errors import BadInput, suggest
from sixfold.core.signature import Count, validate
from sixfold.core.yamlfile import read_yaml, write_yaml

FOLDER = Path(__file__).parent / "suites"
Group = Literal["likelihood", "samples", "novelty", "representation", "anomaly", "cost"]
Budget = Literal["minutes", "steps", "epochs"]
GROUPS: tuple[Group, ...] = get_args(Group)


@dataclass(frozen=True)
class Entry:
    """A row of the comparison: a model's name, for all data or by data, and what differs from its recipe."""

    label: str
    models: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def model_on(self, data: str) -> str | None:
        """Name of the model on these data; ``None`` when it does not take part."""
        return self.models.get(data, self.models.get("*"))


@dataclass(frozen=True, kw_only=True)
class Suite:
    """What is compared, and under which protocol.

    Args:
        name: of the suite.
        title: of the report.
        data: names of data sets.
        models: rows of the comparison.
        seeds: trainings of each model.
        rows: test data and samples that are scored, at most.
        budget: of each training, as ``{"minutes": 0.5}``; empty leaves it to the recipes.
        metrics: groups of scores.
        near: names of outliers that are hard to tell from a data set.
    """

    name: str
    data: tuple[str, ...]
    models: tuple[Entry, ...]
    title: str = "Generative models, side by side"
    seeds: Count = 3
    rows: Count = 10_000
    budget: dict[Budget, float] = field(default_factory=dict)
    metrics: tuple[Group, ...] = GROUPS
    near: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.budget) > 1:
            raise BadInput(f"{self.name}: a budget is one number; got {' and '.join(self.budget)}. Keep one of them.")
        for what in ("data", "models", "metrics"):
            if not getattr(self, what):
                raise BadInput(f"{self.name}: {what} is empty; a suite names data, models and metrics.")

    def jobs(self) -> list[Job]:
        """Every training: data by data, seed by seed, so that all models have one run before any has two."""
        return [
            Job(name, data, dict(entry.settings) | dict(self.budget) | {"seed": seed}, label=entry.label)
            for data in self.data
            for seed in range(self.seeds)
            for entry in self.models
            if (name := entry.model_on(data)) is not None
        ]

    def on(self, data: Sequence[str]) -> Suite:
        """The same suite on other data."""
        return replace(self, data=tuple(data))

    def to_yaml(self) -> str:
        """The file that :func:`read_suite` reads."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("name", "models")}
        rows = {e.label: {"model": dict(e.models), "settings": dict(e.settings)} for e in self.models}
        return write_yaml(json.loads(json.dumps(plain | {"models": rows})))


def shipped() -> list[str]:
    """Names of the suites that come with the library."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_suite(name: str | Path) -> Suite:
    """A shipped suite by name, or one in a YAML file.

    Raises:
        BadInput: for an unknown name, unknown keys or values that cannot be.

    Example:
        >>> read_suite("demo").data
        ('moons', 'digits')
    """
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if path.parent == FOLDER and path.stem not in shipped():
        raise BadInput(f"no suite {str(name)!r}; expected a YAML file or a shipped suite. {suggest(str(name), shipped())}")
    values = read_yaml(path)
    missing = [name for name in ("data", "models") if name not in values]
    if missing:
        raise BadInput(f"{path.name} lacks {missing[0]!r}; a suite names data and models.")
    rows = {"name": path.stem, "models": _entries(values["models"], path.name)}
    return Suite(**validate(Suite.__init__, values | rows, owner=path.name))


def _entries(models: Any, file: str) -> tuple[Entry, ...]:
    if not isinstance(models, dict) or not models:
        raise BadInput(
            f"{file}: models must be a mapping of labels to models, as `made: autoregressive/made`; got {models!r:.60}."
        )
    return tuple(_entry(str(label), value, file) for label, value in models.items())


def _entry(label: str, value: Any, file: str) -> Entry:
    whole = value if isinstance(value, dict) else {"model": value}
    unknown = sorted(set(whole) - {"model", "settings"})
    models = whole.get("model")
    models = {"*": models} if isinstance(models, str) else models
    if unknown or not isinstance(models, dict) or not all(isinstance(m, str) for m in models.values()):
        raise BadInput(
            f"{file}: model {label!r} must be a name, or {{model: NAME or names by data, settings: ...}}; got {value!r:.60}."
        )
    return Entry(label, models, dict(whole.get("settings") or {}))
