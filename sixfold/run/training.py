"""From a name and data to a trained model: what ``sixfold.fit`` and the command line both call."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sixfold import __version__
from sixfold.core.dataset import Dataset
from sixfold.core.errors import BadInput, suggest
from sixfold.core.model import GenerativeModel
from sixfold.core.registry import build, model_class
from sixfold.core.registry import recipe as recipe_of
from sixfold.core.signature import options as options_of
from sixfold.core.spec import Array
from sixfold.data import from_arrays, load
from sixfold.run.folder import RunFolder
from sixfold.run.page import write_page
from sixfold.train.checkpoint import load_model
from sixfold.train.loop import OnStep, fit_model
from sixfold.train.recipe import Recipe


@dataclass(frozen=True)
class Settings:
    """Everything that defines a run, apart from where it is written.

    Args:
        model: registry name, with preset.
        data: name of the data, or how an array in memory is called.
        conditional: whether labels are the condition.
        options: of the model's constructor, those that differ from its preset.
        recipe: how it is trained.
    """

    model: str
    data: str
    conditional: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    recipe: Recipe = field(default_factory=Recipe)

    @classmethod
    def of(cls, model: str, data: str, *, conditional: bool = False, settings: Mapping[str, Any]) -> Settings:
        """Sort flat settings into the model's options and the recipe's.

        Raises:
            BadInput: for a name that is neither, with the nearest one.
        """
        in_recipe = {o.name for o in options_of(Recipe.__init__)}
        in_model = {o.name for o in options_of(model_class(model).__init__)}
        if in_recipe & in_model:
            both = sorted(in_recipe & in_model)[0]
            raise BadInput(f"{model} has an option {both!r}, which is also the recipe's. Rename the option of the model.")
        unknown = sorted(set(settings) - in_recipe - in_model)
        if unknown:
            raise BadInput(f"{model} has no option {unknown[0]!r}. {suggest(unknown[0], in_recipe | in_model)}")
        recipe = Recipe.of(recipe_of(model), {k: v for k, v in settings.items() if k in in_recipe})
        return cls(model, data, conditional, {k: v for k, v in settings.items() if k in in_model}, recipe)

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``config.json`` and ``--print-config``."""
        return {
            "model": self.model,
            "data": self.data,
            "conditional": self.conditional,
            **self.options,
            **{name: value for name, value in self.recipe.to_json().items() if value is not None},
        }

    @property
    def stem(self) -> str:
        """Name of the run's folder."""
        return self.stem_of(self.data, self.model)

    @staticmethod
    def stem_of(data: str, model: str) -> str:
        """Data and model in letters that every file system takes."""
        text = f"{Path(data).name if '/' in data else data}-{model}"
        return "".join(c if c.isalnum() or c in "._" else "-" for c in text).strip("-.")


def dataset_of(data: str | Path | Dataset | Array, *, conditional: bool) -> Dataset:
    """The data set that the user names or hands over, with or without its labels as the condition."""
    found = data if isinstance(data, Dataset) else load(str(data)) if isinstance(data, str | Path) else from_arrays(data)
    return found.conditional() if conditional else found.unconditional()


def fit(
    name: str,
    data: str | Path | Dataset | Array,
    *,
    conditional: bool = False,
    folder: str | Path | None = None,
    resume: bool = False,
    watch: OnStep | None = None,
    **settings: Any,
) -> GenerativeModel:
    """Train a model.

    Args:
        name: of the model: ``family/file``, ``family/file:preset`` or ``their.module:Model``.
        data: a named set, a path, a :class:`Dataset`, or an array (N, ...) that is split here.
        conditional: condition on the labels of the data.
        folder: where to keep configuration, metrics, checkpoints, samples and a page; nothing is written without one.
        resume: go on with the run in ``folder``.
        watch: called with the progress after each step.
        settings: options of the model's constructor and of the recipe, as ``latent=2, minutes=1``.

    Returns:
        The model with the chosen parameters (averaged; the best by validation where it has a criterion), in eval mode.

    Raises:
        BadInput: for unknown names, options, data or a folder in use.
        Diverged: when training left the finite numbers again and again.

    Example:
        >>> model = fit("flow/realnvp", "moons", steps=2, width=8)
        >>> model.sample(3).shape
        torch.Size([3, 2])
    """
    called = data.name if isinstance(data, Dataset) else str(data) if isinstance(data, str | Path) else "array"
    chosen = Settings.of(name, called, conditional=conditional, settings=settings)
    place = RunFolder(Path(folder)) if folder else None
    return run(chosen, dataset_of(data, conditional=conditional), place, resume=resume, watch=watch)


def run(settings: Settings, dataset: Dataset, folder: RunFolder | None, *, resume: bool, watch: OnStep | None) -> GenerativeModel:
    """Train as ``settings`` say; with a folder, leave the whole run in it."""
    with torch.random.fork_rng(devices=[]):  # initial parameters follow the run's seed; the caller's generator is untouched
        torch.manual_seed(settings.recipe.seed)
        model = build(settings.model, dataset.spec, **settings.options)
    leads = int(os.environ.get("RANK", "0")) == 0  # of the processes that share a run, one writes
    if folder is not None and leads:
        _claim(folder, settings, model, dataset.columns, resume=resume)
    path = None if folder is None else folder.path
    result = fit_model(model, dataset, settings.recipe, folder=path, resume=resume, on_step=watch)
    if folder is not None and leads:
        _describe(folder, settings, model, dataset.columns)
        best = {} if result.best is None else {"best validation": f"{result.best:.4f} per datum"}
        write_page(folder, model, dataset, {"steps": f"{result.steps:,}", "training": f"{result.seconds:.1f} s", **best})
    return model


def _claim(folder: RunFolder, settings: Settings, model: GenerativeModel, columns: Sequence[str], *, resume: bool) -> None:
    """Write the configuration into a folder that holds no run yet, or one that is to go on."""
    if folder.config_path.exists() and not resume:
        raise BadInput(f"{folder.path} already holds a run. Go on with --resume, or choose another folder with --out.")
    if folder.config_path.exists():
        return  # the loop will say whether these settings can go on; until it has, the folder keeps its own
    _describe(folder, settings, model, columns)


def _describe(folder: RunFolder, settings: Settings, model: GenerativeModel, columns: Sequence[str]) -> None:
    versions = {"sixfold": __version__, "torch": torch.__version__, "python": platform.python_version()}
    about = {"options": model.options, "spec": model.spec.to_json(), "columns": list(columns), "versions": versions}
    folder.write_config({"settings": settings.to_json(), **about})


def load_run(path: str | Path) -> GenerativeModel:
    """The trained model of a run's folder or of one checkpoint, in eval mode.

    Raises:
        BadInput: when there is none, or the file is damaged or no checkpoint of this library.
    """
    return load_model(Path(path))
