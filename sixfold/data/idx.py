"""The idx format of MNIST: two zero bytes, a type, the number of axes, their sizes big-endian, then the values."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sixfold.core.errors import BadInput

UINT8 = 0x08
MOST_AXES = 8


def read_idx(payload: bytes, what: str) -> NDArray[np.uint8]:
    """Array of unsigned bytes, a view of the payload.

    Nothing is allocated by the header's word: it is compared with the bytes that are there.

    Args:
        payload: content of the file, decompressed.
        what: names the file in errors.

    Raises:
        BadInput: when the header is no idx header of unsigned bytes, or promises more or fewer values than follow.
    """
    if len(payload) < 4 or payload[:2] != b"\0\0" or not 1 <= payload[3] <= MOST_AXES:
        raise BadInput(
            f"{what} is no idx file: starts with {payload[:4].hex(' ') or 'nothing'}; expected 00 00 08 and the number of axes."
        )
    if payload[2] != UINT8:
        raise BadInput(f"{what} holds values of idx type 0x{payload[2]:02x}; expected unsigned bytes, 0x08. Convert it to .npy.")
    start = 4 + 4 * payload[3]
    if len(payload) < start:
        raise BadInput(f"{what} ends within its header, after {len(payload)} of {start} bytes. Fetch it again.")
    shape = struct.unpack(f">{payload[3]}I", payload[4:start])
    if math.prod(shape) != len(payload) - start:
        raise BadInput(f"{what} says {_times(shape)} values but holds {len(payload) - start}. Fetch it again.")
    return np.frombuffer(payload, np.uint8, offset=start).reshape(shape)


def _times(shape: tuple[Any, ...]) -> str:
    return " x ".join(map(str, shape))
