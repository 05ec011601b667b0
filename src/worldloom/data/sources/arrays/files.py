"""Arrays in npz and npy files: listed from their headers, read a slice at a time, and never trusted.

Nothing is unpickled, and sizes that the bytes can't back are refused. :mod:`.hdf5` does the same for HDF5.
"""

from __future__ import annotations

import importlib
import io
import lzma
import struct
import tokenize
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np

from worldloom.contract import WorldloomError
from worldloom.data.episode import DataError

LARGEST_READ = 2**31
"""Bytes that are read at once at most."""
LARGEST_ARRAY, SUSPECT, RATIO = 2**40, 2**26, 500
"""An array of more than ``LARGEST_ARRAY`` bytes, or of more than ``SUSPECT`` bytes that rest in a ``RATIO``-th of that,
is refused: no recording is so large or so dull, but a bomb is."""
OBJECTS = "holds Python objects, which are never unpickled: save it again as plain arrays"
BROKEN = (
    OSError, EOFError, ValueError, TypeError, LookupError, RuntimeError, NotImplementedError, OverflowError,
    MemoryError, RecursionError, SyntaxError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
    lzma.LZMAError,
)  # fmt: skip


@dataclass(frozen=True)
class Leaf:
    """Shape and dtype of an array in a file."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        """Its size when read whole."""
        return prod(self.shape) * self.dtype.itemsize


def check_size(where: str, name: str, leaf: Leaf, stored: int) -> None:
    """Refuse a claimed size that ``stored`` bytes can't back."""
    absurd = leaf.bytes > SUSPECT and leaf.bytes > RATIO * stored
    if min(leaf.shape, default=0) < 0 or leaf.bytes > LARGEST_ARRAY or absurd:
        raise DataError(
            f"{where}: {name} claims the shape {leaf.shape} ({leaf.bytes / 2**30:.1f} GiB) but {stored:,} bytes of the "
            "file hold it: damaged, or made to fill the disk."
        )


class ArrayFile(ABC):
    """The arrays of one file, by name (``/`` between groups). A context manager; for one thread.

    Making one raises :class:`DataError` where the file is damaged, holds a link to elsewhere, or an absurd size.
    """

    def __init__(self, path: Path, where: str):
        self.path, self.where = path, where
        self.leaves: dict[str, Leaf] = {}
        """Arrays of numbers."""
        self.odd: dict[str, str] = {}
        """Name to why it can't be read, for the others."""

    def read(self, name: str, start: int = 0, stop: int | None = None, lead: int | None = None) -> np.ndarray:
        """Rows ``start`` to ``stop`` of an array (of its entry ``lead``, where the first axis counts episodes).

        Native byte order, in memory of its own. :class:`DataError` where the bytes are damaged or missing.
        """
        leaf = self.leaves[name]
        shape = leaf.shape if lead is None else leaf.shape[1:]
        stop = shape[0] if stop is None else stop
        if not 0 <= start <= stop <= shape[0]:
            raise DataError(f"{self.where}: {name} has {shape[0]} rows, {start} to {stop} were asked for.")
        if (stop - start) * prod(shape[1:]) * leaf.dtype.itemsize > LARGEST_READ:
            raise DataError(
                f"{self.where}: {stop - start} rows of {name} take more than {LARGEST_READ >> 30} GiB. Give a smaller "
                "--length, or save it in smaller files."
            )
        with self.trouble(name):
            return self._read(name, start, stop, lead)

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def trouble(self, name: str = "") -> Iterator[None]:
        """Turn whatever a reader says about bad bytes into a :class:`DataError` that names the file."""
        try:
            yield
        except WorldloomError:
            raise
        except BROKEN as error:
            what = f"{name} in it" if name else "it"
            raise DataError(
                f"{self.where}: {what} can't be read, the file is damaged or not what its name says "
                f"({type(error).__name__}: {str(error)[:200]}). Copy it again."
            ) from error

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    @abstractmethod
    def _read(self, name: str, start: int, stop: int, lead: int | None) -> np.ndarray: ...


