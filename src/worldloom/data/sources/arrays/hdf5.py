"""Arrays in HDF5 files, under the same rules as :mod:`.files`; what leads out of a file is refused.

External links, external storage and virtual datasets make a file read other files, at paths that the data choose.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from worldloom.data.episode import DataError
from worldloom.data.sources.arrays.files import ArrayFile, Leaf, check_size, need

DEPTH, LEAVES = 8, 1_000_000
"""Groups within groups, and arrays in a file, at most."""
_FRAME = re.compile(r"frame_(\d+)_(\w+)")


def refuse_outside(h5py: Any, group: Any, key: str, where: str) -> Any:
    """The object that ``key`` names, None for a soft link; :class:`DataError` if reading it would leave the file."""
    link = group.get(key, getlink=True)
    if isinstance(link, h5py.SoftLink):
        return None
    if not isinstance(link, h5py.HardLink):
        raise DataError(f"{where}: {key} is a link to another file, which is not followed. Save the data themselves.")
    found = group[key]
    if isinstance(found, h5py.Dataset) and (found.is_virtual or found.external):
        raise DataError(
            f"{where}: {key} has its data in other files, which are not opened. Save the data themselves (h5repack, or "
            "read and write it again)."
        )
    return found


def inside(h5py: Any, group: Any, where: str, visit: Callable[[str, Any], None]) -> None:
    """Call ``visit(name, dataset or None)`` for all that lies in ``group``; None stands for a soft link.

    Each object is visited once, however many links lead to it. Raises as :func:`refuse_outside`, and for more than
    :data:`DEPTH` levels or :data:`LEAVES` arrays.
    """
    seen: set[int] = set()

    def walk(group: Any, prefix: str, depth: int) -> None:
        if depth > DEPTH or len(seen) > LEAVES:
            raise DataError(f"{where}: more than {DEPTH} groups within groups, or {LEAVES:,} arrays; expected fewer.")
        for key in group:
            found = refuse_outside(h5py, group, key, where)
            if found is None:
                visit(prefix + key, None)
                continue
            address = int(h5py.h5o.get_info(found.id).addr)
            if address in seen:
                continue
            seen.add(address)
            if isinstance(found, h5py.Group):
                walk(found, f"{prefix}{key}/", depth + 1)
            elif isinstance(found, h5py.Dataset):
                visit(prefix + key, found)

    walk(group, "", 0)


class Hdf5File(ArrayFile):
    """An HDF5 file. Arrays ``frame_0_x``, ``frame_1_x``, ... (one a frame, as in Pearce & Zhu's Counter-Strike data,
    arXiv:2104.04258) are listed as one array ``frame_i_x``."""

    def __init__(self, path: Path, where: str):
        super().__init__(path, where)
        self._h5 = need("h5py", "Reading HDF5")
        self._stacked: set[str] = set()
        self._file: Any = None
        try:
            with self.trouble():
                self._file = self._h5.File(path, "r")
                if "frame_0_x" in self._file:
                    self._list_frames()
                else:
                    inside(self._h5, self._file, where, self._list)
        except BaseException:
            self.close()
            raise

    def _list_frames(self) -> None:
        rows: dict[str, set[int]] = {}
        for key in self._file:
            found = _FRAME.fullmatch(key)
            if found is None:
                self.odd[key] = "is not one of the frames"
            else:
                rows.setdefault(found[2], set()).add(int(found[1]))
        for column, numbers in rows.items():
            name, count = f"frame_i_{column}", len(numbers)
            if numbers != set(range(count)):
                gap = min(set(range(count)) - numbers)
                raise DataError(f"{self.where}: frame_{gap}_{column} is missing, though later frames are there.")
            first = self._frame(column, 0)
            self.leaves[name] = Leaf((count, *first.shape), first.dtype)
            self._stacked.add(name)

    def _frame(self, column: str, number: int) -> Any:
        key = f"frame_{number}_{column}"
        found = refuse_outside(self._h5, self._file, key, self.where)
        if not isinstance(found, self._h5.Dataset) or found.dtype.kind not in "biuf" or found.shape is None:
            raise DataError(f"{self.where}: {key} is not an array of numbers.")
        check_size(self.where, key, Leaf(found.shape, found.dtype), found.id.get_storage_size())
        return found

    def _list(self, name: str, found: Any) -> None:
        if found is None:
            self.odd[name] = "is a soft link, which is not followed"
        elif found.dtype.kind not in "biuf":
            self.odd[name] = f"is of {found.dtype}, not numbers"
        elif not found.shape:
            self.odd[name] = "is a single value"
        else:
            leaf = Leaf(tuple(found.shape), found.dtype)
            check_size(self.where, name, leaf, found.id.get_storage_size())
            self.leaves[name] = leaf

    def _read(self, name: str, start: int, stop: int, lead: int | None) -> np.ndarray:
        leaf = self.leaves[name]
        dtype = leaf.dtype.newbyteorder("=")
        if name in self._stacked:
            column = name.removeprefix("frame_i_")
            out = np.empty((stop - start, *leaf.shape[1:]), dtype)
            for row, number in enumerate(range(start, stop)):
                found = self._frame(column, number)
                if found.shape != leaf.shape[1:]:
                    raise DataError(
                        f"{self.where}: frame_{number}_{column} has the shape {found.shape}, expected {leaf.shape[1:]}."
                    )
                out[row] = found[()]
            return out
        found = self._file[name]
        value: np.ndarray = found[start:stop] if lead is None else found[lead, start:stop]
        return value.astype(dtype, copy=False)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
