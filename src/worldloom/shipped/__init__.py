"""Models that come with the package: each is the folder of a run beside this file, and is found by its name.

Wherever a run is taken, :func:`resolve` turns what the user gave into a folder. ``manifest.json`` holds the sha256 of
every file; `make checkpoints` writes all of it. Nothing else is ever written here: :func:`home` is for what writes into
a run.
"""

from __future__ import annotations

import difflib
import hashlib
from functools import cache
from pathlib import Path

from worldloom.contract import WorldloomError
from worldloom.files import DamagedFileError, read_json, reason, write_atomic

FOLDER = Path(__file__).parent
MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
"""The file of a run that is copied last: a folder that holds it is whole."""


def manifest() -> dict[str, dict[str, str]]:
    """Name of each shipped model to its files, and each file to its sha256."""
    models: dict[str, dict[str, str]] = read_json(FOLDER / MANIFEST, sealed=True)["models"]
    return models


def resolve(run: str | Path) -> Path:
    """The path that a user means by ``run``: what exists at that path; else the shipped model of that name.

    A path of several parts that does not exist is given back as it is: who reads it has words for that. Raises
    :class:`WorldloomError` where a single word is neither, with the names there are, and
    :class:`~worldloom.files.DamagedFileError` where a shipped file is not as its hash says.
    """
    path = Path(run)
    if path.exists() or len(path.parts) != 1 or path.is_absolute():
        return path
    names = sorted(manifest())
    if path.name in names:
        return _whole(FOLDER / path.name)
    near = difflib.get_close_matches(path.name, names, 1, 0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise WorldloomError(
        f"{path} does not exist, and no shipped model has that name. {hint}Shipped: {', '.join(names)}. Give one of "
        "these, or the folder of a run, as written by `worldloom train`."
    )


def shipped_name(path: Path) -> str | None:
    """Which shipped model a path is; None of any other."""
    own = path.resolve()
    return own.name if own.parent == FOLDER.resolve() and own.name in manifest() else None


def hidden_by(path: Path) -> str:
    """A sentence for who looked in vain for a model in ``path``: it may hide a shipped one of its name. Else empty."""
    if len(path.parts) != 1 or path.name not in manifest():
        return ""
    return f" What lies there hides the shipped model {path.name!r}: rename it, or work in another folder."


def home(run: str | Path, out: str | Path | None = None) -> Path:
    """The folder of a run that may be written into: its own. A shipped model is copied into ``out`` first, by default
    a folder of its name here, which takes its place from then on.

    Raises :class:`WorldloomError` as :func:`resolve` does, and where that folder holds another run.
    """
    path = resolve(run)
    name = shipped_name(path)
    return path if name is None else _copied(_whole(path.resolve()), Path(name if out is None else out))


def _copied(shipped: Path, into: Path) -> Path:
    """Copy a shipped model, or what is missing of it, into a folder. Calibrations that were made there stay."""
    files = manifest()[shipped.name]
    there = {name: _sha256(into / name) for name in files if (into / name).exists()}
    if there.get(WEIGHTS) == files[WEIGHTS]:
        return into
    other = sorted(name for name, found in there.items() if found != files[name])
    if other:
        raise WorldloomError(
            f"{into} holds another run ({', '.join(other)}), so the shipped model {shipped.name!r} can't be copied "
            "there. Give another folder by --out."
        )
    for name in sorted(files, key=lambda name: name == WEIGHTS):
        write_atomic(into / name, (shipped / name).read_bytes())
    return into


@cache
def _whole(folder: Path) -> Path:
    """The folder of a shipped model, all of whose files were compared with their hashes: once a process."""
    for name, expected in manifest()[folder.name].items():
        if _sha256(folder / name) != expected:
            raise DamagedFileError(f"{folder / name} is not as it was shipped. Install worldloom anew.")
    return folder


def _sha256(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except FileNotFoundError as error:
        raise DamagedFileError(f"{file} is missing. Install worldloom anew.") from error
    except OSError as error:
        raise WorldloomError(f"Can't read {file}: {reason(error)}.") from error


__all__ = ["FOLDER", "MANIFEST", "hidden_by", "home", "manifest", "resolve", "shipped_name"]
