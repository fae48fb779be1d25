"""A figure of a report before it is written, with what is said of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from matplotlib.figure import Figure

Topic = Literal["overview", "references", "pareto", "scores", "curves", "latent"]


@dataclass(frozen=True)
class Drawing:
    """A figure.

    Args:
        topic: where in the report it stands.
        name: of its file, without ending and data set.
        made: the figure.
        caption: how to read it.
        alt: what it shows, for those who do not see it.
    """

    topic: Topic
    name: str
    made: Figure
    caption: str
    alt: str


def sentence(*parts: str) -> str:
    """Parts that say something, joined."""
    return " ".join(part for part in parts if part)


def listed(words: list[str]) -> str:
    """``a, b and c``.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
