"""Whether the actions that were given can be read back from the dreamed frames, as they can from real ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from worldloom.data.windows import Windows
from worldloom.evaluation.inverse import FRAMES, InverseError, InverseModel, fit_inverse, shrink
from worldloom.evaluation.probes.actions import control_of
from worldloom.evaluation.probes.base import NotMeasurableError, probe
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.probes.inverse_score import Score
from worldloom.evaluation.schema import Figure

EXAMPLES = 6000
"""Real examples that it is trained on ..."""
FULL_EXAMPLES = 20000
"""... and in the full run."""
CLEAR = 0.1
"""How far the accuracy on real frames must lie above chance to be used: of the way from chance to 1."""
BLIND = (
    "Actions that real frames do not show either, effects that take longer than a frame, and whether anything "
    "else in the dream is right."
)


@dataclass(frozen=True)
class Inverse:
    """A trained inverse-dynamics model and what it says of the report's frames. N = starts × frames."""

    model: InverseModel
    """Trained on real frames of the training split."""
    dreamed: np.ndarray
    """(n, T', ...) the action it reads from each dreamed frame and the two before."""
    real: np.ndarray
    """(n, T', ...) the same of the true frames."""
    given: np.ndarray
    """(n, T', ...) the action that was given."""
    first: int
    """Horizon of the first of the T' frames: 1, or more where the prompt is shorter than two frames."""


def triples(shown: np.ndarray, frames: np.ndarray) -> tuple[np.ndarray, int]:
    """(n, T', 3, C, H, W): each frame with the two before it, from the prompt (n, P, ...) on; and the horizon of the
    first that has two."""
    whole = np.concatenate([shown[:, -(FRAMES - 1) :], frames], 1)
    first = max(1, FRAMES - shown.shape[1])
    count = whole.shape[1] - FRAMES + 1
    return np.stack([whole[:, k : k + count] for k in range(FRAMES)], 2), first


def told(model: InverseModel, clips: np.ndarray) -> np.ndarray:
    """(n, T', ...) what it reads from (n, T', 3, C, H, W)."""
    n, frames = clips.shape[:2]
    rows = [model(part) for part in clips]  # a start at a time: memory stays flat
    return np.stack(rows).reshape(n, frames, *rows[0].shape[1:])


def inverse_model(dreams: Dreams) -> InverseModel:
    """Trained on real frames of the training split, or of fresh episodes of the exact world where there is no dataset.
    Made once a report. Raises :class:`NotMeasurableError` where there are too few."""

    def make() -> InverseModel:
        frames, actions = _examples(dreams, FULL_EXAMPLES if dreams.full else EXAMPLES)
        try:
            return fit_inverse(frames, actions, control_of(dreams), dreams.seed)
        except InverseError as error:
            raise NotMeasurableError(str(error)) from error

    return dreams.once("inverse_model", make)


def inverse(dreams: Dreams) -> Inverse:
    """What the inverse-dynamics model reads from the report's true and dreamed frames. Made once a report."""

    def make() -> Inverse:
        model = inverse_model(dreams)
        shown, real, dreamed = (x[dreams.camera] for x in (dreams.shown, dreams.real, dreams.dreamed))
        frames = min(real.shape[1], dreamed.shape[1])
        true, first = triples(shown, real[:, :frames])
        given = dreams.control["action"][:, first - 1 : frames]
        if true.shape[1] < 1:
            raise NotMeasurableError(f"Reading an action takes {FRAMES} frames; prompt and dream have fewer.")
        return Inverse(model, told(model, triples(shown, dreamed[:, :frames])[0]), told(model, true), given, first)

    return dreams.once("inverse", make)


