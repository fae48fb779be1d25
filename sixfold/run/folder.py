"""A run's folder: everything about one training in one place.

config.json      model, data, options, recipe, versions: enough to run it again
metrics.jsonl    one line a logged step
checkpoint.safetensors, best.safetensors and what the loop keeps beside them
samples.*        PNG grid for images, .npy and .csv otherwise
index.html       the run as a page
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sixfold.core.errors import BadInput


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place at the end of this block, or is gone when the block fails."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write a file as a whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run and its configuration."""

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """An existing run.

        Raises:
            BadInput: when there is no run at that path.
        """
        folder = cls(Path(path))
        if not folder.config_path.is_file():
            raise BadInput(f"no run in {path}: expected a folder with config.json. `sixfold fit NAME --data D` makes one.")
        return folder

    @classmethod
    def fresh(cls, parent: Path, stem: str) -> RunFolder:
        """The first of ``stem``, ``stem-2``, ``stem-3`` ... that holds no run yet."""
        count = 1
        while (candidate := cls(parent / (stem if count == 1 else f"{stem}-{count}"))).config_path.exists():
            count += 1
        return candidate

    @property
    def config_path(self) -> Path:
        """Where the configuration stands."""
        return self.path / "config.json"

    @property
    def metrics_path(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def page_path(self) -> Path:
        """The run as a page."""
        return self.path / "index.html"

    def write_config(self, config: dict[str, Any]) -> None:
        """Keep what is needed to run it again; makes the folder.

        Raises:
            BadInput: when the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_text(self.config_path, json.dumps(config, indent=2) + "\n")
        except OSError as error:
            raise BadInput(f"cannot write to {self.path}: {error.strerror}. Choose another folder with --out.") from None

    def config(self) -> dict[str, Any]:
        """What :meth:`write_config` kept.

        Raises:
            BadInput: when the file is damaged.
        """
        try:
            values: dict[str, Any] = json.loads(self.config_path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise BadInput(f"{self.config_path} cannot be read: {error}. Restore it or train the run again.") from None
        return values

    def metrics(self) -> list[dict[str, Any]]:
        """Logged steps; a last line cut off by a crash is left out."""
        if not self.metrics_path.is_file():
            return []
        rows = []
        for line in self.metrics_path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows
