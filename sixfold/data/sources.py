"""From a name to a data set in three fixed parts."""

from __future__ import annotations

import torch

from sixfold.core.dataset import Dataset, Split
from sixfold.core.errors import BadInput, suggest
from sixfold.core.spec import DataSpec, Support
from sixfold.data.catalogue import SETS
from sixfold.data.toys import TOYS

TOY_SIZES = {"train": 50_000, "valid": 5_000, "test": 10_000}


def load(name: str) -> Dataset:
    """The data set of that name.

    Raises:
        BadInput: when the name is unknown.

    Example:
        >>> len(load("moons").valid)
        5000
    """
    if name in TOYS:
        return _toy(name)
    raise BadInput(f"unknown data {name!r}. {suggest(name, SETS)}")


def _toy(name: str) -> Dataset:
    toy, parts = TOYS[name](), {}
    for seed, (part, num) in enumerate(TOY_SIZES.items()):
        x, label = toy.labelled(num, generator=torch.Generator().manual_seed(seed))
        parts[part] = Split(x, label)
    return Dataset(name, DataSpec((len(toy.low),), Support("real")), **parts, classes=toy.classes, truth=toy)
