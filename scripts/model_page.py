"""The page of a model, from what its file says and what its class can do: six questions, options, presets, results, code.

A new model gets its page without a line written here: text comes from the module docstring and its parts (``Can:``,
``Cannot:``, ``Source:``, ``Differs:``), facts from the signature, from the protocols that an instance has, and from the cases
that the contract is checked on.
"""

from __future__ import annotations

import inspect
import re
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from annotated_types import Ge, Gt, Le

from sixfold.core.dataset import Split
from sixfold.core.draws import Draws
from sixfold.core.errors import SixfoldError
from sixfold.core.likelihood import Kind
from sixfold.core.model import (
    Batch,
    Fills,
    GenerativeModel,
    HasDensity,
    HasEnergy,
    HasLatent,
    HasLayers,
    HasPrior,
    HasScore,
    HasTrajectory,
    Noises,
)
from sixfold.core.registry import Entry, build, entries, model_class
from sixfold.core.signature import Option, options
from sixfold.core.spec import Conditioning, DataSpec
from sixfold.data import load

PROTOCOLS = (HasDensity, HasLatent, HasPrior, HasLayers, HasScore, HasEnergy, HasTrajectory, Noises, Fills)
ROWS = 40
"""Made-up data that a model is prepared with before it is asked what it is."""


class Case(typing.Protocol):
    """What a line of ``tests/cases.py`` says: a model that is checked on some data, and the kind of its likelihood."""

    name: str
    data: str | DataSpec
    options: Mapping[str, Any]
    kind: type[Kind] | None


@dataclass(frozen=True)
class Parts:
    """A module docstring, taken apart.

    Args:
        text: what the model is and its equations.
        can, cannot: its strengths and weaknesses; empty where the docstring does not say.
        source, differs: where it comes from, and how it departs from that.
    """

    text: str
    can: str
    cannot: str
    source: str
    differs: str


@dataclass(frozen=True)
class Measured:
    """A score that a page of results states for a model: of which preset, on which data, beside real data's own."""

    preset: str
    data: str
    score: str
    value: str
    real: str
    page: str


def _between(text: str, start: str, stops: Iterable[str]) -> str:
    """What follows ``start`` at the beginning of a line or sentence, up to the first of ``stops``, in one line."""
    _, found, rest = text.partition(start)
    ends = [rest.find(stop) for stop in stops if stop in rest]
    return " ".join(rest[: min(ends, default=len(rest))].split()) if found else ""


def parts(doc: str) -> Parts:
    r"""A module docstring by its parts.

    Example:
        >>> parts("A coin.\n\nCan: land. Cannot: fly.\n\nSource: Bernoulli (1713).").cannot
        'fly.'
    """
    kept = [p for p in doc.split("\n\n") if not p.startswith(("Can:", "Source:", "Differs:"))]
    return Parts(
        text="\n\n".join(kept),
        can=_between(doc, "\nCan:", ["Cannot:", "\n\n"]),
        cannot=_between(doc, "Cannot:", ["\n\n"]),
        source=_between(doc, "\nSource:", ["\nDiffers:", "\n\n"]),
        differs=_between(doc, "\nDiffers:", ["\n\n"]),
    )


def plain(text: str) -> str:
    """Plain text as Markdown: nothing in it is markup but what stands in backticks, and papers are linked."""
    text = re.sub(r":(?:meth|class|func|attr|mod|data):`~?([^`]+)`", r"`\1`", text)
    pieces = re.split(r"(``.+?``|`.+?`)", text, flags=re.DOTALL)
    escaped = [p if p.startswith("`") else re.sub(r"([\\*_<\[\]|])", r"\\\1", p) for p in pieces]
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", "".join(escaped))


def prose(doc: str) -> str:
    """A docstring's text as Markdown: paragraphs as they are, indented lines and tables as they stand."""
    return "\n\n".join(_paragraph(p) for p in re.split(r"\n\n(?!\n* )", doc.strip("\n")) if p.strip())


def _paragraph(text: str) -> str:
    lines = text.strip("\n").splitlines()
    fixed = [line.startswith("    ") or not line for line in lines]
    if lines[0].startswith("==") or all(fixed):
        return fenced(textwrap.dedent(text).strip("\n"))
    first = next((i for i, indented in enumerate(fixed) if indented), len(lines))
    head = plain("\n".join(lines[:first]))
    return head if first == len(lines) else f"{head}\n\n{_paragraph(chr(10).join(lines[first:]))}"


def fenced(text: str, language: str = "text", title: str = "") -> str:
    """A block of text or code as it stands."""
    head = f'{language} title="{title}"' if title else language
    return f"```{head}\n{text.rstrip()}\n```"


