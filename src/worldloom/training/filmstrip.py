"""Filmstrips during training: what really happened above what the model dreamed, frame by frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from worldloom.contract import Segment, WorldModel


def dreamed_sensor(model: WorldModel) -> str | None:
    """Name of the sensor that a filmstrip shows: the first image, else the first range image.

    None for a model that does not decode, or shows neither.
    """
    shown = model.spec.shown if "decode" in model.capabilities else {}
    return next((n for kind in ("image", "range") for n, s in shown.items() if s.kind == kind), None)


def pictures(real: Tensor, dreamed: Tensor) -> tuple[Tensor, Tensor]:
    """Both as uint8 of one or three channels. real, dreamed: (B, T, C, H, W), uint8 or, for range images, float.

    Range images become grey between the smallest and the largest real value; of two or more than three channels the
    first is shown.
    """
    real, dreamed = real.cpu(), dreamed.cpu()
    if real.is_floating_point():
        low, high = real.amin(), real.amax()
        scale = 255 / (high - low).clamp_min(1e-6)
        real, dreamed = (((x - low) * scale).nan_to_num().clamp(0, 255).to(torch.uint8) for x in (real, dreamed))
    if real.shape[2] not in (1, 3):
        real, dreamed = real[:, :, :1], dreamed[:, :, :1]
    return real, dreamed


def write_filmstrip(path: Path, model: WorldModel, segment: Segment, prompt: int, seed: int = 0) -> Path:
    """Dream the frames after the first ``prompt`` of ``segment`` (B, P+T, ...) and write them as one PNG.

    Each sequence gives two rows, real above dreamed; grey numbers up to 0 mark the frames that were given.
    """
    from worldloom.imagination.rollout import imagine
    from worldloom.imagination.video import filmstrip, write_image

    name = dreamed_sensor(model)
    if name is None:
        raise ValueError("This model dreams no pictures: ask dreamed_sensor() first.")
    rest = segment.time(slice(prompt, None))
    dream = imagine(model, segment.time(slice(0, prompt)), truth=rest, frames=rest.length, seed=seed)
    real, dreamed = pictures(segment.obs[name], dream.obs[name])
    strips = [filmstrip(a, b, prompt) for a, b in zip(real, dreamed, strict=True)]
    return write_image(path, np.concatenate(strips))


__all__ = ["dreamed_sensor", "pictures", "write_filmstrip"]
