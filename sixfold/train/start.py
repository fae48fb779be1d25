"""Before the first step: where to train, whether data fit the model, and what a run may go on from."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sixfold.core.dataset import Dataset, Split
from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.model import GenerativeModel
from sixfold.train import checkpoint
from sixfold.train.recipe import Recipe
from sixfold.train.team import Team

FREE = {"steps", "epochs", "minutes", "patience", "save_every", "log_every", "tensorboard", "device", "devices"}
"""What a resumed run may change in its recipe."""


def device_of(recipe: Recipe) -> torch.device:
    """Where the recipe trains.

    Raises:
        BadInput: when it wants a GPU and there is none.
    """
    cuda = torch.cuda.is_available()
    if recipe.device == "cuda" and not cuda:
        raise BadInput("device: got 'cuda' but PyTorch sees no GPU here. Leave it at auto or use cpu.")
    return torch.device("cuda" if cuda and recipe.device != "cpu" else "cpu")


def dtype_of(recipe: Recipe) -> torch.dtype:
    """Type of parameters and floating-point data; bfloat16 is that of the arithmetic alone."""
    return torch.float64 if recipe.precision == "float64" else torch.float32


def found_in(folder: Path | None, *, resume: bool) -> checkpoint.Checkpoint | None:
    """The checkpoint to go on from, if there is one and it is wanted.

    Raises:
        BadInput: when the folder holds a run that was not asked to go on, or there is no folder to go on from.
    """
    if folder is None:
        if resume:
            raise BadInput("resume=True needs the folder of a run; got none. Pass folder=...")
        return None
    there = checkpoint.located(folder).exists()
    if there and not resume:
        raise BadInput(f"{folder}: holds a run already. Go on with --resume (resume=True), or choose another folder.")
    return checkpoint.read(folder) if there else None


def check(model: GenerativeModel, data: Dataset, team: Team) -> None:
    """Data against the model's spec, once, so that a NaN is named by its row rather than met in the loss.

    Raises:
        BadInput: data of another spec, out of range, not finite, or none at all.
        Unsupported: a loss that couples the batch, on several processes.
    """
    if team.world > 1 and model.couples_batch:
        raise Unsupported(f"the loss of {model.name} couples the batch; got {team.world} processes to share it. Use one.")
    mine, theirs = model.spec.without_cond(), data.spec.without_cond()
    if mine != theirs:
        raise BadInput(f"the model is built for {mine.shape} {mine.support}; {data.name} has {theirs.shape} {theirs.support}.")
    if not len(data.train):
        raise BadInput(f"{data.name} has no rows to train on; expected at least one.")
    for part, split in (("train", data.train), ("valid", data.valid)):
        _check_split(model, split, f"{data.name} ({part})")


def _check_split(model: GenerativeModel, split: Split, name: str) -> None:
    if split.draw is None:
        model.spec.check(split.x, name=name)
    if model.spec.cond.kind != "none":
        model.spec.check_cond(split.cond, len(split))


def fingerprint(data: Dataset) -> dict[str, Any]:
    """What tells these training rows from others."""
    return {"name": data.name, "rows": len(data.train), "crc32": zlib.crc32(checkpoint.raw_bytes(data.train.x))}


def about(model: GenerativeModel, data: Dataset, recipe: Recipe) -> dict[str, Any]:
    """What a run is of, as JSON values."""
    described = {"model": checkpoint.describe(model), "data": fingerprint(data), "recipe": recipe.to_json()}
    same: dict[str, Any] = json.loads(json.dumps(described))
    return same


def compare(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with another model, other data or another recipe than the checkpoint's.

    Raises:
        BadInput: naming the first thing that differs, with both values.
    """
    for what, new in now.items():
        old = before[what]
        differ = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key) and key not in FREE)
        if differ:
            key = differ[0]
            was = f"{what} {key} was {old.get(key)!r}, now it is {new.get(key)!r}"
            raise BadInput(f"cannot resume: {was}. Leave it as it was, or start another run.")


@contextmanager
def explained(recipe: Recipe) -> Iterator[None]:
    """Errors of PyTorch within this block that are the recipe's to mend, in one line."""
    try:
        yield
    except RuntimeError as error:
        said = str(error).lower()
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in said or "not enough memory" in said:
            raise BadInput(f"out of memory with a batch of {recipe.batch}. Use a smaller batch, or a smaller model.") from error
        if recipe.compile and ("double backward" in said or "create_graph" in said):
            raise Unsupported("compile: a loss with a gradient of a gradient cannot be compiled. Leave compile off.") from error
        if recipe.compile and "compiler" in said:
            raise BadInput("compile: needs a C++ compiler and found none. Install g++, or leave compile off.") from error
        raise


@contextmanager
def compiled(model: nn.Module, *, wanted: bool) -> Iterator[None]:
    """The model's networks are compiled within this block.

    The networks rather than the loss: a loss draws noise and reads the progress of the run, which would break the graph or
    compile it again at every step.
    """
    networks = _networks(model) if wanted else []
    for network in networks:
        network._compiled_call_impl = torch.compile(_frame(network._call_impl))
    try:
        yield
    finally:
        for network in networks:
            network._compiled_call_impl = None


def _frame(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same function in a frame of its own.

    The compiler passes over frames of PyTorch's own files, so that ``Module.compile`` would leave an ``nn.Sequential`` as it is.
    """

    def framed(*args: Any, **keywords: Any) -> Any:
        return call(*args, **keywords)

    return framed


def _networks(module: nn.Module) -> list[nn.Module]:
    """The outermost parts that have a forward pass of their own; lists and the like have none."""
    found: list[nn.Module] = []
    for child in module.children():
        found += [child] if type(child).forward is not nn.Module.forward else _networks(child)
    return found
