"""Run the film backwards: the elastic law does not know the direction of time, so a true dream obeys it both ways."""

from __future__ import annotations

from typing import Any

import numpy as np

from worldloom.evaluation.flights import Paths
from worldloom.evaluation.flown import flown
from worldloom.evaluation.invariants import Invariant
from worldloom.evaluation.probes.base import NotMeasurableError, probe
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.schema import Figure
from worldloom.worlds.balls.dynamics import advance

FRAMES = 8
"""Frames that the law is run on, each way, from a moment of the dream ..."""
SIDES = 2
"""... whose velocities come from so many frames on each side, in which nothing is touched."""
MOMENTS = 3
"""Moments of a dream, at most, from its first to its last."""


def _moments(one: Paths) -> list[int]:
    """Frames in which every object is in free flight, spread over the dream."""
    frames = np.arange(one.frames)
    free = np.ones(one.frames, bool)
    for k in range(one.objects):
        inside = np.zeros(one.frames, bool)
        for flight in one.flights[k]:
            inside[flight.start + SIDES : flight.stop - SIDES + 1] = True
        free &= inside
    found = frames[free & (frames >= FRAMES) & (frames < one.frames - FRAMES)]
    if not len(found):
        return []
    return sorted({int(found[i]) for i in np.linspace(0, len(found) - 1, MOMENTS).round().astype(int)})


def law_errors(paths: list[Paths]) -> np.ndarray:
    """(m, 3): start, and the mean distance in px between the objects and what the law makes of a moment of their own,
    over the :data:`FRAMES` frames after and those before it."""
    at = [(one, t) for one in paths for t in _moments(one)]
    if not at:
        return np.zeros((0, 3))
    states = [_state(one, t) for one, t in at]
    position, velocity = np.stack([x for x, _ in states]), np.stack([v for _, v in states])
    law = paths[0].law
    radius = np.stack([one.radius for one, _ in at])
    pushes = np.stack([one.law.pushes[one.row] for one, _ in at])  # (m, T, K, 2)
    frame, index = np.array([t for _, t in at]), np.arange(len(at))
    gravity = (float(law.gravity[0]), float(law.gravity[1]))
    errors = []
    for way in (1, -1):
        x, v = position, way * velocity
        apart = []
        for step in range(1, FRAMES + 1):
            if way > 0:
                v = v + pushes[index, frame + step]
            x, v, _, _ = advance(x, v, radius, law.box, gravity)
            if way < 0:  # what was pushed before this stretch is taken back after it
                v = v + pushes[index, frame - step + 1]
            seen = np.stack([one.position[t + way * step] for one, t in at])
            apart.append(np.hypot(*np.moveaxis(seen - x, -1, 0)))
        mean = np.full(len(at), np.nan)
        every = np.stack(apart, 1).reshape(len(at), -1)
        some = np.isfinite(every).any(1)
        mean[some] = np.nanmean(every[some], 1)
        errors.append(mean)
    return np.stack([np.array([one.row for one, _ in at], float), *errors], 1)


def _state(one: Paths, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions (K, 2) px and velocities (K, 2) px/frame at a frame, both from one fit to the frames around it."""
    lines = [one.line(k, t - SIDES, t + SIDES) for k in range(one.objects)]
    position = np.stack([one.place(k, line, np.array(float(t))) for k, line in enumerate(lines)])
    return position, np.stack([one.velocity(k, line.slope, float(t)) for k, line in enumerate(lines)])


def reversing(dreams: Dreams) -> list[Invariant]:
    """The invariants of time reversal, made once a report."""
    return dreams.once("reversing", lambda: _reversing(dreams))


def _reversing(dreams: Dreams) -> list[Invariant]:
    found = flown(dreams)
    real, dreamed = law_errors(found.real), law_errors(found.dreamed)
    real, dreamed = real[np.isfinite(real).all(1)], dreamed[np.isfinite(dreamed).all(1)]
    words: dict[str, Any] = {
        "n_of": "moments of dreams", "unit": "px", "blind_to": "Faults that begin later than a moment's stretch, and "
        "moments at which an object touches something.",
    }  # fmt: skip
    what = f"Mean distance, over {FRAMES} frames, between a dream and what the law makes of one of its own moments"
    return [
        Invariant("forwards_px", "Law against dream, forwards", f"{what}.",
                  dreamed[:, 1], dreamed[:, 0], real[:, 1], **words),
        Invariant("backwards_px", "Law against dream, backwards",
                  f"{what}, with time reversed: velocities turned round, and the frames before it.",
                  dreamed[:, 2], dreamed[:, 0], real[:, 2], tolerance=0.5, **words),
        Invariant("asymmetry_px", "One way of time against the other",
                  "Difference between the two: the elastic law does not know which way time runs.",
                  np.abs(dreamed[:, 2] - dreamed[:, 1]), dreamed[:, 0], np.abs(real[:, 2] - real[:, 1]), **words),
    ]  # fmt: skip


@probe(name="reversal", truth=("position",), exact=True, about="Does the dream obey the law when it is run backwards?")
def reversal(dreams: Dreams) -> dict[str, Figure]:
    """Error of the law from the dream's own moments, forwards and backwards."""
    found = reversing(dreams)
    if not len(found[0].values):
        raise NotMeasurableError(
            f"None of the dreams has a moment at which every object is in free flight, with {FRAMES} frames before and "
            "after it: fewer objects, or a longer horizon, would."
        )
    return {one.name: one.figure(dreams) for one in found}


__all__ = ["law_errors", "reversal", "reversing"]
