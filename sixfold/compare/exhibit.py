"""What a report shows of one model or reference: samples, density and codes, kept as tensors beside its record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from torch import Tensor

SIDE = 160
"""Cells a side of a density over the plane."""


@dataclass(frozen=True)
class Exhibit:
    """What is drawn of one model or reference.

    Args:
        samples: in data space, (N, *shape): drawn, not chosen.
        log_density: nats over ``Window.around(test data).grid(SIDE)``, (SIDE * SIDE,), for data in the plane; ``None`` without.
        codes: of the first test data in two dimensions, (M, 2), the first two principal components where a code has more.
        labels: classes of the coded data, (M,).
    """

    samples: Tensor
    log_density: Tensor | None = None
    codes: Tensor | None = None
    labels: Tensor | None = None

    def write(self, path: Path) -> None:
        """Keep it as safetensors."""
        safetensors.torch.save_file({k: v.contiguous() for k, v in vars(self).items() if v is not None}, path)

    @classmethod
    def read(cls, path: Path) -> Exhibit:
        """Inverse of :meth:`write`."""
        return cls(**safetensors.torch.load_file(path))
