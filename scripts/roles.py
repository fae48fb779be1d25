"""For mkdocstrings: docstrings name things as ``:meth:`fit```, and have an ``Example:`` that it knows in the plural."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Roles(griffe.Extension):
    """Docstrings as mkdocstrings reads them."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for each module, class, function and attribute that was read."""
        if obj.docstring:
            text = re.sub(r":(?:meth|class|func|attr|mod|data):`~?([^`]+)`", r"`\1`", obj.docstring.value)
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", text, flags=re.MULTILINE)
