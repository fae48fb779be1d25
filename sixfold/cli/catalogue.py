"""``list``, ``data`` and ``show``: what there is. Listing imports no torch."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from sixfold.core.errors import BadInput
from sixfold.core.registry import Entry, entries, entry, split_name


def _write(lines: Iterable[str]) -> int:
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _only(arguments: Sequence[str], count: int, form: str) -> None:
    if len(arguments) != count:
        raise BadInput(f"got {len(arguments)} arguments, expected the form `sixfold {form}`.")


def list_models(arguments: Sequence[str]) -> int:
    """``sixfold list``: every model and preset; with ``--markdown`` the table that the README shows."""
    if list(arguments) in (["-h"], ["--help"]):
        return _write(["usage: sixfold list [--markdown]", "", "Every model and its presets. `sixfold show NAME` says more."])
    if list(arguments) == ["--markdown"]:
        return _write(markdown())
    _only(arguments, 0, "list")
    return _write(line for e in entries().values() for line in _lines(e))


def markdown() -> list[str]:
    """The registry as a Markdown table."""
    rows = [
        f"| `{e.name}` | {_escaped(e.summary)} | {_papers(e)} | {', '.join(f'`:{p}`' for p in e.presets)} |"
        for e in entries().values()
    ]
    return ["| model | what it is | source | presets |", "|---|---|---|---|", *rows]


def _escaped(text: str) -> str:
    """A bar would end the cell."""
    return text.replace("|", "\\|")


def _papers(e: Entry) -> str:
    found = dict.fromkeys(re.findall(r"arXiv:(\d{4}\.\d{4,5})", e.source))
    return ", ".join(f"[{paper}](https://arxiv.org/abs/{paper})" for paper in found)


def _lines(e: Entry) -> list[str]:
    return [f"{e.name:<24}{e.summary}", *(f"  :{name:<21}{_settings(options)}" for name, options in e.presets.items())]


def _settings(options: dict[str, Any]) -> str:
    own = {**options, **options.get("recipe", {})}
    own.pop("recipe", None)
    return ", ".join(f"{name}={value}" for name, value in own.items())


def list_data(arguments: Sequence[str]) -> int:
    """``sixfold data``: named sets and the forms of the user's own."""
    from sixfold.data import catalogue

    if list(arguments) in (["-h"], ["--help"]):
        return _write(["usage: sixfold data", "", "Named data sets, and how to name your own."])
    _only(arguments, 0, "data")
    return _write(f"{name:<24}{line}" for name, line in {**catalogue.names(), **catalogue.FORMS}.items())


def show(arguments: Sequence[str]) -> int:
    """``sixfold show NAME``: the model's page in the terminal."""
    if list(arguments) in (["-h"], ["--help"]):
        return _write(["usage: sixfold show NAME", "", "What a model is, its options with defaults, its presets and its recipe."])
    _only(arguments, 1, "show NAME")
    found = entry(arguments[0])
    found.preset(split_name(arguments[0])[1])
    return _write(_page(found))


def _page(e: Entry) -> list[str]:
    import inspect

    from sixfold.core.registry import model_class
    from sixfold.core.signature import options, type_name

    cls = model_class(e.name)
    rows = [(o, f"  {o.name:<14}{type_name(o.annotation):<12}{o.default!r:<14}") for o in options(cls.__init__)]
    return [
        e.name,
        "",
        *(inspect.getdoc(inspect.getmodule(cls)) or "").splitlines(),
        "",
        "options (name, type, default):",
        *(row + o.doc for o, row in rows),
        "",
        "presets:",
        *(f"  {name:<14}{_settings(values)}" for name, values in e.presets.items()),
        "",
        f"recipe: {', '.join(f'{k}={v}' for k, v in e.recipe.items())}",
    ]
