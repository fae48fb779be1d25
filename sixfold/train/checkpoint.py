"""One file holds a run: tensors as safetensors, everything else as JSON in its header. Nothing is ever unpickled.

    model/*     the parameters and buffers as trained           ema/*     mean of the parameters
    best/*      parameters and buffers of the best validation   optim/*   optimiser state, by player and parameter
    good/*      the last good state, when it is older than the rest: what a divergence would roll back to

A file is written beside its place, forced to the disk and then renamed, so that a kill at any byte leaves the old file or the
new one. A checksum over header and tensors tells a damaged file from a whole one.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from sixfold import __version__
from sixfold.core.errors import BadInput
from sixfold.core.model import GenerativeModel
from sixfold.core.registry import build
from sixfold.core.spec import DataSpec

FILE = "checkpoint.safetensors"
FORMAT = 1
LONGEST_HEADER = 100_000_000
"""Bytes; the limit of the safetensors format."""


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Args:
        tensors: by group and name, ``model/net.0.weight``.
        header: model (name, options, spec, dtype), which group to sample from, versions, and the state of training.
    """

    tensors: dict[str, Tensor]
    header: dict[str, Any]


def group(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Tensors of one group, without its prefix."""
    return {key[len(name) + 1 :]: tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")}


def describe(model: GenerativeModel) -> dict[str, Any]:
    """What it takes to build this model again."""
    return {"name": model.name, "options": model.options, "spec": model.spec.to_json(), "dtype": str(model.dtype).split(".")[1]}


def raw_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor's elements."""
    return memoryview(tensor.contiguous().flatten().view(torch.uint8).numpy().data)


def _checksum(tensors: Mapping[str, Tensor], header: str) -> int:
    total = zlib.crc32(header.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), total)
        total = zlib.crc32(raw_bytes(tensor), total)
    return total


