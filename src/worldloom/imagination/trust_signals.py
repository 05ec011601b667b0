"""What can be told of a start before anything of what follows is known: how familiar it is, and how sure its dream.

Every signal is the logarithm of a positive number that grows with strangeness:

``features``        distance to training starts in the model's own features after the prompt
``features_off``    length of what those features hold beyond what training starts differ in
``pictures``        distance to training starts in simple statistics of the prompt's pictures
``motion``          distance to training starts in how what is seen accelerates; not told by fewer than three frames
``surprise_k``      how badly the model predicts the prompt's k-th last frame from those before it, over the picture
``surprise_spot_k`` the same where it is worst, in a block of the picture
``disagreement``    how far two dreams with different seeds part; not told by a sampler that dreams the same for all
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worldloom.contract import Segment, State, WorldloomError, WorldModel
from worldloom.imagination.rollout import absorb, given_once, imagine
from worldloom.imagination.trust_motion import FINEST, Motion

FROM_STATE = ("features", "features_off")
"""Signals that a state alone tells; the others need the prompt's pictures."""
AHEAD = 2
"""Frames of the prompt that are predicted one ahead, its last."""
PARTING = 12
"""Frames of the two dreams that are compared."""
NEIGHBOURS = 5
AXES = 16
"""Principal directions of the features in which distances are taken; the rest counts as ``features_off``."""
WIDE = 1024
"""Features beyond this number are folded down to it, with fixed signs (count sketch, Charikar, Chen and Farach-Colton
2002), which keeps distances on average."""
GREY = 1.0
"""Differences of pictures below one grey level are no differences."""
FLOOR = 0.05
"""A direction of the features has at least this share of the widest one's spread."""


