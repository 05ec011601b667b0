"""Linking detections through time: who is who by predicted position, size and colour; births, losses, why.

In each frame the tracks of the frame before choose first, then those that were lost, then those that may just have
been born. Each choice is the assignment of least cost (Kuhn 1955, the Hungarian method); a cost is the sum of squared
deviations from what is predicted, each in units of its tolerance. What no track claims may be born.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from worldloom.evaluation.tracker import Objects

SEEN, UNBORN, LOST, MERGED, FADED, HIDDEN = 0, 1, 2, 3, 4, 5
MARGIN = 0.75
"""px around a disc within which its antialiased edge ends."""


@dataclass(frozen=True)
class LinkConfig:
    """How far an object may be from what is predicted and still be the same."""

    slack: float = 2.0
    """px by which a position may miss its prediction, beyond what its speed explains: pushes and noise."""
    size_tolerance: float = 0.15
    """Of the logarithm of the mass."""
    colour_tolerance: float = 40.0
    """Distance in colour, 0 to 441."""
    worst: float = 9.0
    """Size and colour cost at most this much each, so that an object that changes in place remains itself, and the
    change shows."""
    gate: float = 16.0
    """A cost above this is another object."""
    taken_up: float = 3.0
    """A lost object is taken up again only by one whose size and colour are within this many tolerances of its own."""
    life: int = 3
    """Frames in a row in which an object that no track claims must be seen to be born: flicker is not."""
    memory: float = 0.8
    """Share of its greatest speed that is remembered from frame to frame: after a bounce within a frame, its
    displacement says little of its speed."""


@dataclass
class Track:
    """One object through F frames."""

    position: np.ndarray
    """(2,) where it was last seen, px."""
    velocity: np.ndarray
    """(2,) px/frame, between the last two frames that show it."""
    speed: float
    """px/frame, of late."""
    size: float
    """px, NaN until seen."""
    colour: np.ndarray
    """(C,) NaN until seen."""
    ago: int = 1
    """Frames since it was last seen."""
    which: dict[int, int] = field(default_factory=dict)
    """Frame to number of its detection."""
    reason: dict[int, int] = field(default_factory=dict)
    """Frame to why it wasn't seen."""
    sure: bool = True
    """Of the start, or seen often enough since its birth."""

    @property
    def radius(self) -> float:
        """px, 0 until seen."""
        return float(np.sqrt(self.size / np.pi)) if np.isfinite(self.size) else 0.0

    def ahead(self, shape: tuple[int, int], share: float = 1.0) -> np.ndarray:
        """Where constant velocity, or a share of it, leads by now, (2,) px. Beyond the edge of a frame (height, width)
        nothing is seen: what does not leave it is thrown back there, as by a wall."""
        room = np.maximum(np.array(shape[::-1]) - 2 * self.radius, 1e-9)
        at = np.mod(self.position + share * self.ago * self.velocity - self.radius, 2 * room)
        return np.asarray(self.radius + np.minimum(at, 2 * room - at))


def link(
    objects: Objects,
    tracks: list[Track],
    shape: tuple[int, int],
    occluder: tuple[float, float, float, float] | None = None,
    config: LinkConfig | None = None,
) -> list[Track]:
    """Follow ``tracks`` through the frames (height, width) of ``objects``, and those born on the way: all that are
    sure, the given ones first, the others in the order of their birth. The tracks are written to."""
    config = config or LinkConfig()
    young: list[Track] = []
    for t in range(len(objects.count)):
        _Frame(objects, t, shape, occluder, config).follow(tracks, young)
        tracks += [y for y in young if y.sure]
        young = [y for y in young if not y.sure and y.ago == 1]
    born = [x for x in tracks if x.sure]
    return born


