"""A signature is the configuration: options, their types, ranges, defaults and documentation are read from it.

The command line, YAML files, the documentation and checkpoints all derive from here; there are no configuration classes
beside the constructors.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import docstring_parser
from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from sixfold.core.errors import BadInput, suggest

Count: TypeAlias = Annotated[int, Ge(1)]
Natural: TypeAlias = Annotated[int, Ge(0)]
Positive: TypeAlias = Annotated[float, Gt(0.0)]
NonNegative: TypeAlias = Annotated[float, Ge(0.0)]
Share: TypeAlias = Annotated[float, Ge(0.0), Le(1.0)]

_STRUCTURAL = {"self", "spec", "num", "x", "z", "cond", "generator", "known", "t"}


@dataclass(frozen=True)
class Option:
    """One keyword of a signature: its type with range, its default and its line of documentation."""

    name: str
    annotation: Any
    default: Any
    doc: str


def _docs(function: Callable[..., Any]) -> dict[str, str]:
    """Documentation by argument, from the function's docstring or, for a constructor, its class'."""
    text = inspect.getdoc(function) or ""
    if function.__name__ == "__init__":
        owner = getattr(inspect.getmodule(function), function.__qualname__.partition(".")[0], None)
        text = inspect.getdoc(owner) or ""
    found = docstring_parser.parse(text).params
    return {name.strip(): " ".join((p.description or "").split()) for p in found for name in p.arg_name.split(",")}


def options(function: Callable[..., Any]) -> list[Option]:
    """The keywords of a constructor, ``sample`` or ``log_prob`` that configure it, in order."""
    hints = typing.get_type_hints(function, include_extras=True)
    docs = _docs(function)
    parameters = inspect.signature(function).parameters.values()
    chosen = [p for p in parameters if p.name not in _STRUCTURAL and p.kind is inspect.Parameter.KEYWORD_ONLY]
    return [Option(p.name, hints[p.name], p.default, docs.get(p.name, "")) for p in chosen]


def schema(function: Callable[..., Any]) -> type[BaseModel]:
    """A pydantic model of the options: validation, and the JSON schema that a form is made from."""
    fields: dict[str, Any] = {
        o.name: (o.annotation, Field(... if o.default is inspect.Parameter.empty else o.default, description=o.doc))
        for o in options(function)
    }
    return create_model("Options", __config__=ConfigDict(extra="forbid", protected_namespaces=()), **fields)


def validate(function: Callable[..., Any], values: Mapping[str, Any], *, owner: str) -> dict[str, Any]:
    """Values checked and converted by the signature, with its defaults filled in.

    Raises:
        BadInput: one line for the first wrong value: what was got, what was expected, the nearest name.
    """
    form = schema(function)
    unknown = sorted(set(values) - set(form.model_fields))
    if unknown:
        raise BadInput(f"{owner} has no option {unknown[0]!r}. {suggest(unknown[0], form.model_fields)}")
    try:
        checked = form(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"][:1].lower() + first["msg"][1:]
        default = form.model_fields[str(first["loc"][0])].default
        raise BadInput(f"{where}: {message}; got {first['input']!r} ({owner}). Its default is {default!r}.") from None
    return {name: getattr(checked, name) for name in form.model_fields}


def type_name(annotation: Any) -> str:
    """An annotation as a reader wants it: ``int``, ``float``, ``a | b`` for choices."""
    if typing.get_origin(annotation) is Annotated:
        return type_name(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) is typing.Literal:
        return " | ".join(map(str, typing.get_args(annotation)))
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
