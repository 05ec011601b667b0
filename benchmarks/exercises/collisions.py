"""Exercise 1: what a dream makes of free flight, walls, contacts, and of a wall and a ball at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.exercises.starts import EVENT, HORIZON, KINDS, find, took_part
from benchmarks.trust import dreamed
from worldloom.evaluation.objects import followed
from worldloom.evaluation.probes import Dreams, NotMeasurableError
from worldloom.evaluation.probes.contacts import contacts
from worldloom.evaluation.statistics import bootstrap

AFTER = 6
"""Frames after the event from which the outgoing velocity comes."""
FRAMES = (EVENT - 1, EVENT + 2, HORIZON)
"""Dreamed frames at which the position is compared: just before the event, just after it, at the end."""
SHOWN = ("momentum_error", "ghosts", "restitution_error", "penetration_px", "distance_px", "left_out")


def slopes(path: np.ndarray) -> np.ndarray:
    """(n, K, 2) px/frame by least squares over the frames of ``path`` (n, F, K, 2); NaN where any is unknown."""
    t = np.arange(path.shape[1]) - (path.shape[1] - 1) / 2
    return np.einsum("f,nfkx->nkx", t / (t @ t), path)


def paths(dreams: Dreams) -> tuple[np.ndarray, np.ndarray]:
    """(n, T, K, 2) px: where the dream's balls are, followed by motion and looks (NaN: lost), and the true."""
    truth = dreams.truth["position"].astype(np.float64)
    found = [one.position[:, : truth.shape[2]] for one in followed(dreams).dreamed]
    return np.stack(found), truth


def interval(values: np.ndarray, groups: np.ndarray, seed: int) -> list[float] | None:
    """Median with its interval of 95 % over starts; None without values."""
    if not len(values):
        return None
    low, high = bootstrap(values, groups, "median", seed=seed)
    return [float(np.median(values)), float(low), float(high)]


def of_kind(context: dict[str, Any], kind: str, count: int, seed: int) -> dict[str, Any] | None:
    """One row of the table, and the error by frame for the picture; None where the world has no such start."""
    held = find(context["world"], kind, count, seed)
    if held is None:
        return None
    dreams = dreamed(context, held, seed)
    path, truth = paths(dreams)
    part = took_part(held.truth, kind)
    starts = np.broadcast_to(np.arange(len(part))[:, None], part.shape)[part]
    diagonal = float(np.hypot(*held.segment.obs[dreams.camera].shape[-2:]))
    error = np.sqrt(np.square(path - truth).sum(-1))
    error = np.where(np.isfinite(error), np.minimum(error, diagonal), diagonal).transpose(0, 2, 1)[part]  # (m, T)
    late = slice(EVENT, EVENT + AFTER)  # frame EVENT + 1, from 1, is the first after the event
    out, right = slopes(path[:, late])[part], slopes(truth[:, late])[part]
    speed = np.maximum(np.hypot(*right.T), 1e-9)
    off = np.hypot(*(out - right).T) / speed
    known = np.isfinite(off) & (speed > 0.25)
    row = {
        "starts": len(part),
        "balls": int(part.sum()),
        "error_px": {str(h): interval(error[:, h - 1], starts, seed) for h in FRAMES},
        "velocity_error": interval(off[known], starts[known], seed),
        "velocity_of": int(known.sum()),
        "by_frame": [float(x) for x in np.median(error, 0)],
        "lost": float((~np.isfinite(path[:, -1]).all(-1))[part].mean()),
    }
    if kind == "contact" and (figures := _probed(dreams)):
        row["probe"] = {
            name: {"value": f.value, "interval": f.interval, "n": f.n, "floor": f.floor, "unit": f.unit}
            for name, f in ((n, figures[n]) for n in SHOWN)
        }
    return row


def _probed(dreams: Dreams) -> dict[str, Any]:
    """What the report's probe says of these contacts; empty where a hopeless dream shows none."""
    try:
        return dict(contacts.run(dreams))
    except NotMeasurableError as reason:
        print(f"contacts: {reason}")
        return {}


def measure(context: dict[str, Any], count: int, seed: int) -> dict[str, Any]:
    """All kinds of start that the run's world has."""
    rows = {kind: of_kind(context, kind, count, seed) for kind in KINDS}
    return {kind: row for kind, row in rows.items() if row is not None}
