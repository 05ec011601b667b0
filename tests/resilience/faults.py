"""A disk that refuses: every write operation under a folder is counted, and a chosen one fails.

What Python itself asks of the operating system is met here: opening for writing, writing, flushing, cutting,
renaming, deleting, making folders, changing modes, whether through ``os``, ``open``, ``pathlib`` or ``tempfile``. What
a C library writes by itself (libav, say) is not: for that there is a disk that is full, see ``test_full_disk.py``.

"""

from __future__ import annotations

import builtins
import errno
import io
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldloom.contract import WorldloomError

CODES = (errno.ENOSPC, errno.EACCES, errno.EIO)
REMEDY = re.compile(
    r"Free|Choose|Check|See to|[Rr]estore|[Cc]opy|Give|[Uu]se|[Rr]un|Wait|Delete|delete|open a new writer|Take|Try"
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FULL = frozenset(("open", "write", "mkdir", "rename"))  # what a full disk goes on refusing; deleting it allows


class Disk:
    """Within the context, operations under ``root`` are noted in :attr:`calls`, and the ``fail_at``-th (from 1) fails.

    code: the error it fails with; a write that meets a full disk first writes half. stays: all later ones fail as well,
    as they do on a disk that is full, has become read-only, or is broken.
    """

    def __init__(self, root: Path, fail_at: int = 0, code: int = errno.ENOSPC, stays: bool = False):
        self.root, self.fail_at, self.code, self.stays = os.path.realpath(root), fail_at, code, stays
        self.calls: list[tuple[str, str]] = []
        self._open: dict[int, str] = {}  # descriptor to path
        self._before: list[tuple[Any, str, Any]] = []

    @property
    def failed(self) -> bool:
        """Whether the chosen operation was reached."""
        return 0 < self.fail_at <= len(self.calls)

    def _inside(self, path: Any) -> str | None:
        if isinstance(path, int):
            return self._open.get(path)
        if isinstance(path, (str, os.PathLike)):
            full = os.path.abspath(os.fspath(path))  # noqa: PTH100 - resolve() would read the disk
            return full if full == self.root or full.startswith(self.root + os.sep) else None
        return None

    def strike(self, operation: str, path: str, half: Callable[[], object] = lambda: None) -> None:
        """Note an operation and raise if it is one that shall fail."""
        self.calls.append((operation, os.path.relpath(path, self.root)))
        number = len(self.calls)
        later = self.stays and number > self.fail_at and (self.code != errno.ENOSPC or operation in _FULL)
        if self.fail_at and (number == self.fail_at or later):
            if operation == "write" and self.code == errno.ENOSPC and number == self.fail_at:
                half()
            raise OSError(self.code, os.strerror(self.code), path)

    # ------------------------------------------------------------------------------------------------ the patched calls

    def __enter__(self) -> Disk:
        plain_open, plain_os_open, plain_write, plain_close = io.open, os.open, os.write, os.close
        disk = self

        class Raw(io.FileIO):
            def write(self, data: Any) -> int:
                half = memoryview(data)[: len(data) // 2]
                disk.strike("write", self.name, lambda: super(Raw, self).write(half))
                return super().write(data)

            def truncate(self, size: int | None = None) -> int:
                disk.strike("truncate", self.name)
                return super().truncate(size)

        def open_(
            file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, *rest: Any, **more: Any
        ) -> Any:
            path = disk._inside(file)
            if path is None or not set(mode) & set("wax+"):
                return plain_open(file, mode, buffering, encoding, *rest, **more)
            if not isinstance(file, int):
                disk.strike("open", path)
            raw = Raw(file, mode.replace("b", "").replace("t", ""))
            raw.name = path
            if buffering == 0:
                return raw
            buffered = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding)

        def os_open(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            inside = disk._inside(path)
            if inside is not None and flags & _WRITING:
                disk.strike("open", inside)
            descriptor = plain_os_open(path, flags, *rest, **more)
            disk._open.pop(descriptor, None)
            if inside is not None:
                disk._open[descriptor] = inside
            return descriptor

        def write(descriptor: int, data: Any) -> int:
            inside = disk._inside(descriptor)
            if inside is not None:
                disk.strike("write", inside, lambda: plain_write(descriptor, memoryview(data)[: len(data) // 2]))
            return plain_write(descriptor, data)

        def close(descriptor: int) -> None:
            disk._open.pop(descriptor, None)
            plain_close(descriptor)

        def counted(operation: str, plain: Callable[..., Any]) -> Callable[..., Any]:
            def call(path: Any, *rest: Any, **more: Any) -> Any:
                inside = disk._inside(path)
                if inside is not None:
                    disk.strike(operation, inside)
                return plain(path, *rest, **more)

            return call

        new: list[tuple[Any, str, Any]] = [(os, "open", os_open), (os, "write", write), (os, "close", close)]
        new += [(io, "open", open_), (builtins, "open", open_)]
        groups = {"fsync": "fsync fdatasync", "truncate": "truncate ftruncate", "rename": "rename replace link symlink"}
        groups |= {"mkdir": "mkdir", "unlink": "unlink remove rmdir", "chmod": "chmod fchmod utime"}
        for operation, names in groups.items():
            new += [(os, n, counted(operation, getattr(os, n))) for n in names.split() if hasattr(os, n)]
        for module, name, function in new:
            self._before.append((module, name, getattr(module, name)))
            setattr(module, name, function)
        return self

    def __exit__(self, *error: object) -> None:
        for module, name, function in reversed(self._before):
            setattr(module, name, function)


# --------------------------------------------------------------------------------------------------------- exercises


@dataclass(frozen=True)
class Scenario:
    """Something that writes, and how to tell that nothing went wrong with it."""

    prepare: Callable[[Path], None]
    """Make the folder as it is before."""
    act: Callable[[Path], None]
    """What is tried on the failing disk, and again on a sound one."""
    intact: Callable[[Path], None]
    """Assert, after the failure, that what was there before is whole."""
    outcome: Callable[[Path], Any]
    """What came of it, to be compared with the outcome of a sound disk."""


def litter(folder: Path) -> list[Path]:
    """Temporary files left behind."""
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


def operations(scenario: Scenario, scratch: Path) -> tuple[list[tuple[str, str]], Any]:
    """The write operations of an undisturbed run, and its outcome."""
    work = scratch / "work"
    shutil.rmtree(work, ignore_errors=True)
    scenario.prepare(work)
    shutil.copytree(work, scratch / "before", dirs_exist_ok=True)
    with Disk(work) as disk:
        scenario.act(work)
    assert not litter(work)
    return disk.calls, scenario.outcome(work)


def one_fault(scenario: Scenario, scratch: Path, expected: Any, number: int, code: int, stays: bool) -> bool:
    """Let operation ``number`` fail and check every promise; returns whether it came to an error."""
    work, error = scratch / "work", None
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(scratch / "before", work)
    with Disk(work, number, code, stays) as disk:
        try:
            scenario.act(work)
        except WorldloomError as raised:
            error = raised
    where = f"operation {number} of {len(disk.calls)}, {disk.calls[number - 1 : number]}, {os.strerror(code)}, {stays=}"
    assert disk.failed, where
    if error is not None:
        text = str(error)
        assert str(work) in text, f"{where}: no file is named in: {text}"
        assert os.strerror(code) in text, f"{where}: the cause is missing in: {text}"
        assert REMEDY.search(text), f"{where}: nothing to do about it in: {text}"
        assert "\n" not in text, f"{where}: more than a sentence or two: {text}"
    try:
        scenario.intact(work)
        scenario.act(work)
        found = scenario.outcome(work)
        assert found == expected, f"another outcome: {str(found)[:300]} instead of {str(expected)[:300]}"
        assert not litter(work), litter(work)
    except (AssertionError, WorldloomError) as wrong:
        raise AssertionError(f"{where}, first error {error}: {wrong}") from wrong
    return error is not None


def every_fault(scenario: Scenario, scratch: Path, share: int = 1) -> tuple[int, int]:
    """Each operation in turn fails in each way; of all these cases every ``share``-th is tried.

    Returns the number of cases tried and of errors raised.
    """
    calls, expected = operations(scenario, scratch)
    cases = [(n, code, stays) for n in range(1, len(calls) + 1) for code in CODES for stays in (False, True)]
    chosen = cases[::share]
    errors = sum(one_fault(scenario, scratch, expected, *case) for case in chosen)
    return len(chosen), errors
