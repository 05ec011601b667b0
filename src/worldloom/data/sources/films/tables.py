"""Tables of csv, tsv, parquet, npz and npy as named columns of numbers or text."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worldloom.contract import WorldloomError
from worldloom.data.episode import DataError
from worldloom.data.sources.arrays.files import OBJECTS, NpzFile

SUFFIXES = (".csv", ".tsv", ".parquet", ".npz", ".npy")
"""What can be read as a table."""
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+(e[+-]?\d+)?\s*", re.IGNORECASE)
_TITLES = frozenset({"key", "keys", "button", "buttons", "control", "controls", "move", "command", "choice", "input"})
_TRUTH = {"true": 1, "false": 0}


@dataclass(frozen=True)
class Table:
    """Columns by name: (rows,) int64 or float64, (rows,) object holding str, or (rows, D) numbers (npz, parquet)."""

    where: str
    """What messages call it."""
    columns: dict[str, np.ndarray]
    whole: frozenset[str] = frozenset()
    """Columns of float64 that are so only because whole numbers and blanks stand in them."""

    @property
    def rows(self) -> int:
        """Rows of the longest column (they differ only in npz)."""
        return max((len(c) for c in self.columns.values()), default=0)

    def take(self, rows: np.ndarray) -> Table:
        """Some of the rows."""
        return Table(self.where, {name: c[rows] for name, c in self.columns.items()}, self.whole)


def read_table(path: Path, where: str) -> Table:
    """The table in a file of one of :data:`SUFFIXES`.

    csv: with or without a header; commas, semicolons or tabs; UTF-8; true and false are 1 and 0, an empty cell among
    numbers is NaN. Without a header a column of its own is ``action``, several are ``action_0``, ``action_1``, ...
    (a first one that counts the rows is ``frame``). npz: every array of numbers; npy: ``action``. Nothing is
    unpickled. Raises :class:`DataError` that says what is wrong with the file.
    """
    kind = path.suffix.lower()
    whole: set[str] = set()
    try:
        if kind == ".parquet":
            columns = _parquet(path, whole, where)
        elif kind in (".npz", ".npy"):
            columns = _arrays(path, where)
        else:
            columns = _csv(path.read_bytes(), "\t" if kind == ".tsv" else None, whole, where)
    except OSError as error:
        raise DataError(f"{where}: can't be read: {error.strerror or error}.") from error
    if not columns or not any(map(len, columns.values())):
        raise DataError(f"{where}: the table holds no rows.")
    return Table(where, columns, frozenset(whole))


# ------------------------------------------------------------------------------------------------------------- text


def _csv(data: bytes, delimiter: str | None, whole: set[str], where: str) -> dict[str, np.ndarray]:
    text = _text(data, where)
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{where}: the table is empty.")
    if lines[0].lstrip().startswith("#"):  # how numpy.savetxt writes a header
        text = text.replace("#", "", 1).lstrip()
        lines = [line for line in text.splitlines() if line.strip()]
    if delimiter is None:
        delimiter = next((d for d in "\t;," if d in lines[0]), ",")
        parts = lines[-1].split()
        if delimiter not in lines[0] and len(parts) > 1 and all(map(_is_number, parts)):  # what numpy.savetxt writes
            text, delimiter = "\n".join(" ".join(line.split()) for line in lines), " "
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    rows: list[list[str]] = []
    gaps: list[int] = []
    try:
        for row in reader:
            if len(row) > 1 or any(cell.strip() for cell in row):
                if rows and len(row) != len(rows[0]):
                    raise DataError(
                        f"{where}: line {reader.line_num} has {len(row)} cells, the first line {len(rows[0])}; every "
                        "line of a table has as many."
                    )
                rows.append([cell.strip() for cell in row])
            else:
                gaps.append(len(rows))
    except csv.Error as error:
        raise DataError(f"{where}: line {reader.line_num} can't be read as csv ({error}).") from error
    if rows and len(rows[0]) == 1:
        _put_back(rows, gaps)
    while rows and not any(rows[-1]):  # spreadsheets leave them
        rows.pop()
    if not rows:
        raise DataError(f"{where}: the table is empty.")
    if delimiter == ";":  # then a comma stands where others write a point
        rows = [[c.replace(",", ".") if _DECIMAL_COMMA.fullmatch(c) else c for c in row] for row in rows]
    names, body = _header(rows, where)
    cells = list(zip(*body, strict=True)) if body else [()] * len(names)
    columns: dict[str, np.ndarray] = {}
    for name, column in zip(names, cells, strict=True):
        if name or any(column):  # a delimiter at the end of every line makes a column without name and value
            columns[name] = _column(column)
            filled = [c for c in column if c]
            if 0 < len(filled) < len(column) and _column(filled).dtype == np.int64:
                whole.add(name)
    return columns


def _put_back(rows: list[list[str]], gaps: list[int]) -> None:
    """Blank lines of a table of one column are its empty cells: to skip one would move all that follows by a row.

    ``gaps``: before which row each stood. One after every row is how Windows doubles the ends of lines.
    """
    inner = [g for g in gaps if 0 < g < len(rows)]
    if inner != list(range(1, len(rows))):
        for gap in reversed(inner):
            rows.insert(gap, [""])


def _text(data: bytes, where: str) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{where}: the text is encoded in UTF-16; save it as CSV in UTF-8.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: the text is not in UTF-8 (byte 0x{data[error.start]:02x} at {error.start}); save it as CSV in "
            "UTF-8."
        ) from error
    if "\0" in text:
        raise DataError(f"{where}: holds zero bytes, so it is no text; save it as CSV in UTF-8.")
    return text


def _header(rows: list[list[str]], where: str) -> tuple[list[str], list[list[str]]]:
    """Names of the columns, and the rows below them."""
    first = rows[0]
    words = [cell for cell in first if cell and not _is_number(cell)]
    again = len(first) == 1 and any(row == rows[0] for row in rows[1:])  # a lone column of choices: "left", "left", ...
    if len(first) == 1 and words and not again and not _titled(first[0]) and any(map(_is_word, rows[1:])):
        raise DataError(
            f"{where}: is {first[0]!r} in the first line the name of the column, or the first action? Name the column: "
            "put a line 'action' above, or in its place."
        )
    if words and not again and not all(w.lower() in _TRUTH for w in words):
        twice = sorted({name for name in first if name and first.count(name) > 1})
        if twice:
            raise DataError(f"{where}: two columns are named {twice[0]!r}; give each its own name.")
        return first, rows[1:]
    width = len(rows[0])
    counts = width > 1 and len(rows) > 2 and all(row[0] == str(i) for i, row in enumerate(rows))
    if width - counts == 1:
        return (["frame"] if counts else []) + ["action"], rows
    return (["frame"] if counts else []) + [f"action_{i}" for i in range(width - counts)], rows


def _titled(cell: str) -> bool:
    """Whether the first line of a column of words is surely its name."""
    return cell.casefold().startswith("action") or cell.casefold() in _TITLES


def _is_word(row: list[str]) -> bool:
    return row[0] != "" and not _is_number(row[0]) and row[0].lower() not in _TRUTH


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _column(cells: Sequence[str]) -> np.ndarray:
    """Whole numbers, else numbers (empty is NaN), else text."""
    try:
        return np.array([int(c) for c in cells], np.int64)
    except (ValueError, OverflowError):
        pass
    if all(c.lower() in _TRUTH for c in cells):
        return np.array([_TRUTH[c.lower()] for c in cells], np.int64)
    try:
        return np.array([float(c) if c else np.nan for c in cells], np.float64)
    except ValueError:
        return np.array(cells, dtype=object)


# ----------------------------------------------------------------------------------------------------------- binary


def _arrays(path: Path, where: str) -> dict[str, np.ndarray]:
    with NpzFile(path, where) as file:
        for name, why in file.odd.items():
            if why == OBJECTS or name.casefold().startswith("action"):
                raise DataError(f"{where}: {name} {why}.")
        columns = {name: _plain(file.read(name)) for name in file.leaves}
    if list(columns) == ["arr_0"]:
        columns = {"action": columns["arr_0"]}  # an npy, or an npz whose only array was given no name
    return columns


def _plain(array: np.ndarray) -> np.ndarray:
    """An array in the few dtypes of a column."""
    return array.astype(np.float64 if array.dtype.kind == "f" else np.int64)


def _parquet(path: Path, whole: set[str], where: str) -> dict[str, np.ndarray]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise WorldloomError(f"{where}: reading parquet needs pyarrow: pip install 'worldloom[data]'.") from error
    columns: dict[str, np.ndarray] = {}
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
        for name in table.column_names:
            column = table.column(name).combine_chunks()
            kind = column.type
            if pa.types.is_dictionary(kind):
                column, kind = column.cast(kind.value_type), kind.value_type
            if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
                rows = column.to_pylist()
                if len({None if r is None else len(r) for r in rows}) == 1 and rows[0] is not None:
                    stacked = np.array(rows)
                    if stacked.dtype.kind in "biuf":
                        columns[name] = _plain(stacked)
            elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
                columns[name] = np.array([x or "" for x in column.to_pylist()], dtype=object)
            elif pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
                if column.null_count:
                    whole |= {name} if not pa.types.is_floating(kind) else set()
                    column = column.cast(pa.float64())
                columns[name] = _plain(column.to_numpy(zero_copy_only=False))
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"{where}: can't be read as parquet ({str(error).splitlines()[0]}).") from error
    return columns
