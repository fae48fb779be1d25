"""Reading files that may be missing, too large or other than they say."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from pathlib import Path

from sixfold.core.errors import BadInput

DEFAULT_GB = 4.0


def shown(path: Path | str) -> str:
    """A path as one printable line, whatever bytes its name holds."""
    text = str(path).encode("utf-8", "replace").decode("utf-8")
    return "".join(c if c.isprintable() else "?" for c in text)


def max_bytes() -> int:
    """The most that one data set may take in memory: 4 GB, or ``SIXFOLD_MAX_GB``.

    Raises:
        BadInput: when the variable is not a positive number.
    """
    text = os.environ.get("SIXFOLD_MAX_GB", "")
    try:
        size = float(text or DEFAULT_GB)
    except ValueError:
        size = 0.0
    if not 0 < size < float("inf"):
        raise BadInput(f"SIXFOLD_MAX_GB must be a positive number; got {text!r}. Set it to 8, say, or unset it.")
    return int(size * 2**30)


def check_size(size: int, what: str) -> None:
    """Refuses what would not fit, before anything is allocated.

    Raises:
        BadInput: when ``size`` bytes are more than :func:`max_bytes`.
    """
    if size > max_bytes():
        need, limit = size / 2**30, max_bytes() / 2**30
        raise BadInput(f"{what} would take {need:.3g} GB; the limit is {limit:.3g} GB. Set SIXFOLD_MAX_GB to allow more.")


def check_file(path: Path) -> None:
    """Refuses what is not a readable file of bearable size.

    Raises:
        BadInput: when it is missing, a folder, unreadable, empty or too large.
    """
    try:
        if not path.is_file():
            way = f"For a folder of images use folder:{shown(path)}." if path.is_dir() else "Check the path."
            raise BadInput(f"{shown(path)} is {'a folder' if path.is_dir() else 'missing'}; expected a file. {way}")
        with path.open("rb"):
            size = path.stat().st_size
    except OSError as error:
        raise BadInput(f"{shown(path)} cannot be read: {error.strerror}. Check the path and its permissions.") from error
    if not size:
        raise BadInput(f"{shown(path)} is empty; expected data.")
    check_size(size, shown(path))


def read(path: Path) -> bytes:
    """Whole content of a file that :func:`check_file` accepts."""
    check_file(path)
    return path.read_bytes()


def gunzip(data: bytes, limit: int, what: str) -> bytes:
    """Decompressed payload of at most ``limit`` bytes; no more than that is ever held.

    Raises:
        BadInput: when it is no gzip file, damaged, cut short, or decompresses to more.
    """
    try:
        payload = gzip.GzipFile(fileobj=io.BytesIO(data)).read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{what} is no whole gzip file: {error}. Delete it and fetch it again.") from error
    if len(payload) > limit:
        raise BadInput(f"{what} decompresses to more than the {limit:,} bytes expected. Delete it and fetch it again.")
    return payload
