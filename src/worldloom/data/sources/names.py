"""Names of files: which ones count, in which order, and how messages print them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

_DIGITS = re.compile(r"(\d{1,18})")  # of longer numbers Python refuses to make one


def natural(name: str) -> tuple[object, ...]:
    """A key by which ``ep2`` sorts before ``ep10``, folder by folder; capitals count where nothing else differs."""

    def one(part: str) -> tuple[object, ...]:
        pieces = ((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in _DIGITS.split(part.casefold()) if p)
        return (*pieces, (-1, 0, part))

    return tuple(map(one, name.split("/")))


def shown(name: str) -> str:
    """The name on one line: what does not print (a newline, a byte that is no UTF-8) is written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name)


def file_part(name: str) -> str:
    """A camera's name as part of a file's name."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)


def hidden(name: str) -> bool:
    """Whether a file or folder of this name is somebody's bookkeeping: ``.git``, ``._x.mp4``, ``__MACOSX``."""
    return name.startswith(".") or name == "__MACOSX"


def files_under(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """All folders, with the names of its files. Hidden ones are left out, links to folders not followed."""
    for at, folders, files in os.walk(folder):
        folders[:] = sorted((f for f in folders if not hidden(f)), key=natural)
        yield Path(at), sorted((f for f in files if not hidden(f)), key=natural)
