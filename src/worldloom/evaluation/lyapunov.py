"""How fast an exact world forgets its start: the largest Lyapunov exponent, from twins that begin a hair apart.

Twin runs under the same actions, moved back to their first distance at regular times, the growth until then summed up
(Benettin, Galgani, Giorgilli & Strelcyn 1980, *Lyapunov characteristic exponents*). Discs that meet each other part
such twins exponentially; a disc alone in a box does so only in proportion to time, and its exponent is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldloom.evaluation.exact import ExactWorld
from worldloom.evaluation.statistics import bootstrap

DISTANCE = 1e-6
"""px, between twins after each renormalisation: far above rounding (1e-14), far below a disc."""
BETWEEN = 8
"""Frames between renormalisations: twins stay close enough to meet the same obstacles."""
CHAOTIC = 3.0
"""A world is called chaotic where the lower end of its exponent's interval exceeds this multiple of what twins show
that part in proportion to time."""


@dataclass(frozen=True)
class Exponent:
    """The largest Lyapunov exponent of a world, per frame."""

    rate: float
    """Mean over the twins, 1/frame."""
    interval: tuple[float, float]
    """Of 95 %, by drawing twins anew."""
    linear: float
    """What this procedure shows for twins that part in proportion to time, 1/frame: below it nothing is told from 0."""
    chaotic: bool
    """Whether the rate is clearly above ``linear``."""
    twins: int
    """Pairs that were run."""
    frames: int
    """Frames over which growth was summed up."""


def growth(world: ExactWorld, twins: int, frames: int, seed: int, between: int = BETWEEN) -> np.ndarray:
    """(twins, frames // between) log growth of the distance between twins in every stretch of ``between`` frames.

    Distance: Euclidean in all positions (px) and velocities (px/frame) together; the exponent does not depend on it.
    Every pair starts afresh and is played random actions, both the same.
    """
    rng = np.random.default_rng((seed, twins))
    start = world.starts(twins, seed)
    actions = world.actions(twins, frames, seed)
    fixed = {n: x for n, x in start.items() if n not in ("position", "velocity")}
    state = np.concatenate([start["position"], start["velocity"]], -1)
    apart = rng.normal(size=state.shape)
    out = np.empty((twins, frames // between))
    for stretch in range(frames // between):
        apart *= DISTANCE / _norm(apart)
        both = np.concatenate([state, state + apart])
        given = None if actions is None else actions[:, stretch * between : (stretch + 1) * between]
        played = world.play(
            {n: np.concatenate([x, x]) for n, x in fixed.items()}
            | {"position": both[..., :2], "velocity": both[..., 2:]},
            None if given is None else np.concatenate([given, given]),
            between,
        ).truth
        begun, ended = (np.concatenate([played["position"][:, t], played["velocity"][:, t]], -1) for t in (0, -1))
        # the twin is where the world put it: a disc at a wall can't be moved into it
        first = _norm(begun[twins:] - begun[:twins])
        apart = ended[twins:] - ended[:twins]
        out[:, stretch] = np.log(_norm(apart) / first)[:, 0, 0]
        state = ended[:twins]
    return out


def _norm(x: np.ndarray) -> np.ndarray:
    size: np.ndarray = np.sqrt(np.square(x).sum((1, 2), keepdims=True)).clip(1e-300)
    return size


def exponent(world: ExactWorld, *, twins: int = 32, frames: int = 400, seed: int = 0) -> Exponent:
    """The largest Lyapunov exponent of ``world``: mean log growth per frame over the second half of ``frames``, by
    when the twins' difference has turned into the direction that grows fastest."""
    every = growth(world, twins, frames, seed)
    late = every[:, every.shape[1] // 2 :]
    length = late.shape[1] * BETWEEN
    rates = late.sum(1) / length
    low, high = bootstrap(rates, seed=seed)
    # a distance that grows as t gains ln(end / begin) over the stretch from begin to end
    whole = every.shape[1] * BETWEEN
    linear = float(np.log(whole / (whole - length)) / length)
    return Exponent(float(rates.mean()), (float(low), float(high)), linear, bool(low > CHAOTIC * linear), twins, length)


def horizon(rate: float, error: float, allowed: float) -> float:
    """T* = ln(allowed / error) / rate, frames until an error at the start has grown to the allowed one; 0 where it is
    larger at once."""
    return float(max(0.0, np.log(allowed / error)) / rate)


__all__ = ["Exponent", "exponent", "growth", "horizon"]