@dataclass(frozen=True)
class Space:
    """Training starts as points: distances are taken along the axes in which they differ, each by its spread."""

    mean: np.ndarray
    """(D,)."""
    axes: np.ndarray
    """(A, D) orthonormal rows."""
    spread: np.ndarray
    """(A,) standard deviation along each, floored."""
    points: np.ndarray
    """(N, A), whitened."""

    @classmethod
    def fit(cls, x: np.ndarray, axes: int, least: float) -> Space:
        """Of training starts (N, D). ``least``: floor of the spread along an axis."""
        x = fold(x)
        mean = x.mean(0)
        _, values, rows = np.linalg.svd(x - mean, full_matrices=False)
        kept = rows[:axes]
        sd = values[:axes] / np.sqrt(max(len(x) - 1, 1))
        spread = np.maximum(sd, max(least, FLOOR * float(sd.max(initial=0.0)), 1e-6))
        return cls(mean, kept, spread, (x - mean) @ kept.T / spread)

    def distance(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of (B, D): mean distance to the nearest training starts (B,), and length off all axes (B,)."""
        away = fold(x) - self.mean
        along = away @ self.axes.T
        off = np.sqrt(np.square(away - along @ self.axes).sum(1))
        each = np.sqrt(np.square((along / self.spread)[:, None] - self.points[None]).sum(-1))
        near = np.sort(each, 1)[:, : min(NEIGHBOURS, each.shape[1])]
        return near.mean(1), off


def fold(x: np.ndarray) -> np.ndarray:
    """(B, D) float64 of at most :data:`WIDE` columns."""
    x = np.asarray(x, np.float64)
    if x.shape[1] <= WIDE:
        return x
    at = np.arange(x.shape[1], dtype=np.uint64)
    sign = 1.0 - 2.0 * (((at * np.uint64(2654435761)) >> np.uint64(17)) & np.uint64(1)).astype(np.float64)
    wide = -(-x.shape[1] // WIDE) * WIDE
    padded = np.pad(x * sign, ((0, 0), (0, wide - x.shape[1])))
    return padded.reshape(len(x), -1, WIDE).sum(1)


@dataclass(frozen=True)
class Looks:
    """What is looked at in B starts; what is None can't be told."""

    features: np.ndarray | None = None
    """(B, D) the model's features after the prompt."""
    shown: np.ndarray | None = None
    """(B, P, C, H, W) uint8, the prompt."""
    ahead: np.ndarray | None = None
    """(B, k, C, H, W) uint8, its last k frames, each predicted from the true ones before it."""
    dreams: tuple[np.ndarray, np.ndarray] | None = None
    """Two dreams (B, T, C, H, W) uint8 of the same future."""


def statistics(shown: np.ndarray) -> np.ndarray:
    """(B, F) of prompts (B, P, C, H, W): each colour's mean, median, spread and extremes, and how fast pictures change.

    In grey levels. The changes are the root mean squares of the last first and second differences in time.
    """
    x = shown.astype(np.float32)
    over = (1, 3, 4)
    parts = [x.mean(over), np.median(x, over), x.std(over), x.min(over), x.max(over)]
    for order in (1, 2):
        if x.shape[1] > order:
            parts.append(np.sqrt(np.square(np.diff(x[:, -order - 1 :], order, 1)).mean((1, 2, 3, 4)))[:, None])
    return np.concatenate(parts, 1).astype(np.float64)


def pooled(x: np.ndarray) -> np.ndarray:
    """Means over blocks of 4x4 pixels (or what the picture has) of (..., H, W)."""
    *lead, height, width = x.shape
    tall, wide = min(4, height), min(4, width)
    cut = x[..., : height // tall * tall, : width // wide * wide]
    return cut.reshape(*lead, height // tall, tall, width // wide, wide).mean((-3, -1))


@dataclass(frozen=True)
class Familiar:
    """Training starts, as far as signals compare with them."""

    features: Space | None
    pictures: Space
    motion: Motion | None = None
    """None where prompts are shorter than three frames."""

    @classmethod
    def fit(cls, features: np.ndarray | None, shown: np.ndarray) -> Familiar:
        """Of training starts: features (N, D), prompts (N, P, C, H, W)."""
        seen = statistics(shown)
        known = None if features is None else Space.fit(features, AXES, 0.0)
        return cls(known, Space.fit(seen, seen.shape[1], GREY), Motion.fit(shown))

    def signals(self, looks: Looks) -> dict[str, np.ndarray]:
        """Signal name to (B,) float64, in a fixed order."""
        out: dict[str, np.ndarray] = {}
        if looks.features is not None and self.features is not None:
            out["features"], out["features_off"] = self.features.distance(looks.features)
        if looks.shown is not None:
            out["pictures"] = self.pictures.distance(statistics(looks.shown))[0]
            if self.motion is not None:
                out["motion"] = self.motion.distance(looks.shown) + FINEST
            if looks.ahead is not None:
                wrong = looks.ahead.astype(np.float32) - looks.shown[:, -looks.ahead.shape[1] :]
                for k in range(1, wrong.shape[1] + 1):
                    out[f"surprise_{k}"] = np.sqrt(np.square(wrong[:, -k]).mean((1, 2, 3))) + 0.1 * GREY
                    out[f"surprise_spot_{k}"] = np.abs(pooled(wrong[:, -k])).max((1, 2, 3)) + GREY
        if looks.dreams is not None:
            apart = looks.dreams[0].astype(np.float32) - looks.dreams[1]
            out["disagreement"] = np.sqrt(np.square(apart).mean((1, 2, 3, 4))) + 0.1 * GREY
        return {name: np.log(np.maximum(x.astype(np.float64), 1e-6)) for name, x in out.items()}


def in_pieces(rows: int, make: Callable[[slice], np.ndarray], size: int = 32) -> np.ndarray:
    """``make(rows)`` piece by piece, joined: memory stays flat."""
    return np.concatenate([make(slice(i, min(i + size, rows))) for i in range(0, rows, size)])


def features_after(model: WorldModel, prompt: Segment, seed: int = 0) -> np.ndarray:
    """(B, D) float64: the model's features once it has seen the prompt (B, P, ...)."""

    def some(rows: slice) -> np.ndarray:
        piece = prompt.rows(rows)
        once = given_once(model.spec, piece.to(model.device).control)
        with torch.inference_mode():
            return features_of(model, absorb(model, model.start(piece.batch, seed, once), piece))

    return in_pieces(prompt.batch, some)


def features_of(model: WorldModel, state: State) -> np.ndarray:
    """(B, D) float64 of states."""
    was = model.training
    model.eval()
    try:
        with torch.inference_mode():
            return model.features(state).cpu().double().numpy()
    finally:
        model.train(was)


def look(
    model: WorldModel, prompt: Segment, control: Mapping[str, Tensor], camera: str, frames: int, seed: int = 0
) -> Looks:
    """Look at starts (B, P, ...). frames: of two dreams that are compared, with the first of the controls
    (B, >= frames, ...) of what is to be dreamed; 0 for none."""
    given = {n: x for n, x in control.items() if n in model.spec.given and model.spec.given[n].per == "frame"}
    lacking = sorted(n for n, c in model.spec.given.items() if c.per == "frame" and n not in given and frames)
    short = sorted(n for n, x in given.items() if x.shape[1] < frames)
    if lacking or short:
        raise WorldloomError(
            f"A bound depends on what is done: it needs the controls {lacking or short} of the {frames} frames to come "
            f"or more, found {'none' if lacking else [int(given[n].shape[1]) for n in short]}."
        )
    given = {n: x[:, :frames] for n, x in given.items()}

    def dreamt(draws: int) -> np.ndarray:
        return imagine(model, prompt, given or None, frames, seed=draws).obs[camera].cpu().numpy()

    length = prompt.length
    ahead = None
    if (count := min(AHEAD, length - 1)) > 0:
        tail = prompt.time(slice(length - count, None))
        begin = prompt.time(slice(0, length - count))
        dream = imagine(model, begin, None, count, mode="teacher", observe_every=1, truth=tail, seed=seed)
        ahead = dream.obs[camera].cpu().numpy()
    dreams = (dreamt(seed), dreamt(seed + 1)) if frames else None
    return Looks(features_after(model, prompt, seed), prompt.obs[camera].cpu().numpy(), ahead, dreams)
