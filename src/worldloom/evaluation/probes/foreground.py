"""PSNR and SSIM where something is: on a frame that is mostly background, plain ones reward erasing all else."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from worldloom.evaluation.figures import PSNR_CAP
from worldloom.evaluation.metrics import weighted_psnr, weighted_ssim
from worldloom.evaluation.probes.base import NotMeasurableError, probe
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.schema import Figure
from worldloom.evaluation.tracker import background

FAINT = 1e-4
"""Weight of a pixel that shows the background, against 1 for the largest difference in colour there can be: so a true
frame without any foreground is compared as a whole."""
LEAST = 8.0
"""Difference from the background, 0 to 255, that some pixel must reach for there to be a foreground."""


@probe(name="foreground", about="How alike are dreamed and true frames where something is?")
def foreground(dreams: Dreams) -> dict[str, Figure]:
    """PSNR and SSIM weighted by how far the true frames are from their background, and how well the masks overlap."""
    camera = dreams.camera
    true, dreamed = dreams.real[camera], dreams.dreamed[camera]
    shown = dreams.shown[camera]
    ground = dreams.once("background", lambda: background(np.concatenate([shown, true], 1)))
    weight = _away(true, ground)
    if float(weight.max()) < LEAST / 255:
        raise NotMeasurableError(
            f"There is no foreground: the true frames differ from their background by {255 * float(weight.max()):.1f} "
            f"of 255 at most, and {LEAST:g} are needed."
        )
    a, b = torch.from_numpy(np.array(true)), torch.from_numpy(np.array(dreamed))
    still = torch.from_numpy(np.array(shown[:, -1:])).expand_as(a)
    empty = torch.from_numpy(ground.round().clip(0, 255).astype(np.uint8)).expand_as(a)
    others = {"copy_last": still, "background": empty}
    counted = weight + FAINT
    blind = "What is dreamed where the true frame shows background: the overlap of masks tells that."

    def decibels(x: Tensor) -> np.ndarray:
        return weighted_psnr(a, x, counted, PSNR_CAP).cpu().double().numpy()

    def likeness(x: Tensor) -> np.ndarray:
        return weighted_ssim(a, x, counted).cpu().double().numpy()

    def overlap(x: Tensor) -> np.ndarray:
        mask = _away(x.numpy(), ground)
        least = LEAST / 255  # below it both show background, alike
        low, high = torch.minimum(weight, mask), torch.maximum(weight, mask)
        kept = high >= least
        both, either = (low * kept).sum((-1, -2)), (high * kept).sum((-1, -2))
        return torch.where(either > 0, both / either.clamp(min=1e-12), 1.0).cpu().double().numpy()

    return {
        "psnr_db": dreams.figure(
            decibels(b), title="Foreground PSNR", unit="dB", better="higher", blind_to=blind,
            baselines={name: decibels(x) for name, x in others.items()},
            meaning="PSNR in which each pixel counts by how far the true frame is there from its background: a ball "
            "that is gone costs what it is worth. Against repeating the prompt's last frame, and against showing "
            "nothing but background.",
        ),
        "ssim": dreams.figure(
            likeness(b), title="Foreground SSIM", better="higher", blind_to=blind,
            baselines={name: likeness(x) for name, x in others.items()},
            meaning="Likeness of local structure (1 is equal), weighted in the same way.",
        ),
        "overlap": dreams.figure(
            overlap(b), title="Overlap of foregrounds", better="higher", share=True,
            baselines={name: overlap(x) for name, x in others.items()},
            blind_to="Colours: both masks are differences from the background, whatever their hue.",
            meaning="Common share of dreamed and true foreground (sum of minima over sum of maxima of both "
            "differences from the background): sees what is missing and what is added.",
        ),
    }  # fmt: skip


def _away(frames: np.ndarray, ground: np.ndarray) -> Tensor:
    """(n, T, H, W) distance in colour from the background, of 1 at most."""
    n, channels = len(frames), frames.shape[2]
    out = np.empty((*frames.shape[:2], *frames.shape[3:]), np.float32)
    for i in range(n):  # a start at a time: floats of all frames at once would fill the memory
        out[i] = np.sqrt(np.square(frames[i].astype(np.float32) - ground).sum(1))
    return torch.from_numpy(out / np.float32(255 * np.sqrt(channels)))


__all__ = ["foreground"]
