"""Videos from pictures and clips, ball by ball against the exact world: on from a clip, back from it, and between two.

A true video is also the true past of its own end: what a clip is extended backward to is held against the frames that
came before, as forward against those that came after.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.sora.asked import FRAMES, PROMPT, STEPS
from benchmarks.sora.dreams import Asked, Played
from worldloom.evaluation.blobs import Scene
from worldloom.evaluation.statistics import bootstrap
from worldloom.evaluation.tracking import track_clip
from worldloom.worlds.balls.captions import COLOURS

AT = (1, 5, 10)
JOINT = {"table": "joint", "steps": STEPS}
NEXT = {"table": "autoregressive", "steps": 1}
MIDDLE = (FRAMES // 2 - 1, FRAMES // 2)


def paths(video: np.ndarray, true: Played, row: int, asked: Asked, start: int, order: slice, known: bool) -> np.ndarray:
    """(frames, K, 2) px: where the balls of one video (T, 3, H, W) are, followed from where they truly are at frame
    ``start``, in an ``order`` of the frames; NaN where they are lost. ``known``: so is the velocity there."""
    radius = true.truth["radius"][row, start]
    there = np.isfinite(radius)
    mass = np.pi * radius[there] ** 2
    colour = np.array(COLOURS[true.meanings[row].colour or ""], np.float64)
    ground = np.broadcast_to(np.array(asked.world.background, np.float32)[:, None, None], video.shape[1:]).copy()
    contrast = float(np.linalg.norm(colour - np.array(asked.world.background)))
    scene = Scene(ground, contrast, mass, np.tile(colour, (len(mass), 1)), mass)
    way = -1.0 if order.step == -1 else 1.0
    velocity = way * true.truth["velocity"][row, start][there] if known else None
    at = true.truth["position"][row, start][there]
    return track_clip(np.ascontiguousarray(video[order]), scene, at, velocity).position[:, : len(mass)]


def distances(
    video: np.ndarray, true: Played, asked: Asked, start: int, order: slice, known: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every ball of every video the distance from the truth (m, frames), px, the diagonal where it is lost; the
    clip it is of (m,); and whether it met anything on the way (m,)."""
    diagonal = float(np.hypot(*video.shape[-2:]))
    error, clip, met = [], [], []
    for row in range(len(video)):
        there = np.isfinite(true.truth["radius"][row, start])
        path = paths(video[row], true, row, asked, start, order, known)
        away = np.linalg.norm(path - true.truth["position"][row, order][:, there], axis=-1)
        error.append(np.minimum(np.where(np.isfinite(away), away, diagonal), diagonal).T)
        clip += [row] * int(there.sum())
        walls = true.truth["wall_hits"][row, :, there].sum((1, 2))
        met.append(walls + true.truth["ball_hits"][row, :, there].sum((1, 2)) > 0)
    return np.concatenate(error), np.array(clip), np.concatenate(met)


def median(values: np.ndarray, clips: np.ndarray, seed: int) -> list[float | None]:
    """Median with its interval over clips."""
    if not len(values):
        return [None, None, None]
    low, high = bootstrap(values, clips, "median", seed=seed)
    return [float(np.median(values)), *(float(x) if np.isfinite(x) else None for x in (low, high))]


def at_horizons(error: np.ndarray, clips: np.ndarray, diagonal: float, seed: int) -> dict[str, Any]:
    return {
        "error_px": {str(h): median(error[:, h - 1], clips, seed) for h in AT if h <= error.shape[1]},
        "lost": float((error[:, -1] >= diagonal).mean()),
    }


def straight(true: Played, start: int, before: int, order: slice) -> np.ndarray:
    """(n, frames, K, 2): balls that go straight on from frames ``before`` and ``start``."""
    at = true.truth["position"]
    step = at[:, start] - at[:, before]
    frames = at[:, order].shape[1]
    return at[:, start, None] + step[:, None] * np.arange(1, frames + 1)[None, :, None, None]


def per_ball(positions: np.ndarray, true: Played, start: int, order: slice) -> np.ndarray:
    """(m, frames) distance of foretold positions (n, frames, K, 2) from the truth, of the balls that are there."""
    away = np.linalg.norm(positions - true.truth["position"][:, order], axis=-1).transpose(0, 2, 1)
    return away[np.isfinite(true.truth["radius"][:, start])]


