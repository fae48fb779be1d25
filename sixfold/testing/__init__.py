"""The contract as checks: build any model, train it for a moment, and see that every fact it declares holds.

    from sixfold.testing import check_model
    check_model("flow/realnvp")                                                # on two moons
    check_model("their.module:Model", "digits", options={"width": 32})
    check_model(Model, DataSpec((6,), Support("binary")), groups=["sample", "density"])

For a third party's model that is one test; nothing is printed. A model has what it has: a check of a capability that it lacks
is skipped, and the report says why. When facts fail, :class:`CheckFailed` names each of them with what was got and expected.

    build      the signature is documented, its options are validated and round-trip, presets build
    loss       one number per datum, a function of batch and draws alone; each player moves its own parameters and no others
    learn      a short training lowers the criterion and brings samples closer to the data
    sample     shape, dtype and range of the data; randomness from the generator alone; the condition counts
    density    a likelihood is what its kind says: it sums to one (a bound to at most one), and samples occur as it says
    structure  codes, scores, energies, trajectories and completions agree with the density and the data
    persist    a saved model is the same, a resumed training goes on the same
    refuse     wrong data and conditions raise BadInput in one line

Statistical checks are seeded, so the same model gives the same answer; with other seeds each would raise a false alarm with a
probability of at most 1e-6. A check is a function of a :class:`Subject` under ``@check(group)``: its name is the fact.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from sixfold.core.dataset import Dataset
from sixfold.core.errors import Unsupported
from sixfold.core.model import GenerativeModel
from sixfold.core.registry import recipe as recipe_of
from sixfold.core.spec import DataSpec
from sixfold.testing import build, density, learn, loss, persist, refuse, sample, structure
from sixfold.testing.checks import CHECKS, GROUPS, Check, Group, SkippedError, UnmetError, check, chosen, expect
from sixfold.testing.subject import Subject, data_for, made_up
from sixfold.train.recipe import Recipe

__all__ = ["CHECKS", "GROUPS", "CheckFailed", "Report", "Subject", "check", "check_model", "expect", "made_up"]

REGISTERED = (build, loss, learn, sample, density, structure, persist, refuse)
"""Importing these files fills the table of checks."""

SHORT: dict[str, Any] = {"steps": 200, "validate_every": 0.5, "validate_rows": 500}


class CheckFailed(AssertionError):
    """Facts that do not hold, by the name of the check that found each."""

    def __init__(self, model: str, failures: Mapping[str, str]) -> None:
        super().__init__(
            "\n".join([f"{model}: {len(failures)} of its facts do not hold", *(f"  {n}: {w}" for n, w in failures.items())])
        )
        self.failures = dict(failures)


@dataclass(frozen=True)
class Report:
    """What was checked.

    Args:
        model: its name.
        passed: names of the checks that found their fact to hold.
        skipped: why each of the others had nothing to check.
    """

    model: str
    passed: tuple[str, ...]
    skipped: dict[str, str]


def check_model(
    model: str | type[GenerativeModel],
    data: Dataset | DataSpec | str | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    groups: Collection[str] | None = None,
    recipe: Mapping[str, Any] | None = None,
    unused: Collection[str] = (),
    seed: int = 0,
) -> Report:
    """Check that a model keeps the contract.

    Args:
        model: registry name, with or without preset, ``module:Class``, or an importable class.
        data: a data set or its name; two moons by default. For a specification, clustered data are made up.
        options: of the constructor.
        groups: names of groups, or of single checks, to run; all by default.
        recipe: overrides of the model's recipe for the short training, 200 steps by default; more steps make ``learn`` surer.
        unused: names of parameters that the loss is known not to depend on (a bias that cancels); all others must learn.
        seed: of the initial weights.

    Returns:
        which checks passed, and why others had nothing to check.

    Raises:
        CheckFailed: naming every fact that does not hold.
        BadInput: for an unknown model, group or option.
        Unsupported: when the model cannot be built for the data.
    """
    name = model if isinstance(model, str) else f"{model.__module__}:{model.__qualname__}"
    brief = Recipe.of(recipe_of(name), SHORT, recipe or {})
    subject = Subject(name, data_for(data), dict(options or {}), brief, frozenset(unused), seed)
    with torch.random.fork_rng():
        subject.blank()
    found = {check: _outcome(subject, *CHECKS[check]) for check in chosen(groups)}
    failures, skipped = ({n: text for n, (result, text) in found.items() if result == r} for r in ("failed", "skipped"))
    if failures:
        raise CheckFailed(name, failures)
    return Report(name, tuple(n for n in found if n not in skipped), skipped)


def _outcome(subject: Subject, group: Group, function: Check) -> tuple[Literal["passed", "skipped", "failed"], str]:
    """Run one check with the global generator fixed and given back."""
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(11)
        try:
            function(subject)
        except SkippedError as reason:
            return "skipped", str(reason)
        except UnmetError as failure:
            return "failed", str(failure)
        except Unsupported as error:
            return ("skipped" if group in ("density", "structure") else "failed"), f"got Unsupported: {error}"
        except Exception as error:
            return "failed", f"got {type(error).__name__}: {' '.join(str(error).split())}; expected no error"
    return "passed", ""
