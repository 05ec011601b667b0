"""Checkpoints to resume from: each one file with its own hash, the newest few kept, damage noticed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from worldloom.contract import WorldloomError
from worldloom.files import DamagedFileError, load_tensors, reason, save_tensors

_NAME = re.compile(r"step_(\d{8,})\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read whole."""

    step: int
    """Updates done when it was written."""
    tensors: dict[str, Tensor]
    """All tensors, by the names they were saved under."""
    meta: dict[str, Any]
    """What else was saved, plain JSON types."""

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under ``prefix/``, without it."""
        start = f"{prefix}/"
        return {name[len(start) :]: x for name, x in self.tensors.items() if name.startswith(start)}


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """(step, file) of every checkpoint in the folder, newest first, without opening any."""
    if not folder.is_dir():
        return []
    found = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    return sorted(((int(m[1]), path) for m, path in found if m), reverse=True)


def save_checkpoint(folder: Path, step: int, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], keep: int) -> Path:
    """Write ``step_<step>.safetensors`` whole or not at all, then delete all but the newest ``keep`` up to this one.

    Old ones go only after the new one is safe on disk. Raises :class:`WorldloomError` where the disk is full or may not
    be written, with every earlier checkpoint untouched.
    """
    path = folder / f"step_{step:08d}.safetensors"
    save_tensors(path, tensors, {**meta, "step": step})
    older = [old for at, old in list_checkpoints(folder) if at < step]
    for old in older[max(0, keep - 1) :]:
        with contextlib.suppress(OSError):  # the new one is safe; what can't be deleted now goes after the next save
            old.unlink(missing_ok=True)
    return path


def newest_valid(folder: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint whose hash is right; None where there is none at all.

    A damaged one is told of in one line by ``say``, put aside as ``*.damaged``, and the one before it is tried. Raises
    :class:`DamagedFileError` when there are checkpoints but none is whole.
    """
    listed = list_checkpoints(folder)
    for step, path in listed:
        try:
            tensors, meta = load_tensors(path)
            if meta.get("step") != step:
                raise DamagedFileError(f"{path} holds step {meta.get('step')}, not the {step} of its name.")
            return Checkpoint(step, tensors, meta)
        except DamagedFileError:
            aside = path.with_name(path.name + ".damaged")
            try:
                path.replace(aside)
                kept = f"kept as {aside.name}"
            except OSError as error:  # a folder that can't be written to: it may stay where it is
                kept = f"can't be put aside: {reason(error)}"
            say(f"Checkpoint {path.name} is damaged ({kept}); trying the one before it.")
        except WorldloomError as error:
            say(f"{error} Trying the checkpoint before it.")
    lost = sorted(p.name for p in folder.glob("*.damaged")) if folder.is_dir() else []
    if listed or lost:
        raise DamagedFileError(
            f"No checkpoint in {folder} can be used: {', '.join(lost) or 'none can be read'}. Put back a copy of one, "
            "or delete that folder to train from the beginning."
        )
    return None


__all__ = ["Checkpoint", "list_checkpoints", "newest_valid", "save_checkpoint"]
