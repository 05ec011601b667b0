"""What is known of the starts of a report before their dreams are compared with the truth, and their errors after."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldloom.evaluation.figures import track
from worldloom.evaluation.heldout import HeldOut
from worldloom.evaluation.probes import Dreams
from worldloom.imagination.trust_signals import AHEAD, PARTING, Familiar, Looks, features_after


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
    dreamer, who need not be a model. frames: of the two dreams that are compared."""
    camera, prompt, held = dreams.camera, dreams.prompt, dreams.held
    shown = dreams.shown[camera]
    ahead = None
    if (count := min(AHEAD, prompt - 1)) > 0:
        ahead = dreams.dream(frames=count, held=_part(held, 0, prompt - count, prompt), mode="teacher")[camera]
    later = _part(held, min(1, prompt - 1), prompt, held.segment.length)
    again = dreams.dream(frames=frames, held=later, seed=dreams.seed + 1)[camera]
    features = None
    if dreams.model is not None:
        features = features_after(dreams.model, held.segment.time(slice(0, prompt)), dreams.seed)
    return Looks(features, shown, ahead, (dreams.dreamed[camera][:, :frames], again))


def _part(held: HeldOut, begin: int, prompt: int, end: int) -> HeldOut:
    """The same starts, seen from frame ``begin`` to ``end`` and dreamed from ``prompt`` on, frames of the old prompt's
    count."""
    recorded = {n: x for n, x in held.segment.control.items() if n not in held.segment.once}
    early = prompt < held.prompt
    control = {n: recorded[n][:, prompt:end] if early else x for n, x in held.control.items()}
    return HeldOut(
        held.segment.time(slice(begin, end)),
        {n: x[:, begin:end] for n, x in held.truth.items()},
        control,
        held.episodes,
        prompt - begin,
        held.notes,
    )


def errors(
    shown: np.ndarray, real: np.ndarray, dreamed: np.ndarray, position: np.ndarray | None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Errors of dreams and of the true frames, (n, H) by kind. shown: (n, P, C, h, w), real and dreamed: (n, H, ...),
    uint8; position: (n, P + H, K, 2) px or None."""
    wrong = np.stack([np.square(a.astype(np.float32) - b).mean((1, 2, 3)) for a, b in zip(real, dreamed, strict=True)])
    error = {"pixels": np.sqrt(wrong.astype(np.float64))}
    floor = {"pixels": np.zeros_like(error["pixels"])}
    if position is not None:
        tracked = track(shown, real, dreamed, position)
        error = {"position": tracked.error.max(-1)} | error
        floor = {"position": tracked.floor.max(-1)} | floor
    return error, floor


def positions(dreams: Dreams) -> np.ndarray | None:
    """(n, P + T, K, 2) px true positions, where the data hold them."""
    found = dreams.truth.get("position")
    if found is None or found.ndim != 4 or found.shape[-1] != 2:
        return None
    whole = np.concatenate([dreams.truth_shown["position"], found], 1).astype(np.float64)
    return whole if np.isfinite(whole).all() else None


def measured(dreams: Dreams, familiar: Familiar, horizon: int) -> Measured:
    """Of the starts of these dreams, over ``horizon`` frames of the calibration, or as many as there are."""
    camera = dreams.camera
    error, floor = errors(dreams.shown[camera], dreams.real[camera], dreams.dreamed[camera], positions(dreams))
    error, floor = ({kind: x[:, :horizon] for kind, x in part.items()} for part in (error, floor))
    return Measured(error, floor, familiar.signals(looks(dreams, min(PARTING, horizon))), dreams.episodes)


__all__ = ["Measured", "errors", "looks", "measured", "positions"]
