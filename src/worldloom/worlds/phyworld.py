"""PhyWorld's three laws (Kang et al. 2025, arXiv 2411.02385) on our exact discs: uniform motion, collision, parabola.

Their world is 10 by 10 units, seen 0.1 s apart; here it is 64 by 64 px, so a unit is 6.4 px. Two things are ours: the
motion is exact where theirs is stepped, and the box has walls where theirs lets balls leave the view. A frame counts
only before the first wall (:func:`counted`), as theirs only while every ball is wholly in view.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from worldloom.contract import WorldloomError
from worldloom.worlds.balls import Balls, BallsConfig

UNIT = 6.4
"""Pixels of one unit of length."""
STEP = 0.1
"""Seconds between two frames."""
FRAMES = 32
"""Frames of a clip ..."""
PROMPT = 3
"""... of which so many are given."""
SIDE = 10.0
"""Side of the box, units."""
GRAVITY = 2.5
"""Acceleration downwards in ``parabola``, units/s²."""
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)

Ranges: TypeAlias = tuple[tuple[float, float], ...]
Split: TypeAlias = Literal["in", "speed", "size", "both", "bands", "gap", "wedge", "inside", "outside"]
SPEED: Ranges = ((1.0, 4.0),)
"""Speeds in distribution, units/s."""
OTHER_SPEED: Ranges = ((0.0, 0.8), (4.5, 6.0))
"""Speeds out of distribution."""
BANDS: Ranges = ((1.0, 1.25), (3.75, 4.0))
"""Speeds trained on by ``bands`` ..."""
GAP: Ranges = ((1.25, 3.75),)
"""... and those between them, which it never sees."""
TEST_SPLITS: dict[str, tuple[Split, ...]] = {
    "in": ("in", "speed", "size", "both"),
    "bands": ("bands", "gap", "speed"),
    "wedge": ("wedge", "inside", "outside"),
}
"""Splits to train on, and those that a model trained on them is tested on."""
WEDGE = 5.0
"""``wedge``: the two speeds of a collision add up to this at most: a triangle of speeds from (1, 1) to (1, 4), (4, 1),
less ..."""
HOLE = (1.5, 2.5)
"""... a square in its middle, both speeds in here: ``inside`` its convex hull, and never trained on. ``outside`` are
sums above :data:`WEDGE`, though each ball's speed is one that was seen."""
SOONEST, LATEST = 0.35, 1.5
"""s, when balls meet: after the given frames, and early enough for frames to follow."""
AFTERWARDS = 0.65
"""s between a collision and the first wall, at least: six frames that count."""
APART = 0.25
"""units between the two balls at the start, at least."""
TRIES = 20_000


@dataclass(frozen=True)
class PhyWorldConfig:
    """Which law, and from which ranges its starts are drawn."""

    scenario: Literal["uniform", "collision", "parabola"] = "uniform"
    """``uniform``: a ball goes right at constant speed; ``collision``: two balls meet head-on; ``parabola``: a ball is
    thrown to the right and falls."""
    split: Split = "in"
    """``in``: in distribution; ``speed``, ``size``, ``both``: out of it in these. To train with holes: ``bands`` (slow
    or fast; tested in the ``gap`` between), ``wedge`` (collisions; tested ``inside`` and ``outside`` of its hull)."""

    def __post_init__(self) -> None:
        if self.split in ("wedge", "inside", "outside") and self.scenario != "collision":
            raise WorldloomError(
                f"The split {self.split!r} is one of two balls' speeds: give scenario 'collision', found "
                f"{self.scenario!r}."
            )

    @property
    def speeds(self) -> Ranges:
        """Of each ball, units/s."""
        return {"speed": OTHER_SPEED, "both": OTHER_SPEED, "bands": BANDS, "gap": GAP}.get(self.split, SPEED)

    @property
    def radii(self) -> Ranges:
        """Of each ball, units. (The paper's text begins collisions at 0.7, its code at 0.5: here as in the code.)"""
        two, other = self.scenario == "collision", self.split in ("size", "both")
        if two:
            return ((0.3, 0.4), (1.7, 2.0)) if other else ((0.5, 1.5),)
        return ((0.3, 0.6), (1.5, 2.0)) if other else ((0.7, 1.4),)

    @property
    def balls(self) -> BallsConfig:
        """The world of discs behind it: the same for every split of a scenario."""
        return BallsConfig(
            balls=2 if self.scenario == "collision" else 1,
            radius=(0.3 * UNIT, 2.0 * UNIT),
            gravity=(0.0, GRAVITY * UNIT * STEP**2 if self.scenario == "parabola" else 0.0),
            colours=(RED, BLUE),
            background=WHITE,
            fps=1 / STEP,
        )


