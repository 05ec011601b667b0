"""Doing nothing: what rests stays, what moves goes on by itself."""

from __future__ import annotations

import numpy as np

from worldloom.data.store import Dataset
from worldloom.data.windows import Windows
from worldloom.evaluation.heldout import HeldOut
from worldloom.evaluation.objects import followed
from worldloom.evaluation.probes.actions import (
    Choice,
    control_of,
    distance,
    held_still,
    knows_state,
    nothing,
    only,
    played,
    where,
)
from worldloom.evaluation.probes.base import NotMeasurableError, probe
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.schema import Figure

STARTS, FRAMES = 24, 20
"""Of the usual run; the full one takes every start and frame."""
STRETCH = 8
"""Frames of doing nothing that the data must hold in a row where there is no exact world."""
EPISODES = 100
"""Held-out episodes that are searched for such stretches."""
LEAST = 4
"""Stretches that are needed."""


@probe(actions=True, about="While nothing is done, does what rests stay, and what moves go on by itself?")
def noop(dreams: Dreams) -> dict[str, Figure]:
    """Against the exact world where there is one: position error while nothing is done, beside that under the recorded
    actions. Elsewhere how far the picture drifts while nothing is done, beside how far it really did."""
    null = nothing(dreams)
    if null is None:
        names = list(control_of(dreams).names) or "no names"
        raise NotMeasurableError(
            f"Which action does nothing is not known: among {names} none is called stay, noop or alike. Name the "
            "world's actions."
        )
    if not knows_state(dreams):
        return _drift(dreams, null)
    starts = len(dreams) if dreams.full else min(len(dreams), STARTS)
    frames = dreams.horizon if dreams.full else min(dreams.horizon, FRAMES)
    given = held_still(null, starts, frames)
    dreamed = dreams.dream({"action": given}, frames, rows=slice(0, starts))[dreams.camera]
    truly = played(dreams, given, frames)
    true, shape = truly.truth["position"], dreamed.shape
    objects, known = true.shape[2], dreams.truth["position"][:starts, :frames]
    recorded = np.stack([t.position[: known.shape[1], :objects] for t in followed(dreams).dreamed[:starts]])
    baselines = {"recorded_actions": distance(recorded, known, shape).mean(-1)} if known.shape[1] == frames else {}
    out = {
        "position_error_px": only(dreams, starts).figure(
            distance(where(dreams, dreamed), true, shape).mean(-1),
            floor=distance(where(dreams, truly.frames), true, shape).mean(-1), baselines=baselines, unit="px",
            statistic="median", better="lower", title="Position error while nothing is done",
            meaning=f"Distance to where the objects truly are while only {null.label!r} is done, mean over the "
            "objects, a lost one at the frame's diagonal; beside it the same dreams' error under the recorded actions.",
            blind_to="Errors smaller than the tracker's, which is the floor.",
        )
    }  # fmt: skip
    return out | _rest(dreams, null, starts, frames)


def _rest(dreams: Dreams, null: Choice, starts: int, frames: int) -> dict[str, Figure]:
    """What rests stays, where no force moves it: fresh starts of the same world at rest."""
    assert dreams.world is not None
    if any(dreams.world.config.gravity) or starts < 2:
        return {}
    still = held_still(null, starts, dreams.prompt + frames - 1)
    held = dreams.world.changed(speed=0.0).fresh(starts, dreams.prompt, frames, dreams.seed, still)
    at_rest = dreams.of(held)
    tracked, start = followed(at_rest), at_rest.truth_shown["position"][:, -1:]
    objects, shape = start.shape[2], at_rest.dreamed[dreams.camera].shape
    moved, floor = (
        distance(np.stack([t.position[:, :objects] for t in tracks]), start, shape).mean(-1)
        for tracks in (tracked.dreamed, tracked.real)
    )
    return {
        "rest_px": at_rest.figure(
            moved, floor=floor, unit="px", statistic="median", better="lower", title="Way of what should rest",
            meaning="How far objects have moved that lay still in the prompt while nothing was done, mean over the "
            "objects, a lost one at the frame's diagonal.",
            blind_to="What moves: objects at rest may be rare in the training data.",
        )
    }  # fmt: skip


def _drift(dreams: Dreams, null: Choice) -> dict[str, Figure]:
    """How far the picture moves away from the prompt's last frame while nothing is done."""
    if dreams.dataset is None:
        raise NotMeasurableError("There is neither an exact world nor a dataset with stretches of doing nothing.")
    most = 4 * STARTS if dreams.full else STARTS
    held = stretches(dreams.dataset, null, dreams.prompt, STRETCH, most)
    found = 0 if held is None else len(held.episodes)
    if held is None or found < LEAST:
        raise NotMeasurableError(
            f"The held-out episodes hold {found} stretches of {STRETCH} frames led to by {null.label!r} alone; "
            f"{LEAST} are needed, for there is no exact world to say what happens when nothing is done."
        )
    resting, camera = dreams.of(held), dreams.camera
    last = resting.shown[camera][:, -1:].astype(np.float64)
    drift, floor = (np.abs(x[camera] - last).mean((2, 3, 4)) for x in (resting.dreamed, resting.real))
    return {
        "drift_levels": resting.figure(
            drift, floor=floor, unit="levels of 255", better="lower", title="Drift while nothing is done",
            meaning=f"Mean difference of the picture from the prompt's last frame while only {null.label!r} is done, "
            "in stretches where the data hold just that; the floor is how far it really moved away.",
            blind_to="What moves by itself: it counts as drift in dream and truth alike.",
        ),
        "drift_excess_levels": resting.figure(
            np.abs(drift - floor), unit="levels of 255", better="lower", title="Drift beyond the true one",
            floor=np.zeros_like(drift),
            meaning="Difference between that drift and the true one, start by start.",
            blind_to="Other changes of the same amount.",
        ),
    }  # fmt: skip


def stretches(dataset: Dataset, null: Choice, prompt: int, frames: int, most: int) -> HeldOut | None:
    """Held-out starts after which ``frames`` frames are led to by ``null`` alone: up to ``most``, apart by at least
    prompt + frames, one an episode before a second; None where there is none."""
    windows = Windows(dataset, "test")
    need = prompt + frames
    rounds: list[list[tuple[int, int]]] = []
    for number in windows.episodes[:EPISODES].tolist():
        action = dataset.episode(number).control["action"]
        quiet = (action == null.value).reshape(len(action), -1).all(1)
        begin = place = 0
        while begin + need <= len(quiet):
            if quiet[begin + prompt : begin + need].all():
                rounds += [[]] if place == len(rounds) else []
                rounds[place].append((number, begin))
                place, begin = place + 1, begin + need
            else:
                begin += 1
    chosen = [one for part in rounds for one in part][:most]
    if not chosen:
        return None
    segment = windows.segment(chosen, need)
    control = {name: x[:, prompt:] for name, x in segment.control.items() if dataset.spec.given[name].per == "frame"}
    return HeldOut(segment, {}, control, np.array([n for n, _ in chosen]), prompt, ())


__all__ = ["noop", "stretches"]
