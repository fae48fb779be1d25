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
    width, content = rows.dtype.itemsize * rows.shape[1], rows.tobytes()
    digests = b"".join(_digest(content[start : start + width]) for start in range(0, len(content), width))
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


_EMPTY = hashlib.blake2b(digest_size=8, key=KEY)


def _digest(row: bytes) -> bytes:
    """Hash of one row; copying the state that has taken in the key is twice as fast as starting anew."""
    state = _EMPTY.copy()
    state.update(row)
    return state.digest()


def _bound(distinct: NDArray[np.uint64], share: float, leave: int) -> np.uint64:
    """Hash from which a part begins: at ``share`` of the range, but so that it gets one datum and leaves ``leave`` before it."""
    return np.clip(np.uint64(share * 2.0**64), distinct[leave], distinct[-1])


def three_parts(x: Tensor, name: str) -> dict[str, Tensor]:
    """Row indices of ``train``, ``valid`` and ``test``, about 80, 10 and 10 per cent of the data.

    Raises:
        BadInput: when there are fewer than four distinct rows, two of them to train on.
    """
    hashes = keys(x)
    distinct = np.unique(hashes)
    if len(distinct) < 4:
        rows = f"{len(hashes)} row{'s' if len(hashes) != 1 else ''}"
        raise BadInput(f"{name} has {rows}, {len(distinct)} distinct; expected at least 4. Give more data.")
    test_from = _bound(distinct, TEST_FROM, leave=3)
    valid_from = _bound(distinct[distinct < test_from], VALID_FROM, leave=2)
    train, test = hashes < valid_from, hashes >= test_from
    return {"train": _where(train), "valid": _where(~train & ~test), "test": _where(test)}


def hold_out(x: Tensor, share: float) -> dict[str, Tensor]:
    """Row indices of ``train`` and ``valid`` where the test part is given; ``valid`` is about ``share`` of the rows."""
    hashes = keys(x)
    valid = hashes >= _bound(np.unique(hashes), 1 - share, leave=1)
    return {"train": _where(~valid), "valid": _where(valid)}


def _where(mask: NDArray[np.bool_]) -> Tensor:
    return torch.from_numpy(np.flatnonzero(mask))
