"""Worlds of balls under other laws: the exact motion of :mod:`worldloom.worlds.balls`, with one thing made wrong."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np

from worldloom.evaluation.battery.drawing import draw
from worldloom.evaluation.exact import ExactWorld
from worldloom.worlds.balls import BallsConfig
from worldloom.worlds.balls.dynamics import advance
from worldloom.worlds.balls.render import EDGE
from worldloom.worlds.balls.world import DIRECTIONS

SUBSTEPS = 8
"""Parts of a frame after which energy is lost or won, and paths are bent: what :func:`advance` itself does not know."""
EVENTS = (4, 16)
"""An event happens once in each dream, at a frame drawn from this range (the first, the last but one)."""
TRIES = 500
"""Draws of a free place for a ball that comes from nowhere."""

Event = Literal["none", "stop", "vanish", "appear", "teleport", "recolour"]


@dataclass(frozen=True)
class Law:
    """What holds in a simulated world. As it stands: what is true."""

    clock: float = 1.0
    """Frames of true time that pass in one frame. Pushes keep their size."""
    gravity: float = 1.0
    """Multiple of the world's own gravity."""
    pull: tuple[float, float] = (0.0, 0.0)
    """Gravity beside it (x, y), px/frame²."""
    collisions: bool = True
    """Whether balls meet; else they pass through each other."""
    restitution: float = 1.0
    """Share of the speed towards a wall that is left after it."""
    turn: float = 0.0
    """Radians by which every velocity turns in a frame: paths become circles, of unchanged speed."""
    growth: float = 0.0
    """Share by which every speed grows in a frame."""
    depth: float = 0.0
    """px by which balls sink into the walls before they come back."""
    gap: float = 0.0
    """px between two balls (of one size) at which they already bounce off each other."""
    backwards: bool = False
    """Whether all velocities are turned round when the dream begins: the film runs back."""
    event: Event = "none"
    """What happens once: all motion stops; a ball is gone, for the others too; a copy of a ball appears at a free
    place; a ball jumps to a free place; two balls swap colours (one alone takes the next colour)."""
    at: int | None = None
    """The event's frame; drawn from :data:`EVENTS` for each dream where None."""
    emerge: float = 1.0
    """Share of its speed with which a ball comes out from behind the occluder; 0: it never does."""
    resize: float = 0.0
    """Share by which the drawn radius grows in a frame (from half to twice at most); the motion knows nothing of it."""
    squeeze: float = 0.0
    """Share by which balls are drawn wider and less high in a frame, of unchanged area, up to 1.6 times."""


@dataclass(frozen=True)
class Draws:
    """What chance decides in m stretches of a dream."""

    frame: np.ndarray
    """(m,) frame of the dream at which the event happens."""
    ball: np.ndarray
    """(m,) the ball it happens to."""
    seed: np.ndarray
    """(m, 2) seed of the dream and its row, for free places."""

    @classmethod
    def of(cls, law: Law, seed: int, rows: np.ndarray, balls: int) -> Draws:
        """For the dream's rows (m,): a pure function of (seed, row)."""
        random = {int(i): np.random.default_rng((abs(seed), int(i), 17)) for i in np.unique(rows)}
        drawn = {i: (int(r.integers(*EVENTS)), int(r.integers(balls))) for i, r in random.items()}
        frame = np.array([drawn[int(i)][0] for i in rows], dtype=int)
        ball = np.array([drawn[int(i)][1] for i in rows], dtype=int)
        frame = frame if law.at is None else np.full(len(rows), law.at)
        return cls(frame, ball, np.stack([np.full(len(rows), abs(seed)), rows], 1))


def simulate(
    world: ExactWorld,
    law: Law,
    start: dict[str, np.ndarray],
    action: np.ndarray | None,
    frames: int,
    first: np.ndarray,
    draws: Draws,
) -> np.ndarray:
    """(m, frames, C, H, W) uint8: what follows ``start`` under ``law``, drawn as the world draws it.

    start: position (m, K, 2), velocity (m, K, 2), radius (m, K) and, with a goal, goal (m, 2).
    action: (m, frames, ...). first: (m,) number of the first frame within the dream; events have
    their time there.
    """
    m, k = start["radius"].shape
    config = dataclasses.replace(world.config, balls=k, pushed=min(world.config.pushed, k - 1))
    x, v, r = (np.array(start[name], np.float64) for name in ("position", "velocity", "radius"))
    colour = np.broadcast_to(np.arange(k), (m, k)).copy()
    alive = np.ones((m, k), bool)
    if law.event == "appear":
        rows = np.arange(m)
        x, v = (np.concatenate([a, a[rows, draws.ball][:, None]], 1) for a in (x, v))
        r, colour = (np.concatenate([a, a[rows, draws.ball][:, None]], 1) for a in (r, colour))
        alive = np.concatenate([alive, np.zeros((m, 1), bool)], 1)
    v = -v if law.backwards else v
    inside = _hidden(config, x, r)
    places, sizes, hues = [], [], []
    for t in range(frames):
        now = first + t
        moving = now < draws.frame if law.event == "stop" else np.ones(m, bool)
        if action is not None:
            kick = push_of(config, action[:, t])
            v[:, :k] += kick * moving[:, None, None]
        x, v = _flow(law, config, x, v, r, alive, moving)
        here = np.flatnonzero((now == draws.frame) | ((first > draws.frame) & (t == 0) & (law.event == "recolour")))
        _happen(law, config, here, draws, x, v, r, alive, colour)
        if law.emerge != 1:
            inside, before = _hidden(config, x, r), inside
            v = np.where((inside & ~before)[..., None], law.emerge * v, v)
            if law.emerge == 0:
                alive[inside] = False
        places.append(x.copy())
        sizes.append(np.where(alive, r * np.clip(1 + law.resize * (now + 1), 0.5, 2.0)[:, None], -1.0))
        hues.append(colour.copy())
    wide = np.minimum(1 + law.squeeze * (first[:, None] + np.arange(1, frames + 1)), 1.6)
    return draw(config, np.stack(places, 1), np.stack(sizes, 1), np.stack(hues, 1), start.get("goal"), wide)