class _Frame:
    """One frame's detections, and which of them are taken."""

    def __init__(
        self,
        objects: Objects,
        t: int,
        shape: tuple[int, int],
        occluder: tuple[float, float, float, float] | None,
        config: LinkConfig,
    ) -> None:
        m = int(objects.count[t])
        self.t, self.shape, self.occluder, self.config = t, shape, occluder, config
        self.at, self.mass = objects.position[t, :m], objects.mass[t, :m]
        self.colour, self.parts = objects.colour[t, :m], objects.parts[t, :m]
        self.axes, self.smudge = objects.axes[t, :m], objects.smudge[t]
        self.log = np.log(np.maximum(self.mass, 1e-6))
        self.free = np.ones(m, bool)
        self.due: dict[int, np.ndarray] = {}

    def follow(self, tracks: list[Track], young: list[Track]) -> None:
        """Let them choose; ``young`` grows by what is born."""
        fastest = max((x.speed for x in tracks), default=0.0)
        present, lost = [x for x in tracks if x.ago == 1], [x for x in tracks if x.ago > 1]
        within = [x for x in lost if x.reason.get(self.t - 1) in (MERGED, HIDDEN)]
        self.due = _thrown(present, self.shape, self.config)
        missed = self._choose(present, fastest, within) + self._choose(lost, 0.0, strict=True)
        for one in missed:
            one.reason[self.t] = self._why(one)
            one.ago += 1
        self._choose_young(young, fastest)
        for m in np.flatnonzero(self.free).tolist():
            if not self._hidden(self.at[m], float(np.sqrt(self.mass[m] / np.pi))):
                one = Track(
                    self.at[m], np.zeros(2), 0.0, float(self.mass[m]), self.colour[m], 1, {self.t: m}, sure=False
                )
                one.sure = self.config.life <= 1
                young.append(one)

    def _choose_young(self, young: list[Track], fastest: float) -> None:
        for one in self._choose(young, fastest):
            one.ago += 1
        for one in young:
            one.sure = len(one.which) >= self.config.life

    def _choose(
        self, tracks: list[Track], fastest: float, within: Sequence[Track] = (), strict: bool = False
    ) -> list[Track]:
        """Assign what is free; returns the tracks left over. within: others that may share a detection with them."""
        index = np.flatnonzero(self.free)
        if not tracks or not len(index):
            return tracks
        cost = np.stack([self._cost(x, index, fastest, strict) for x in tracks])
        if len(tracks) == 1:
            rows, columns = np.zeros(1, int), cost.argmin(1)
        else:
            from scipy.optimize import linear_sum_assignment

            # Whoever finds nothing within the gate pays as much for any: the others don't make room for it.
            rows, columns = linear_sum_assignment(np.minimum(cost, 1e3 * self.config.gate))
        chosen = {}
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if cost[row, column] <= self.config.gate:
                chosen[row] = int(index[column])
        for m in chosen.values():
            self.free[m] = False
        left = [x for row, x in enumerate(tracks) if row not in chosen]
        for row, m in chosen.items():
            one = tracks[row]
            if self._hidden(self.at[m], one.radius):  # what is seen of it is not its middle
                one.reason[self.t] = HIDDEN
                one.ago += 1
            elif self._shared(one, m) and any(self._inside(x, m) for x in (*left, *within)):
                one.reason[self.t] = MERGED
                one.ago += 1
            else:
                self._see(one, m)
        return left

    def _cost(self, one: Track, index: np.ndarray, fastest: float, strict: bool) -> np.ndarray:
        """(M',) of the detections ``index``; infinite beyond reach."""
        config = self.config
        at = self.at[index]
        away = np.sqrt(np.square(at - self._ahead(one)).sum(1))
        moved = np.sqrt(np.square(at - one.position).sum(1))
        limit = max(self.shape) / 2 if strict else np.inf
        reach = min((config.slack + max(1.5 * one.speed, 2 * fastest)) * one.ago, limit)
        tolerance = (config.slack + 0.5 * one.speed) * one.ago
        size = np.nan_to_num(np.square((self.log[index] - np.log(one.size)) / config.size_tolerance))
        colour = np.square(self.colour[index] - one.colour).sum(1) / config.colour_tolerance**2
        colour = np.nan_to_num(colour)
        cost = np.square(away / tolerance) + np.minimum(size, config.worst) + np.minimum(colour, config.worst)
        out = (moved > reach) & (away > reach)
        if strict:
            out |= np.maximum(size, colour) > config.taken_up**2
            cost = np.minimum(cost, config.gate)
        return np.where(out, np.inf, cost)

    def _ahead(self, one: Track) -> np.ndarray:
        return self.due.get(id(one), one.ahead(self.shape))

    def _see(self, one: Track, m: int) -> None:
        moved = (self.at[m] - one.position) / one.ago
        one.speed = max(float(np.sqrt((moved * moved).sum())), self.config.memory * one.speed)
        one.velocity, one.position, one.ago = moved, self.at[m], 1
        mix = 0.2 if np.isfinite(one.size) else 1.0
        one.size = (1 - mix) * one.size + mix * float(self.mass[m]) if mix < 1 else float(self.mass[m])
        if not np.isfinite(one.colour).all():
            one.colour = self.colour[m]
        elif np.isfinite(self.colour[m]).all():
            one.colour = 0.8 * one.colour + 0.2 * self.colour[m]
        one.which[self.t] = m

    def _hidden(self, at: np.ndarray, radius: float) -> bool:
        """Whether a disc there would reach behind the occluder."""
        if self.occluder is None:
            return False
        left, top, right, bottom = self.occluder
        dx = max(left - at[0], 0.0, at[0] - right)
        dy = max(top - at[1], 0.0, at[1] - bottom)
        return bool(np.hypot(dx, dy) < radius + MARGIN)

    def _shared(self, one: Track, m: int) -> bool:
        """Whether a detection shows more than this object alone, so that its middle is not the object's."""
        return bool(self.parts[m] == 0 or (self.parts[m] == 1 and self.mass[m] > 1.1 * one.size))

    def _inside(self, one: Track, m: int) -> bool:
        """Whether it should be where a detection of at least its size is."""
        away = float(np.sqrt(np.square(self._ahead(one) - self.at[m]).sum()))
        # Of one behind the occluder a sliver may stick out.
        part = 1.0 if one.reason.get(self.t - 1) == HIDDEN else 0.25
        return away < 2 * float(self.axes[m, 0]) + part * one.radius + (part == 1.0)

    def _why(self, one: Track) -> int:
        ahead = self._ahead(one)
        if self._hidden(ahead, one.radius) or self._hidden(one.ahead(self.shape, 0.5), one.radius):
            return HIDDEN  # also if it was slowed by what it met there
        if any(self._inside(one, m) for m in range(len(self.mass))):
            return MERGED
        for x, y, mass in self.smudge:
            away = np.hypot(*(ahead - (x, y)))
            size = one.size if np.isfinite(one.size) else np.inf
            if not np.isfinite(mass):
                break
            if mass > size and away < np.sqrt(mass / np.pi):
                return MERGED
            if mass >= 0.05 * size and away < one.radius + self.config.slack:
                return FADED
        return LOST


