"""Build: the signature is the configuration, documented and validated."""

from __future__ import annotations

import inspect
import json
import typing
import warnings
from typing import Any

import torch
from torch import nn

from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.registry import build, entry, model_class, split_name
from sixfold.core.signature import options
from sixfold.testing.checks import SkippedError, UnmetError, check, expect, refused
from sixfold.testing.subject import Subject


@check("build")
def signature_is_the_configuration(s: Subject) -> None:
    """After ``spec`` every constructor option is keyword-only, typed, defaulted and documented; so are those of the methods."""
    cls = model_class(s.name)
    first, *rest = list(inspect.signature(cls.__init__).parameters.values())[1:]
    expect(first.name == "spec", f"first argument {first.name!r}", "'spec'")
    for p in rest:
        fits = p.kind is p.KEYWORD_ONLY and p.default is not p.empty
        expect(fits, f"option {p.name!r} ({p.kind.description})", "keyword-only options with defaults")
    for method in ("__init__", "sample", "log_prob"):
        for option in options(getattr(cls, method)) if hasattr(cls, method) else ():
            expect(bool(option.doc), f"option {option.name!r} of {method} undocumented", "a line under Args:")


@check("build")
def options_round_trip(s: Subject) -> None:
    """The options that a model was built with survive JSON and build the same model."""
    model = s.blank()
    again = json.loads(json.dumps(model.options))
    twin = s.blank(**again)
    expect(twin.options == model.options, twin.options, model.options)
    expect(_shapes(twin) == _shapes(model), "other shapes", "the same parameters and buffers from the same options")


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@check("build")
def wrong_options_are_refused(s: Subject) -> None:
    """An unknown option is refused in one line; so is -1 for a number, unless it makes a model with a finite loss."""
    refused(lambda: s.blank(no_such_option=1), "an option that does not exist")
    for option in options(model_class(s.name).__init__):
        kind = typing.get_args(option.annotation)[0] if hasattr(option.annotation, "__metadata__") else option.annotation
        if kind in (int, float):
            _refused_or_works(s, {option.name: kind(-1)})


def _refused_or_works(s: Subject, override: dict[str, Any]) -> None:
    try:
        with warnings.catch_warnings(action="ignore"):  # an odd number may well be warned about
            model = s.fresh(**override)
            losses = [model.loss(s.batch(8), player).loss for player in model.players()]
    except (BadInput, Unsupported):
        return
    except Exception as error:
        raise UnmetError(f"got {type(error).__name__} for {override}; expected BadInput or a model that works") from error
    expect(all(bool(torch.isfinite(loss).all()) for loss in losses), f"an infinite loss for {override}", "BadInput")


@check("build")
def summary_and_source_are_stated(s: Subject) -> None:
    """The file's docstring begins with a summary; in the library it also names its source."""
    found = entry(s.name)
    expect(bool(found.summary), "no module docstring", "a first line that says what the model is")
    expect(bool(found.source) or found.family == "third party", "no 'Source:' in the docstring", "where the method is from")


@check("build")
def presets_build(s: Subject) -> None:
    """Every preset of the file builds for these data, or says that it does not support them."""
    model, _ = split_name(s.name)
    presets = entry(s.name).presets
    if not presets:
        raise SkippedError("the file has no presets")
    for preset in presets:
        try:
            build(f"{model}:{preset}", s.spec)
        except Unsupported:
            continue