def write(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write a checkpoint in one atomic step; when this returns, it is on the disk.

    Raises:
        BadInput: when the disk is full or read-only; the file that was there before is still whole.
    """
    # A clone is contiguous, shares memory with nothing (tied parameters) and does not change while it is being written.
    own = {name: tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    text = json.dumps({"format": FORMAT, "versions": {"sixfold": __version__, "torch": torch.__version__}, **header})
    payload = safetensors.torch.save(own, {"sixfold": text, "crc32": str(_checksum(own, text))})
    beside = path.with_name(f".{path.name}.part")
    try:
        with beside.open("wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise BadInput(f"{path}: not saved, {error.strerror or error}. Free some space or choose another folder.") from error


def _sync_folder(folder: Path) -> None:
    """Force the renaming to the disk, without which a power cut could undo it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def located(path: Path | str) -> Path:
    """The checkpoint of a run's folder, or the file itself."""
    path = Path(path)
    return path / FILE if path.is_dir() else path


def read(path: Path | str) -> Checkpoint:
    """Read and verify a checkpoint.

    Args:
        path: the file, or the folder of a run.

    Raises:
        BadInput: one line for a file that is missing, foreign, damaged or from a later version.
    """
    path = located(path)
    try:
        payload = _payload(path)
        tensors, metadata = safetensors.torch.load(payload), _metadata(payload)
    except OSError as error:
        raise BadInput(f"{path}: no checkpoint can be read, {error.strerror or error}. Name a run's folder.") from error
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = " ".join(str(error).split())
        raise BadInput(f"{path}: damaged or no checkpoint ({what}). Use another copy, or train again.") from error
    header = _verified(path, tensors, metadata)
    return Checkpoint(tensors, header)


def _payload(path: Path) -> bytes:
    """The file's bytes, once its first ones have been found to be plausible."""
    with path.open("rb") as file:
        size, start = os.fstat(file.fileno()).st_size, file.read(10)
        # A header of 640, 1152, 1408 or 19280 bytes begins like a pickle or a zip, but then its JSON follows at the ninth byte.
        if start[:2] in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05") and start[8:9] != b"{":
            raise ValueError("it is a pickle or zip archive, which is never loaded; expected safetensors")
        claimed = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else size
        if claimed > min(size - 8, LONGEST_HEADER):
            raise ValueError(f"its header claims {claimed} bytes, the file has {size}")
        file.seek(0)
        return file.read()


def _metadata(payload: bytes) -> dict[str, str]:
    length = struct.unpack("<Q", payload[:8])[0]
    return dict(json.loads(payload[8 : 8 + length])["__metadata__"])


def _verified(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> dict[str, Any]:
    if "sixfold" not in metadata:
        raise BadInput(f"{path}: safetensors, but written by another program; expected a checkpoint of sixfold.")
    if metadata.get("crc32") != str(_checksum(tensors, metadata["sixfold"])):
        raise BadInput(f"{path}: damaged, its checksum differs. Use another copy, or train again.")
    header: dict[str, Any] = json.loads(metadata["sixfold"])
    if header["format"] > FORMAT:
        raise BadInput(f"{path}: written by a later version (format {header['format']}, known: {FORMAT}). Upgrade sixfold.")
    return header


def save_model(path: Path | str, model: GenerativeModel) -> None:
    """Write a model without any state of training, to share or deploy it.

    Raises:
        BadInput: for a model that was not built by name, or a disk that does not take it.
    """
    if not model.name:
        raise BadInput(f"{type(model).__name__} was not built by name, so no file could say how to build it. Use sixfold.build.")
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    write(Path(path), tensors, {"model": describe(model), "chosen": "model"})


def load_model(path: Path | str) -> GenerativeModel:
    """The trained model of a checkpoint, with its chosen parameters, in evaluation mode on the CPU.

    Args:
        path: the file, or the folder of a run.

    Raises:
        BadInput: for a file that cannot be used, or a model whose code has changed since.
    """
    found = read(path)
    about = found.header["model"]
    if not about["name"]:
        raise BadInput(f"{located(path)}: its model was not built by name. Build it with sixfold.build before training.")
    model = build(about["name"], DataSpec.from_json(about["spec"]), **about["options"]).to(getattr(torch, about["dtype"]))
    adopt(model, chosen(found), owner=str(located(path)))
    return model.eval()


def chosen(found: Checkpoint) -> dict[str, Tensor]:
    """Parameters and buffers to sample from: of the best validation, else the mean's, else as trained."""
    return group(found.tensors, "model") | group(found.tensors, found.header["chosen"])


@torch.no_grad()
def adopt(model: GenerativeModel, tensors: Mapping[str, Tensor], *, owner: str) -> None:
    """Put tensors into a model's parameters and buffers; buffers that :meth:`prepare` sized take the size of the file's.

    Raises:
        BadInput: when names, or shapes of parameters, differ.
    """
    slots = {name: (module, key) for name, module, key in _slots(model)}
    differ = sorted(set(tensors) - set(slots)) + sorted(set(model.state_dict()) - set(tensors))
    if differ:
        raise BadInput(f"{owner}: {differ[0]!r} is not in both file and {model.name}, whose code has changed. Train again.")
    for name, tensor in sorted(tensors.items()):
        module, key = slots[name]
        old = getattr(module, key)
        if old is not None and old.shape == tensor.shape:
            old.copy_(tensor)
        elif isinstance(old, torch.nn.Parameter):
            raise BadInput(f"{owner}: {name} is {tuple(tensor.shape)}, model {model.name} has {tuple(old.shape)}. Train again.")
        else:
            setattr(module, key, tensor.to(model.device, copy=True))


def _slots(model: GenerativeModel) -> list[tuple[str, torch.nn.Module, str]]:
    """Every place of a parameter or buffer: full name, module and its key there; places that are still empty included."""
    return [
        (f"{path}.{key}" if path else key, module, key)
        for path, module in model.named_modules(remove_duplicate=False)
        for key in [*module._parameters, *module._buffers]
    ]
