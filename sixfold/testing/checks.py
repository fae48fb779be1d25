"""The table of checks, and how one says that its fact does not hold."""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Collection
from typing import Any, Literal, TypeAlias, TypeVar

import torch
from torch import Tensor

from sixfold.core.errors import BadInput, Unsupported

Group: TypeAlias = Literal["build", "loss", "learn", "sample", "density", "structure", "persist", "refuse"]
Check: TypeAlias = Callable[[Any], None]
T = TypeVar("T")

GROUPS: tuple[str, ...] = typing.get_args(Group)
CHECKS: dict[str, tuple[Group, Check]] = {}
"""Every check by its name: its group, and the function of a ``Subject``."""


class UnmetError(Exception):
    """A fact that does not hold."""


class SkippedError(Exception):
    """A check that has nothing to check, and why."""


def check(group: Group) -> Callable[[Check], Check]:
    """Register a function as a check of a group; its name is the fact, its docstring says how it is checked."""

    def register(function: Check) -> Check:
        CHECKS[function.__name__] = group, function
        return function

    return register


def chosen(wanted: Collection[str] | None) -> list[str]:
    """Names of the checks in those groups, or called so; all of them by default.

    Raises:
        BadInput: for a name that is neither a group nor a check.
    """
    wanted = GROUPS if wanted is None else [wanted] if isinstance(wanted, str) else wanted
    unknown = [name for name in wanted if name not in CHECKS and name not in GROUPS]
    if unknown:
        raise BadInput(f"no check or group is called {unknown[0]!r}. Groups: {', '.join(GROUPS)}.")
    found = [name for name, (group, _) in CHECKS.items() if name in wanted or group in wanted]
    return sorted(found, key=lambda name: GROUPS.index(CHECKS[name][0]))


def expect(holds: bool, got: object, expected: object) -> None:
    """Fail the running check unless ``holds``."""
    if not holds:
        raise UnmetError(f"got {got}; expected {expected}")


def seeded(seed: int) -> torch.Generator:
    """A generator on the CPU."""
    return torch.Generator().manual_seed(seed)


def gap(a: Tensor, b: Tensor) -> float:
    """Largest difference relative to one plus the size; infinite when one is not finite."""
    if a.shape != b.shape:
        return math.inf
    a, b = a.detach().double(), b.detach().double()
    relative = (a - b).abs() / (1 + b.abs())
    return float(relative.max()) if bool(torch.isfinite(relative).all()) else math.inf


def same(got: Tensor, wanted: Tensor, what: str, *, to: float = 0.0) -> None:
    """Fail unless two tensors agree, up to ``to`` relative to one plus their size."""
    agree = torch.equal(got, wanted) if to == 0.0 else gap(got, wanted) <= to
    expect(agree, f"{what}: a difference of {gap(got, wanted):.3g}", f"none beyond {to:.3g}" if to else "none")


def steady(call: Callable[[], T]) -> T:
    """What a call returns with the global generator in a fixed state: drawing from it is the business of one check alone."""
    torch.default_generator.manual_seed(1)
    return call()


def untouched(call: Callable[[], object], what: str) -> None:
    """Fail unless a call leaves the global generator as it was."""
    before = torch.get_rng_state()
    call()
    expect(torch.equal(before, torch.get_rng_state()), f"{what} drawing from the global generator", "draws from the one given")


def refused(call: Callable[[], object], what: str) -> None:
    """Fail unless a call raises BadInput in one line; Unsupported passes through."""
    try:
        call()
    except BadInput as error:
        expect("\n" not in str(error), f"{str(error)!r} for {what}", "one line")
    except Unsupported:
        raise
    except Exception as error:
        raise UnmetError(f"got {type(error).__name__} for {what}; expected BadInput") from error
    else:
        raise UnmetError(f"got no complaint about {what}; expected BadInput")
