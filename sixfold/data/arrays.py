"""Arrays in memory, .npy and .npz files as data sets.

What an array's numbers mean follows from its type:

    floats            real data of the rows' shape; four axes are images
    bool, 0 and 1     binary
    uint8             256 levels; three axes are grey images (N, H, W), four are images (N, H, W, C) or (N, C, H, W)
    other integers    levels 0 .. max; a table of counts and measurements is better given as floats
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sixfold.core.dataset import Dataset, Split
from sixfold.core.errors import BadInput
from sixfold.core.spec import Array, DataSpec, Support
from sixfold.data.files import check_file, check_size, shown
from sixfold.data.split import three_parts

AnyArray: TypeAlias = "NDArray[Any]"
CHANNELS = (1, 3, 4)
MOST_LEVELS = 2**16
DATA_KEYS, LABEL_KEYS = ("x", "data", "images"), ("y", "labels")
UNREADABLE = (ValueError, EOFError, OSError, SyntaxError, NotImplementedError, RuntimeError, zlib.error, zipfile.BadZipFile)


def from_arrays(
    x: Array,
    labels: Array | Sequence[str] | None = None,
    *,
    name: str = "array",
    classes: Sequence[str] = (),
    levels: int | None = None,
    columns: Sequence[str] = (),
) -> Dataset:
    """A data set from an array or tensor, divided into three parts by a hash of each row.

    Args:
        x: data, one datum a row, (N, ...); see the module for what each type means.
        labels: a class of each datum, (N,), as integers or names; or a vector to condition on, (N, C) floats.
        name: stands in messages and reports.
        classes: names of the classes, in the order of integer labels; found from the labels by default.
        levels: how many values integers may take, when more than the data show or fewer than 256.
        columns: names of the columns of a table, for messages and for files of samples.

    Raises:
        BadInput: for data that are empty, ragged, not numbers, not finite, out of range, constant in a column or too few, and
            for labels that do not fit.

    Example:
        >>> from_arrays(np.random.default_rng(0).normal(size=(100, 2))).spec.shape
        (2,)
    """
    array = _numeric(x, name)
    data, support = _real(array, name, columns) if array.dtype.kind == "f" else _discrete(array, name, levels)
    cond, found = _condition(labels, len(data), tuple(classes), name)
    index = three_parts(data, name)
    if data.ndim == 2 and not support.discrete:
        _refuse_constant(data[index["train"]], name, columns)
    train, valid, test = (take(data, cond, rows) for rows in index.values())
    spec = DataSpec(tuple(data.shape[1:]), support)
    return Dataset(name, spec, train, valid, test, classes=found, columns=tuple(columns))


def take(x: Tensor, cond: Tensor | None, rows: Tensor) -> Split:
    """The rows of one part."""
    return Split(x[rows], None if cond is None else cond[rows])


def _numpy(values: Any, what: str) -> AnyArray:
    """As a NumPy array; bfloat16, which NumPy has not, becomes float32."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return np.asarray((values.float() if values.dtype == torch.bfloat16 else values).numpy())
    try:
        return np.asarray(values)
    except ValueError as error:
        raise BadInput(f"{what} is ragged: rows differ in length. Give one array with equal rows.") from error


def _numeric(x: Array, name: str) -> AnyArray:
    array = _numpy(x, name)
    if array.dtype.kind not in "fiub":
        raise BadInput(
            f"{name} has type {array.dtype}; expected floats, integers or booleans. Convert it, or drop what is no number."
        )
    if not array.ndim or not array.size:
        raise BadInput(f"{name} has shape {array.shape}; expected at least one row and one value each.")
    return _channels_first(array[:, None] if array.ndim == 1 else array)


def _channels_first(array: AnyArray) -> AnyArray:
    if array.ndim == 3 and array.dtype.kind != "f":
        return array[:, None]
    if array.ndim == 4 and array.shape[3] in CHANNELS and array.shape[1] not in CHANNELS:
        return array.transpose(0, 3, 1, 2)
    return array


def _owned(array: AnyArray, dtype: type[np.generic]) -> AnyArray:
    """Contiguous and writable, as PyTorch wants it."""
    return np.require(array, dtype, ["C", "W"])


def _real(array: AnyArray, name: str, columns: Sequence[str]) -> tuple[Tensor, Support]:
    with np.errstate(over="ignore"):
        data = _owned(array, np.float32)
    if not np.isfinite(data).all():
        row, *place = (int(i) for i in np.argwhere(~np.isfinite(data))[0])
        value = array[(row, *place)]
        raise BadInput(
            f"{name} holds {value} in row {row}, {_element(place, columns)}; expected finite float32. Drop or fill that row."
        )
    return torch.from_numpy(data), Support("real")


def _element(place: Sequence[int], columns: Sequence[str]) -> str:
    if len(place) == 1:
        return f"column {columns[place[0]]!r}" if columns else f"column {place[0]}"
    return f"element {tuple(place)}"


def _discrete(array: AnyArray, name: str, levels: int | None) -> tuple[Tensor, Support]:
    low, high = int(array.min()), int(array.max())
    most = MOST_LEVELS if levels is None else levels
    if low < 0 or high >= most:
        raise BadInput(
            f"{name} holds integers from {low} to {high}; expected 0 to {most - 1} as levels. Convert to floats for real data."
        )
    if levels is None and high <= 1:
        return torch.from_numpy(_owned(array, np.uint8)), Support("binary")
    count = levels or (256 if array.dtype == np.uint8 else high + 1)
    dtype = np.uint8 if count <= 256 else np.int64
    return torch.from_numpy(_owned(array, dtype)), Support("levels", count)