def _thrown(tracks: list[Track], shape: tuple[int, int], config: LinkConfig) -> dict[int, np.ndarray]:
    """Where those are due, by id, that collide before the next frame and look alike, (2,) px.

    Two alike that pass through each other within a frame and two that bounce off each other end up in the same two
    places: which is which can't be seen, and is settled as for elastic discs. Two that overlap already do pass.
    """
    due = {}
    for i, a in enumerate(tracks):
        for b in tracks[i + 1 :]:
            apart, closing, reach = b.position - a.position, b.velocity - a.velocity, a.radius + b.radius
            square, rate = float(closing @ closing), float(apart @ closing)
            gap = float(apart @ apart) - reach**2
            if rate >= 0 or gap < 0 or rate**2 < square * gap:
                continue
            time = gap / (np.sqrt(rate**2 - square * gap) - rate)
            deepest = np.sqrt(
                square * min(1.0, -rate / square) ** 2 + 2 * rate * min(1.0, -rate / square) + gap + reach**2
            )
            if time >= 1 or deepest > 0.9 * reach or not _alike(a, b, config):
                continue
            normal = (apart + time * closing) / reach
            kick = 2 * float(closing @ normal) * normal / (a.size + b.size)
            for one, push in ((a, b.size * kick), (b, -a.size * kick)):
                room = np.array(shape[::-1]) - one.radius
                at = one.position + one.velocity + (1 - time) * push
                due[id(one)] = np.clip(at, one.radius, np.maximum(room, one.radius))
    return due


def _alike(a: Track, b: Track, config: LinkConfig) -> bool:
    """Whether size and colour, where both are known, tell two apart by less than a bounce's cost."""
    size = float(np.log(a.size / b.size)) / config.size_tolerance
    colour = float(np.square(a.colour - b.colour).sum()) / config.colour_tolerance**2
    return bool(size**2 + np.nan_to_num(colour) < config.worst)


__all__ = ["FADED", "HIDDEN", "LOST", "MERGED", "SEEN", "UNBORN", "LinkConfig", "Track", "link"]
