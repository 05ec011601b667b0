"""What is known of the starts of a report before their dreams are compared with the truth, and their errors after."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldloom.evaluation.heldout import HeldOut
from worldloom.evaluation.objects import followed
from worldloom.evaluation.probes import Dreams
from worldloom.evaluation.tracking import HIDDEN, MERGED, Tracks
from worldloom.imagination.trust_signals import AHEAD, PARTING, Familiar, Looks, features_after

GAP = 5
"""Frames for which an object may be out of sight, as long as it comes back, before it counts as lost."""


@dataclass(frozen=True)
class Measured:
    """n dreams: what was known before, and what went wrong."""

    error: dict[str, np.ndarray]
    """(n, H) by kind: ``position`` of the worst object, px, lost ones as the diagonal; ``pixels``, RMS of 0 to 255."""
    floor: dict[str, np.ndarray]
    """(n, H) the same of the true frames."""
    signals: dict[str, np.ndarray]
    """(n,) by name."""
    groups: np.ndarray
    """(n,) episode."""

    def rows(self, index: np.ndarray) -> Measured:
        """Some of the dreams."""

        def of(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {name: x[index] for name, x in values.items()}

        return Measured(of(self.error), of(self.floor), of(self.signals), self.groups[index])


def looks(dreams: Dreams, frames: int) -> Looks:
    """Look at the starts of these dreams as :func:`~worldloom.imagination.trust_signals.look` does, but ask the
    dreamer, who need not be a model. frames: of the two dreams that are compared, 0 for none."""
    camera, prompt, held = dreams.camera, dreams.prompt, dreams.held
    shown = dreams.shown[camera]
    ahead = None
    if (count := min(AHEAD, prompt - 1)) > 0:
        ahead = dreams.dream(frames=count, held=_within(held, prompt - count), mode="teacher")[camera]
    both = None
    if frames:
        both = (dreams.dreamed[camera][:, :frames], dreams.dream(frames=frames, seed=dreams.seed + 1)[camera])
    features = None
    if dreams.model is not None:
        features = features_after(dreams.model, held.segment.time(slice(0, prompt)), dreams.seed)
    return Looks(features, shown, ahead, both)


def _within(held: HeldOut, prompt: int) -> HeldOut:
    """The same prompts, of which only the first ``prompt`` frames are given, and the rest is to be dreamed."""
    control = {n: held.segment.control[n][:, prompt : held.prompt] for n in held.control}
    return HeldOut(
        held.segment.time(slice(0, held.prompt)),
        {n: x[:, : held.prompt] for n, x in held.truth.items()},
        control,
        held.episodes,
        prompt,
        held.notes,
    )


def errors(dreams: Dreams) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Errors of dreams and of the true frames, (n, H) by kind."""
    real, dreamed = dreams.real[dreams.camera], dreams.dreamed[dreams.camera]
    wrong = np.stack([np.square(a.astype(np.float32) - b).mean((1, 2, 3)) for a, b in zip(real, dreamed, strict=True)])
    error = {"pixels": np.sqrt(wrong.astype(np.float64))}
    floor = {"pixels": np.zeros_like(error["pixels"])}
    where = positions(dreams)
    if where is None:
        return error, floor
    found = followed(dreams)
    diagonal = float(np.hypot(*real.shape[-2:]))
    known = where[:, dreams.prompt :]
    both = [
        np.stack([worst(track, at, diagonal) for track, at in zip(tracks, known, strict=True)])
        for tracks in (found.dreamed, found.real)
    ]
    return {"position": both[0]} | error, {"position": both[1]} | floor


def worst(tracks: Tracks, known: np.ndarray, lost: float) -> np.ndarray:
    """(H,) px, the largest error of the K objects at ``known`` (H, K, 2); ``lost`` for one that is not there.

    An object that is hidden, or out of sight for no more than :data:`GAP` frames, as where two touch, is not compared
    in these frames; with none to compare the error is 0.
    """
    frames, count = known.shape[:2]
    away = np.sqrt(np.square(tracks.position[:frames, :count] - known).sum(-1))
    reason = tracks.reason[:frames, :count]
    for k in range(count):
        gone = ~np.isfinite(away[:, k])
        edges = np.flatnonzero(np.diff(np.concatenate([[False], gone, [False]]).astype(int)))
        for begin, end in edges.reshape(-1, 2):
            merged = end == frames and bool((reason[begin:end, k] == MERGED).all())
            passing = end - begin <= GAP and (end < frames or merged)
            away[begin:end, k] = np.nan if passing else lost
        away[reason[:, k] == HIDDEN, k] = np.nan
    return np.fmax.reduce(np.minimum(away, lost), axis=1, initial=0.0)


def positions(dreams: Dreams) -> np.ndarray | None:
    """(n, P + T, K, 2) px true positions, where the data hold them."""
    found = dreams.truth.get("position")
    if found is None or found.ndim != 4 or found.shape[-1] != 2:
        return None
    whole = np.concatenate([dreams.truth_shown["position"], found], 1).astype(np.float64)
    return whole if np.isfinite(whole).all() else None


def measured(dreams: Dreams, familiar: Familiar, horizon: int, sampler: str) -> Measured:
    """Of the starts of these dreams, over ``horizon`` frames of the calibration, or as many as there are."""
    error, floor = ({kind: x[:, :horizon] for kind, x in part.items()} for part in errors(dreams))
    frames = min(PARTING, horizon) if sampler == "random" else 0
    return Measured(error, floor, familiar.signals(looks(dreams, frames)), dreams.episodes)


__all__ = ["Measured", "errors", "looks", "measured", "positions", "worst"]
