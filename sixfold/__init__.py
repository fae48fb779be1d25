"""sixfold: all six families of deep generative models behind one interface.

    import sixfold
    model = sixfold.fit("flow/realnvp", "moons", minutes=0.5)
    model.sample(64)
    model.log_prob(x)                       # nats per datum, with their kind

Importing the package imports nothing heavy; torch comes with the first name that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sixfold.core.registry import build, names
    from sixfold.data import load as load_data
    from sixfold.run.training import fit
    from sixfold.run.training import load_run as load

_HOME = {
    "names": "sixfold.core.registry",
    "build": "sixfold.core.registry",
    "fit": "sixfold.run.training",
    "load": "sixfold.run.training:load_run",
    "load_data": "sixfold.data:load",
}

__all__ = ["build", "fit", "load", "load_data", "names"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sixfold' has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    return getattr(importlib.import_module(module), attribute or name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