@probe(actions=True, about="Can the actions be read back from the dream as they can from real frames?")
def inverse_dynamics(dreams: Dreams) -> dict[str, Figure]:
    """Macro-F1 (discrete actions) or R² (continuous ones, mean over entries) of an inverse-dynamics model on dreamed
    frames, over its own on the true frames of the same starts (such a model labels videos in Baker et al. 2022)."""
    found = inverse(dreams)
    score = Score(dreams, found.given, found.model.classes, found.first)
    draws = score.draws(found.real)
    interval = score.interval(draws)
    low, least = interval[0] if interval else float(draws[0]), score.luck + CLEAR * (1 - score.luck)
    if low < least:
        raise NotMeasurableError(
            f"The actions can't be read from real frames: {score.name} of the inverse-dynamics model on held-out real "
            f"frames is {draws[0]:.2f}, the lower end of its interval {low:.2f} (a guess scores {score.luck:.2f}), and "
            f"{least:.2f} is needed there. It takes data in which the actions show within a frame."
        )
    words: dict[str, Any] = {"hashes": {"inverse_dynamics": found.model.sha256}, "blind_to": BLIND}
    out = {
        "ratio": score.figure(
            found.dreamed, found.real, score.whole, over=True, title="Actions read back from the dream", **words,
            meaning=f"{score.name} on the dream of an inverse-dynamics model (trained on real frames; {FRAMES} frames, "
            "the last led to by the action), over its own on the true frames of the same starts. 1: the actions show "
            "as in reality.",
        ),
        "ratio_by_horizon": score.figure(
            found.dreamed, found.real, score.bins, over=True, title="Actions read back, by horizon", **words,
            meaning="The same in bins of the horizon: each number sums up the frames since the one before.",
        ),
        "score_by_horizon": score.figure(
            found.dreamed, found.real, score.bins, over=False, title=f"{score.name} on the dream", **words,
            meaning=f"The same before division: {score.name}, with that on the true frames as the ceiling.",
        ),
    }  # fmt: skip
    return out | _by_action(found, dreams, words)


def _by_action(found: Inverse, dreams: Dreams, words: dict[str, Any]) -> dict[str, Figure]:
    """Of each discrete action, how often it is read where it was given."""
    control, out = found.model.control, {}
    for one in found.model.classes.tolist():
        at = found.given == one
        label = control.names[one] if control.names else f"action {one}"
        if at.any():
            out[f"recall_{one}_" + re.sub(r"\W+", "_", label)] = dreams.figure(
                (found.dreamed[at] == one).astype(float), rows=np.nonzero(at)[0], share=True, better="higher",
                ceiling=(found.real[at] == one).astype(float), title=f"Read back: {label}", n_of="dreamed frames",
                baselines={"chance": np.full(1, 1 / len(found.model.classes))}, **words,
                meaning=f"Share of the dreamed frames led to by {label!r} from which the inverse-dynamics model reads "
                "it; the ceiling is the same share of the true frames.",
            )  # fmt: skip
    return out


def _examples(dreams: Dreams, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3, C, h, w) uint8 shrunk real frames of the training split, and the actions (N, ...) that led to the last."""
    camera = dreams.camera
    if dreams.dataset is None:
        if dreams.world is None:
            raise NotMeasurableError("There are neither training frames nor an exact world to learn actions from.")
        length = 32
        held = dreams.world.fresh(-(-count // (length - FRAMES + 1)), 1, length - 1, dreams.seed + 1)
        clips, given = held.segment.obs["camera"].numpy(), held.segment.control["action"].numpy()
        whole = np.stack([clips[:, k : length - FRAMES + 1 + k] for k in range(FRAMES)], 2)
        return shrink(whole.reshape(-1, *whole.shape[2:])).numpy(), _flat(given[:, FRAMES - 1 :])
    windows = Windows(dreams.dataset, "train", FRAMES)
    frames, actions = [], []
    for part in range(0, count, 500):
        segment = windows.batch(min(500, count - part), dreams.seed, part)
        kept = segment.valid.all(1) & ~segment.first[:, 1:].any(1)
        frames.append(shrink(segment.obs[camera][kept]).numpy())
        actions.append(segment.control["action"][:, -1][kept].numpy())
    return np.concatenate(frames), np.concatenate(actions)


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1, *x.shape[2:])


__all__ = ["Inverse", "inverse", "inverse_dynamics", "inverse_model", "told", "triples"]
