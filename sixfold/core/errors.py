"""What goes wrong for a user, as one clear line each: what was got, what was expected, the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SixfoldError(Exception):
    """Root of every error that is the user's to mend; the command line prints its one line and exits with 2."""


class BadInput(SixfoldError, ValueError):
    """An argument, file or array that cannot be used as given."""


class Unsupported(SixfoldError, TypeError):
    """A question that this model or this kind of number cannot answer."""


class NotComparable(Unsupported):
    """Two likelihoods whose kinds do not imply an order."""


class Diverged(SixfoldError, RuntimeError):
    """Training left the finite numbers, or exploded, more often than the loop is allowed to roll back."""


def suggest(got: str, known: Iterable[str]) -> str:
    """The way out of a misspelt name: ``Perhaps you meant 'x'.`` or the list of what is known."""
    known = sorted(known)
    near = difflib.get_close_matches(got, known, n=1, cutoff=0.5)
    if near:
        return f"Perhaps you meant {near[0]!r}."
    return f"Known: {', '.join(known)}." if known else "None are known."
