"""``sixfold fit NAME --data D [options]``: the flags are the model's constructor and the recipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from sixfold.cli.parse import flag, flags, parse
from sixfold.core.errors import BadInput
from sixfold.core.registry import BUDGETS, entry, model_class, split_name
from sixfold.core.signature import options, validate
from sixfold.core.yamlfile import read_yaml, write_yaml
from sixfold.run.folder import RunFolder
from sixfold.run.training import Settings, dataset_of, run
from sixfold.train.progress import Bar
from sixfold.train.recipe import Recipe
from sixfold.train.team import launch

_USAGE = "usage: sixfold fit NAME --data D [options]; `sixfold list` shows the names, `sixfold fit NAME --help` its options.\n"
_RUN = ("data", "out", "conditional", "resume", "config", "print_config", "quiet")


def _config_of(arguments: Sequence[str]) -> dict[str, Any]:
    """The file behind ``--config``, read before the flags whose defaults it sets."""
    for i, word in enumerate(arguments):
        name, _, value = word.partition("=")
        if name == "--config":
            return read_yaml(Path(value or "".join(arguments[i + 1 : i + 2])))
    return {}


def _base(name: str) -> dict[str, Any]:
    """Every option of model and recipe with the value it has when nobody says otherwise."""
    preset, recipe = entry(name).preset(split_name(name)[1])
    signature = {o.name: o.default for o in options(model_class(name).__init__)}
    return signature | preset | Recipe.of(recipe).to_json()


def _fields(name: str, config: dict[str, Any], base: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    known = base | config
    own = [
        flag("data", str, config.get("data", MISSING), "a named set (`sixfold data`), folder:PATH, or a table or array file"),
        flag("out", Path | None, None, "folder of the run; by default runs/DATA-MODEL"),
        flag("conditional", bool, config.get("conditional", False), "condition on the labels of the data"),
        flag("resume", bool, False, "go on with the run in --out"),
        flag("config", Path | None, None, "YAML file of options; flags win over it"),
        flag("print_config", bool, False, "print all options as such a file and stop"),
        flag("quiet", bool, False, "no progress bar"),
    ]
    if not config.keys().isdisjoint(BUDGETS):
        known |= {name: config.get(name) for name in BUDGETS}
    return [*own, *flags(options(model_class(name).__init__), known), *flags(options(Recipe.__init__), known)]


def _checked(config: dict[str, Any], name: str) -> dict[str, Any]:
    """The file's values in the types of the signatures; unknown keys are named with the nearest known one."""
    own = {k: v for k, v in config.items() if k not in ("model", "data", "conditional")}
    kept = Settings.of(name, "", settings=own)
    typed = {**vars(kept.recipe), **validate(model_class(name).__init__, kept.options, owner=name)}
    return config | {k: typed[k] for k in own}


def settings_of(arguments: Sequence[str]) -> tuple[Settings, dict[str, Any]]:
    """What the command line asks for: the run's settings, and where and how to run it."""
    config = _config_of(arguments)
    named = bool(arguments) and not arguments[0].startswith("-")
    if not named and "model" not in config:
        raise BadInput("no model named. " + _USAGE.strip())
    name = arguments[0] if named else str(config["model"])
    config, base = _checked(config, name), _base(name)
    fields = _fields(name, config, base)
    values = parse(arguments[1:] if named else arguments, fields, prog=f"sixfold fit {name}", description=entry(name).summary)
    how = {k: values.pop(k) for k in _RUN}
    given = {k: v for k, v in values.items() if v != base[k] and k not in BUDGETS}
    budget = _said(arguments, values) or {k: config[k] for k in BUDGETS if k in config}
    return Settings.of(name, how["data"], conditional=how["conditional"], settings=given | budget), how


def _said(arguments: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Budgets among the flags, also those equal to a default: they replace what the file and the recipe say."""
    flags = {word.partition("=")[0] for word in arguments}
    return {name: values[name] for name in BUDGETS if f"--{name}" in flags and values[name] is not None}


def main(arguments: Sequence[str]) -> int:
    """``sixfold fit``."""
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(_USAGE)
        return 0
    settings, how = settings_of(arguments)
    if how["print_config"]:
        sys.stdout.write(write_yaml(settings.to_json() | _base_options(settings)))
        return 0
    shared = "WORLD_SIZE" in os.environ
    if settings.recipe.devices > 1 and not shared:
        # One folder for all: each process would number a fresh one for itself.
        place = [] if how["out"] else ["--out", str(_default_folder(settings, resume=how["resume"]).path)]
        launch(settings.recipe.devices, ["-m", "sixfold", "fit", *arguments, *place])
    dataset = dataset_of(settings.data, conditional=settings.conditional)
    folder = RunFolder(how["out"]) if how["out"] else _default_folder(settings, resume=how["resume"])
    with Bar(settings.model) as bar:
        run(settings, dataset, folder, resume=how["resume"], watch=None if how["quiet"] else bar)
    if int(os.environ.get("RANK", "0")) == 0:
        sys.stdout.write(f"{folder.path}: model, samples and {folder.page_path.name}\n")
    return 0


def _base_options(settings: Settings) -> dict[str, Any]:
    """All options of the model with their values, for ``--print-config``."""
    names = {o.name for o in options(model_class(settings.model).__init__)}
    return {k: v for k, v in (_base(settings.model) | settings.options).items() if k in names}


def _default_folder(settings: Settings, *, resume: bool) -> RunFolder:
    return RunFolder(Path("runs") / settings.stem) if resume else RunFolder.fresh(Path("runs"), settings.stem)