def _hidden(config: BallsConfig, x: np.ndarray, r: np.ndarray) -> np.ndarray:
    """(m, K) bool: the occluder hides all of a ball (where it ends at the frame's edge, nothing sticks out there)."""
    if config.occluder is None:
        return np.zeros(r.shape, bool)
    size = np.array([config.width, config.height], float)
    low, high = np.array(config.occluder[:2], float), np.array(config.occluder[2:], float)
    low, high = np.where(low <= 0, -np.inf, low), np.where(high >= size, np.inf, high)
    reach = r[..., None] + EDGE / 2
    return np.all((x - reach >= low) & (x + reach <= high), axis=-1)


def _flow(
    law: Law, config: BallsConfig, x: np.ndarray, v: np.ndarray, r: np.ndarray, alive: np.ndarray, moving: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One frame of motion, of the balls that are there in the rows that move."""
    x, v = x.copy(), v.copy()
    patterns, which = np.unique(alive, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        rows, balls = np.flatnonzero((which.reshape(-1) == number) & moving), np.flatnonzero(pattern)
        if len(rows) and len(balls):
            at = np.ix_(rows, balls)
            x[at], v[at] = _move(law, config, x[at], v[at], r[at])
    return x, v


def _move(law: Law, config: BallsConfig, x: np.ndarray, v: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shape = x.shape
    if not law.collisions:  # each ball in a box of its own
        x, v, r = x.reshape(-1, 1, 2), v.reshape(-1, 1, 2), r.reshape(-1, 1)
    gravity = (config.gravity[0] * law.gravity + law.pull[0], config.gravity[1] * law.gravity + law.pull[1])
    aside = law.depth + law.gap / 2  # wider balls in a box as much wider meet the walls where they did
    box = (config.width + 2 * aside, config.height + 2 * aside)
    parts = SUBSTEPS if law.restitution != 1 or law.turn or law.growth else 1
    c, s = np.cos(law.turn / parts), np.sin(law.turn / parts)
    for _ in range(parts):
        x, v, walls, _ = advance(x + aside, v, r + law.gap / 2, box, gravity, law.clock / parts)
        x = x - aside
        v = v * law.restitution**walls * (1 + law.growth) ** (1 / parts)
        v = np.stack([c * v[..., 0] - s * v[..., 1], s * v[..., 0] + c * v[..., 1]], -1) if law.turn else v
    return x.reshape(shape), v.reshape(shape)


def _happen(
    law: Law,
    config: BallsConfig,
    rows: np.ndarray,
    draws: Draws,
    x: np.ndarray,
    v: np.ndarray,
    r: np.ndarray,
    alive: np.ndarray,
    colour: np.ndarray,
) -> None:
    """The event, in the ``rows`` whose time has come. Writes into the arrays."""
    for i in rows.tolist():
        ball = int(draws.ball[i])
        if law.event == "vanish":
            alive[i, ball] = False
        elif law.event == "appear":
            x[i, -1] = _free_place(config, i, draws, x[i, :-1], r[i], float(r[i, -1]))
            v[i, -1] = -v[i, ball]
            alive[i, -1] = True
        elif law.event == "teleport":
            others = np.arange(len(r[i])) != ball
            x[i, ball] = _free_place(config, i, draws, x[i, others], r[i, others], float(r[i, ball]), away=x[i, ball])
        elif law.event == "recolour":
            other = (ball + 1) % len(r[i])
            colour[i, ball], colour[i, other] = (1, 1) if other == ball else (colour[i, other], colour[i, ball])


def _free_place(
    config: BallsConfig,
    row: int,
    draws: Draws,
    others: np.ndarray,
    reach: np.ndarray,
    radius: float,
    away: np.ndarray | None = None,
) -> np.ndarray:
    """(2,) a place at least a pixel from the ``others`` (n, 2) and, if given, four radii from ``away``; the farthest
    from all of those drawn where none is."""
    random = np.random.default_rng((*(int(s) for s in draws.seed[row]), 23))
    drawn = random.uniform(radius, np.array([config.width, config.height]) - radius, (TRIES, 2))
    gap = np.hypot(*np.moveaxis(drawn[:, None] - others[None], -1, 0)) - reach[: len(others)] - radius - 1
    gaps = gap.min(1) if len(others) else np.full(TRIES, np.inf)
    if away is not None:
        gaps = np.minimum(gaps, np.hypot(*(drawn - away).T) - 4 * radius)
    fine = np.flatnonzero(gaps > 0)
    place: np.ndarray = drawn[fine[0] if len(fine) else int(gaps.argmax())]
    return place


def push_of(config: BallsConfig, action: np.ndarray) -> np.ndarray:
    """(m, K, 2) change of velocity by the actions (m, ...) of one frame, as the world itself pushes."""
    kick = np.zeros((len(action), config.balls, 2))
    if config.action == "discrete":
        kick[:, config.pushed] = DIRECTIONS[action]
    elif config.action == "continuous":
        kick[:, config.pushed] = action
    elif config.action == "continuous_all":
        kick = np.asarray(action, np.float64).reshape(kick.shape)
    return config.push * kick


__all__ = ["EVENTS", "SUBSTEPS", "Draws", "Event", "Law", "push_of", "simulate"]
