"""Exact simulators with ground truth, and the bridge to Gymnasium."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Any

from worldloom.contract import WorldloomError
from worldloom.worlds.base import Frames, World, sample_action

BUILT_IN = ("balls", "captions", "lab", "phyworld")
"""Names of the worlds that come with the library."""


def make_world(name: str, num: int = 1, **options: Any) -> World:
    """``num`` worlds side by side.

    name: a built-in name (:data:`BUILT_IN`), a Gymnasium id such as ``ALE/Pong-v5``, or ``module:Class`` of a Gymnasium
    environment or of a :class:`World` of your own (docs/your-own.md). options: for ``balls`` the fields of
    :class:`~worldloom.worlds.balls.BallsConfig` and ``seed``, for ``captions`` those of
    :class:`~worldloom.worlds.balls.CaptionsConfig` and ``seed``, for ``phyworld`` those of
    :class:`~worldloom.worlds.phyworld.PhyWorldConfig` and ``seed``; for Gymnasium what
    :class:`~worldloom.worlds.gym.GymWorld` takes; for your own the fields of its ``Config`` and ``seed``.
    """
    make = own_world(name)
    if make is not None:
        from worldloom.worlds.own import construct, from_options

        return construct(make, num, options.pop("seed", 0), from_options(make, options))
    if is_gymnasium(name):
        from worldloom.worlds.gym import GymWorld

        return GymWorld(name, num, **options)
    seed = options.pop("seed", 0)
    if name == "lab":
        from worldloom.worlds.lab import LabWorld

        return LabWorld(num, seed, **options)
    from worldloom.configs import from_json

    if name == "phyworld":
        from worldloom.worlds.phyworld import PhyWorld, PhyWorldConfig

        return PhyWorld(from_json(PhyWorldConfig, options, "phyworld"), num, seed)
    from worldloom.worlds.balls import Balls, BallsConfig, Captions, CaptionsConfig

    if name == "captions":
        return Captions(from_json(CaptionsConfig, options, "captions"), num, seed)
    return Balls(from_json(BallsConfig, options, "balls"), num, seed)


def own_world(name: str) -> Callable[..., World] | None:
    """What makes a user's own :class:`World` of the name ``module:Class``; None where the name means something else."""
    if ":" not in name:
        return None
    from worldloom.worlds.own import find_world

    return find_world(name)


def is_gymnasium(name: str) -> bool:
    """Whether a name means a Gymnasium environment; False for a built-in world.

    Raises :class:`WorldloomError` with the nearest built-in where it is neither.
    """
    if name in BUILT_IN:
        return False
    if ":" in name or "/" in name or re.search(r"-v\d+$", name):
        return True
    near = difflib.get_close_matches(name, BUILT_IN, 1, 0.4)
    hint = f"Did you mean {near[0]!r}?" if near else f"Built-in worlds: {', '.join(BUILT_IN)}."
    raise WorldloomError(
        f"There is no world {name!r}. {hint} A Gymnasium environment is named by its id with the version "
        "('CartPole-v1', 'ALE/Pong-v5') or as 'module:Class'."
    )


__all__ = ["BUILT_IN", "Frames", "World", "is_gymnasium", "make_world", "own_world", "sample_action"]
