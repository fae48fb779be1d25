"""Right and wrong answers to the exercises of the course, a file for each stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Wrong(NamedTuple):
    """An answer with one mistake.

    Args:
        exercise: its name.
        answer: the function.
        caught: names of exactly the facts that fail.
    """

    exercise: str
    answer: Callable[..., Any]
    caught: set[str]

    def __str__(self) -> str:
        return f"{self.exercise}-{self.answer.__name__}"
