"""Actions that a planner chose in its dreams, done in the true world: they seek out what a model dreams wrongly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from worldloom.contract import Segment
from worldloom.evaluation.exact import ExactWorld, Played
from worldloom.evaluation.heldout import HeldOut
from worldloom.evaluation.objects import followed
from worldloom.evaluation.probes import Dreams, NotMeasurableError
from worldloom.evaluation.tracking import track_clip
from worldloom.evaluation.trust.signals import positions

NEEDED = ("position", "velocity", "radius")
PLANNED = 2_000_000_011
"""Added to the seed of what planners try and aim at."""


@dataclass(frozen=True)
class Plans:
    """How a planner chooses: random shooting (the best of K random action sequences, as it looks in the dream)."""

    calibration: int = 32
    """Starts that the planner's own quantile rests on."""
    test: int = 32
    """Starts that both bounds are tested on."""
    choices: int = 16
    """K."""
    frames: int = 16
    """Length of a plan."""

    @property
    def words(self) -> str:
        """For trust.json."""
        return (
            f"the best of {self.choices} random sequences of {self.frames} actions, by how near its dream brings the "
            "pushed object to a goal drawn at random, done in the exact world"
        )


def planned_dreams(dreams: Dreams, rows: np.ndarray, plans: Plans, draws: int = 0) -> Dreams:
    """For some of the starts: the actions that look best in dreams, the dream that they were chosen by, and what they
    really led to.

    draws: added to the seed of what is tried and aimed at. What is calibrated and what tests it must not share them, or
    the two are no independent samples.

    Raises :class:`NotMeasurableError` where nothing can be chosen, or done.
    """
    world, where = dreams.world, positions(dreams)
    if dreams.spec.action is None:
        raise NotMeasurableError("there are no actions that a planner could choose.")
    if world is None or where is None or not all(name in dreams.truth for name in NEEDED):
        raise NotMeasurableError("there is no exact world in which planned actions could be done.")
    frames, n, k = min(plans.frames, dreams.horizon), len(rows), plans.choices
    some, camera, prompt = dreams.held.rows(rows), dreams.camera, dreams.prompt
    seed = dreams.seed + draws
    draw = world.actions(n * k, frames, PLANNED + seed)
    assert draw is not None  # the world is the one whose actions these are
    dreamed = dreams.dream({"action": draw}, frames, held=some.rows(np.repeat(np.arange(n), k)))[camera]
    best = np.arange(n) * k + nearest(dreams, goals(world, n, seed), rows, dreamed, where, world.config.pushed)
    truth = {name: x[:, :prompt] for name, x in some.truth.items()}
    start = {name: truth[name][:, -1] for name in (*NEEDED, "goal") if name in truth}
    held = _joined(some, world.play(start, draw[best], frames), draw[best], prompt, camera)
    return dreams.of(held, {camera: dreamed[best]})


def _joined(some: HeldOut, played: Played, action: np.ndarray, prompt: int, camera: str) -> HeldOut:
    """The prompts of some starts, and what then really happened."""
    seen = some.segment.time(slice(0, prompt))
    later = torch.from_numpy(action).to(seen.control["action"].dtype)
    real = torch.from_numpy(played.frames[:, 1:])
    more = torch.zeros(real.shape[:2], dtype=torch.bool)
    segment = Segment(
        {camera: torch.cat([seen.obs[camera], real], 1)},
        {"action": torch.cat([seen.control["action"], later], 1)},
        torch.cat([seen.first, more], 1),
        torch.cat([seen.valid, ~more], 1),
    )
    known = {
        n: np.concatenate([some.truth[n][:, :prompt], x[:, 1:]], 1) for n, x in played.truth.items() if n in some.truth
    }
    return HeldOut(segment, known, {"action": later}, some.episodes, prompt, ())


def goals(world: ExactWorld, count: int, seed: int) -> np.ndarray:
    """(n, 2) px, places that a ball can reach, drawn uniformly."""
    c = world.config
    inset = c.radii[1]
    draw = np.random.default_rng((PLANNED, seed))
    return draw.uniform((inset, inset), (c.width - inset, c.height - inset), (count, 2))


def nearest(
    dreams: Dreams, aims: np.ndarray, rows: np.ndarray, dreamed: np.ndarray, where: np.ndarray, pushed: int
) -> np.ndarray:
    """(n,) which of each start's K dreams (n * K, T, C, H, W) ends with the pushed object nearest to its goal, ``aims``
    (n, 2) px; one in which it is lost looks worst. where: (., >= P, K, 2) px, true positions, from the prompt on."""
    prompt = dreams.prompt
    scenes = followed(dreams).scenes
    chosen = []
    for row, goal, some in zip(rows, aims, np.split(dreamed, len(rows)), strict=True):
        at, before = where[row, prompt - 1], where[row, max(prompt - 2, 0)]
        ends = np.stack([track_clip(dream, scenes[row], at, at - before).position[-1, pushed] for dream in some])
        away = np.hypot(*(ends - goal).T)
        chosen.append(int(np.argmin(np.where(np.isfinite(away), away, np.inf))))
    return np.array(chosen)


__all__ = ["Plans", "goals", "nearest", "planned_dreams"]
