"""Error by horizon in three regimes: led by the truth at every frame, at every few frames, and never."""

from __future__ import annotations

import numpy as np
import torch

from worldloom.evaluation.figures import PSNR_CAP, Tracked, track
from worldloom.evaluation.metrics import psnr
from worldloom.evaluation.probes.base import probe
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.schema import Figure

STARTS = 16
"""Starts dreamed again under the truth's lead, unless ``dreams.full``."""


@probe(
    name="regimes",
    about="How much of the error comes from dreaming on from its own frames rather than from the truth?",
)
def regimes(dreams: Dreams) -> dict[str, Figure]:
    """See docs/probes/regimes.md."""
    few = dreams if dreams.full or len(dreams) <= STARTS else _first(dreams, STARTS)
    stretch = max(2, dreams.trained_frames // 2)
    camera, rows = dreams.camera, slice(0, len(few))
    led = {
        "teacher": dreams.dream(rows=rows, mode="teacher", every=1)[camera],
        "sliding": dreams.dream(rows=rows, mode="teacher", every=stretch)[camera],
        "free": few.dreamed[camera],
    }
    words = {
        "teacher": "Teacher-forced: every frame is predicted one ahead of the true history.",
        "sliding": f"Sliding: stretches of {stretch} frames, each begun from the true history.",
        "free": "Free: on its own frames from the prompt on.",
    }
    real = torch.from_numpy(few.real[camera].copy())
    last = torch.from_numpy(few.shown[camera][:, -1:].copy()).expand_as(real)
    still = psnr(real, last, PSNR_CAP).cpu().double().numpy()
    alike = {n: psnr(real, torch.from_numpy(x.copy()), PSNR_CAP).cpu().double().numpy() for n, x in led.items()}
    out = {
        f"psnr_{name}_db": few.figure(
            values,
            title=f"PSNR, {name}",
            unit="dB",
            better="higher",
            meaning=words[name],
            floor=np.full_like(values, PSNR_CAP),
            baselines={"copy_last": still},
            blind_to="Small things that matter: where most of a frame is background, erasing an object costs little.",
        )
        for name, values in alike.items()
    }
    out["own_frames_cost_db"] = few.figure(
        alike["teacher"] - alike["free"],
        title="What its own frames cost",
        unit="dB",
        better="lower",
        meaning="PSNR led by the truth at every frame less that of the free dream, start by start: what goes wrong "
        "because errors feed on errors, and not because one frame ahead is hard to tell.",
        floor=np.zeros_like(alike["free"]),
        blind_to="A model that is as bad one frame ahead.",
    )
    if "position" in few.truth and few.truth["position"].ndim == 4:
        out |= _positions(few, led, words)
    return out


def _first(dreams: Dreams, count: int) -> Dreams:
    """The same dreams, of the first ``count`` starts."""
    rows = slice(0, count)
    return dreams.of(dreams.held.rows(rows), {name: x[rows] for name, x in dreams.dreamed.items()})


def _positions(dreams: Dreams, led: dict[str, np.ndarray], words: dict[str, str]) -> dict[str, Figure]:
    where = np.concatenate([dreams.truth_shown["position"], dreams.truth["position"]], 1).astype(np.float64)
    shown, real = dreams.shown[dreams.camera], dreams.real[dreams.camera]
    found: dict[str, Tracked] = {name: track(shown, real, frames, where) for name, frames in led.items()}

    def mean(x: np.ndarray) -> np.ndarray:  # over the objects of a start
        return np.asarray(x.mean(2))

    out = {}
    for name, one in found.items():
        baselines = {"copy_last": mean(one.still)}
        if one.straight is not None:
            baselines["constant_velocity"] = mean(one.straight)
        out[f"position_{name}_px"] = dreams.figure(
            mean(one.error),
            title=f"Position error, {name}",
            unit="px",
            better="lower",
            statistic="median",
            meaning=f"{words[name]} Mean over the objects of a start, a lost one counting as the frame's diagonal; "
            "median over the starts. The floor is the tracker's error on the true frames.",
            floor=mean(one.floor),
            baselines=baselines,
            blind_to="Which of two objects is which, where they look alike.",
        )
    return out
