"""What actions are worth: dreams with the true actions against dreams with random ones."""

from __future__ import annotations

import numpy as np
import torch

from worldloom.evaluation.figures import PSNR_CAP
from worldloom.evaluation.metrics import psnr
from worldloom.evaluation.objects import followed
from worldloom.evaluation.probes.actions import distance, knows_state, only, played, random_actions, where
from worldloom.evaluation.probes.base import probe
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.schema import Figure

STARTS, FRAMES, DRAWS = 24, 20, 3
"""Of the usual run; the full one takes every start, every frame ..."""
FULL_DRAWS = 5
"""... and so many draws of random actions."""


@probe(actions=True, about="Do dreams come closer to the truth with the true actions than with random ones?")
def action_gain(dreams: Dreams) -> dict[str, Figure]:
    """Δ_t PSNR = PSNR(x_t, x̂_t) − PSNR(x_t, x̂'_t) of Genie (Bruce et al. 2024, section 3), at every t and not at
    t = 4 alone, x̂' dreamed with random actions, same prompt and same noise, mean of several draws. Where objects are
    tracked also Δ_t state = ‖s_t − ŝ'_t‖ − ‖s_t − ŝ_t‖, in px, mean over the objects."""
    starts = len(dreams) if dreams.full else min(len(dreams), STARTS)
    frames = dreams.horizon if dreams.full else min(dreams.horizon, FRAMES)
    frames = min(frames, next(iter(dreams.real.values())).shape[1])
    camera, tracks = dreams.camera, "position" in dreams.truth and "position" in dreams.truth_shown
    real, dreamed = (x[camera][:starts, :frames] for x in (dreams.real, dreams.dreamed))
    exact = knows_state(dreams)
    known = dreams.truth["position"][:starts, :frames] if tracks else None
    gains: dict[str, list[np.ndarray]] = {"psnr": [], "psnr_exact": [], "state": [], "state_exact": []}
    if known is not None:
        tracked = followed(dreams)
        objects = known.shape[2]
        own = distance(_first(tracked.dreamed, starts, frames, objects), known, real.shape).mean(-1)
        floor = distance(_first(tracked.real, starts, frames, objects), known, real.shape).mean(-1)
    for draw in range(FULL_DRAWS if dreams.full else DRAWS):
        given = random_actions(dreams, starts, frames, draw)
        other = dreams.dream({"action": given}, frames, rows=slice(0, starts))[camera]
        gains["psnr"].append(_psnr(real, dreamed) - _psnr(real, other))
        truly = played(dreams, given, frames) if exact else None
        if truly is not None:
            gains["psnr_exact"].append(PSNR_CAP - _psnr(real, truly.frames))
        if known is not None:
            gains["state"].append(distance(where(dreams, other), known, real.shape).mean(-1) - own)
            if truly is not None:
                apart = distance(truly.truth["position"], known, real.shape).mean(-1)
                gains["state_exact"].append(apart - floor)
    some = only(dreams, starts)

    def mean(name: str) -> np.ndarray | None:
        return np.mean(gains[name], 0) if gains[name] else None

    out = {
        "psnr_db": some.figure(
            np.mean(gains["psnr"], 0), ceiling=mean("psnr_exact"), unit="dB", better="higher",
            title="PSNR gained by the true actions",
            meaning="PSNR of dreams with the true actions less that of dreams with uniform random ones, same prompts "
            "and same noise (Genie's Δ PSNR). 0: the model ignores its actions. The ceiling is that of the exact "
            f"world, whose own frames are capped at {PSNR_CAP:g} dB.",
            blind_to="Whether the actions do the right thing: it shows that they matter. It stops growing once the "
            "dream under random actions shares nothing with the truth, and falls as the dream itself goes astray.",
        ),
    }  # fmt: skip
    if gains["state"]:
        out["state_px"] = some.figure(
            np.mean(gains["state"], 0), ceiling=mean("state_exact"), unit="px", better="higher",
            title="Position gained by the true actions",
            meaning="Position error of dreams with random actions less that of dreams with the true ones, mean over "
            "the objects, a lost one at the frame's diagonal. 0: the model ignores its actions. The ceiling is the "
            "exact world's.",
            blind_to="Objects that no action moves: they thin the mean in model and ceiling alike.",
        )  # fmt: skip
    return out


def _psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    x, y = (torch.from_numpy(np.array(x)) for x in (a, b))
    return psnr(x, y, PSNR_CAP).cpu().double().numpy()


def _first(tracks: list, starts: int, frames: int, objects: int) -> np.ndarray:
    """(starts, frames, objects, 2) px."""
    return np.stack([t.position[:frames, :objects] for t in tracks[:starts]])


__all__ = ["action_gain"]
