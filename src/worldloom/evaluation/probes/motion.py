"""Free flight: does an object that nothing touches go on as it was, and fall as it should?"""

from __future__ import annotations

from typing import Any

import numpy as np

from worldloom.evaluation.flights import FALLING, MARGIN, WINDOW, Paths, accelerations
from worldloom.evaluation.flown import flown
from worldloom.evaluation.invariants import Invariant
from worldloom.evaluation.probes.base import NotMeasurableError, probe
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.schema import Figure

STEADY = 6
"""Frames of the shortest flight whose change of velocity is measured."""
MOVING = 0.5
"""px/frame below which an object has no heading."""
BLIND = (
    f"What happens within {MARGIN:g} px of a wall or of another object, and sudden jumps between long flights: "
    "see walls, contacts and causality."
)


def _steady(paths: list[Paths]) -> np.ndarray:
    """(m, 5): start, change of velocity px/frame a frame, of speed, heading in degrees (NaN if slow), jitter in px."""
    out = []
    for one in paths:
        for k in range(one.objects):
            for flight in one.flights[k]:
                if len(flight) < STEADY:
                    continue
                half = len(flight) // 2
                first = one.line(k, flight.start, flight.start + half - 1)
                second = one.line(k, flight.stop - half + 1, flight.stop)
                middle = (flight.start + flight.stop) / 2
                a, b = (one.velocity(k, x.slope, middle) for x in (first, second))
                speed, later = np.hypot(*a), np.hypot(*b)
                turn = np.degrees(np.abs(np.angle(complex(*b) / complex(*a)))) if min(speed, later) > MOVING else np.nan
                _, jitter = one.curve(k, flight)
                apart = second.middle - first.middle
                out.append((one.row, np.hypot(*(b - a)) / apart, abs(later - speed) / apart, turn, jitter))
    return np.array(out, float).reshape(-1, 5)


def _taken_over(before: list[Paths], after: list[Paths]) -> np.ndarray:
    """(m, 3): start, change in px/frame and ratio of speeds from the prompt's last to the dream's first flight."""
    out = []
    for old, new in zip(before, after, strict=True):
        for k in range(new.objects):
            last = [f for f in old.flights[k] if f.stop == old.frames - 1]
            first = [f for f in new.flights[k] if f.start == 0]
            if not last or not first:
                continue
            came = old.line(k, max(last[0].start, last[0].stop - WINDOW + 1), last[0].stop)
            goes = new.line(k, 0, min(first[0].stop, WINDOW - 1))
            u = old.velocity(k, came.slope, float(old.frames - 1)) + old.law.gravity + new.law.pushes[new.row, 0, k]
            v = new.velocity(k, goes.slope, 0.0)
            speed = np.hypot(*u)
            out.append((new.row, np.hypot(*(v - u)), np.hypot(*v) / speed if speed > MOVING else np.nan))
    return np.array(out, float).reshape(-1, 3)


def steadiness(dreams: Dreams) -> list[Invariant]:
    """The invariants of free flight, made once a report."""
    return dreams.once("steadiness", lambda: _steadiness(dreams))


