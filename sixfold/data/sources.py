"""From a name to a data set in three fixed parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from sixfold.core.dataset import Dataset, Split
from sixfold.core.errors import BadInput, suggest
from sixfold.core.spec import DataSpec, Support
from sixfold.data.arrays import load_npy, load_npz
from sixfold.data.catalogue import FORMS, VARIANTS, names
from sixfold.data.files import shown
from sixfold.data.images import load_folder
from sixfold.data.named import IMAGES, black_and_white
from sixfold.data.tables import load_csv, load_parquet
from sixfold.data.toys import TOYS

TOY_SIZES = {"train": 50_000, "valid": 5_000, "test": 10_000}  # drawn with seeds 0, 1 and 2
ARRAYS: dict[str, Callable[[Path, str], Dataset]] = {".npy": load_npy, ".npz": load_npz}
TABLES: dict[str, Callable[..., Dataset]] = {".csv": load_csv, ".parquet": load_parquet}


def load(name: str) -> Dataset:
    """The data set of that name, on the CPU as stored.

    Args:
        name: a named set (see :func:`sixfold.data.names`), its variant as ``mnist:binary``, or the user's own: ``folder:PATH``,
            ``PATH.npy``, ``PATH.npz``, ``PATH.csv``, ``PATH.parquet``; tables take a column as the class with ``:label=COLUMN``.

    Raises:
        BadInput: when the name is unknown or the data cannot be used; the message says what was expected and the way out.

    Example:
        >>> data = load("digits:binary")
        >>> data.spec.shape, data.spec.support.kind
        ((1, 8, 8), 'binary')
    """
    base, _, variant = name.partition(":")
    if name in TOYS:
        return _toy(name)
    if base in IMAGES and (not variant or variant in VARIANTS):
        return _images(name, base, variant)
    if base == "folder" and variant:
        return load_folder(Path(variant).expanduser(), name)
    return _file(name)


def _toy(name: str) -> Dataset:
    toy = TOYS[name]()
    seeds = enumerate(TOY_SIZES.values())
    parts = (toy.labelled(num, generator=torch.Generator().manual_seed(seed)) for seed, num in seeds)
    train, valid, test = (Split(x, label) for x, label in parts)
    return Dataset(name, DataSpec((len(toy.low),), Support("real")), train, valid, test, classes=toy.classes, truth=toy)


def _images(name: str, base: str, variant: str) -> Dataset:
    data = IMAGES[base]()
    return replace(black_and_white(data, dynamic=variant == "binary"), name=name) if variant else data


def _file(name: str) -> Dataset:
    place, _, label = name.rpartition(":label=") if ":label=" in name else (name, "", "")
    path = Path(place).expanduser()
    ending = path.suffix.lower()
    if ending in TABLES:
        return TABLES[ending](path, name, label=label or None)
    if ending in ARRAYS and not label:
        return ARRAYS[ending](path, name)
    raise _unknown(name, path)


def _unknown(name: str, path: Path) -> BadInput:
    if name and path.is_dir():
        return BadInput(f"{shown(name)} is a folder; for the images in it use folder:{shown(name)}.")
    sources = f"Known: {', '.join(n for n in names() if ':' not in n)}; own data: {', '.join(FORMS)}."
    if path.is_file():
        return BadInput(f"{shown(name)} is a file of no known kind. {sources}")
    near = suggest(name, names())
    return BadInput(f"unknown data {shown(name)!r}. {f'{near} ' if near.startswith('Perhaps') else ''}{sources}")
