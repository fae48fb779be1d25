"""The file name is the registry: ``models/flow/realnvp.py`` is ``flow/realnvp``, a preset in that file ``flow/realnvp:deep``.

A third party passes ``their.module:Model`` (or ``their.module:Model:preset``). Listing reads the files' syntax and imports
nothing, so it needs no torch.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sixfold.core.errors import BadInput, suggest

if TYPE_CHECKING:
    from sixfold.core.model import GenerativeModel
    from sixfold.core.spec import DataSpec

MODELS = Path(__file__).parent.parent / "models"
BUDGETS = ("steps", "epochs", "minutes")
"""Of a recipe: how long to train, by one of them."""

FAMILIES = ("autoregressive", "vae", "flow", "gan", "energy", "diffusion", "latent")


def layered(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe from several layers, later ones winning; a budget of any kind replaces all budgets of the layers before it.

    Example:
        >>> layered({"steps": 500, "lr": 2e-3}, {"lr": 1e-3, "minutes": 10})
        {'lr': 0.001, 'minutes': 10}
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        given = {name: value for name, value in layer.items() if not (name in BUDGETS and value is None)}
        if not given.keys().isdisjoint(BUDGETS):
            merged = {name: value for name, value in merged.items() if name not in BUDGETS}
        merged |= given
    return merged


@dataclass(frozen=True)
class Entry:
    """What a model file says of itself.

    Args:
        name: ``family/file``, or ``module:Class`` of a third party.
        summary: first line of the module docstring.
        source: text behind ``Source:`` in the docstring.
        presets: options by preset name; the key ``recipe`` in one overrides the recipe, whose budget it replaces by its own.
        recipe: the file's training recipe.
    """

    name: str
    summary: str
    source: str
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """Folder of the file; ``third party`` outside the library."""
        return self.name.partition("/")[0] if "/" in self.name else "third party"

    def preset(self, preset: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Options and recipe of a preset (of none for ``""``)."""
        if preset and preset not in self.presets:
            raise BadInput(f"{self.name} has no preset {preset!r}. {suggest(preset, self.presets)}")
        options = dict(self.presets[preset]) if preset else {}
        return options, layered(self.recipe, options.pop("recipe", {}))


def _constant(tree: ast.Module, name: str) -> dict[str, Any]:
    """A module-level dictionary of literals, read without running the file."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        if any(isinstance(t, ast.Name) and t.id == name for t in targets):
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            return dict(ast.literal_eval(node.value)) if node.value else {}
    return {}


@cache
def _entry(name: str, text: str) -> Entry:
    tree = ast.parse(text)
    doc = ast.get_docstring(tree) or ""
    source = doc.partition("Source:")[2].partition("\n\n")[0].partition("Differs:")[0]
    summary = doc.partition("\n\n")[0].partition("\n")[0]
    return Entry(name, summary, " ".join(source.split()), _constant(tree, "PRESETS"), _constant(tree, "RECIPE"))


@cache
def entries() -> dict[str, Entry]:
    """Every model file of the library, by name, in the order of the families."""
    found: dict[str, Entry] = {}
    for family in FAMILIES:
        for path in sorted((MODELS / family).glob("[!_]*.py")):
            name = f"{family}/{path.stem}"
            found[name] = _entry(name, path.read_text(encoding="utf-8"))
    return found


def names(*, presets: bool = False) -> list[str]:
    """Registered models as ``family/file``; with ``presets`` each ``family/file:preset`` behind its file.

    Example:
        >>> "flow/realnvp" in names()
        True
    """
    return [n for e in entries().values() for n in [e.name, *(f"{e.name}:{p}" for p in e.presets if presets)]]


def split_name(name: str) -> tuple[str, str]:
    """Model and preset of a name; both styles, ``flow/realnvp:deep`` and ``their.module:Model:deep``."""
    head, *rest = name.split(":")
    if "/" in head:
        return head, ":".join(rest)
    return ":".join([head, *rest[:1]]), ":".join(rest[1:])


def entry(name: str) -> Entry:
    """What the file of a model says, by name with or without preset.

    Raises:
        BadInput: for an unknown name, with the nearest known one.
    """
    model, _ = split_name(name)
    if model in entries():
        return entries()[model]
    if ":" in model and "/" not in model:
        return _entry(model, _source(_module(model.partition(":")[0])))
    by_stem = {n.partition("/")[2]: n for n in entries()}
    hint = f"Perhaps you meant {by_stem[model]!r}." if model in by_stem else suggest(model, entries())
    raise BadInput(f"unknown model {name!r}. {hint}")


def _module(path: str) -> ModuleType:
    """A third party's module, or one of the library's."""
    try:
        return importlib.import_module(path)
    except (TypeError, ValueError):  # a relative or an empty name
        raise BadInput(f"{path!r} is no module's full name; expected an importable 'module:Class'.") from None
    except ModuleNotFoundError as error:
        if error.name and path.startswith(error.name):
            raise BadInput(f"no module {path!r} to take a model from; expected an importable 'module:Class'.") from error
        raise


def _source(module: ModuleType) -> str:
    try:
        return inspect.getsource(module)
    except (OSError, TypeError):
        raise BadInput(f"module {module.__name__!r} has no source to read presets from; expected a Python file.") from None


def model_class(name: str) -> type[GenerativeModel]:
    """The class behind a name: the one public model that its file defines.

    Raises:
        BadInput: for an unknown name or a class that is no generative model.
    """
    from sixfold.core.model import GenerativeModel

    model = entry(name).name
    if ":" in model:
        path, _, attribute = model.partition(":")
        found = getattr(_module(path), attribute, None)
        if not (inspect.isclass(found) and issubclass(found, GenerativeModel)):
            raise BadInput(f"{model} is no subclass of GenerativeModel; got {found!r}. Subclass core.model.GenerativeModel.")
        return found
    module = _module("sixfold.models." + model.replace("/", "."))
    own = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
    (public,) = [c for c in own if issubclass(c, GenerativeModel) and not c.__name__.startswith("_")]
    return public


def recipe(name: str) -> dict[str, Any]:
    """Training recipe of a name, its preset's overrides included."""
    return entry(name).preset(split_name(name)[1])[1]


def build(name: str, spec: DataSpec, **options: Any) -> GenerativeModel:
    """An untrained model.

    Args:
        name: ``family/file``, with ``:preset``, or ``module:Class``.
        spec: what one datum is.
        options: constructor options; they win over the preset's.

    Raises:
        BadInput: for an unknown name or option, or a value that the signature does not allow.

    Example:
        >>> from sixfold.core.spec import DataSpec, Support
        >>> build("flow/realnvp", DataSpec((2,), Support("real"))).name
        'flow/realnvp'
    """
    from sixfold.core.signature import validate

    cls = model_class(name)
    preset, _ = entry(name).preset(split_name(name)[1])
    chosen = validate(cls.__init__, {**preset, **options}, owner=name)
    model = cls(spec, **chosen)
    model.name, model.options = name, chosen
    return model
