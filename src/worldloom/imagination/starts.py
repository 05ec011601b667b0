"""A few held-out starts in one file, so that a run can dream without its data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from worldloom.contract import Segment, WorldloomError
from worldloom.files import DamagedFileError, load_tensors, save_tensors
from worldloom.shipped import hidden_by, resolve

STARTS_FILE = "starts.safetensors"


def save_starts(path: str | Path, segment: Segment, truth: Mapping[str, np.ndarray] | None = None) -> str:
    """Write a segment (B, T, ...) of starts to one file, atomically; returns the file's hash.

    The tensors are named ``obs.<sensor>``, ``control.<name>``, ``first``, ``valid`` and, where known, ``reward``,
    ``terminal`` and ``truth.<name>``, the exact state behind the frames, each (B, T, ...); the metadata's ``once``
    lists the controls without an axis of time.
    """
    tensors = {f"obs.{name}": x for name, x in segment.obs.items()}
    tensors |= {f"control.{name}": x for name, x in segment.control.items()}
    tensors |= {"first": segment.first, "valid": segment.valid}
    tensors |= {n: x for n, x in (("reward", segment.reward), ("terminal", segment.terminal)) if x is not None}
    tensors |= {f"truth.{name}": torch.from_numpy(np.array(x)) for name, x in (truth or {}).items()}
    return save_tensors(Path(path), tensors, {"kind": "starts", "once": sorted(segment.once)})


def load_starts(path: str | Path) -> Segment:
    """Read what :func:`save_starts` wrote. ``path`` is the file, a run's folder that holds ``starts.safetensors``, or
    the name of a shipped model.

    Raises :class:`WorldloomError` where there is no such file or it is something else, and
    :class:`DamagedFileError` where it is damaged.
    """
    return load_starts_and_truth(path)[0]


def load_starts_and_truth(path: str | Path) -> tuple[Segment, dict[str, np.ndarray]]:
    """The same, and the exact state behind its frames, name to (B, T, ...); empty where the file does not tell."""
    file = resolve(path)
    if file.is_dir():
        folder, file = file, file / STARTS_FILE
        if not file.exists():
            raise WorldloomError(
                f"{path} holds no {STARTS_FILE}: it is not a run, or its training has not begun. Give the folder of a "
                f"run, or a prompt of your own.{hidden_by(folder)}"
            )
    tensors, meta = load_tensors(file)
    if meta.get("kind") != "starts":
        raise WorldloomError(f"{file} holds no starts but {sorted(meta) or 'plain tensors'}. Give a {STARTS_FILE}.")

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}

    obs, first, valid = part("obs."), tensors.get("first"), tensors.get("valid")
    if not obs or first is None or valid is None or first.ndim != 2:
        raise DamagedFileError(f"{file} lacks sensors, 'first' or 'valid'; it was not written by save_starts.")
    lead, control, once = tuple(first.shape), part("control."), meta.get("once", [])
    if not isinstance(once, list) or not all(isinstance(name, str) and name in control for name in once):
        raise DamagedFileError(f"{file} does not fit together: its controls given once are {str(once)[:200]}.")
    reward, terminal = tensors.get("reward"), tensors.get("terminal")
    truth = part("truth.")
    flags, frames = [first, valid, terminal], [*obs.values(), valid, reward, terminal, *truth.values()]
    frames += [x for name, x in control.items() if name not in once]
    fits = all(x is None or tuple(x.shape[:2]) == lead for x in frames)
    fits = fits and all(x is None or x.shape[:1] == first.shape[:1] for x in control.values())
    if not fits or any(x is not None and (x.dtype != torch.bool or x.ndim != 2) for x in flags):
        raise DamagedFileError(f"{file} does not fit together: every sensor and control must begin with {lead}.")
    if reward is not None and (reward.ndim != 2 or not reward.is_floating_point()):
        raise DamagedFileError(f"{file} does not fit together: its rewards are {reward.dtype}, {tuple(reward.shape)}.")
    segment = Segment(obs, control, first, valid, reward, terminal, frozenset(once))
    return segment, {name: x.numpy() for name, x in truth.items()}
