"""Shards: numbered files of episodes' bytes, read at any place by any number of threads.

Reads go through ``pread``, not a memory map: it is as fast for whole windows, it lets other threads run, memory stays
flat however much of the data has been seen, and a file cut short under a running training is an error instead of a
signal that kills the process.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from worldloom.data.episode import DataError

_OPEN_AT_ONCE = 128


def shard_path(folder: Path, number: int) -> Path:
    """The file of a shard."""
    return folder / "shards" / f"{number:06d}.bin"


class _File:
    """An open file, closed when its last user lets go of it."""

    def __init__(self, path: Path):
        self.path = path
        self.lock = threading.Lock()
        self.descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # kept here: at the very end ``os`` is gone
        if hasattr(self, "descriptor"):
            close(self.descriptor)

    def read(self, target: memoryview, offset: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self.descriptor, [target], offset)
        with self.lock:  # Windows
            os.lseek(self.descriptor, offset, os.SEEK_SET)
            data = os.read(self.descriptor, len(target))
            target[: len(data)] = data
            return len(data)


class Shards:
    """The shards of one dataset, opened as they are needed."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._files: OrderedDict[int, _File] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, extents: dict[int, int]) -> None:
        """:class:`DataError` unless each shard (number to bytes) is there and long enough."""
        for number, size in extents.items():
            path = shard_path(self.folder, number)
            try:
                found = path.stat().st_size
            except OSError as error:
                raise DataError(
                    f"{path} is missing or unreadable ({error.strerror}). Copy the dataset again."
                ) from error
            if found < size:
                raise DataError(
                    f"{path} is truncated: it has {found:,} bytes, its index needs {size:,}. Copy the dataset again."
                )

    def file(self, number: int) -> _File:
        """The open file of a shard."""
        with self._lock:
            file = self._files.get(number)
            if file is None:
                path = shard_path(self.folder, number)
                try:
                    file = self._files[number] = _File(path)
                except OSError as error:
                    raise DataError(f"Can't open {path}: {error.strerror or error}.") from error
                if len(self._files) > _OPEN_AT_ONCE:
                    self._files.popitem(last=False)
            else:
                self._files.move_to_end(number)
            return file

    def read_into(self, target: memoryview, number: int, offset: int) -> None:
        """Fill ``target`` (bytes) from a shard's ``offset`` on."""
        read(self.file(number), target, offset)


def read(file: _File, target: memoryview, offset: int) -> None:
    """Fill ``target`` from ``offset`` on; :class:`DataError` where the file ends or fails before."""
    done = 0
    try:
        while done < len(target):
            count = file.read(target[done:], offset + done)
            if count == 0:
                raise DataError(f"{file.path} ends at byte {offset + done:,}, inside an episode. Copy it again.")
            done += count
    except OSError as error:
        raise DataError(f"Can't read {file.path}: {error.strerror or error}.") from error