def cell(text: str) -> str:
    """Text that a table may hold."""
    return plain(" ".join(text.split()))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def type_told(annotation: Any) -> str:
    """A type with its range, as a reader of a table wants it."""
    if typing.get_origin(annotation) is typing.Annotated:
        kept, *limits = typing.get_args(annotation)
        signs = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le")}
        told = [f"{signs[type(limit)][0]} {getattr(limit, signs[type(limit)][1]):g}" for limit in limits]
        return f"{type_told(kept)} {', '.join(told)}"
    if typing.get_origin(annotation) is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in typing.get_args(annotation))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return ", ".join(map(type_told, typing.get_args(annotation)))
    return cell(annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", ""))


def options_table(found: Sequence[Option]) -> str:
    """Options with their types, defaults and meaning."""
    if not found:
        return "No options."
    rows = [[f"`{o.name}`", type_told(o.annotation), f"`{o.default!r}`", cell(o.doc)] for o in found]
    return table(["option", "type", "default", "meaning"], rows)


def _said(function: Callable[..., Any]) -> str:
    """What a function's docstring says before its arguments."""
    return prose(re.split(r"\n\n(?=(?:Args|Returns|Raises|Example):)", inspect.getdoc(function) or "", maxsplit=1)[0])


# What an instance can do.


@cache
def _spec(data: str) -> DataSpec:
    return load(data).spec


def spec_of(case: Case) -> DataSpec:
    """What one datum of the case is."""
    return case.data if isinstance(case.data, DataSpec) else _spec(case.data)


def instance(case: Case) -> GenerativeModel:
    """The model of a case, prepared with made-up data and not trained."""
    spec = spec_of(case)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(case.name, spec, **case.options)
    model.prepare(Split(*_made_up(spec)))
    return model.eval()


def _made_up(spec: DataSpec) -> tuple[torch.Tensor, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    size = spec.support.size
    x = torch.randn(ROWS, *spec.shape, generator=generator)
    if size is not None:
        x = torch.randint(size, (ROWS, *spec.shape), generator=generator, dtype=spec.dtype)
    if spec.cond.kind == "classes":
        return x, torch.arange(ROWS) % spec.cond.size
    return x, torch.randn(ROWS, spec.cond.size, generator=generator) if spec.cond.kind == "vector" else None


def datum_told(spec: DataSpec) -> str:
    """One datum in words.

    Example:
        >>> from sixfold.core.spec import Support
        >>> datum_told(DataSpec((1, 8, 8), Support("levels", 17)))
        'images of 17 levels'
    """
    support, size = spec.support.kind, spec.support.size
    if support == "real":
        return "real images" if spec.is_image else f"{spec.dims} real number{'s' * (spec.dims > 1)}"
    values = "binary" if support == "binary" else f"of {size} {support}"
    what = "images" if spec.is_image else "vectors"
    return f"{values} {what}" if support == "binary" else f"{what} {values}"


def kinds(cases: Sequence[Case]) -> dict[type[Kind] | None, list[str]]:
    """For each kind of likelihood, the data that it is checked on."""
    found: dict[type[Kind] | None, list[str]] = {}
    for case in cases:
        told = found.setdefault(case.kind, [])
        told.extend(d for d in [datum_told(spec_of(case))] if d not in told)
    return found


def conditions(model: GenerativeModel) -> list[str]:
    """What a model of such data can be conditioned on: what its constructor does not refuse."""
    found = []
    for told, cond in {"class": Conditioning("classes", 3), "vector": Conditioning("vector", 2)}.items():
        with suppress(SixfoldError):
            build(model.name, replace(model.spec, cond=cond), **model.options)
            found.append(told)
    return found


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def capabilities(model: GenerativeModel) -> list[str]:
    """Names of the protocols that the model has."""
    return [p.__name__ for p in PROTOCOLS if isinstance(model, p)]


def _latent(model: GenerativeModel) -> str:
    if isinstance(model, HasLayers):
        return "It has a latent: `encode` takes a datum to a code of as many numbers and `decode` takes it back."
    if isinstance(model, HasLatent):
        return "It has a latent: `encode` gives the code of a datum and `decode` the datum of a code."
    if isinstance(model, HasPrior):
        return "Its data are made of codes, `decode` shows which, but no encoder finds the code of a given datum."
    return "It has no latent: nothing encodes a datum."


def _played(model: GenerativeModel) -> str:
    players = model.players()
    if not players:
        return "Nothing is trained step by step: it is fitted to the data at once."
    if len(players) == 1:
        return "One player moves all parameters."
    turns = ", ".join(f"`{name}` ({p.steps} update{'s' * (p.steps > 1)} a round)" for name, p in players.items())
    return f"{len(players)} players take turns: {turns}."


def _chosen(model: GenerativeModel) -> str:
    x, cond = _made_up(model.spec)
    if model.criterion(Batch(x, Draws(ROWS, generator=torch.Generator().manual_seed(0)), cond)) is None:
        return "No number of a batch says how good the model is, so that the last checkpoint is kept."
    return "The checkpoint that is best on validation data is kept."


# The page.


def settings_told(values: Mapping[str, Any]) -> str:
    """Settings as a reader types them."""
    return ", ".join(f"`{name}={value}`" for name, value in values.items())


def _strengths(found: Parts, model: GenerativeModel) -> list[str]:
    given = conditions(model)
    return [
        "## Strengths and weaknesses",
        *([f"**Can** {plain(found.can)}"] if found.can else []),
        *([f"**Cannot** {plain(found.cannot)}"] if found.cannot else []),
        f"Its condition may be a {' or a '.join(given)}." if given else "It takes no condition.",
        "\n".join(f"- `{p.__name__}`: {cell(_first_line(p))}" for p in PROTOCOLS if isinstance(model, p)),
    ]


def _training(e: Entry, model: GenerativeModel) -> list[str]:
    coupled = " The loss couples the data of a batch, which devices therefore cannot share." if model.couples_batch else ""
    return [
        "## How it is trained, and whether it has a latent",
        f"{_played(model)} {_chosen(model)}{coupled} The recipe: {settings_told(e.recipe)}.",
        _latent(model),
    ]


def _sampling(model: GenerativeModel) -> list[str]:
    shows = ["`trajectory` shows the steps on the way."] if isinstance(model, HasTrajectory) else []
    fills = ["`fill` draws the unknown elements of a datum, and says whether exactly."] if isinstance(model, Fills) else []
    own = options(type(model).sample)
    return ["## How it samples", _said(type(model).sample), *shows, *fills, *([options_table(own)] if own else [])]


def _probability(model: GenerativeModel, cases: Sequence[Case]) -> list[str]:
    head = "## How it gives the probability of a new datum"
    if not isinstance(model, HasDensity):
        return [head, "It gives none: there is no `log_prob`, `sixfold score` refuses, and only samples are compared."]
    method = dict(inspect.getmembers(type(model)))["log_prob"]
    rows = [
        [f"{kind.__name__} `{kind.symbol}`", cell(_first_line(kind)), cell("; ".join(told))]
        for kind, told in kinds(cases).items()
        if kind is not None
    ]
    return [
        head,
        _said(method),
        table(["kind", "what it means", "checked on"], rows),
        options_table(options(method)),
    ]


def _presets(e: Entry) -> list[str]:
    if not e.presets:
        return []
    rows = []
    for preset, values in e.presets.items():
        own, recipe = {k: v for k, v in values.items() if k != "recipe"}, values.get("recipe", {})
        rows.append([f"`{e.name}:{preset}`", settings_told(own), settings_told(recipe)])
    return ["## Presets", table(["preset", "options that differ", "recipe that differs"], rows)]


def _measured(results: Sequence[Measured]) -> list[str]:
    found = []
    for preset, data, page in dict.fromkeys((m.preset, m.data, m.page) for m in results):
        rows = [m for m in results if (m.preset, m.data, m.page) == (preset, data, page)]
        found += [
            f"### {f'`:{preset}` on' if preset else 'On'} {data}",
            f"From [{page}](../../{page}), which has the command and says what the numbers are.",
            table(["score", "this model", "real data"], [[m.score, m.value, m.real] for m in rows]),
        ]
    return ["## Measured", *found] if found else []


def page(e: Entry, cases: Sequence[Case], results: Sequence[Measured], picture: str = "", code: str = "") -> str:
    """The page of a model.

    Args:
        e: its entry in the registry.
        cases: the lines of ``tests/cases.py`` that are about it.
        results: what pages of results state for it.
        picture: Markdown of a picture, if there is one.
        code: the text of its file.
    """
    cls = model_class(e.name)
    found, model = parts(inspect.getdoc(inspect.getmodule(cls)) or ""), instance(cases[0])
    text = found.text.removeprefix(e.summary).lstrip("\n")
    return "\n\n".join([
        f"# {e.name}",
        f"**{plain(e.summary)}**",
        fenced(f"sixfold fit {e.name} --data {first_data(cases)}", "sh"),
        *([picture] if picture else []),
        "## What it is",
        prose(text),
        *_strengths(found, model),
        *_training(e, model),
        *_sampling(model),
        *_probability(model, cases),
        "## Options",
        _said(cls),
        options_table(options(cls.__init__)),
        *_presets(e),
        *_measured(results),
        "## Source and code",
        *([plain(found.source)] if found.source else []),
        *([f"**Differs:** {plain(found.differs)}"] if found.differs else []),
        fenced(code, "python", f"sixfold/models/{e.name}.py"),
        "",
    ])  # fmt: skip


def first_data(cases: Sequence[Case]) -> str:
    """A named data set that the model takes."""
    named = [case.data for case in cases if isinstance(case.data, str)]
    return named[0] if named else "digits:binary" if spec_of(cases[0]).support.kind == "binary" else "digits"


def overview(cases: Mapping[str, Sequence[Case]]) -> str:
    """All models by what they can do."""
    rows = []
    for e in entries().values():
        model = instance(cases[e.name][0])
        has = capabilities(model)
        symbols = dict.fromkeys(f"`{kind.symbol}`" for kind in kinds(cases[e.name]) if kind is not None)
        latent = "yes" if "HasLatent" in has else "decodes" if "HasPrior" in has else "no"
        given = ", ".join(conditions(model)) or "no"
        rows.append([
            f"[{e.name}]({e.name}.md)", " ".join(symbols) or "no", latent, "yes" if "Fills" in has else "no", given,
            ", ".join(f"`:{p}`" for p in e.presets),
        ])  # fmt: skip
    return table(["model", "likelihood", "latent", "completes", "condition", "presets"], rows)