class NpzFile(ArrayFile):
    """An npz file, or an npy file as one array named ``arr_0``. Compressed arrays are streamed, never held whole, so
    long as they are read from front to back."""

    def __init__(self, path: Path, where: str):
        super().__init__(path, where)
        self._zip: zipfile.ZipFile | None = None
        self._places: dict[str, tuple[str, int, bool]] = {}
        self._handles: dict[str, io.BufferedIOBase] = {}
        self._whole: dict[str, np.ndarray] = {}
        try:
            with self.trouble():
                if path.suffix.lower() == ".npy":
                    size = path.stat().st_size
                    self._list("arr_0", "", size, size)
                    return
                self._zip = zipfile.ZipFile(path)
                for info in self._zip.infolist():
                    name = info.filename.removesuffix(".npy")
                    if info.is_dir():
                        continue
                    if name == info.filename:
                        self.odd[name] = "is not an array"
                    elif info.flag_bits & 1:
                        self.odd[name] = "is encrypted"
                    else:
                        self._list(name, info.filename, info.file_size, info.compress_size)
        except BaseException:
            self.close()
            raise

    def _open(self, member: str) -> io.BufferedIOBase:
        if self._zip is None:
            return self.path.open("rb")
        opened: Any = self._zip.open(member)  # a ZipExtFile, which typeshed only knows as IO[bytes]
        return opened

    def _list(self, name: str, member: str, size: int, stored: int) -> None:
        with self._open(member) as file:
            shape, fortran, dtype = _header(file)
            begin = file.tell()
        if dtype.hasobject:
            self.odd[name] = OBJECTS
            return
        if dtype.kind not in "biuf" or not shape:
            self.odd[name] = f"is {'a single value' if not shape else f'of {dtype}, not numbers'}"
            return
        leaf = Leaf(shape, dtype)
        check_size(self.where, name, leaf, stored)
        if size - begin != leaf.bytes:
            raise DataError(
                f"{self.where}: {name} claims the shape {shape} ({leaf.bytes:,} bytes) but {size - begin:,} bytes are "
                "there: the file is truncated or damaged. Copy it again."
            )
        self.leaves[name], self._places[name] = leaf, (member, begin, fortran)

    def _read(self, name: str, start: int, stop: int, lead: int | None) -> np.ndarray:
        leaf, (member, begin, fortran) = self.leaves[name], self._places[name]
        if fortran and len(leaf.shape) > 1:
            if name not in self._whole:
                if leaf.bytes > LARGEST_READ:
                    raise DataError(f"{self.where}: {name} is stored by columns: save np.ascontiguousarray of it.")
                flat = self._bytes(name, member, begin, prod(leaf.shape), leaf.dtype)
                self._whole[name] = flat.reshape(leaf.shape, order="F")
            whole = self._whole[name] if lead is None else self._whole[name][lead]
            return np.ascontiguousarray(whole[start:stop]).copy()
        shape = leaf.shape[1:] if lead is None else leaf.shape[2:]
        first = start if lead is None else lead * leaf.shape[1] + start
        count = prod(shape)
        place = begin + first * count * leaf.dtype.itemsize
        return self._bytes(name, member, place, (stop - start) * count, leaf.dtype).reshape(stop - start, *shape)

    def _bytes(self, name: str, member: str, place: int, count: int, dtype: np.dtype[Any]) -> np.ndarray:
        handle = self._handles.get(name)
        if handle is None:
            handle = self._handles[name] = self._open(member)
        handle.seek(place)
        out = np.empty(count * dtype.itemsize, np.uint8)
        view, done = out.data, 0
        while done < len(view):
            part = handle.read(min(len(view) - done, 2**24))
            if not part:
                raise EOFError(f"{len(view) - done} bytes are missing")
            view[done : done + len(part)] = part
            done += len(part)
        return out.view(dtype).astype(dtype.newbyteorder("="), copy=False)

    def close(self) -> None:
        """Let go of the file."""
        for handle in self._handles.values():
            handle.close()
        if self._zip is not None:
            self._zip.close()


def _header(file: io.BufferedIOBase) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and dtype, from the head of an npy stream: a literal, which is not evaluated
    further. Format version 3 only adds names of fields in UTF-8, which plain arrays do not have."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"npy format {version}")
    head = io.BytesIO(file.read(2 if version == (1, 0) else 4))
    length = int.from_bytes(head.getvalue(), "little")
    if length > 10_000:
        raise ValueError(f"a header of {length} bytes")
    head = io.BytesIO(head.getvalue() + file.read(length))
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(head)
    return tuple(int(n) for n in shape), bool(fortran), dtype


def need(module: Literal["h5py", "minari"], why: str) -> Any:
    """An optional package, or an error that names the extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise WorldloomError(f"{why} needs {module}: pip install 'worldloom[data]'.") from error
