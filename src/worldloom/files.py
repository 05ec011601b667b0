"""Files that are either whole or absent: atomic writes, hashes, and tensors that know when they are damaged."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as _load_bytes
from safetensors.torch import save as _save_bytes
from torch import Tensor

from worldloom.contract import WorldloomError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SEAL = 32
"""Hexadecimal digits of the sha256 that seals a JSON file."""
_ABANDONED = 3600.0  # seconds after which a temporary file is nobody's, where the system has no locks


class DamagedFileError(WorldloomError):
    """A file is truncated, altered, or not what its name says."""


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` so that after any crash ``path`` holds either the old bytes or all of the new ones.

    Temporary file in the same folder, fsync, rename, fsync of the folder (where the platform allows it). Raises
    :class:`WorldloomError` naming the file when the disk is full or not writable; the old file is then untouched.
    """
    path = Path(path)
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            _mark_alive(handle)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            if fcntl is not None:  # while it is locked; Windows can't rename an open file
                Path(temporary).replace(path)
        if fcntl is None:
            _rename(Path(temporary), path)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):  # the disk may refuse this too; sweep() gets it later
                Path(temporary).unlink(missing_ok=True)
        raise WorldloomError(
            f"Can't write {path}: {reason(error)}. Free some space or choose a folder you may write to; "
            "what was there before is untouched."
        ) from error
    try:
        sync_folder(path.parent)
    except OSError as error:
        raise WorldloomError(
            f"Wrote {path}, but can't make sure that it survives a power cut: {reason(error)}. Check the disk."
        ) from error


def reason(error: OSError) -> str:
    """What the operating system says, without Python's number and quotes."""
    return error.strerror or str(error) or type(error).__name__


def _rename(temporary: Path, path: Path) -> None:
    """Rename on Windows, which refuses while another process (a virus scanner, say) has either open: for a moment."""
    for wait in (0.02, 0.1, 0.5):
        try:
            temporary.replace(path)
            return
        except PermissionError:
            time.sleep(wait)
    temporary.replace(path)


def _mark_alive(descriptor: int) -> None:
    """Lock a temporary file for as long as it is open, so that :func:`sweep` leaves it alone."""
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def sweep(folder: Path, name: str = "*") -> None:
    """Remove temporary files of killed writers of ``folder``/``name`` (a pattern). Those in use are left alone."""
    for stray in folder.glob(f".{name}.*.tmp"):
        with contextlib.suppress(OSError):
            if _abandoned(stray):
                stray.unlink()


def _abandoned(temporary: Path) -> bool:
    if fcntl is None:
        return time.time() - temporary.stat().st_mtime > _ABANDONED
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def sync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` durable. Windows has no such call; its renames are journalled."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def seal(value: Mapping[str, Any]) -> str:
    """The first digits of the sha256 over a JSON object, in whatever order its fields stand."""
    plain = json.loads(json.dumps(value, allow_nan=False))  # keys as the file has them
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:SEAL]


def write_json(path: Path, value: Any, *, sealed: bool = False) -> None:
    """Write JSON atomically, indented, ending in a newline. NaN is refused: it is not JSON.

    ``sealed``: an object gets one more field, ``check``, by which :func:`read_json` finds any later change.
    """
    if sealed:
        value = {**value, "check": seal(value)}
    write_atomic(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path, *, sealed: bool = False) -> Any:
    """Read JSON, with a :class:`DamagedFileError` that names the file where it can't be read.

    ``sealed``: the field ``check`` of :func:`write_json` is verified and left out (an object without one is taken as
    it is), and what other programs' JSON may hold is refused: NaN, infinite numbers, fields that stand twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        found = parse_json(text) if sealed else json.loads(text)
    except FileNotFoundError as error:
        raise WorldloomError(f"{path} does not exist.") from error
    except OSError as error:
        raise WorldloomError(f"Can't read {path}: {reason(error)}.") from error
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path} is not valid JSON ({error}). Restore it or make it anew.") from error
    if sealed and isinstance(found, dict) and _has_check(found):
        check = found.pop("check", None)
        if check != seal(found):
            raise DamagedFileError(
                f"{path} is damaged: its contents do not match its check. Restore it or make it anew; if you changed "
                "it yourself, take its field 'check' out."
            )
    return found


def _has_check(found: dict[str, Any]) -> bool:
    """Whether an object was sealed: it has a check, or ends with one whose name is damaged."""
    last = next(reversed(found.values()), None)
    return "check" in found or (isinstance(last, str) and re.fullmatch(rf"[0-9a-f]{{{SEAL}}}", last) is not None)


def parse_json(text: str | bytes) -> Any:
    """``json.loads`` that raises ValueError for NaN, infinite numbers, and fields that stand twice."""
    return json.loads(text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_once_each)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large a number")
    return value


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field stands there twice")
    return found


def tensors_hash(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> str:
    """sha256 over names, dtypes, shapes and bytes of all tensors, and over ``meta``."""
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data if value.numel() else b"")
    return digest.hexdigest()


def save_tensors(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> str:
    """Save tensors and JSON-able ``meta`` as one safetensors file with its own hash, atomically. Returns the hash."""
    values = {name: x.detach().cpu().contiguous().clone() for name, x in tensors.items()}
    digest = tensors_hash(values, meta)
    header = {"meta": json.dumps(meta, sort_keys=True), "sha256": digest}
    write_atomic(path, _save_bytes(values, header))
    return digest


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote. Any flipped or missing byte raises :class:`DamagedFileError`."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise WorldloomError(f"{path} does not exist.") from error
    except OSError as error:
        raise WorldloomError(f"Can't read {path}: {reason(error)}.") from error
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])["__metadata__"]
        meta, digest = json.loads(header["meta"]), header["sha256"]
        tensors = _load_bytes(data)
        whole = isinstance(meta, dict) and tensors_hash(tensors, meta) == digest
    except (SafetensorError, ValueError, LookupError, TypeError, RuntimeError, OverflowError) as error:
        raise DamagedFileError(
            f"{path} is truncated or not a worldloom file ({_short(error)}). Use another checkpoint or copy it again."
        ) from error
    if not whole:
        raise DamagedFileError(f"{path} is damaged: its contents do not match its hash. Use another checkpoint.")
    return tensors, meta


def _short(error: Exception, limit: int = 200) -> str:
    text = str(error)
    return text if len(text) <= limit else text[: limit - 3] + "..."
