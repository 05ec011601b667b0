"""What happened to tracked objects between their free flights: turns at walls, contacts of pairs, jumps for no reason.

An event lies between two flights. Each is continued to the other by its own law, and where they meet, the object
turned: to a few hundredths of a frame and of a pixel, though frames are a whole frame apart. Two things are asked
apart: was the object *due* to touch, by the way it came (the cause), and did its motion change (the response)?
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from worldloom.evaluation.flights import WINDOW, Flight, Line, Paths, under_own_gravity
from worldloom.evaluation.flown import Flown, flown
from worldloom.evaluation.probes.dreams import Dreams

SLOWEST = 0.5
"""px/frame: objects that touch more slowly along their common normal are left out: the ratio of two such speeds says
nothing."""
DEEP = 0.5
"""px: an object that would come this deep, had it flown on, was due to touch."""
RESPONSE = 0.25
"""Share of the exchange that the elastic law asks for below which there was none."""
JUMP = 0.25
"""px/frame: a sudden change of velocity by more, with nothing near, has no cause ..."""
LEAP = 0.5
"""... nor has a sudden change of place by more, px."""
SIDES = 4
"""Frames on each side of a place that is looked at for a jump."""
FAR = 8.0
"""px between the rims beyond which two that change their motion did not do so because of each other."""
STUCK = 10
"""Frames after a flight into something by which the object must fly again; one that does not sticks to it, or is
gone."""
MEETING = 5
"""Frames after the end of a flight within which it leads to what ended it."""
APART = 0.1
"""px: rims that a frame shows this far from each other between two touches parted in between."""
TWICE = "twice"
FINE = 16
"""Steps a frame in which a continued path is looked at."""
NORMALS = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
"""Outward normals of the left, right, upper and lower wall."""


@dataclass(frozen=True)
class Turn:
    """One object at one wall."""

    row: int
    """Start."""
    frame: float
    """When it turned; where it did not, when it was due to."""
    due: bool
    """Its flight led at least :data:`DEEP` px beyond the wall."""
    responded: bool
    """Its velocity along the normal changed by at least :data:`RESPONSE` of what the wall must do."""
    before: float
    """px/frame towards the wall when it touched."""
    after: float
    """px/frame away from it."""
    along: float
    """px/frame, how much its velocity along the wall changed."""
    beyond: float
    """px, how far its rim was beyond the wall where it turned; below 0: before it. NaN where it did not."""


@dataclass(frozen=True)
class Contact:
    """Two objects."""

    row: int
    """Start."""
    frame: float
    """When they turned; where they did not, when they were due to."""
    due: bool
    """Their flights led at least :data:`DEEP` px into one another."""
    responded: bool
    """Their closing speed changed by at least :data:`RESPONSE` of twice itself."""
    closing: float
    """px/frame along the line of centres when they touched."""
    parting: float
    """px/frame after it."""
    drift: float
    """px/frame, change of the velocity of their common centre of mass (masses ∝ r²): 0 if momentum is kept."""
    carried: float
    """px/frame, Σ m|v| / Σ m before: what the drift is to be compared with."""
    energy: float
    """Relative change of kinetic and potential energy, against the kinetic energy before."""
    overlap: float
    """px, rᵢ + rⱼ - d where they turned; below 0: at a distance. NaN where they did not."""
    deepest: float
    """px, the deepest overlap of the frames between the two flights; NaN where none shows both."""


@dataclass
class Events:
    """Of one set of paths, all starts together."""

    turns: list[Turn] = field(default_factory=list)
    contacts: list[Contact] = field(default_factory=list)
    crowded_turns: list[int] = field(default_factory=list)
    """Start of each that could not be judged: walls that may have been met together with something else, or unseen, or
    that were not left again."""
    crowded_contacts: list[int] = field(default_factory=list)
    """The same of pairs."""


def events(dreams: Dreams) -> tuple[Events, Events]:
    """Of the true and the dreamed frames, made once a report."""

    def make() -> tuple[Events, Events]:
        paths: Flown = flown(dreams)
        return find_events(under_own_gravity(paths.real)), find_events(under_own_gravity(paths.dreamed))

    return dreams.once("events", make)


def find_events(paths: list[Paths]) -> Events:
    """Turns and contacts of all starts, in order of start and time."""
    out = Events()
    for one in paths:
        for k in range(one.objects):
            for before, after in pairwise(one.flights[k]):
                _between(one, k, before, after, out)
        _unfinished(one, out)
    return out


def _unfinished(one: Paths, out: Events) -> None:
    """Count among what could not be judged the last flights that led into a wall or another object, for good."""
    last = [flights[-1] if flights and flights[-1].stop < one.frames - STUCK else None for flights in one.flights]
    ways = [
        None if f is None else one.place(k, one.line(k, max(f.start, f.stop - WINDOW + 1), f.stop), _ahead(f.stop))
        for k, f in enumerate(last)
    ]
    for k, way in enumerate(ways):
        if way is not None:
            deep = np.maximum(one.radius[k] - way, way + one.radius[k] - np.array(one.law.box))
            out.crowded_turns += [one.row] * bool(deep.max() >= DEEP)
    for i, j in one.pairs:
        first, second = ways[i], ways[j]
        begun = [f.stop for f in (last[i], last[j]) if f is not None]
        if first is None or second is None or abs(begun[0] - begun[1]) > 1:
            continue
        late = max(begun) - np.array(begun)  # both from the same frame on
        between = second[late[1] :][: MEETING - 1] - first[late[0] :][: MEETING - 1]
        deep = one.radius[i] + one.radius[j] - np.hypot(*between.T)
        out.crowded_contacts += [one.row] * bool(deep.max() >= DEEP)


def _ahead(stop: int) -> np.ndarray:
    return stop + np.arange(MEETING, dtype=float)


def _between(one: Paths, k: int, before: Flight, after: Flight, out: Events) -> None:
    """What happened to object k between two of its flights: a turn, a contact, or too much to be told apart."""
    walls, pairs = _causes(one, k, before.stop, after.start)
    hidden = not one.seen[before.stop : after.start + 1, k].all()
    if len(walls) == 1 and not pairs and not hidden:
        turn = _turn(one, k, before, after, walls[0])
        out.turns += [turn] if isinstance(turn, Turn) else []
        out.crowded_turns += [one.row] * (turn == TWICE)
        return
    if len(pairs) == 1 and not walls:
        i, j = pairs[0]
        if k != i:
            return  # found from the other one
        sides = _flanks(one, j, before.stop, after.start)
        alone = sides is not None and _causes(one, j, sides[0].stop, sides[1].start) == ([], pairs)
        if sides is not None and alone:
            contact = _contact(one, (i, j), (before, sides[0]), (after, sides[1]))
            out.contacts += [contact] if isinstance(contact, Contact) else []
            out.crowded_contacts += [one.row] * (contact == TWICE)
            return
        out.crowded_contacts.append(one.row)
        return
    out.crowded_turns += [one.row] * (len(walls) > 0)
    out.crowded_contacts += [one.row] * sum(k == i for i, _ in pairs)


def _causes(one: Paths, k: int, stop: int, start: int) -> tuple[list[int], list[tuple[int, int]]]:
    """Walls and pairs that object k may have met between frames ``stop`` and ``start``."""
    walls = np.flatnonzero(one.wall[stop:start, k].any(0)).tolist()
    pairs = [both for p, both in enumerate(one.pairs) if k in both and one.pair[stop:start, p].any()]
    return walls, pairs


def _flanks(one: Paths, k: int, stop: int, start: int) -> tuple[Flight, Flight] | None:
    """The flights of object k before and after what happened between two frames."""
    before = [f for f in one.flights[k] if f.stop <= start and f.start < stop]
    after = [f for f in one.flights[k] if f.start >= stop and f.stop > start]
    if not before or not after or before[-1].stop > after[0].start:
        return None
    return before[-1], after[0]


def _lines(one: Paths, k: int, before: Flight, after: Flight) -> tuple[Line, Line]:
    return (
        one.line(k, max(before.start, before.stop - WINDOW + 1), before.stop),
        one.line(k, after.start, min(after.stop, after.start + WINDOW - 1)),
    )


def _span(one: Paths, begin: int, end: int) -> np.ndarray:
    """Fine times from one frame to another."""
    return np.linspace(begin, end, (end - begin) * FINE + 1)


def _twice(time: np.ndarray, came: np.ndarray, went: np.ndarray, gap: np.ndarray) -> bool:
    """Whether the same two touched more than once: a frame shows them apart after the flight before led to a touch, and
    before the flight after can have left one. came, went: (M,) px, depth of each flight continued, at the fine times;
    gap: (frames of the span,) px between the rims."""
    first, last = np.flatnonzero(came >= 0), np.flatnonzero(went >= 0)
    if not len(first) or not len(last):
        return False
    frames = np.arange(len(gap)) + time[0]
    with np.errstate(invalid="ignore"):
        return bool(((frames > time[first[0]]) & (frames < time[last[-1]]) & (gap > APART)).any())


def _turn(one: Paths, k: int, before: Flight, after: Flight, side: int) -> Turn | str | None:
    normal = NORMALS[side]
    came, went = _lines(one, k, before, after)
    wall = float(np.array(one.law.box) @ np.maximum(normal, 0)) - one.radius[k]  # along the outward normal
    time = _span(one, before.stop, after.start)
    depth = one.place(k, came, time) @ normal - wall
    change = (went.slope - came.slope) @ normal
    touches = np.flatnonzero(depth >= 0)
    due_time = float(time[touches[0]] if len(touches) else time[depth.argmax()])
    closing = float(one.velocity(k, came.slope, due_time) @ normal)
    responded = bool(-change >= max(2 * RESPONSE * closing, JUMP))
    due = bool(depth.max() >= DEEP)
    if not due and not responded:
        return None  # it passed by
    moment, beyond = due_time, float("nan")
    if responded:
        back = one.place(k, went, time) @ normal - wall
        if _twice(time, depth, back, wall - one.position[before.stop : after.start + 1, k] @ normal):
            return TWICE
        moment = _meeting(came.centre @ normal, came.slope @ normal, came.middle, went, normal)
        moment = float(np.clip(moment, before.stop, after.start))
        beyond = float(one.place(k, came, np.array(moment)) @ normal) - float(wall)
    inward, outward = one.velocity(k, came.slope, moment), one.velocity(k, went.slope, moment)
    if inward @ normal < SLOWEST:
        return None
    across = (outward - inward) - ((outward - inward) @ normal) * normal
    speeds = float(inward @ normal), float(-outward @ normal)
    return Turn(one.row, moment, due, responded, *speeds, float(np.hypot(*across)), beyond)


def _meeting(centre: float, slope: float, middle: float, went: Line, normal: np.ndarray) -> float:
    """Time at which two lines along a normal meet."""
    change = went.slope @ normal - slope
    return float(((centre - slope * middle) - (went.centre - went.slope * went.middle) @ normal) / change)


def _contact(
    one: Paths, pair: tuple[int, int], before: tuple[Flight, Flight], after: tuple[Flight, Flight]
) -> Contact | str | None:
    both = [_lines(one, k, b, a) for k, b, a in zip(pair, before, after, strict=True)]
    begin, end = min(f.stop for f in before), max(f.start for f in after)
    reach = float(one.radius[list(pair)].sum())
    came = [lines[0] for lines in both]
    time = _span(one, begin, end)
    between = one.place(pair[1], came[1], time) - one.place(pair[0], came[0], time)
    depth = reach - np.hypot(*between.T)
    touches = np.flatnonzero(depth >= 0)
    first = int(touches[0] if len(touches) else depth.argmax())
    moment = float(time[first])
    change = np.stack([went.slope - old.slope for old, went in both])
    relative = change[1] - change[0]

    def geometry(t: float) -> tuple[np.ndarray, float, float]:
        """Unit vector from the first to the second, closing speed along it, distance of the centres."""
        d = one.place(pair[1], came[1], np.array(t)) - one.place(pair[0], came[0], np.array(t))
        w = one.velocity(pair[1], came[1].slope, t) - one.velocity(pair[0], came[0].slope, t)
        away = float(np.hypot(*d))
        unit = d / away if away > 0 else np.array([1.0, 0.0])
        return unit, float(-w @ unit), away

    unit, closing, _ = geometry(moment)
    due = bool(depth.max() >= DEEP)
    responded = bool(relative @ unit >= max(2 * RESPONSE * closing, JUMP))
    if not due and (not responded or depth.max() < -FAR):
        return None
    overlap = float("nan")
    gap = one.gap[begin : end + 1, one.pairs.index(pair)]
    if responded:
        left = one.place(pair[1], both[1][1], time) - one.place(pair[0], both[0][1], time)
        if _twice(time, depth, reach - np.hypot(*left.T), gap):
            return TWICE
        apart = np.stack([lines[1].at(0.0) - lines[0].at(0.0) for lines in both])
        moment = float(np.clip(-(apart * change).sum() / np.square(change).sum(), begin, end))
        unit, closing, away = geometry(moment)
        overlap = reach - away
    if closing < SLOWEST:
        return None
    old = np.stack([one.velocity(k, lines[0].slope, moment) for k, lines in zip(pair, both, strict=True)])
    new = old + change
    mass = np.square(one.radius[list(pair)])
    share = mass / mass.sum()
    here = np.stack([one.place(k, lines[0], np.array(moment)) for k, lines in zip(pair, both, strict=True)])
    there = np.stack([one.place(k, lines[1], np.array(moment)) for k, lines in zip(pair, both, strict=True)])
    kinetic = 0.5 * share @ np.square(old).sum(1)
    gained = 0.5 * share @ np.square(new).sum(1) - kinetic - share @ ((there - here) @ one.law.gravity)
    return Contact(
        one.row,
        moment,
        due,
        responded,
        closing,
        float((new[1] - new[0]) @ unit),
        float(np.hypot(*(share @ change))),
        float(share @ np.hypot(*old.T)),
        float(gained / kinetic),
        overlap,
        float(np.nanmax(-gap)) if np.isfinite(gap).any() else float("nan"),
    )


@dataclass(frozen=True)
class Jumps:
    """Sudden changes in flights that nothing explains."""

    found: np.ndarray
    """(n,) jumps in each start."""
    looked: np.ndarray
    """(n,) places looked at: pairs of a frame and an object."""


def find_jumps(paths: list[Paths]) -> Jumps:
    """Where a velocity changes by :data:`JUMP`, or a place by :data:`LEAP`, within a flight.

    Two lines of :data:`SIDES` frames each are fitted, one up to each frame and one from the next on. A run of places
    that exceed the limit is one jump for every 2 SIDES - 1 of them, which is how long one jump is seen.
    """
    found, looked = np.zeros(len(paths)), np.zeros(len(paths))
    for row, one in enumerate(paths):
        for k in range(one.objects):
            for flight in one.flights[k]:
                over = _exceeds(one.plain[flight.start : flight.stop + 1, k])
                looked[row] += len(over)
                edges = np.flatnonzero(np.diff(np.concatenate([[False], over, [False]]).astype(int)))
                found[row] += np.ceil((edges[1::2] - edges[::2]) / (2 * SIDES - 1)).sum()
    return Jumps(found, looked)


def _exceeds(y: np.ndarray) -> np.ndarray:
    """(F - 2 SIDES + 1,) bool for a straight path (F, 2): whether it jumps after frame SIDES - 1 + i."""
    if len(y) < 2 * SIDES:
        return np.zeros(0, bool)
    windows = np.lib.stride_tricks.sliding_window_view(y, SIDES, 0)  # (F - SIDES + 1, 2, SIDES)
    t = np.arange(SIDES) - (SIDES - 1) / 2
    slope, middle = windows @ t / (t @ t), windows.mean(-1)
    before, after = slice(None, -SIDES), slice(SIDES, None)
    change = slope[after] - slope[before]
    leap = middle[after] - middle[before] - (slope[after] + slope[before]) * SIDES / 2
    return np.asarray((np.hypot(*change.T) > JUMP) | (np.hypot(*leap.T) > LEAP))


__all__ = ["Contact", "Events", "Jumps", "Turn", "events", "find_events", "find_jumps"]