def _steadiness(dreams: Dreams) -> list[Invariant]:
    found = flown(dreams)
    real, dreamed = _steady(found.real), _steady(found.dreamed)
    flights = f"free flights of at least {STEADY} frames"

    def of(column: int, **words: Any) -> Invariant:
        def kept(x: np.ndarray) -> np.ndarray:
            return x[np.isfinite(x[:, column])]

        return Invariant(
            values=kept(dreamed)[:, column], rows=kept(dreamed)[:, 0], floor=kept(real)[:, column], n_of=flights,
            blind_to=BLIND, **words,
        )  # fmt: skip

    out = [
        of(1, name="velocity_change", title="Change of velocity in free flight", unit="px/frame²", tolerance=0.02,
           meaning="How much the velocity of an object that nothing touches changes a frame, beyond gravity and "
           "pushes: between fits to the first and the second half of each flight."),
        of(2, name="speed_change", title="Change of speed in free flight", unit="px/frame²",
           meaning="The same of the speed alone."),
        of(3, name="heading_change_deg", title="Change of heading in free flight", unit="°",
           meaning="By how much the heading differs between the two halves of a flight, beyond gravity and pushes."),
        of(4, name="jitter_px", title="Jitter in free flight", unit="px",
           meaning="Root mean square distance of an object from the parabola fitted to its flight."),
    ]  # fmt: skip
    if found.shown:
        before, after = _taken_over(found.shown, found.real), _taken_over(found.shown, found.dreamed)
        words: dict[str, Any] = {
            "n_of": "objects in free flight from prompt to dream",
            "blind_to": "What comes later in the dream.",
        }
        out.append(Invariant(
            "takeover", "Change of velocity where the dream begins",
            "Between the prompt's last frames and the dream's first: a dream that plays too fast or too slowly from "
            "its first frame on is consistent in itself, and shows here.",
            after[:, 1], after[:, 0], before[:, 1], unit="px/frame", tolerance=0.1, **words,
        ))  # fmt: skip
        fast, sure = np.isfinite(after[:, 2]), np.isfinite(before[:, 2])
        out.append(Invariant(
            "speed_ratio_error", "Error of the speed taken over",
            "|ratio of the dream's first speed to the prompt's last - 1|.",
            np.abs(after[fast, 2] - 1), after[fast, 0], np.abs(before[sure, 2] - 1), **words,
        ))  # fmt: skip
    return out


def fall(dreams: Dreams) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Accelerations (m, 3) as (start, x, y) of true and dreamed flights, pushes taken off, and the world's gravity (2,)
    where it is known."""

    def make() -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        found = flown(dreams)
        known = found.real[0].law.gravity
        real, dreamed = accelerations(found.real), accelerations(found.dreamed)
        return real, dreamed, known if dreams.world is not None else None

    return dreams.once("fall", make)


def falling(dreams: Dreams) -> Invariant:
    """The error of gravity, flight by flight, as an invariant."""
    real, dreamed, known = fall(dreams)
    law = known if known is not None else np.median(real[:, 1:], 0) if len(real) else np.zeros(2)
    against = "the configured one" if known is not None else "the median of the true flights"
    return Invariant(
        "error", "Error of gravity",
        f"Distance between the acceleration of a flight and {against}.",
        np.hypot(*(dreamed[:, 1:] - law).T), dreamed[:, 0], np.hypot(*(real[:, 1:] - law).T),
        f"free flights of at least {FALLING} frames", "px/frame²", tolerance=0.01, blind_to=BLIND,
    )  # fmt: skip


@probe(name="inertia", truth=("position",), about="Does an object that nothing touches keep its velocity?")
def inertia(dreams: Dreams) -> dict[str, Figure]:
    """Change of velocity, speed and heading in free flight, jitter, and the change where the dream begins."""
    found = steadiness(dreams)
    if not len(found[0].values):
        raise NotMeasurableError(
            f"None of the dreams holds an object in free flight for {STEADY} frames: clear of walls and of others by "
            f"{MARGIN:g} px, and seen throughout."
        )
    return {one.name: one.figure(dreams) for one in found}


@probe(name="gravity", truth=("position",), about="Do objects fall as they should, and not where there is no gravity?")
def gravity(dreams: Dreams) -> dict[str, Figure]:
    """The acceleration of each free flight, twice the leading term of a quadratic fit, against the world's."""
    real, dreamed, known = fall(dreams)
    if not len(dreamed):
        raise NotMeasurableError(
            f"None of the dreams holds an object in free flight for {FALLING} frames, as a quadratic fit needs."
        )
    error = falling(dreams)
    out = {error.name: error.figure(dreams)}
    for name, axis, word in (("vertical", 2, "downwards"), ("horizontal", 1, "to the right")):
        configured = None if known is None else {"configured": np.array([known[axis - 1]])}
        out[name] = dreams.figure(
            dreamed[:, axis], rows=dreamed[:, 0].astype(int), floor=real[:, axis], baselines=configured,
            statistic="median", unit="px/frame²", title=f"Acceleration {word}", better="neither", n_of=error.n_of,
            meaning=f"Median acceleration {word} of free flights, pushes taken off. Right is what the world has"
            + ("" if known is None else f": {known[axis - 1]:g}") + ", neither more nor less.",
            blind_to="Flights that differ from each other and are right in the middle: see the error.",
        )  # fmt: skip
    return out


__all__ = ["fall", "falling", "gravity", "inertia", "steadiness"]
