"""Self-contained HTML pages: one file with its pictures inside, readable offline, in light and dark, on a phone."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined

from sixfold import __version__

_OWN = Path(__file__).parent / "templates"


def picture(path: Path) -> str:
    """A PNG file as a data address, to stand in ``src``."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def render(template: Path, **context: Any) -> str:
    """The page that a template makes of the context; it extends ``base.html``.

    Args:
        template: the file, beside the code that fills it.
        context: what it names; a missing name is an error.
    """
    loader = ChoiceLoader([FileSystemLoader(template.parent), FileSystemLoader(_OWN)])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template(template.name).render(version=__version__, **context)
