"""What the probes of actions share: what can be done here, what doing nothing is, and where that led the objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worldloom.contract import Control
from worldloom.evaluation.exact import Played
from worldloom.evaluation.objects import followed, hidden_by
from worldloom.evaluation.probes.base import NotMeasurableError
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.tracking import track_clip

OPPOSITES = {"left": "right", "right": "left", "up": "down", "down": "up"}
STATE = ("position", "velocity", "radius")
"""What the exact world must know of a start to be played from it."""


@dataclass(frozen=True)
class Choice:
    """One action that can be done."""

    label: str
    """Its name, or for a continuous control its entry and sign: ``ball 0 x +``."""
    value: Any
    """As the world is given it: an index, or (D,) float32."""


def control_of(dreams: Dreams) -> Control:
    """The world's action."""
    control = dreams.spec.action
    if control is None:
        raise NotMeasurableError("The world takes no actions; a probe of actions needs one that does.")
    return control


def choices(dreams: Dreams, most: int = 18) -> list[Choice]:
    """Every discrete action; of a continuous one nothing, then plus and minus each entry, to its bounds (or the 90th
    percentile of what was recorded). Never more than ``most``, the first of them."""
    control = control_of(dreams)
    if control.kind == "discrete":
        names = control.names or tuple(f"action {i}" for i in range(control.n))
        return [Choice(names[i], i) for i in range(min(control.n, most))]
    zero = np.zeros(control.shape, np.float32)
    low, high = _reach(dreams, control)
    found = [Choice("nothing", zero)]
    for i in range(control.shape[0]):
        name = control.names[i] if control.names else f"entry {i}"
        for reach in (high[i], low[i]):
            value = zero.copy()
            value[i] = reach
            if reach != 0:  # a bound of 0 is nothing again
                found.append(Choice(f"{name} {'+' if reach > 0 else '-'}", value))
    return found[:most]


def nothing(dreams: Dreams) -> Choice | None:
    """The action that does nothing: by its name, or zeros; None where no name tells."""
    control = control_of(dreams)
    if control.kind == "continuous":
        return choices(dreams)[0]
    rest = control.rest()
    return None if rest is None else Choice(control.names[int(rest)], int(rest))


def held_still(choice: Choice, starts: int, frames: int) -> np.ndarray:
    """(starts, frames, ...) of one action, as a control."""
    value = np.asarray(choice.value)
    kind = np.int64 if value.dtype.kind in "iu" else np.float32
    return np.broadcast_to(value, (starts, frames, *value.shape)).astype(kind)


def random_actions(dreams: Dreams, starts: int, frames: int, draw: int) -> np.ndarray:
    """(starts, frames, ...) uniform random actions; of an entry without bounds, drawn from what was recorded."""
    control = control_of(dreams)
    random = np.random.default_rng((dreams.seed, 31, draw))
    if control.kind == "discrete":
        return random.integers(0, control.n, (starts, frames))
    recorded = np.asarray(dreams.held.control["action"]).reshape(-1, *control.shape)
    low, high = (np.array(b or np.full(control.shape, np.nan), float) for b in (control.low, control.high))
    bounded = np.isfinite(low) & np.isfinite(high)
    uniform = random.uniform(np.where(bounded, low, 0), np.where(bounded, high, 1), (starts, frames, *control.shape))
    return np.where(bounded, uniform, recorded[random.integers(0, len(recorded), (starts, frames))]).astype(np.float32)


def inverses(dreams: Dreams, found: Sequence[Choice]) -> list[tuple[Choice, Choice]]:
    """Pairs of an action and the one that undoes its push. Raises :class:`NotMeasurableError` where that is not known:
    only our own worlds tell what their actions do."""
    if dreams.world is None:
        raise NotMeasurableError(
            "No action's inverse is known here: that left undoes right is told by the name only in worlds of ours. "
            "Give a dataset of such a world."
        )
    if control_of(dreams).kind == "discrete":
        named = {one.label: one for one in found}
        return [(one, named[OPPOSITES[one.label]]) for one in found if OPPOSITES.get(one.label) in named]
    return [(a, b) for a in found for b in found if np.any(a.value != 0) and np.allclose(a.value, -np.asarray(b.value))]


def acted(dreams: Dreams, choice: Choice) -> int:
    """Index of the object that an action of the exact world pushes."""
    assert dreams.world is not None
    config = dreams.world.config
    if config.action != "continuous_all":
        return config.pushed
    return int(np.abs(np.asarray(choice.value)).argmax()) // 2


def only(dreams: Dreams, starts: int) -> Dreams:
    """The same for figures of the first starts alone: they are spread over the episodes as all are."""
    return dataclasses.replace(dreams, episodes=dreams.episodes[:starts])


def knows_state(dreams: Dreams) -> bool:
    """Whether the exact world can be played from these starts."""
    return dreams.world is not None and all(name in dreams.truth_shown for name in STATE)


def played(dreams: Dreams, action: np.ndarray, frames: int) -> Played:
    """What really follows from the first ``len(action)`` starts: ``frames`` frames after the prompt, not counting its
    last one (which :meth:`ExactWorld.play` gives first)."""
    assert dreams.world is not None
    names = [name for name in (*STATE, "goal") if name in dreams.truth_shown]
    start = {name: dreams.truth_shown[name][: len(action), -1] for name in names}
    found = dreams.world.play(start, action, frames)
    return Played(found.frames[:, 1:], {n: x[:, 1:] for n, x in found.truth.items()}, None)


def where(dreams: Dreams, frames: np.ndarray) -> np.ndarray:
    """(m, T', K, 2) px: the start's objects in frames (m, T', C, H, W) that follow the first m starts, in the truth's
    order; NaN where one is not seen. Needs the truth ``position``."""
    scenes = followed(dreams).scenes
    shown = dreams.truth_shown["position"]
    objects = shown.shape[2]
    out = []
    for i, clip in enumerate(frames):
        velocity = shown[i, -1] - shown[i, -2] if shown.shape[1] > 1 else np.zeros_like(shown[i, -1])
        out.append(
            track_clip(clip, scenes[i], shown[i, -1], velocity, occluder=hidden_by(dreams)).position[:, :objects]
        )
    return np.stack(out)


def distance(found: np.ndarray, known: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Distance in px of positions (..., 2); a lost object counts as the diagonal of a frame (C, H, W), as in the
    report's position error."""
    diagonal = float(np.hypot(shape[-2], shape[-1]))
    apart = np.sqrt(np.square(found - known).sum(-1))
    return np.where(np.isfinite(apart), np.minimum(apart, diagonal), diagonal)


def _reach(dreams: Dreams, control: Control) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end (D,) float32 of what is tried of each entry."""
    recorded = np.abs(np.asarray(dreams.held.control["action"], np.float64)).reshape(-1, *control.shape)
    usual = np.quantile(recorded, 0.9, axis=0)
    ends = []
    for bounds, other in ((control.low, -usual), (control.high, usual)):
        known = np.array(bounds or np.full(control.shape, np.nan), float)
        ends.append(np.where(np.isfinite(known), known, other).astype(np.float32))
    return ends[0], ends[1]


__all__ = [
    "Choice",
    "acted",
    "choices",
    "control_of",
    "distance",
    "held_still",
    "inverses",
    "knows_state",
    "nothing",
    "only",
    "played",
    "random_actions",
    "where",
]
