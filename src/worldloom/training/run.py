"""A run's folder: one trainer at a time, what it was told, and the mark of having finished."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldloom.contract import WorldloomError
from worldloom.files import DamagedFileError, read_json, reason, sweep, write_json
from worldloom.models.saved import MODEL_FILE, same_family
from worldloom.training.checkpoints import newest_valid
from worldloom.training.config import FREE, differences
from worldloom.training.init import INIT_FILE

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
        self.init_file = self.path / INIT_FILE
        self.starts_file = self.path / "starts.safetensors"
        self.written: dict[str, Any] = {}
        """What :meth:`write_config` wrote last."""

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
            raise WorldloomError(
                f"Another trainer ({_who(holder)}) is at work in {self.path}. Wait for it, stop it, or choose another "
                "folder by --out."
            ) from error
        except NotImplementedError as error:
            raise WorldloomError(f"Can't lock {self.path} ({error}). Choose a folder on a local disk.") from error
        except OSError as error:
            raise WorldloomError(
                f"Can't use {self.path} as a run's folder: {reason(error)}. Choose a folder you may write to."
            ) from error
        try:
            with contextlib.suppress(OSError):  # it only makes a message better
                holder.write_text(json.dumps(_self()) + "\n", encoding="utf-8")
            for folder in (self.path, self.checkpoints, self.samples):
                sweep(folder)
            yield
        finally:
            with contextlib.suppress(OSError):
                holder.unlink(missing_ok=True)
            lock.release()

    def config(self, say: Callable[[str], None] = print) -> dict[str, Any] | None:
        """config.json, or None in a fresh folder. A folder with results but no config.json is refused.

        A damaged one is told of by ``say`` and answered by the copy in the newest whole checkpoint.
        """
        if self.config_file.exists():
            try:
                found = read_json(self.config_file, sealed=True)
            except DamagedFileError as error:
                checkpoint = newest_valid(self.checkpoints, say)
                if checkpoint is None or "config" not in checkpoint.meta:
                    raise
                found = checkpoint.meta["config"]
                say(f"{error} Its copy in the checkpoint of step {checkpoint.step} is used.")
            sections = ("train", "model", "data", "resolved", "versions")
            if not isinstance(found, dict) or not all(isinstance(found.get(name), dict) for name in sections):
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
        return read_json(self.summary_file, sealed=True) if self.summary_file.exists() else None

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.json whole or not at all. Checkpoints keep a copy (:attr:`written`)."""
        self.written = dict(config)
        write_json(self.config_file, config, sealed=True)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json, the mark of having finished."""
        write_json(self.summary_file, summary, sealed=True)

    def forget_summary(self) -> None:
        """Delete summary.json: the run goes on."""
        try:
            self.summary_file.unlink(missing_ok=True)
        except OSError as error:
            raise WorldloomError(
                f"Can't delete {self.summary_file}, the mark of a finished run: {reason(error)}. Choose a folder you "
                "may write to."
            ) from error


def _self() -> dict[str, Any]:
    """What tells this process from all others, also from a later one that is given its number again."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "began": _began(os.getpid())}


def _began(pid: int) -> str | None:
    """When a process began, in the system's own units; None where the system does not say, or there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return stat.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:  # another user's
        return True
    except (OSError, OverflowError):
        return False
    return True


def _who(holder: Path) -> str:
    """The process that holds a lock, by what it wrote down; "its number is not known" where that is of another one."""
    try:
        found = json.loads(holder.read_text(encoding="utf-8"))
        pid, host, began = int(found["pid"]), str(found["host"]), found["began"]
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return "its number is not known"
    if host != socket.gethostname():
        return f"process {pid} on {host}"
    dead = os.name == "posix" and not _lives(pid)
    if dead or (began is not None and began != _began(pid)):  # left by one that was killed
        return "its number is not known"
    return f"process {pid}"


def compare_runs(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """In what decides the outcome, how the configuration of a run differs from the one it was begun with."""

    def deciding(config: Mapping[str, Any]) -> dict[str, Any]:
        train = {k: v for k, v in config["train"].items() if k not in FREE}
        data = {"fingerprint": config["data"]["fingerprint"]}
        for number, part in enumerate(config["data"].get("parts", [])):  # of a mixture: what changed in which
            data[str(number)] = {n: part.get(n) for n in ("fingerprint", "share", "reading")}
        return {"train": train, "model": config["model"], "data": data, "init": config.get("init")}

    was, now = deciding(old), deciding(new)
    family = was["model"].get("family") if isinstance(was["model"], dict) else None
    if same_family(str(family), now["model"]["family"]):  # an own class, of a script that was run or of its module
        now["model"] = {**now["model"], "family": family}
    return differences(was, now)


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
