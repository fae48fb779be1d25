"""Samples as files, written while they are drawn: none is there before all are, and no more than a batch is in memory."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import torch
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from torch import Tensor

from sixfold.core.spec import DataSpec
from sixfold.plot.images import save_grid
from sixfold.run.folder import whole

PICTURED = 256
"""Images in the grid, the first ones."""


def write_samples(batches: Iterable[Tensor], num: int, spec: DataSpec, stem: Path, *, columns: Sequence[str] = ()) -> list[Path]:
    """Samples in the forms that people open: a PNG grid for images (all as .npy too), .npy and .csv otherwise.

    Args:
        batches: samples, (B, *shape) each and at least one batch, drawn as they are written.
        num: how many there are in all.
        spec: what one of them is.
        stem: of the files, without ending; what it names before stays as it is until everything is drawn.
        columns: names of the elements of a table's row.
    """
    stored, shown = stem.with_suffix(".npy"), stem.with_suffix(".png" if spec.is_image else ".csv")
    with whole(stored) as array, whole(shown) as beside, array.open("wb") as file:
        drawn = _stored(batches, num, spec, file)
        if spec.is_image:
            save_grid(_first(drawn, PICTURED), spec, beside)
        else:
            _write_rows(drawn, columns or [f"x{i}" for i in range(spec.dims)], beside)
    return [stored, shown]


def _stored(batches: Iterable[Tensor], num: int, spec: DataSpec, file: BinaryIO) -> Iterator[Tensor]:
    """The batches on the CPU, each written to the array of them all as it goes by."""
    for i, batch in enumerate(batches):
        x = batch.cpu()
        values = x.numpy()
        if i == 0:
            about = {"descr": dtype_to_descr(values.dtype), "fortran_order": False, "shape": (num, *spec.shape)}
            write_array_header_1_0(file, about)
        file.write(values.tobytes())
        yield x


def _first(batches: Iterable[Tensor], num: int) -> Tensor:
    """The first ``num`` of all, after all have gone by."""
    kept: list[Tensor] = []
    for x in batches:
        kept.append(x[: max(0, num - sum(map(len, kept)))])
    return torch.cat(kept)


def _write_rows(batches: Iterable[Tensor], columns: Sequence[str], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(columns)
        for x in batches:
            rows.writerows(x.flatten(1).tolist())
