"""Files of the named sets: at hand, in the cache, or downloaded once and checked.

What counts is the checksum of the decompressed payload, since mirrors compress differently. A download is held in memory until
it has been checked, and reaches the cache by one rename, so that an interrupted or wrong one leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sixfold.core.errors import BadInput
from sixfold.data.files import gunzip, read, shown

TIMEOUT = 30.0  # seconds without a byte before a mirror is given up


@dataclass(frozen=True)
class Remote:
    """A gzipped file of a named set.

    Args:
        folder: of the set, ``mnist``.
        name: of the file, with ``.gz``.
        size: of the decompressed payload in bytes.
        sha256: of the decompressed payload.
        mirrors: addresses of folders that hold the file, tried in turn.
    """

    folder: str
    name: str
    size: int
    sha256: str
    mirrors: Sequence[str]


def cache() -> Path:
    """Where downloads are kept: ``SIXFOLD_CACHE``, else ``sixfold`` in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    if own := os.environ.get("SIXFOLD_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sixfold"


def payload(remote: Remote) -> bytes:
    """Decompressed content, from the first folder of ``SIXFOLD_DATA`` that has the file, the cache, or a mirror.

    Raises:
        BadInput: when the file is damaged, or cannot be had at all.
    """
    roots = [Path(root) for root in os.environ.get("SIXFOLD_DATA", "").split(os.pathsep) if root]
    for path in (root / remote.folder / remote.name for root in [*roots, cache()]):
        if path.is_file():
            return verified(read(path), remote, shown(path))
    return _download(remote)


def verified(data: bytes, remote: Remote, what: str) -> bytes:
    """Decompressed payload whose checksum is right.

    Raises:
        BadInput: when it is not what ``remote`` describes.
    """
    content = gunzip(data, remote.size, what)
    if (got := hashlib.sha256(content).hexdigest()) != remote.sha256:
        raise BadInput(
            f"{what} has the wrong content: sha256 {got[:12]}, expected {remote.sha256[:12]}. Delete it and fetch it again."
        )
    return content


class _Capped(io.BytesIO):
    """Bytes in memory up to a limit: a server may send without end."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        if self.tell() + len(data) > self.limit:
            raise OSError(f"more than the {self.limit:,} bytes expected")
        return super().write(data)


def _download(remote: Remote) -> bytes:
    reasons = []
    for mirror in remote.mirrors:
        url = f"{mirror.rstrip('/')}/{remote.name}"
        try:
            data = _get(url, remote.size + 4096)  # gzip adds a header, even to what it cannot compress
            content = verified(data, remote, url)
        except (OSError, BadInput) as error:
            reasons.append(f"{url}: {' '.join(str(error).split())[:160]}")
            continue
        _keep(data, cache() / remote.folder / remote.name)
        return content
    raise BadInput(
        f"{remote.folder}/{remote.name} cannot be downloaded ({'; '.join(reasons)}). Check the network, or put the file in"
        f" {shown(cache() / remote.folder)} or in {remote.folder}/ of a folder named by SIXFOLD_DATA."
    )


def _get(url: str, limit: int) -> bytes:
    import pooch

    buffer = _Capped(limit)
    pooch.HTTPDownloader(timeout=TIMEOUT, chunk_size=2**16)(url, buffer, None)
    return buffer.getvalue()


def _keep(data: bytes, path: Path) -> None:
    """Into the cache by one rename.

    Raises:
        BadInput: when the cache cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise BadInput(f"{shown(path)} cannot be written: {error.strerror}. Set SIXFOLD_CACHE to a folder that can.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