class PhyWorld(Balls):
    """A :class:`~worldloom.worlds.balls.Balls` without actions whose starts are PhyWorld's: it begins near the left
    side, or with two balls that will meet, so that many frames pass before the first wall."""

    def __init__(self, config: PhyWorldConfig | None = None, num: int = 1, seed: int = 0) -> None:
        self.phyworld = config or PhyWorldConfig()
        super().__init__(self.phyworld.balls, num, seed)

    def _start(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        position, velocity, radius = draw_start(self.phyworld, random)
        return position * UNIT, velocity * UNIT * STEP, radius * UNIT, np.zeros(2)


def draw_start(config: PhyWorldConfig, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Position (K, 2), velocity (K, 2) and radius (K,) in units and seconds; x to the right, y down.

    Combinations that do not fit are drawn again: two balls that are too large, too fast or too slow to meet, and fly
    on for six frames, within the box and the clip.
    """
    if config.scenario == "collision":
        return _meeting(config, random)
    radius, speed = _draw(config.radii, random), _draw(config.speeds, random)
    x = radius + random.uniform(0, 0.5)
    highest = SIDE - radius if config.scenario == "uniform" else radius + 1.5
    y = random.uniform(radius, highest)
    return np.array([[x, y]]), np.array([[speed, 0.0]]), np.array([radius])


def _meeting(config: PhyWorldConfig, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two balls at one height that move towards each other."""
    for _ in range(TRIES):
        r = np.array([_draw(config.radii, random) for _ in range(2)])
        v = np.array([_draw(config.speeds, random) for _ in range(2)]) * (1, -1)
        when, place = random.uniform(SOONEST, LATEST), random.uniform()
        height = random.uniform(r.max(), SIDE - r.max())
        if not _wanted(config, *np.abs(v).tolist()):
            continue
        gap = (v[0] - v[1]) * when
        free = SIDE - 2 * r.sum() - gap
        if gap < APART or free < 0:
            continue
        left = r[0] + place * free
        x = np.array([left, left + r.sum() + gap])
        m = r**2
        after = 2 * (m @ v) / m.sum() - v  # elastic, head-on
        room = np.where(after > 0, SIDE - r - (x + v * when), (x + v * when) - r)
        if (room >= np.abs(after) * AFTERWARDS).all():
            return np.stack([x, np.full(2, height)], 1), np.stack([v, np.zeros(2)], 1), r
    raise WorldloomError(f"No start of {config} fits into its box.")  # cannot be: every split has been tried


def _wanted(config: PhyWorldConfig, one: float, two: float) -> bool:
    """Whether the split holds this combination of two balls' speeds."""
    if config.split not in ("wedge", "inside", "outside"):
        return True
    hole = all(HOLE[0] <= s <= HOLE[1] for s in (one, two))
    return {"wedge": one + two <= WEDGE and not hole, "inside": hole, "outside": one + two > WEDGE}[config.split]


def _draw(ranges: Ranges, random: np.random.Generator) -> float:
    """Uniform over the union of the ranges."""
    place = random.uniform(0, sum(high - low for low, high in ranges))
    for low, high in ranges:
        if place <= high - low:
            return low + place
        place -= high - low
    return ranges[-1][1]


def counted(truth: Mapping[str, np.ndarray]) -> np.ndarray:
    """(n, T) bool: the frames that count, of whole clips: before any ball meets a wall and, where there are two, after
    they met. truth: ``wall_hits`` (n, T, K, 2) and ``ball_hits`` (n, T, K, K), from each clip's first frame on."""
    free = np.cumsum(truth["wall_hits"].sum((2, 3)), 1) == 0
    if truth["wall_hits"].shape[2] == 1:
        return free
    return free & (np.cumsum(truth["ball_hits"].sum((2, 3)), 1) > 0)


__all__ = ["PhyWorld", "PhyWorldConfig", "counted", "draw_start"]
