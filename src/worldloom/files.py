"""Files that are either whole or absent: atomic writes, hashes, and tensors that know when they are damaged."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as _load_bytes
from safetensors.torch import save as _save_bytes
from torch import Tensor

from worldloom.contract import WorldloomError


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
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise WorldloomError(
            f"Can't write {path}: {error.strerror or error}. Free some space or choose a folder you may write to; "
            "what was there before is untouched."
        ) from error
    try:
        sync_folder(path.parent)
    except OSError as error:
        raise WorldloomError(
            f"Wrote {path}, but can't make sure that it survives a power cut: {error.strerror or error}. "
            "Check the disk."
        ) from error


def sync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` durable. Windows has no such call; its renames are journalled."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented, ending in a newline. NaN is refused: it is not JSON."""
    write_atomic(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read JSON, with a :class:`DamagedFileError` that names the file where it can't be read."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WorldloomError(f"{path} does not exist.") from error
    except OSError as error:
        raise WorldloomError(f"Can't read {path}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path} is not valid JSON ({error}). Restore it or make it anew.") from error


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
        raise WorldloomError(f"Can't read {path}: {error.strerror or error}.") from error
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])["__metadata__"]
        meta, digest = json.loads(header["meta"]), header["sha256"]
        tensors = _load_bytes(data)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedFileError(
            f"{path} is truncated or not a worldloom file ({error}). Use another checkpoint or copy it again."
        ) from error
    if not isinstance(meta, dict) or tensors_hash(tensors, meta) != digest:
        raise DamagedFileError(f"{path} is damaged: its contents do not match its hash. Use another checkpoint.")
    return tensors, meta
