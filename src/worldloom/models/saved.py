"""One file that is a whole model: weights, family, configuration and spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldloom.configs import to_json
from worldloom.contract import Spec, WorldloomError, WorldModel
from worldloom.files import DamagedFileError, load_tensors, save_tensors
from worldloom.models import build, family_name

MODEL_FILE = "model.safetensors"


def describe_model(model: WorldModel) -> dict[str, Any]:
    """What is needed, beside weights, to build the model again: JSON."""
    return {"family": family_name(model), "config": to_json(model.config), "spec": model.spec.to_json()}


def save_model(path: Path, model: WorldModel, weights: dict[str, Tensor] | None = None, **extra: Any) -> str:
    """Write a model (or these averaged ``weights`` of it) to one safetensors file; returns its hash."""
    return save_tensors(path, weights or model.state_dict(), {"model": describe_model(model), **extra})


def load_model(path: str | Path, device: str | torch.device = "cpu") -> WorldModel:
    """Read what :func:`save_model` wrote, in evaluation mode. ``path`` is the file or a run's folder.

    Raises :class:`WorldloomError` where there is no model, and :class:`DamagedFileError` where it is damaged.
    """
    path = Path(path)
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.exists():
        what = (
            "has no model.safetensors: it is not a run, or nothing was saved yet" if path.is_dir() else "does not exist"
        )
        raise WorldloomError(f"{path} {what}. Give the folder of a run, as written by `worldloom train`.")
    tensors, meta = load_tensors(file)
    if "model" not in meta:
        raise DamagedFileError(f"{file} holds tensors but no model description; it was not written by worldloom.")
    model = build(meta["model"]["family"], Spec.from_json(meta["model"]["spec"]), meta["model"]["config"])
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise DamagedFileError(f"{file} does not fit its own description: {error}") from error
    return model.to(device).eval()
