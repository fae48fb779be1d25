"""Command lines from signatures: flags, types, defaults and help come from where the options live."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import tyro

from sixfold.core.signature import Option

_REQUIRED = dataclasses.MISSING


def positional(name: str, annotation: Any, doc: str) -> tuple[str, Any, Any]:
    """A field of :func:`parse` that is given by place."""
    return name, Annotated[annotation, tyro.conf.arg(help=doc), tyro.conf.Positional], dataclasses.field()


def flag(name: str, annotation: Any, default: Any, doc: str) -> tuple[str, Any, Any]:
    """A field of :func:`parse` that is given as ``--name``."""
    shown = Annotated[annotation, tyro.conf.arg(help=doc or None)]
    return name, shown, dataclasses.field() if default is _REQUIRED else dataclasses.field(default=default)


def flags(options: Iterable[Option], defaults: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Flags of a signature's options; ``defaults`` win over the signature's."""
    return [flag(o.name, o.annotation, defaults.get(o.name, o.default), o.doc) for o in options]


def parse(arguments: Sequence[str], fields: Sequence[tuple[str, Any, Any]], *, prog: str, description: str) -> dict[str, Any]:
    """Values of the fields from the command line; help and misspelt flags exit as tyro does (0 and 2)."""
    ordered = sorted(fields, key=lambda f: f[2].default is not _REQUIRED)
    form = dataclasses.make_dataclass("Arguments", ordered, kw_only=False)
    form.__doc__ = description
    return dict(vars(tyro.cli(form, args=list(arguments), prog=prog, description=description)))
