"""Appending episodes so that a crash at any moment harms nothing that was there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from worldloom.contract import Spec, WorldloomError
from worldloom.data.episode import DataError, Episode
from worldloom.data.index import HEADER, INDEX, Index, canonical, make_line, read_header, read_index, write_header
from worldloom.data.layout import ALIGN, Layout, pack
from worldloom.data.shards import Shards, shard_path
from worldloom.files import reason, sweep, sync_folder

LOCK = "writer.lock"
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)


class DatasetWriter:
    """Appends episodes to a dataset, which is made if the folder is new or empty.

    An episode's bytes go to its shard at once; its line enters the index at a *commit*: fsync of the shard, then the
    line, then fsync of the index. A commit happens in :meth:`add` when a second has passed since the last one (so a
    slow producer commits each episode) or 64 MiB wait, in :meth:`flush`, and at the end; with ``commit_seconds=0`` at
    each :meth:`add`.

    Raises :class:`DataError` if another process is writing there, the dataset has another spec, or the disk refuses; in
    the last case the writer can go on once there is space, and nothing earlier is harmed.
    """

    def __init__(
        self,
        path: str | Path,
        spec: Spec,
        info: Mapping[str, Any] | None = None,
        *,
        shard_bytes: int = 2**30,
        commit_seconds: float = 1.0,
        commit_bytes: int = 2**26,
    ):
        self.path, self.spec = Path(path), spec
        self.shard_bytes, self.commit_seconds, self.commit_bytes = shard_bytes, commit_seconds, commit_bytes
        _refuse_foreign(self.path)
        self._lock = _lock(self.path)
        try:
            self._open(dict(info or {}))
        except BaseException:
            self._lock.release()
            raise

    def _open(self, info: dict[str, Any]) -> None:
        _prepare(self.path, self.spec, info)
        found, header = read_header(self.path)
        self.info: dict[str, Any] = header["info"]
        """The dataset's info, as first stored."""
        if found.to_json() != Spec.from_json(self.spec.to_json()).to_json():
            raise DataError(
                f"{self.path} holds episodes of another spec. Found {canonical(found.to_json())}; "
                f"expected {canonical(self.spec.to_json())}. Write to a new folder."
            )
        index = read_index(self.path, self.spec)
        shards = Shards(self.path)
        shards.check(index.extents())
        self._seal, self._size = index.seal, index.size
        self._count, self.frames = len(index.length), int(index.length.sum())
        self._known: tuple[bool, bool] | None = None
        if self._count:
            names = [s.name for s in index.layouts[index.layout[0]]]
            self._known = ("reward" in names, bool(index.terminal[0] >= 0))
        extents = index.extents()
        self._shard = max(extents, default=0)
        self._end = extents.get(self._shard, 0)
        self._pending: list[bytes] = []
        self._waiting = 0
        self._committed_at = -float("inf")
        self._data: int | None = None
        self._closed = self._broken = False
        _cut_orphans(self.path, index)

    def __len__(self) -> int:
        """Number of episodes, those not yet committed among them."""
        return self._count

    def add(self, episode: Episode) -> int:
        """Append an episode and return its number. :class:`DataError` if it does not fit, and nothing is written."""
        if self._closed or self._broken:
            raise DataError(f"The writer of {self.path} is closed{' after an error of the disk' * self._broken}.")
        layout, data = pack(episode, self.spec)
        known = (episode.reward is not None, episode.terminal is not None)
        if self._known not in (None, known):
            raise DataError(
                f"Episodes of {self.path} {_says(self._known)}, this one {_says(known)}. Keep both kinds in separate "
                "datasets, or fill in what is missing."
            )
        if self._end and self._end + len(data) > self.shard_bytes:
            self._commit()
            self._close_data()
            self._shard, self._end = self._shard + 1, 0
        begin = -(-self._end // ALIGN) * ALIGN
        record = self._record(begin, layout, data, episode)
        line, seal = make_line(self._seal, record)
        try:
            self._write(data, begin)
        except OSError as error:
            raise DataError(
                f"Can't write {shard_path(self.path, self._shard)}: {reason(error)}. Free some space; the "
                f"{self._count} episodes before this one are safe."
            ) from error
        self._pending.append(line)
        self._waiting += len(data)
        late = time.monotonic() - self._committed_at >= self.commit_seconds
        if late or self._waiting >= self.commit_bytes:
            try:
                self._commit()
            except DataError:  # as if it had not been added, so that adding it again does not store it twice
                del self._pending[-1:]
                self._waiting -= len(data)
                raise
        self._seal, self._end, self._known = seal, begin + len(data), known
        self._count, self.frames = self._count + 1, self.frames + episode.length
        return self._count - 1

    def _record(self, begin: int, layout: Layout, data: bytearray, episode: Episode) -> dict[str, Any]:
        return {
            "episode": self._count,
            "shard": self._shard,
            "offset": begin,
            "bytes": len(data),
            "length": episode.length,
            "terminal": None if episode.terminal is None else bool(episode.terminal),
            "streams": [[s.name, s.dtype, list(s.shape)] for s in layout],
            "sha256": hashlib.sha256(data).hexdigest(),
            "info": dict(episode.info),
        }

    def _write(self, data: bytearray, begin: int) -> None:
        descriptor = self._descriptor()
        os.lseek(descriptor, begin, os.SEEK_SET)
        _write_all(descriptor, data)

    def _descriptor(self) -> int:
        """The open shard that is being written."""
        if self._data is None:
            path = shard_path(self.path, self._shard)
            path.parent.mkdir(exist_ok=True)
            descriptor = os.open(path, _FLAGS, 0o644)
            try:
                sync_folder(path.parent)
            except BaseException:
                os.close(descriptor)
                raise
            self._data = descriptor
        return self._data

    def flush(self) -> None:
        """Commit: when this returns, every episode that was added is on disk and visible to readers."""
        self._commit()

    def _commit(self) -> None:
        if not self._pending:
            return
        try:
            self._sync(self._descriptor())
            new = not (self.path / INDEX).exists()
            descriptor = os.open(self.path / INDEX, _FLAGS, 0o644)
            try:
                if os.fstat(descriptor).st_size > self._size:  # what an earlier failure could not take back
                    os.ftruncate(descriptor, self._size)
                os.lseek(descriptor, self._size, os.SEEK_SET)
                lines = b"".join(self._pending)
                try:
                    _write_all(descriptor, lines)
                    self._sync(descriptor)
                    if new:
                        sync_folder(self.path)
                except BaseException:
                    with contextlib.suppress(OSError):
                        os.ftruncate(descriptor, self._size)
                    raise
            finally:
                os.close(descriptor)
        except OSError as error:
            raise DataError(
                f"Can't write the index of {self.path}: {reason(error)}. Free some space and go on; "
                f"{len(self._pending)} episodes wait."
            ) from error
        self._size += len(lines)
        self._pending, self._waiting = [], 0
        self._committed_at = time.monotonic()

    def _sync(self, descriptor: int) -> None:
        """fsync. Where it fails a second one may succeed although the bytes are lost, so the writer gives up."""
        try:
            os.fsync(descriptor)
        except OSError as error:
            waiting = len(self._pending)
            self._broken, self._pending = True, []
            raise DataError(
                f"{self.path}: the disk failed to keep what was written ({reason(error)}). {waiting} "
                "episodes are lost, the ones before are safe. See to the disk, then open a new writer."
            ) from error

    def _close_data(self) -> None:
        if self._data is not None:
            os.close(self._data)
            self._data = None

    def close(self) -> None:
        """Commit and let others write. Closing twice is harmless."""
        if self._closed:
            return
        try:
            self._commit()
        finally:
            self._closed = True
            self._close_data()
            self._lock.release()

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit what was added, also when leaving because of an error: each episode is whole."""
        self.close()


def _says(known: tuple[bool, bool] | None) -> str:
    reward, terminal = known or (False, False)
    return (
        f"{'have' if reward else 'lack'} rewards and {'tell' if terminal else 'do not tell'} whether they truly ended"
    )


def _write_all(descriptor: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _lock(folder: Path) -> FileLock:
    """The right to write, held by the operating system for a living process only: a dead owner's lock is free."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
        lock.acquire()
    except Timeout as error:
        raise DataError(f"{folder} is being written by another writer. Wait until it has finished.") from error
    except (OSError, NotImplementedError) as error:
        raise DataError(f"Can't write to {folder}: {error}. Choose a folder that you may write to.") from error
    return lock


def _refuse_foreign(folder: Path) -> None:
    """:class:`DataError` for a folder that holds something else than a dataset (or the beginnings of one)."""
    if not folder.is_dir() or (folder / HEADER).exists():
        return
    others = sorted(p.name for p in folder.iterdir() if p.name != LOCK and not p.name.startswith(f".{HEADER}"))
    if others:
        raise DataError(f"{folder} is not a dataset and not empty (it has {others[0]!r}). Choose a new folder.")


def _prepare(folder: Path, spec: Spec, info: dict[str, Any]) -> None:
    """Write the header of a new dataset; remove what killed writers left."""
    _refuse_foreign(folder)
    sweep(folder)
    if (folder / HEADER).exists():
        return
    try:
        write_header(folder, spec, info, datetime.now(UTC).isoformat(timespec="seconds"))
    except DataError:
        raise
    except WorldloomError as error:
        raise DataError(str(error)) from error


def _cut_orphans(folder: Path, index: Index) -> None:
    """Remove what a crash left behind: a torn line, and bytes of episodes that never entered the index."""
    claimed = index.extents()
    try:
        line = folder / INDEX
        if line.exists() and line.stat().st_size > index.size:
            os.truncate(line, index.size)
        for path in sorted((folder / "shards").glob("*.bin")):
            size = claimed.get(int(path.stem), 0) if path.stem.isdigit() else None
            if size == 0:
                path.unlink()
            elif size is not None and path.stat().st_size > size:
                os.truncate(path, size)
    except OSError as error:
        raise DataError(f"Can't tidy {folder} after a crash: {reason(error)}.") from error
