"""What a run writes down as it goes: one JSON object a line, and TensorBoard when asked."""

from __future__ import annotations

import json
import math
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from sixfold.core.errors import BadInput

FILE = "metrics.jsonl"


class Journal:
    """Records of a run, kept in memory and, with a folder, in ``metrics.jsonl``.

    Args:
        folder: of the run; ``None`` keeps records in memory alone.
        after: the step that a resumed run goes on from; later records of the earlier process are dropped.
        tensorboard: also write TensorBoard's files.

    Raises:
        BadInput: when TensorBoard is asked for and not installed.
    """

    def __init__(self, folder: Path | None, *, after: int = 0, tensorboard: bool = False) -> None:
        self.records: list[dict[str, Any]] = []
        self._file: TextIO | None = None
        self._board = _board(folder, after) if tensorboard and folder is not None else None
        if folder is None:
            return
        path = folder / FILE
        self.records = _known(path, after) if after else []
        try:
            self._file = _opened(path, self.records)
        except OSError as error:
            self._give_up(error)

    def add(self, record: dict[str, Any]) -> None:
        """Take down one record; a number that is not finite becomes ``null``, which JSON can say."""
        record = _sayable(record)
        self.records.append(record)
        self._write(record)
        if self._board is not None:
            for name, value in _scalars(record):
                self._board.add_scalar(name, value, record["step"])

    def _write(self, record: dict[str, Any]) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """A full disk must not end a run for its metrics: its checkpoints will say so when they cannot be written."""
        warnings.warn(f"metrics are no longer written: {error.strerror}", RuntimeWarning, stacklevel=4)
        if self._file is not None:
            with suppress(OSError):  # closing writes once more what could not be written
                self._file.close()
        self._file = None

    def close(self) -> None:
        """Close the files."""
        for sink in (self._file, self._board):
            if sink is not None:
                sink.close()


def _opened(path: Path, records: list[dict[str, Any]]) -> TextIO:
    """The file with these records alone, ready for more; a kill on the way leaves the old one."""
    beside = path.with_name(f".{path.name}.part")
    beside.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    beside.replace(path)
    return path.open("a", encoding="utf-8")


def _sayable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sayable(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _known(path: Path, after: int) -> list[dict[str, Any]]:
    """Whole records up to a step; the last line of a killed process may be torn."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            break
        if record["step"] <= after:
            records.append(record)
    return records


def _scalars(record: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """Numbers of a record by path, ``players/critic/loss``."""
    found: list[tuple[str, float]] = []
    for name, value in record.items():
        if isinstance(value, dict):
            found += _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "step":
            found.append((prefix + name, value))
    return found


def _board(folder: Path, after: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise BadInput("TensorBoard is not installed; got tensorboard=True. Run: pip install 'sixfold[track]'") from error
    return SummaryWriter(str(folder / "tensorboard"), purge_step=after + 1 if after else None)
