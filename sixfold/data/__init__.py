"""Data to fit: named sets, the user's own, and arrays in memory."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sixfold.data.catalogue import names

if TYPE_CHECKING:
    from sixfold.data.arrays import from_arrays
    from sixfold.data.sources import load

__all__ = ["from_arrays", "load", "names"]

_HOMES = {"load": "sixfold.data.sources", "from_arrays": "sixfold.data.arrays"}


def __getattr__(attribute: str) -> Any:
    """Loads what needs torch at its first use, so that names can be listed quickly."""
    if attribute in _HOMES:
        return getattr(import_module(_HOMES[attribute]), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {attribute!r}")
