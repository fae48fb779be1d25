"""The table of exercises, and what is found of an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from sixfold.core.errors import BadInput, suggest
from sixfold.testing.checks import UnmetError

Answer: TypeAlias = Callable[..., Any]
Fact: TypeAlias = Callable[[Answer], None]

EXERCISES: dict[str, dict[str, Fact]] = {}
"""Facts of every exercise, by its name and theirs, in the order in which they are checked."""


def fact(exercise: str) -> Callable[[Fact], Fact]:
    """Register a function of the reader's answer as a fact of an exercise: it fails through :func:`~sixfold.testing.expect`.

    The fact's name is that of the function, its docstring is the sentence that the reader sees.
    """

    def register(function: Fact) -> Fact:
        EXERCISES.setdefault(exercise, {})[function.__name__] = function
        return function

    return register


@dataclass(frozen=True)
class Marked:
    """What was found of an answer; printed, one line a fact.

    Args:
        exercise: its name.
        held: names of the facts that hold.
        failed: of every other fact, what was got and what was expected.
    """

    exercise: str
    held: tuple[str, ...]
    failed: Mapping[str, str]

    @property
    def right(self) -> bool:
        """Whether every fact holds."""
        return not self.failed

    def __str__(self) -> str:
        facts = EXERCISES[self.exercise]
        head = f"{self.exercise}: " + ("right" if self.right else f"{len(self.held)} of {len(facts)} facts hold")
        lines = [f"  {'yes' if name in self.held else 'no ':3}  {_sentence(f)}" for name, f in facts.items()]
        return "\n".join([head, *(_with(line, self.failed.get(name)) for line, name in zip(lines, facts, strict=True))])


def _sentence(function: Fact) -> str:
    return " ".join((function.__doc__ or function.__name__).split()).rstrip(".")


def _with(line: str, failure: str | None) -> str:
    return line if failure is None else f"{line}\n       {failure}"


def check_answer(exercise: str, answer: Answer) -> Marked:
    """Check the reader's function against the facts that define a right answer.

    Args:
        exercise: its name.
        answer: the reader's function or class, with the signature that the exercise states.

    Returns:
        what holds, and of what fails: what was got and what was expected. An answer that raises fails the fact in which it did.

    Raises:
        BadInput: for an unknown exercise.
    """
    if exercise not in EXERCISES:
        raise BadInput(f"no exercise is called {exercise!r}. {suggest(exercise, EXERCISES)}")
    found = {name: _failure(function, answer) for name, function in EXERCISES[exercise].items()}
    failed = {name: text for name, text in found.items() if text is not None}
    return Marked(exercise, tuple(name for name in found if name not in failed), failed)


def _failure(function: Fact, answer: Answer) -> str | None:
    """What is wrong, or nothing; the global generator is fixed for the check and given back."""
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(7)
        try:
            function(answer)
        except UnmetError as failure:
            return str(failure)
        except NotImplementedError:
            return "not written yet"
        except Exception as error:
            return f"got {type(error).__name__}: {' '.join(str(error).split())}; expected no error"
    return None
