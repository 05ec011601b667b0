"""Starts to calibrate on: held-out episodes, fresh ones of the exact world, and worlds that training never saw."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from worldloom.evaluation.exact import ExactWorld, Played, as_held
from worldloom.evaluation.heldout import HeldOut
from worldloom.evaluation.probes import Dreams, NotMeasurableError
from worldloom.evaluation.trust.conformal import least_groups
from worldloom.worlds.balls import BallsConfig

CALIBRATION = 1_000_000_007
"""Added to the seed of fresh calibration starts: no test start is drawn by it."""
TOGETHER = 32


def windows(world: ExactWorld, count: int, length: int, prompt: int, horizon: int, seed: int) -> HeldOut:
    """``count`` fresh episodes of ``length`` frames, and of each one window of ``prompt + horizon`` at a random place.

    As starts are drawn from a dataset: an episode's middle is not like its beginning where energy is lost or gained.
    """
    need = prompt + horizon
    length = max(length, need)
    begin = np.random.default_rng((CALIBRATION, seed)).integers(0, length - need + 1, count)
    start, action = world.starts(count, seed), world.actions(count, length - 1, seed)
    parts = []
    for i in range(0, count, TOGETHER):
        rows = slice(i, min(i + TOGETHER, count))
        given = None if action is None else action[rows]
        whole = world.play({n: x[rows] for n, x in start.items()}, given, length - 1)
        at = (np.arange(rows.stop - i)[:, None], begin[rows, None] + np.arange(need))
        cut = None if whole.action is None else whole.action[at]
        parts.append(Played(whole.frames[at], {n: x[at] for n, x in whole.truth.items()}, cut))
    actions = [p.action for p in parts if p.action is not None]
    truth = {n: np.concatenate([p.truth[n] for p in parts]) for n in parts[0].truth}
    joined = Played(np.concatenate([p.frames for p in parts]), truth, np.concatenate(actions) if actions else None)
    held = as_held(joined, prompt)
    held.segment.first[:, 0] = torch.from_numpy(begin == 0)
    return held


def episode_length(dreams: Dreams) -> int:
    """Frames of a usual episode: of the dataset's, or of what was measured."""
    if dreams.dataset is None:
        return dreams.prompt + dreams.horizon
    return int(np.median(dreams.dataset.lengths))


def fresh(dreams: Dreams, world: ExactWorld, count: int, seed: int) -> HeldOut:
    """Fresh starts of a world, like those of the report."""
    return windows(world, count, episode_length(dreams), dreams.prompt, dreams.horizon, CALIBRATION + seed)


def calibration_starts(dreams: Dreams, count: int, level: float) -> tuple[HeldOut, str]:
    """``count`` starts, one an episode, and where they come from.

    From the split ``val`` where it has as many episodes; from fresh ones of the exact world where it has fewer, so
    that each dream has its own; without such a world as many from each episode of ``val`` as are needed. Raises
    :class:`NotMeasurableError` where these are too few for the level.
    """
    held_out = 0 if dreams.dataset is None else len(dreams.dataset.splits["val"])
    if dreams.world is not None and held_out < count:
        return fresh(dreams, dreams.world, count, dreams.seed), "fresh"
    least = least_groups(level) + 1
    if held_out < least:
        raise NotMeasurableError(
            f"A bound that holds for {level:.0%} of dreams rests on {least} or more episodes that neither training nor "
            f"the test has seen; the split 'val' has {held_out}. Collect more episodes."
        )
    found = dreams.draw(count, dreams.prompt, dreams.horizon, "val")
    used = len(np.unique(found.episodes))
    if used < least:
        raise NotMeasurableError(
            f"A bound that holds for {level:.0%} of dreams rests on {least} held-out episodes or more; only {used} of "
            f"the split 'val' have the {dreams.prompt} + {dreams.horizon} frames of a dream. Collect longer ones, or "
            "measure over a shorter horizon."
        )
    return found, "val"


def training_prompts(dreams: Dreams, count: int) -> HeldOut:
    """Starts of the kind that training saw: from its split, or fresh where there is no dataset."""
    if dreams.dataset is not None:
        return dreams.draw(count, dreams.prompt, 1, "train")
    if dreams.world is None:
        raise NotMeasurableError("There is neither a dataset nor an exact world to draw calibration starts from.")
    return fresh(dreams, dreams.world, count, dreams.seed + 1)


ROOM = 1 / 3
"""Share of the box that discs may cover in a changed world: more of them, or larger ones, may find no place."""


def strange_worlds(world: ExactWorld) -> dict[str, ExactWorld]:
    """The world, with one thing changed that training never saw, by what was changed; without what leaves it as it is
    (the colours of balls that have but one) and what finds no room."""
    c = world.config
    low, high = c.radii
    room = min(c.height, c.width) / 2 - 1
    changes: dict[str, dict[str, Any]] = {
        "speed": {"speed": 2 * c.speed},
        "larger": {"radius": min(1.6 * high, room)},
        "smaller": {"radius": max(0.6 * low, 1.0)},
        "gravity": {"gravity": (c.gravity[0], c.gravity[1] + 0.15)},
        "more": {"balls": c.balls + 1},
        "colours": {"colours": tuple(reversed(c.colours))},
        "background": {"background": (70, 40, 30)},
        "wind": {"gravity": (c.gravity[0] + 0.15, c.gravity[1])},
    }
    worlds = {name: world.changed(**fields) for name, fields in changes.items()}
    return {name: one for name, one in worlds.items() if one.config != c and _fits(one.config)}


def _fits(config: BallsConfig) -> bool:
    """Whether discs drawn one by one find room (random sequential packing jams at a share of 0.55 without walls)."""
    covered = config.balls * math.pi * config.radii[1] ** 2
    return covered <= ROOM * config.height * config.width


__all__ = ["calibration_starts", "episode_length", "fresh", "strange_worlds", "training_prompts", "windows"]