def extension(asked: Asked, n: int) -> dict[str, Any]:
    """On from four frames, and back from four."""
    true = asked.play(asked.meanings(n, 3), FRAMES)
    diagonal = float(np.hypot(*true.frames.shape[-2:]))
    out: dict[str, Any] = {"n": n, "frames": FRAMES, "known": PROMPT}
    sides: dict[str, tuple[str, int, int, slice, np.ndarray]] = {
        "forward": ("first", PROMPT - 1, PROMPT - 2, slice(PROMPT, None), true.frames[:, :PROMPT]),
        "backward": (
            "last", FRAMES - PROMPT, FRAMES - PROMPT + 1, slice(FRAMES - PROMPT - 1, None, -1),
            true.frames[:, -PROMPT:],
        ),
    }  # fmt: skip
    for side, (name, start, before, order, clip) in sides.items():
        rows: dict[str, Any] = {}
        for way, how in (("joint", JOINT), ("next", NEXT), ("next, 8", {**NEXT, "steps": 8})):
            made = asked.dream(true.texts, frames=FRAMES, **{name: clip}, **how)
            error, clips, _ = distances(made, true, asked, start, order)
            rows[way] = at_horizons(error, clips, diagonal, asked.seed)
            print(f"  {side}, {way}: {rows[way]['error_px']}", flush=True)
        error, clips, _ = distances(true.frames, true, asked, start, order)
        rows["true frames"] = at_horizons(error, clips, diagonal, asked.seed)
        on = per_ball(straight(true, start, before, order), true, start, order)
        rows["straight on"] = at_horizons(on, clips, np.inf, asked.seed)
        out[side] = rows
    return out


def picture(asked: Asked, n: int) -> dict[str, Any]:
    """On from one picture, which does not tell the velocity: beside another true video from the same picture."""
    meanings = asked.meanings(n, 4)
    true, other = asked.play(meanings, FRAMES), asked.play(meanings, FRAMES, turn=True)
    diagonal = float(np.hypot(*true.frames.shape[-2:]))
    order = slice(1, None)
    made = asked.dream(true.texts, first=true.frames[:, :1], frames=FRAMES, **JOINT)
    error, clips, _ = distances(made, true, asked, 0, order, known=False)
    apart = per_ball(other.truth["position"][:, 1:], true, 0, order)
    still = per_ball(np.repeat(true.truth["position"][:, :1], FRAMES - 1, 1), true, 0, order)
    return {
        "n": n,
        "rows": {
            "joint": at_horizons(error, clips, diagonal, asked.seed),
            "another true video from that picture": at_horizons(apart, clips, np.inf, asked.seed),
            "standing still": at_horizons(still, clips, np.inf, asked.seed),
        },
    }


def infilling(asked: Asked, n: int) -> dict[str, Any]:
    """Between two clips of two frames, and between two pictures: error of the two frames in the middle."""
    true = asked.play(asked.meanings(n, 5), FRAMES)
    out: dict[str, Any] = {"n": n, "frames": FRAMES, "rows": {}}
    for name, known in (("two clips of two frames", 2), ("two pictures", 1)):
        start, order = known - 1, slice(known, FRAMES - known)
        middle = [m - known for m in MIDDLE]
        made = asked.dream(
            true.texts, first=true.frames[:, :known], last=true.frames[:, -known:], frames=FRAMES, **JOINT
        )
        at = true.truth["position"]
        ends = at[:, start, None], at[:, FRAMES - known, None]
        part = (np.arange(known, FRAMES - known) - start) / (FRAMES - known - start)
        line = ends[0] + (ends[1] - ends[0]) * part[None, :, None, None]
        found = {"joint": distances(made, true, asked, start, order, known > 1)}
        found["true frames"] = distances(true.frames, true, asked, start, order, known > 1)
        _, clips, met = found["joint"]
        found["straight line"] = (per_ball(line, true, start, order), clips, met)
        out["rows"][name] = {
            way: {
                "all": median(error[:, middle].mean(1), clips, asked.seed),
                "with an impact": median(error[met][:, middle].mean(1), clips[met], asked.seed),
                "n": [len(error), int(met.sum())],
            }
            for way, (error, _, _) in found.items()
        }
    return out
