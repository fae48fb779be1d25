"""What one datum is: its shape, the values it may take, and what it is conditioned on.

A model lives in data space. It takes data exactly as this specification describes them and returns samples of the same
shape, dtype and range, so that a likelihood is always one of the data as given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from sixfold.core.errors import BadInput

Array: TypeAlias = Tensor | np.ndarray[Any, Any]

SupportKind = Literal["real", "binary", "levels", "tokens"]
ConditioningKind = Literal["none", "classes", "vector"]

_WIDE = (torch.uint16, torch.uint32, torch.uint64)


def _tensor(x: Array | int, name: str) -> Tensor:
    """An array as a tensor, without sharing the surprises of object arrays and ragged lists."""
    try:
        return torch.as_tensor(x)
    except (TypeError, ValueError, RuntimeError):
        got = f"an array of {x.dtype}" if isinstance(x, np.ndarray) else f"{x!r:.60}"
        raise BadInput(f"{name} must be numbers in a regular array; got {got}. Convert it first.") from None


@dataclass(frozen=True)
class Support:
    """The values that one element of a datum may take.

    Args:
        kind: ``real`` (floats), ``binary`` (0 or 1), ``levels`` (ordered integers, as grey values), ``tokens`` (unordered).
        size: how many values there are; ``None`` for real data.
    """

    kind: SupportKind
    size: int | None = None

    def __post_init__(self) -> None:
        if self.kind == "binary" and self.size is None:
            object.__setattr__(self, "size", 2)
        if self.kind == "binary" and self.size != 2:
            raise BadInput(f"binary data have 2 values; got {self.size}. Use levels for more.")
        if (self.kind == "real") != (self.size is None):
            raise BadInput(f"support {self.kind!r} with size {self.size!r}: real data have none, discrete data need one.")
        if self.size is not None and self.size < 2:
            raise BadInput(f"support size must be at least 2; got {self.size}.")

    @property
    def discrete(self) -> bool:
        """Whether probabilities are masses (counting measure) rather than densities."""
        return self.kind != "real"

    @property
    def count(self) -> int:
        """Number of values of discrete data; an error for real data."""
        assert self.size is not None, "count of real support"
        return self.size


@dataclass(frozen=True)
class Conditioning:
    """What every datum comes with: nothing, one of ``size`` classes (int64, (B,)), or a vector (float, (B, size))."""

    kind: ConditioningKind = "none"
    size: int = 0

    def __post_init__(self) -> None:
        if (self.kind == "none") != (self.size == 0) or self.size < 0:
            raise BadInput(f"conditioning {self.kind!r} of size {self.size}: none has size 0, the others at least 1.")

    def features(self, cond: Tensor | None, like: Tensor) -> Tensor | None:
        """Float features of the condition, (B, size): one-hot for classes; ``None`` when there is none. dtype of ``like``."""
        if self.kind == "none" or cond is None:
            return None
        if self.kind == "classes":
            return torch.nn.functional.one_hot(cond, self.size).to(like.dtype)
        return cond.to(like.dtype)


@dataclass(frozen=True)
class DataSpec:
    """What one datum is.

    Args:
        shape: of one datum without the batch: ``(2,)`` points, ``(1, 28, 28)`` images (channels first), ``(T,)`` tokens.
        support: which values an element takes.
        cond: what the datum is conditioned on.

    Example:
        >>> DataSpec((2,), Support("real")).dims
        2
    """

    shape: tuple[int, ...]
    support: Support
    cond: Conditioning = field(default_factory=Conditioning)

    def __post_init__(self) -> None:
        if not self.shape or min(self.shape) < 1:
            raise BadInput(f"shape must have positive sizes; got {self.shape}. A single number per datum has shape (1,).")

    @property
    def dims(self) -> int:
        """Number of elements of one datum; the D in bits per dimension."""
        return math.prod(self.shape)

    @property
    def is_image(self) -> bool:
        """Channels-first images: three axes, one, three or four channels."""
        return len(self.shape) == 3 and self.shape[0] in (1, 3, 4)

    @property
    def dtype(self) -> torch.dtype:
        """Data space's dtype: float32 for real data, uint8 for up to 256 values, int64 above."""
        if not self.support.discrete:
            return torch.float32
        return torch.uint8 if self.support.count <= 256 else torch.int64

    def without_cond(self) -> DataSpec:
        """The same datum, conditioned on nothing."""
        return DataSpec(self.shape, self.support)

    def check(self, x: Array, *, name: str = "data") -> Tensor:
        """The batch as a tensor, (B, *shape), after checking shape, dtype, range and finiteness.

        Raises:
            BadInput: with what was got, what this specification expects, and the way out.
        """
        x = _tensor(x, name)
        if tuple(x.shape[1:]) != self.shape or x.ndim != len(self.shape) + 1:
            raise BadInput(f"{name} must have shape (B, {', '.join(map(str, self.shape))}); got {tuple(x.shape)}.")
        if not self.support.discrete:
            return self._check_real(x, name)
        return self._check_discrete(x, name)

    def _check_real(self, x: Tensor, name: str) -> Tensor:
        if not x.is_floating_point():
            raise BadInput(f"{name} must be floating point for real support; got {x.dtype}. Convert with .float().")
        if not bool(torch.isfinite(x).all()):
            bad = int((~torch.isfinite(x)).flatten(1).any(1).nonzero()[0, 0])
            raise BadInput(f"{name} holds NaN or infinity, first in row {bad}; expected finite numbers. Drop or fill that row.")
        return x

    def _check_discrete(self, x: Tensor, name: str) -> Tensor:
        count = self.support.count
        if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
            raise BadInput(f"{name} must be integers in [0, {count - 1}]; got {x.dtype}. Convert with .to({self.dtype}).")
        if x.dtype in _WIDE:  # PyTorch stores these and computes nothing with them
            x = x.long()
        if x.numel() and (int(x.min()) < 0 or int(x.max()) >= count):
            raise BadInput(f"{name} must lie in [0, {count - 1}]; got {int(x.min())} to {int(x.max())}.")
        return x.to(self.dtype)

    def check_cond(self, cond: Array | int | None, num: int) -> Tensor | None:
        """The condition as a tensor of ``num`` rows; a single class or vector is repeated.

        Raises:
            BadInput: when it is missing, unexpected, of the wrong size, or a label outside the classes.
        """
        kind, size = self.cond.kind, self.cond.size
        if kind == "none":
            if cond is not None:
                raise BadInput("this model is unconditional but got cond. Leave cond out, or fit with conditional=True.")
            return None
        if cond is None:
            raise BadInput(f"this model is conditioned on {kind} of size {size}; got none. Pass cond=...")
        c = _tensor(cond, "cond")
        if kind == "classes":
            return self._check_classes(c.expand(num) if c.ndim == 0 else c, num)
        c = c.expand(num, -1) if c.ndim == 1 else c
        if tuple(c.shape) != (num, size) or not bool(torch.isfinite(c).all()):
            raise BadInput(f"cond must be finite vectors of shape ({num}, {size}); got {tuple(c.shape)}.")
        return c.float()

    def _check_classes(self, c: Tensor, num: int) -> Tensor:
        if tuple(c.shape) != (num,) or c.is_floating_point() or c.is_complex():
            raise BadInput(f"cond must be integer labels of shape ({num},); got {c.dtype} {tuple(c.shape)}.")
        c = c.long()
        if num and (int(c.min()) < 0 or int(c.max()) >= self.cond.size):
            raise BadInput(f"labels must lie in [0, {self.cond.size - 1}]; got {int(c.min())} to {int(c.max())}.")
        return c

    def to_json(self) -> dict[str, Any]:
        """Plain values, for checkpoints and run folders."""
        return {
            "shape": list(self.shape),
            "support": {"kind": self.support.kind, "size": self.support.size},
            "cond": {"kind": self.cond.kind, "size": self.cond.size},
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> DataSpec:
        """Inverse of :meth:`to_json`."""
        return cls(tuple(values["shape"]), Support(**values["support"]), Conditioning(**values["cond"]))
