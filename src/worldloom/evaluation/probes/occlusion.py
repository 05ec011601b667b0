"""Behind an occluder: does what goes in come out, when, and how fast?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldloom.evaluation.flights import COVERED, LEAST_FRAMES, MARGIN, WINDOW, Paths
from worldloom.evaluation.flown import flown
from worldloom.evaluation.invariants import Invariant
from worldloom.evaluation.probes.base import NotMeasurableError, probe
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.schema import Figure

PATIENCE = 5
"""Frames after it is due within which an object must come out."""


@dataclass(frozen=True)
class Passage:
    """One object behind the occluder."""

    row: int
    """Start."""
    out: bool
    """Whether it was wholly seen again, at most :data:`PATIENCE` frames later than due."""
    late: float
    """Frames later than its flight before says; NaN where it did not come out, or not for long enough to tell."""
    aside: float
    """px, how far it came out to the side of that flight; NaN likewise."""
    faster: float
    """Its speed by that of the flight before; NaN likewise."""


def passages(paths: list[Paths]) -> tuple[list[Passage], list[int]]:
    """Passages behind the occluder, and the starts of those that were left out, as a wall or another object is near or
    the clip ends before it is due."""
    found: list[Passage] = []
    left: list[int] = []
    for one in paths:
        assert one.law.occluder is not None
        for k in range(one.objects):
            for flight in one.flights[k]:
                came = one.line(k, max(flight.start, flight.stop - WINDOW + 1), flight.stop)
                time = np.arange(flight.stop + 1, one.frames)
                way = one.place(k, came, time.astype(float))
                hidden, inside = _behind(way, one.law.occluder, float(one.radius[k]))
                if not len(time) or not hidden[:1].any():
                    continue
                back = np.flatnonzero(~hidden)
                if not len(back) or not inside[: back[0]].any():
                    left += [one.row] * bool(inside.any())
                    continue
                due = int(time[back[0]])
                if _disturbed(one, k, way[: back[0] + 1], time[: back[0] + 1]):
                    left.append(one.row)
                    continue
                seen = np.flatnonzero(one.seen[flight.stop + 1 :, k])
                first = flight.stop + 1 + int(seen[0]) if len(seen) else None
                if first is None or first > due + PATIENCE:
                    if due + PATIENCE < one.frames:
                        found.append(Passage(one.row, False, np.nan, np.nan, np.nan))
                    else:
                        left.append(one.row)
                    continue
                found.append(_compare(one, k, first, came.slope, way, time))
    return found, left


def _behind(way: np.ndarray, box: tuple[float, float, float, float], radius: float) -> tuple[np.ndarray, np.ndarray]:
    """(T,) bool each: partly hidden at least, and the centre hidden."""
    nearest = np.clip(way, box[:2], box[2:])
    away = np.hypot(*(way - nearest).T)
    return away < radius + COVERED, away == 0


def _disturbed(one: Paths, k: int, way: np.ndarray, time: np.ndarray) -> bool:
    """Whether a wall or another object may be on its way, or another object is out of sight meanwhile."""
    low = way - one.radius[k]
    high = np.array(one.law.box) - one.radius[k] - way
    if min(low.min(), high.min()) <= MARGIN:
        return True
    for other in range(one.objects):
        if other != k:
            there = one.position[time, other]
            away = np.hypot(*(there - way).T) - one.radius[k] - one.radius[other]
            if not (away > 2 * MARGIN).all():  # also where it is not seen
                return True
    return False


def _compare(one: Paths, k: int, first: int, slope: np.ndarray, way: np.ndarray, time: np.ndarray) -> Passage:
    """An object that is seen again from frame ``first`` on, against where its flight before would have it."""
    after = [f for f in one.flights[k] if f.start <= first + 1 and f.stop >= first + LEAST_FRAMES - 1]
    nothing = Passage(one.row, True, np.nan, np.nan, np.nan)
    if not after:
        return nothing
    start = after[0].start
    goes = one.line(k, start, min(after[0].stop, start + WINDOW - 1))
    speed = one.velocity(k, slope, float(start))
    size = float(np.hypot(*speed))
    if size == 0:
        return nothing
    behind = way[start - time[0]] - one.place(k, goes, np.array(float(start)))
    unit = speed / size
    return Passage(
        one.row,
        True,
        float(behind @ unit) / size,
        float(abs(behind @ np.array([-unit[1], unit[0]]))),
        float(np.hypot(*one.velocity(k, goes.slope, float(start)))) / size,
    )


@probe(
    name="occlusion",
    truth=("position",),
    exact=True,
    about="What goes behind an occluder: does it come out, when, how fast?",
)
def occlusion(dreams: Dreams) -> dict[str, Figure]:
    """Share that comes out; how late, how far aside and how fast those do."""
    assert dreams.world is not None
    if dreams.world.config.occluder is None:
        raise NotMeasurableError(
            "The world has no occluder. Collect from one that has, such as balls with "
            "`--occluder '[26.0, 0.0, 38.0, 64.0]'`."
        )
    found = flown(dreams)
    (real, _), (dreamed, left) = passages(found.real), passages(found.dreamed)
    if not dreamed:
        raise NotMeasurableError(
            f"No object of the dreams passes behind the occluder, with {LEAST_FRAMES} frames of free flight before it "
            f"({len(left)} passages were left out: a wall or another object was near, or the dream ended): give more "
            "starts or a longer horizon."
        )

    def of(name: str, shift: float) -> Invariant:
        def kept(x: list[Passage]) -> tuple[np.ndarray, np.ndarray]:
            values = np.array([getattr(p, name) - shift for p in x], float)
            fine = np.isfinite(values)
            return np.abs(values[fine]), np.array([p.row for p in x], int)[fine]

        texts = {
            "late": ("late_frames", "Time of coming out", "frames", "Frames between coming out and when it was due."),
            "aside": ("aside_px", "Place of coming out", "px", "Distance from its way, to the side."),
            "faster": ("speed_error", "Speed of coming out", "", "|speed after by speed before - 1|."),
        }[name]
        values, rows = kept(dreamed)
        return Invariant(
            texts[0], texts[1], texts[3], values, rows, kept(real)[0], "objects that came out", texts[2],
            blind_to="Passages near walls or other objects, which are left out.",
        )  # fmt: skip

    def rows(x: list[Passage]) -> np.ndarray:
        return np.array([p.row for p in x], int)

    out = {
        "came_out": dreams.figure(
            np.array([p.out for p in dreamed], float), rows=rows(dreamed), floor=np.array([p.out for p in real], float),
            share=True, title="Objects that come out", better="higher", n_of="passages behind the occluder",
            meaning=f"Share of objects gone behind the occluder that are seen again, at most {PATIENCE} frames late.",
        ),
        "left_out": dreams.figure(
            np.repeat([0.0, 1.0], [len(dreamed), len(left)]), rows=np.concatenate([rows(dreamed), np.array(left, int)]),
            share=True, title="Passages left out", better="lower", n_of="passages that may have been",
            meaning="Share that was not measured: a wall or another object was near, or the dream ended too soon.",
        ),
    }  # fmt: skip
    for one in (of("late", 0.0), of("aside", 0.0), of("faster", 1.0)):
        out[one.name] = one.figure(dreams)
    return out


__all__ = ["Passage", "occlusion", "passages"]