def _refuse_constant(train: Tensor, name: str, columns: Sequence[str]) -> None:
    constant = (train.amax(0) == train.amin(0)).nonzero().flatten().tolist()
    if constant:
        where = f"{_element(constant[:1], columns)} of {name}"
        raise BadInput(
            f"{where} is constant ({float(train[0, constant[0]]):g}) in the training part; a density needs spread. Drop it."
        )


def _condition(labels: Any, num: int, classes: tuple[str, ...], name: str) -> tuple[Tensor | None, tuple[str, ...]]:
    """Labels as int64 (N,) with the names of the classes, or vectors as float32 (N, C) with none."""
    if labels is None:
        return None, ()
    array = _numpy(labels, f"labels of {name}")
    if array.ndim not in (1, 2) or len(array) != num:
        raise BadInput(f"labels of {name} have shape {array.shape}; expected one a row, ({num},).")
    if array.ndim == 2 and array.dtype.kind == "f":
        return _real(array, f"labels of {name}", ())[0], ()
    if array.dtype.kind in "US":
        return _named_labels(array.astype(str), classes, name)
    return _integer_labels(array, classes, name)


def _named_labels(array: AnyArray, classes: tuple[str, ...], name: str) -> tuple[Tensor, tuple[str, ...]]:
    found = tuple(sorted(set(array.tolist()), key=_natural))
    order = {label: i for i, label in enumerate(classes or found)}
    for row, label in enumerate(array.tolist()):
        if label not in order:
            raise BadInput(
                f"{name} has label {label!r} in row {row}; expected one of {', '.join(order)}. Correct it or name the class."
            )
    return torch.tensor([order[label] for label in array.tolist()]), tuple(order)


def _natural(label: str) -> tuple[float, str]:
    """Numbers in their order, before words."""
    return (float(label), label) if label.isdecimal() else (math.inf, label)


def _integer_labels(array: AnyArray, classes: tuple[str, ...], name: str) -> tuple[Tensor, tuple[str, ...]]:
    if array.ndim != 1 or array.dtype.kind not in "iubf" or not bool(np.all(array == np.floor(array))):
        raise BadInput(f"labels of {name} are {array.dtype} {array.shape}; expected whole numbers or names, one a row.")
    count = len(classes) or min(int(array.max()) + 1, len(array))
    outside = np.flatnonzero((array < 0) | (array >= count))
    if len(outside):
        row, label = int(outside[0]), int(array[outside[0]])
        raise BadInput(f"{name} has label {label} in row {row}; expected 0 to {count - 1}. Correct it, or give labels as names.")
    return torch.from_numpy(array.astype(np.int64)), classes or tuple(map(str, range(count)))


def load_npy(path: Path, name: str) -> Dataset:
    """The array of a .npy file; pickled objects are refused.

    Raises:
        BadInput: when the file is missing, damaged, too large or holds anything but numbers.
    """
    check_file(path)
    with path.open("rb") as file:
        return from_arrays(_read_npy(file, path.stat().st_size, shown(path)), name=name)


def load_npz(path: Path, name: str) -> Dataset:
    """The arrays x (or data, images), y (or labels) and classes of an .npz file.

    Raises:
        BadInput: as :func:`load_npy`, and when no array has such a name or a member points out of the archive.
    """
    check_file(path)
    members = _read_npz(path)
    x_key = _member(members, DATA_KEYS) or (next(iter(members)) if len(members) == 1 else None)
    if x_key is None:
        raise BadInput(
            f"{shown(path)} holds {', '.join(members) or 'nothing'}; expected an array named x, data or images. Rename it."
        )
    labels = members.get(_member(members, LABEL_KEYS) or "")
    return from_arrays(members[x_key], labels, name=name, classes=tuple(map(str, members.get("classes", ()))))


def _member(members: dict[str, AnyArray], known: Sequence[str]) -> str | None:
    return next((key for key in known if key in members), None)


def _read_npz(path: Path) -> dict[str, AnyArray]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {_plain_name(info, path): _read_member(archive, info, path) for info in archive.infolist()}
    except BadInput:
        raise
    except UNREADABLE as error:
        raise BadInput(f"{shown(path)} is no whole .npz archive: {error}. Write it anew with numpy.savez.") from error


def _plain_name(info: zipfile.ZipInfo, path: Path) -> str:
    """Nothing is ever extracted, but an archive that tries to leave its folder is not to be trusted with its numbers either."""
    key = info.filename.removesuffix(".npy")
    if not key.isidentifier() or not info.filename.endswith(".npy"):
        raise BadInput(
            f"{shown(path)} has a member {shown(info.filename)!r}; expected names such as x.npy. Write it anew with numpy.savez."
        )
    return key


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> AnyArray:
    what = f"{shown(path)}[{info.filename}]"
    check_size(info.file_size, what)
    with archive.open(info) as file:
        return _read_npy(file, info.file_size, what)


def _read_npy(file: IO[bytes], size: int, what: str) -> AnyArray:
    """The array, after comparing what its header promises with the bytes that follow it."""
    try:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(file)
    except UNREADABLE as error:
        raise BadInput(f"{what} is no NumPy array: {' '.join(str(error).split())}. Write it with numpy.save.") from error
    if dtype.hasobject or dtype.kind not in "fiubUS":
        raise BadInput(f"{what} holds {dtype}; expected plain numbers, since objects can run code. Convert with .astype(float).")
    need = math.prod(shape) * dtype.itemsize
    if need != size - file.tell() or min(shape, default=0) < 0:
        raise BadInput(
            f"{what} promises {need} bytes as {shape} {dtype} but holds {size - file.tell()}. Write it anew with numpy.save."
        )
    values = np.frombuffer(file.read(need), dtype)
    return values.reshape(shape, order="F" if fortran else "C")
