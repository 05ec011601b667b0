"""Starts before which the exact world was looked into: what will happen, in which frame, and that nothing else does."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.engines import _stay
from worldloom.evaluation.exact import ExactWorld, as_held
from worldloom.evaluation.heldout import HeldOut
from worldloom.worlds.balls.dynamics import advance

PROMPT, EVENT, HORIZON = 4, 6, 14
"""Frames shown; the dreamed frame, from 1, in which it happens; frames dreamed. Six frames of free flight lie on each
side of the event, the prompt's counted in, from which a velocity is known to 0.003 px/frame."""
KINDS = ("free", "wall", "contact", "wall and ball")
WORLDS, LENGTH, ROUNDS = 2048, 200, 24
"""Of the search: worlds side by side, frames of each, and rounds before it takes what it has."""


@dataclass(frozen=True)
class Played:
    """What the exact world did, without pictures: (T, N, ...) of T frames of N worlds."""

    position: np.ndarray
    velocity: np.ndarray
    walls: np.ndarray
    """(T, N, K) impacts on walls since the frame before."""
    pairs: np.ndarray
    """(T, N, K, K) impacts of pairs since the frame before, symmetric."""


def play(world: ExactWorld, start: dict[str, np.ndarray], frames: int) -> Played:
    """``frames`` frames, the start's first. Nothing is pushed."""
    x, v, r = (np.asarray(start[name], np.float64) for name in ("position", "velocity", "radius"))
    box, g = (float(world.config.width), float(world.config.height)), world.config.gravity
    n, k = r.shape
    rows = [(x, v, np.zeros((n, k), int), np.zeros((n, k, k), int))]
    for _ in range(frames - 1):
        x, v, walls, pairs = advance(x, v, r, box, g)
        rows.append((x, v, walls.sum(-1), pairs))
    return Played(*(np.stack(part) for part in zip(*rows, strict=True)))


def kinds(walls: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """What happened in each frame: -1 nothing, an index into :data:`KINDS`, or -2 for anything else. walls:
    (..., K) impacts, pairs: (..., K, K).

    ``wall``: one disc met one wall. ``contact``: two discs met, no wall. ``wall and ball``: two discs met, and one of
    them met a wall as well, within the same frame. Two discs at two walls, say, are something else.
    """
    met, hits = pairs.sum((-1, -2)) // 2, walls.sum(-1)
    both = (pairs.sum(-1).astype(bool) & walls.astype(bool)).any(-1)
    out = np.full(hits.shape, -2)
    out[(met == 0) & (hits == 0)] = -1
    out[(met == 0) & (hits == 1)] = KINDS.index("wall")
    out[(met == 1) & (hits == 0)] = KINDS.index("contact")
    out[(met > 0) & both] = KINDS.index("wall and ball")
    return out


def windows(happened: np.ndarray, kind: str, event: int, frames: int) -> np.ndarray:
    """(M, 2) frame and world at which windows of ``frames`` frames begin whose frame ``event`` (from 0) is of this kind
    and in whose other frames nothing happens; for ``free`` nothing at all. happened: (T, N) of :func:`kinds`.

    The window's first frame is a start, and what led to it does not matter.
    """
    free = happened == -1
    count = np.cumsum(np.concatenate([np.zeros((1, free.shape[1]), int), ~free]), 0)
    last = len(free) - frames + 1
    busy = count[frames : frames + last] - count[1 : 1 + last]  # of the frames after the first
    at = happened[event : event + last]
    if kind == "free":
        return np.argwhere(busy == 0)
    return np.argwhere((busy == 1) & (at == KINDS.index(kind)))


@functools.cache
def find(world: ExactWorld, kind: str, count: int, seed: int) -> HeldOut | None:
    """Up to ``count`` starts of this kind, each from a world of its own; None where none is found."""
    if world.config.balls < 2 and kind in KINDS[2:]:
        return None
    event, frames = PROMPT - 1 + EVENT, PROMPT + HORIZON
    draw = np.random.default_rng((seed, KINDS.index(kind)))
    found: list[dict[str, np.ndarray]] = []
    for turn in range(ROUNDS):
        start = world.starts(WORLDS, seed + 1_000 * (1 + turn) + 100_000 * KINDS.index(kind))
        played = play(world, start, LENGTH)
        places = draw.permutation(windows(kinds(played.walls, played.pairs), kind, event, frames))
        _, one = np.unique(places[:, 1], return_index=True)
        for t, i in places[one]:
            state = {"position": played.position[t, i], "velocity": played.velocity[t, i], "radius": start["radius"][i]}
            found.append(state)
        if len(found) >= count:
            break
    if not found:
        return None
    state = {name: np.stack([one[name] for one in found[:count]]) for name in found[0]}
    stay = _stay(world, len(state["position"]), frames - 1)
    return as_held(world.play(state, stay, frames - 1), PROMPT)


def took_part(truth: dict[str, Any], kind: str) -> np.ndarray:
    """(n, K) bool: the discs to which it happens; for ``free`` all."""
    at = PROMPT - 1 + EVENT
    walls, pairs = truth["wall_hits"][:, at].sum(-1) > 0, truth["ball_hits"][:, at].sum(-1) > 0
    return np.ones_like(walls) if kind == "free" else walls | pairs
