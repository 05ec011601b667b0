"""The flights behind a report's physics probes: of its true and its dreamed frames, under the law of its world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worldloom.evaluation.exact import ExactWorld
from worldloom.evaluation.flights import LEAST_FRAMES, Law, Paths
from worldloom.evaluation.objects import followed
from worldloom.evaluation.probes.base import NotMeasurableError
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.tracking import Tracks
from worldloom.worlds.balls import BallsConfig
from worldloom.worlds.balls.world import DIRECTIONS


@dataclass(frozen=True)
class Flown:
    """Paths of all starts."""

    real: list[Paths]
    """Of the true frames: what the instrument makes of a perfect dream."""
    dreamed: list[Paths]
    """Of the dreamed frames."""
    shown: list[Paths]
    """Of the prompt."""


def flown(dreams: Dreams) -> Flown:
    """The paths behind the physics probes, made once a report. Needs the truth ``position``.

    Raises :class:`NotMeasurableError` where actions of unknown effect lead to nearly every frame, or dreams are short.
    """
    return dreams.once("flown", lambda: _fly(dreams))


def _fly(dreams: Dreams) -> Flown:
    if dreams.horizon < 2 * LEAST_FRAMES:
        raise NotMeasurableError(
            f"The dreams have {dreams.horizon} frames; motion is measured over at least {2 * LEAST_FRAMES}."
        )
    found = followed(dreams)
    # What moved the true objects is known, also to who dreams without it; what was not given moved nothing in a dream.
    done = dreams.held.segment.control.get("action")
    acted = None if done is None else done.numpy()
    true = _law(dreams, None if acted is None else acted[:, dreams.prompt :], dreams.horizon, found.radius.shape[1])
    law = _law(dreams, dreams.control.get("action"), dreams.horizon, found.radius.shape[1])
    if law.unknown[:, 1:].mean() > 0.9:
        raise NotMeasurableError(
            f"An action that is not null leads to {law.unknown.mean():.0%} of the frames, and what it does is known "
            "only of our own worlds: no free flight is left. Give starts with null actions."
        )
    early = _law(dreams, None if acted is None else acted[:, : dreams.prompt], dreams.prompt, found.radius.shape[1])

    def paths(tracks: Sequence[Tracks], under: Law) -> list[Paths]:
        return [Paths(i, one, found.radius[i], under) for i, one in enumerate(tracks)]

    shown = paths(found.shown, early) if dreams.prompt >= LEAST_FRAMES else []
    return Flown(paths(found.real, true), paths(found.dreamed, law), shown)


def _law(dreams: Dreams, action: np.ndarray | None, frames: int, objects: int) -> Law:
    world: ExactWorld | None = dreams.world
    height, width = dreams.spec.shown[dreams.camera].shape[-2:]
    shape = (len(dreams), frames)
    still, known = np.zeros((*shape, objects, 2)), np.zeros(shape, bool)
    if world is not None:
        config = world.config
        given = still if action is None else pushes(config, action[:, :frames])
        gravity = np.array(config.gravity, float)
        return Law(gravity, given, known, (float(config.width), float(config.height)), config.occluder)
    control = dreams.spec.action
    if control is not None and action is not None:
        acted = action[:, :frames] != (control.n if control.kind == "discrete" else 0)
        known = acted.reshape(*shape, -1).any(-1)
    return Law(np.zeros(2), still, known, (float(width), float(height)), None)


def pushes(config: BallsConfig, action: np.ndarray) -> np.ndarray:
    """(n, T, K, 2) px/frame: change of velocity by the actions (n, T, ...) of a world of balls."""
    out = np.zeros((*action.shape[:2], config.balls, 2))
    if config.action == "discrete":
        out[:, :, config.pushed] = DIRECTIONS[action]
    elif config.action == "continuous":
        out[:, :, config.pushed] = action
    elif config.action == "continuous_all":
        out[:] = action.reshape(out.shape)
    return config.push * out


__all__ = ["Flown", "flown", "pushes"]
