"""A run's folder: one trainer at a time, what it was told, and the mark of having finished."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldloom.contract import WorldloomError
from worldloom.files import read_json, write_json
from worldloom.models.saved import MODEL_FILE
from worldloom.training.config import FREE, differences

FORMAT = 1
_OURS = ("checkpoints", "log.jsonl", MODEL_FILE, "summary.json")


def versions() -> dict[str, str]:
    """Versions of what makes a run, for its config.json."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        own = version("worldloom")
    except PackageNotFoundError:  # used from a source tree that was never installed
        own = "unknown"
    return {
        "worldloom": own,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
    }


class RunFolder:
    """The files of one run. Create it, then work inside :meth:`locked`."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config_file = self.path / "config.json"
        self.summary_file = self.path / "summary.json"
        self.model_file = self.path / MODEL_FILE
        self.log_file = self.path / "log.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        self.starts_file = self.path / "starts.safetensors"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process. Another trainer in it is an error that names the process holding it.

        It is a lock of the operating system, which ends with its process however that ends: it is never stale.
        """
        from filelock import FileLock, Timeout

        holder = self.path / ".lock.pid"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock")
            lock.acquire(timeout=0)
        except Timeout as error:
            pid = holder.read_text(encoding="utf-8").strip() if holder.exists() else "unknown"
            raise WorldloomError(
                f"Another trainer (process {pid}) is at work in {self.path}. Wait for it, stop it, or choose another "
                "folder by --out."
            ) from error
        except OSError as error:
            raise WorldloomError(
                f"Can't use {self.path} as a run's folder: {error.strerror or error}. Choose a folder you may write to."
            ) from error
        try:
            holder.write_text(f"{os.getpid()}\n", encoding="utf-8")
            self._sweep()
            yield
        finally:
            with contextlib.suppress(OSError):
                holder.unlink(missing_ok=True)
            lock.release()

    def _sweep(self) -> None:
        """Remove temporary files of writers that were killed; nobody else writes while we hold the lock."""
        for folder in (self.path, self.checkpoints, self.samples):
            for stray in folder.glob(".*.tmp"):
                stray.unlink(missing_ok=True)

    def config(self) -> dict[str, Any] | None:
        """config.json, or None in a fresh folder. A folder with results but no config.json is refused."""
        if self.config_file.exists():
            found = read_json(self.config_file)
            if not isinstance(found, dict) or not {"train", "model", "data", "resolved"} <= found.keys():
                raise WorldloomError(f"{self.config_file} is not the config.json of a run. Choose another --out.")
            if found.get("format") != FORMAT:
                raise WorldloomError(
                    f"{self.config_file} has format {found.get('format')}, this version of worldloom writes {FORMAT}. "
                    "Choose another --out, or go on with the version that began the run."
                )
            return found
        strange = [name for name in _OURS if (self.path / name).exists()]
        if strange:
            raise WorldloomError(
                f"{self.path} holds {', '.join(strange)} but no config.json, so it can't be resumed and would be "
                "overwritten. Choose another --out."
            )
        return None

    def summary(self) -> dict[str, Any] | None:
        """summary.json, which is written last; None unless the run has finished."""
        return read_json(self.summary_file) if self.summary_file.exists() else None

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.json whole or not at all."""
        write_json(self.config_file, config)


def compare_runs(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """In what decides the outcome, how the configuration of a run differs from the one it was begun with."""

    def deciding(config: Mapping[str, Any]) -> dict[str, Any]:
        train = {k: v for k, v in config["train"].items() if k not in FREE}
        data = {"fingerprint": config["data"]["fingerprint"]}
        return {"train": train, "model": config["model"], "data": data, "init": config.get("init")}

    return differences(deciding(old), deciding(new))


def check_same(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path, force: bool) -> list[str]:
    """The differences, if ``force`` allows any; otherwise they are an error that names each."""
    changed = compare_runs(old, new)
    if changed and not force:
        listed = "\n".join(f"  {line}" for line in changed)
        raise WorldloomError(
            f"{folder} was begun with another configuration (begun with -> now):\n{listed}\n"
            "Give what it was begun with to go on, choose another --out, or --force to go on regardless."
        )
    return changed


def version_notes(old: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Say which versions changed since the run began: results then need not be the same to the last bit."""
    changed = differences(old.get("versions", {}), versions())
    if changed:
        say("Versions changed since the run began, so it may differ in the last digits: " + "; ".join(changed))


__all__ = ["RunFolder", "check_same", "compare_runs", "version_notes", "versions"]
