"""YAML as the library reads and writes it: flat or nested plain values, nothing that a hostile file could grow or run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sixfold.core.errors import BadInput


class _StrictLoader(yaml.SafeLoader):
    """YAML without duplicate keys and without aliases, which can grow a small file beyond memory."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed here")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(k) for k in keys if keys.count(k) > 1})
        if twice:
            raise yaml.YAMLError(f"key {twice[0]!r} stands twice")
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """A flat YAML file of options.

    Raises:
        BadInput: when it is missing, no YAML, or no mapping of names to values.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 - a subclass of SafeLoader
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}. `sixfold fit NAME --data D --print-config` prints one.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is no YAML that can be used: {' '.join(str(error).split())}.") from None
    if not isinstance(values, dict) or not all(isinstance(k, str) for k in values):
        raise BadInput(f"{path} must hold names and values, as `latent: 2`; got {type(values).__name__}.")
    return {k.replace("-", "_"): v for k, v in values.items()}


def write_yaml(values: Mapping[str, Any]) -> str:
    """The form that :func:`read_yaml` takes."""
    text: str = yaml.safe_dump(dict(values), sort_keys=False)
    return text
