"""A folder of many files that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worldloom.data.episode import DataError
from worldloom.files import sync_folder


@contextmanager
def whole_folder(out: Path, *trouble: type[Exception]) -> Iterator[Path]:
    """A temporary folder beside ``out`` to write to; when the block ends its files are made durable and it becomes
    ``out``, which must be absent or empty. When the block raises, nothing is left behind.

    What the disk says, and what else a writer says of it (``trouble``), becomes a :class:`DataError`.
    """
    folder: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent.resolve()))
        yield folder
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
            else:
                sync_folder(path)
        sync_folder(folder)
        folder.chmod(0o755)
        if out.is_dir():
            out.rmdir()
        folder.replace(out)
        sync_folder(out.parent)
    except Exception as error:
        if not isinstance(error, (OSError, *trouble)):
            raise
        raise DataError(
            f"Can't write {out}: {getattr(error, 'strerror', None) or error}. Free some space or choose a folder you "
            "may write to; nothing was left behind."
        ) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
