"""Fixed parts of a data set, by a keyed hash of each datum's bytes.

A datum's part depends on the datum alone: not on the order of the rows, the machine, the labels, or which other rows there
are. Duplicates therefore stay together, and adding data moves none that were there. Only where a part would be empty, the
distinct datum nearest to its bound is taken in.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sixfold.core.errors import BadInput

KEY = b"sixfold split 1"  # another key is another split: never change it
TEST_FROM, VALID_FROM = 0.9, 0.8  # of the range of the hash


def keys(x: Tensor) -> NDArray[np.uint64]:
    """Hash of each row, (N,): blake2b of its values, little-endian, minus zero counted as zero."""
    rows = x.numpy()
    rows = np.ascontiguousarray(rows + rows.dtype.type(0), dtype=rows.dtype.newbyteorder("<")).reshape(len(rows), -1)
    digests = b"".join(hashlib.blake2b(row.data, digest_size=8, key=KEY).digest() for row in rows)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def _beyond(hashes: NDArray[np.uint64], bound: float, leave: int) -> NDArray[np.bool_]:
    """Rows whose hash lies beyond ``bound`` of its range: at least one distinct datum, and all but ``leave`` at most."""
    distinct = np.unique(hashes)
    return hashes >= np.clip(np.uint64(bound * 2.0**64), distinct[leave], distinct[-1])


def _require(hashes: NDArray[np.uint64], num: int, name: str) -> None:
    distinct = len(np.unique(hashes))
    if distinct < num:
        rows = f"{len(hashes)} row{'s' if len(hashes) != 1 else ''}"
        raise BadInput(f"{name} has {rows}, {distinct} distinct; expected at least {num}. Give more data.")


def three_parts(x: Tensor, name: str) -> dict[str, Tensor]:
    """Row indices of ``train``, ``valid`` and ``test``, about 80, 10 and 10 per cent of the data.

    Raises:
        BadInput: when there are fewer than four distinct rows, two of them to train on.
    """
    hashes = keys(x)
    _require(hashes, 4, name)
    test = _beyond(hashes, TEST_FROM, leave=3)
    valid = np.zeros_like(test)
    valid[~test] = _beyond(hashes[~test], VALID_FROM, leave=2)
    return {"train": _where(~test & ~valid), "valid": _where(valid), "test": _where(test)}


def hold_out(x: Tensor, share: float) -> dict[str, Tensor]:
    """Row indices of ``train`` and ``valid`` where the test part is given; ``valid`` is about ``share`` of the rows."""
    valid = _beyond(keys(x), 1 - share, leave=1)
    return {"train": _where(~valid), "valid": _where(valid)}


def _where(mask: NDArray[np.bool_]) -> Tensor:
    return torch.from_numpy(np.flatnonzero(mask))
