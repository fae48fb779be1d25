"""Tables as data sets: CSV and Parquet, every column a number but the one that names the class."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sixfold.core.dataset import Dataset
from sixfold.core.errors import BadInput, suggest
from sixfold.data.arrays import from_arrays
from sixfold.data.files import check_file, check_size, read, shown

DELIMITERS = ",;\t|"
START = 2**20  # characters in which the first row is looked for
LARGEST = float(np.finfo(np.float32).max)


class Record(NamedTuple):
    """One row of a CSV file and the line on which it ends."""

    line: int
    fields: list[str]


def load_csv(path: Path, name: str, *, label: str | None = None) -> Dataset:
    """The columns of a CSV file as real data.

    The delimiter is the one of comma, semicolon, tab and bar that divides the first row most. The first row is a header when
    none of its fields is a number; otherwise the columns are called 1, 2 and so on.

    Args:
        path: of the file, in UTF-8 with or without a mark at its start.
        name: of the data set.
        label: column that names the class, which is then no part of the data.

    Raises:
        BadInput: naming line and column, when the file is missing, not UTF-8, ragged, or a field is no finite number.
    """
    what = shown(path)
    records = list(_records(_decode(read(path), what), what))
    columns = _header(records[0].fields) if records else None
    rows = records if columns is None else records[1:]
    if not rows:
        raise BadInput(f"{what} has no rows of data; expected one datum a line.")
    columns = columns or [str(i + 1) for i in range(len(rows[0].fields))]
    _refuse_ragged(rows, len(columns), what)
    place = None if label is None else _find(columns, label, what)
    labels = None if place is None else [_label(row, place, columns[place], what) for row in rows]
    keep = [i for i in range(len(columns)) if i != place]
    return from_arrays(_numbers(rows, keep, columns, what), labels, name=name, columns=[columns[i] for i in keep])


def _decode(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{what} is not UTF-8: byte 0x{data[error.start]:02x} in line {line}. Save it as UTF-8.") from error


def _records(text: str, what: str) -> Iterator[Record]:
    """Rows that are not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text, what), strict=True)
    try:
        for fields in reader:
            if fields:
                yield Record(reader.line_num, fields)
    except csv.Error as error:
        raise BadInput(f"{what} is no CSV in line {reader.line_num}: {error}. Mend the quotes there.") from error


def _delimiter(text: str, what: str) -> str:
    """The one that divides the first row most; the comma when several do."""

    def fields(delimiter: str) -> int:
        return len(next(csv.reader(io.StringIO(text[:START], newline=""), delimiter=delimiter), []))

    try:
        return max(DELIMITERS, key=fields)
    except csv.Error as error:
        raise BadInput(f"{what} is no CSV in its first row: {error}. Mend the quotes there.") from error


def _header(fields: Sequence[str]) -> list[str] | None:
    """The first row as names, unless one of its fields is a number."""
    return None if any(_number(field) is not None for field in fields) else [field.strip() for field in fields]


def _number(field: str) -> float | None:
    """Value of a field, not finite as it may be; Python's underscores are not taken."""
    try:
        return None if "_" in field else float(field)
    except ValueError:
        return None


def _refuse_ragged(rows: Sequence[Record], num: int, what: str) -> None:
    for line, fields in rows:
        if len(fields) != num:
            raise BadInput(
                f"{what}, line {line}: {len(fields)} fields; expected {num} as in the first row. Mend or drop that line."
            )


def _find(columns: Sequence[str], label: str, what: str) -> int:
    if columns.count(label) != 1:
        many = "more than one" if label in columns else "no"
        raise BadInput(f"{what} has {many} column {label!r}. {suggest(label, set(columns) - {label})}")
    return columns.index(label)


def _label(row: Record, place: int, column: str, what: str) -> str:
    label = row.fields[place].strip()
    if not label:
        raise BadInput(
            f"{what}, line {row.line}: column {column!r} is empty; expected the name of a class. Fill or drop that line."
        )
    return label


def _numbers(rows: Sequence[Record], keep: Sequence[int], columns: Sequence[str], what: str) -> NDArray[np.float64]:
    """All fields but the labels, (N, D)."""
    table = np.array([_row(row, keep, columns, what) for row in rows])
    bad = np.argwhere(~(np.abs(table) <= LARGEST))  # true for NaN too
    if len(bad):
        row, column = rows[bad[0, 0]], keep[bad[0, 1]]
        raise BadInput(f"{_place(row, column, columns, what)}; expected a finite float32 number. Fill or drop that line.")
    return table


def _row(row: Record, keep: Sequence[int], columns: Sequence[str], what: str) -> list[float]:
    fields = [row.fields[i] for i in keep]
    try:
        if "_" not in "".join(fields):
            return [float(field) for field in fields]
    except ValueError:
        pass
    column = next(i for i in keep if _number(row.fields[i]) is None)
    way = f"Mend or drop it, or name the column of classes: {what}:label={shown(columns[column])}."
    raise BadInput(f"{_place(row, column, columns, what)}; expected a number. {way}")


def _place(row: Record, column: int, columns: Sequence[str], what: str) -> str:
    field = row.fields[column]
    got = shown(field if len(field) <= 40 else field[:37] + "...")
    return f"{what}, line {row.line}, column {shown(columns[column])!r}: got {got!r}"


def load_parquet(path: Path, name: str, *, label: str | None = None) -> Dataset:
    """The columns of a Parquet file as real data; see :func:`load_csv`.

    Raises:
        BadInput: as :func:`load_csv`, and when pyarrow is not installed.
    """
    what = shown(path)
    check_file(path)
    columns = _parquet_columns(path, what)
    names = list(columns)
    place = None if label is None else _find(names, label, what)
    labels = None if place is None else [str(value) for value in columns[names[place]]]
    keep = [column for i, column in enumerate(names) if i != place]
    table = np.stack([_floats(columns[column], column, what) for column in keep], axis=1) if keep else np.empty((0, 0))
    return from_arrays(table, labels, name=name, columns=keep)


def _parquet_columns(path: Path, what: str) -> dict[str, Any]:
    """Each column without a gap, as a pyarrow array."""
    pyarrow, parquet = _pyarrow(what)
    try:
        file = parquet.ParquetFile(path)
        check_size(file.metadata.num_rows * file.metadata.num_columns * 8, what)
        table = file.read().combine_chunks()
    except (pyarrow.ArrowException, OSError) as error:
        raise BadInput(f"{what} is no whole Parquet file: {' '.join(str(error).split())}. Write it anew.") from error
    for column in table.column_names:
        if table[column].null_count:
            row = table[column].is_null().index(True).as_py()
            raise BadInput(f"{what}, row {row}, column {column!r}: missing; expected a value. Fill or drop that row.")
    return {column: table[column] for column in table.column_names}


def _pyarrow(what: str) -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise BadInput(
            f"{what} needs pyarrow, which is not installed. Run pip install 'sixfold[data]', or save it as CSV."
        ) from error


def _floats(column: Any, title: str, what: str) -> Any:
    values = column.to_numpy()
    if values.dtype.kind not in "fiub":
        way = f"Drop it, or name the column of classes: {what}:label={title}."
        raise BadInput(f"{what}, column {title!r}: type {column.type}; expected numbers. {way}")
    return values.astype(np.float64)
