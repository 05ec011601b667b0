"""The battery: every known-bad world by its name, and what is wrong with it."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from worldloom.evaluation.battery.laws import Law
from worldloom.evaluation.battery.pictures import Altered, Change, CopyLast, Nearest, blur, collapse, noise, shuffle
from worldloom.evaluation.battery.truth import Actions, BatteryError, Simulated, Truth, tracked_truth
from worldloom.evaluation.dreamers import Dreamer
from worldloom.evaluation.exact import ExactWorld
from worldloom.evaluation.heldout import HeldOut
from worldloom.evaluation.probes.dreams import Dreams, gather


@dataclass(frozen=True)
class Corruption:
    """One way to be wrong."""

    name: str
    """In tables."""
    about: str
    """What is wrong, in one sentence."""
    make: Callable[[ExactWorld], Dreamer]
    """Makes the dreamer of a world."""
    actions: bool = False
    """Whether it exists only where there are actions."""
    least: int = 1
    """Balls that it needs."""
    occluder: bool = False
    """Whether it exists only where there is something to hide behind."""

    def fits(self, world: ExactWorld) -> bool:
        """Whether it exists in a world."""
        return not self.lacks(world)

    def lacks(self, world: ExactWorld) -> str:
        """What a world has not that it takes, for a sentence; empty where it fits."""
        lacking = ["actions"] if self.actions and world.null is None else []
        lacking += ["an occluder"] if self.occluder and world.config.occluder is None else []
        lacking += [f"{self.least} balls"] if world.config.balls < self.least else []
        return " and ".join(lacking)


def _picture(name: str, about: str, change: Change, block: int = 1) -> Corruption:
    return Corruption(name, about, lambda world: Altered(Truth(world), change, block))


def _law(name: str, about: str, law: Law, least: int = 1, occluder: bool = False) -> Corruption:
    return Corruption(name, about, lambda world: Simulated(world, law), least=least, occluder=occluder)


def _acted(name: str, about: str, actions: Actions) -> Corruption:
    return Corruption(name, about, lambda world: Simulated(world, actions=actions), actions=True)


def _gravity(world: ExactWorld) -> Dreamer:
    pull = (0.0, 0.05)
    return Simulated(world, Law(gravity=0.5) if any(world.config.gravity) else Law(pull=pull))


def ignored(action: np.ndarray, world: ExactWorld, before: np.ndarray) -> np.ndarray:
    """Null actions instead."""
    return np.broadcast_to(np.asarray(world.null), action.shape).astype(action.dtype)


def delayed(action: np.ndarray, world: ExactWorld, before: np.ndarray) -> np.ndarray:
    """Each action a frame late."""
    return np.concatenate([before[:, None].astype(action.dtype), action[:, :-1]], 1)


def mirrored(action: np.ndarray, world: ExactWorld, before: np.ndarray) -> np.ndarray:
    """Left for right, up for down."""
    if world.config.action != "discrete":
        return -action
    return np.array([0, 2, 1, 4, 3, 5])[action].astype(action.dtype)


_ALL = (
    _picture("blur", "Every frame is blurred by a Gaussian of 1 px.", blur),
    _picture("noise", "White noise of 5 % of full scale lies on every frame.", noise),
    _picture("shuffle", "Every eight frames come in another order; each alone is right.", shuffle, 8),
    _picture("collapse", "Frames 13 to 20 dissolve, and all is right again after them.", collapse),
    _law("freeze", "All motion stops at a frame between the 5th and the 16th.", Law(event="stop")),
    Corruption("copy_last", "The prompt's last frame is repeated.", CopyLast),
    Corruption("nearest", "The training frames most like the prompt are found, and what followed there is shown.",
               Nearest.fresh),
    _law("speed", "Time runs 1.2 times as fast.", Law(clock=1.2)),
    Corruption("gravity", "Half the gravity; where there is none, 0.05 px/frame² downwards.", _gravity),
    _law("ghosts", "Balls pass through each other.", Law(collisions=False), 2),
    _law("apart", "Balls bounce off each other 2 px before they touch.", Law(gap=2.0), 2),
    _law("damped", "A wall takes 30 % of the speed towards it.", Law(restitution=0.7)),
    _law("sinking", "Balls sink 3 px into the walls before they come back.", Law(depth=3.0)),
    _law("escape", "Balls fly out through the walls and come back 40 px later.", Law(depth=40.0)),
    _law("curved", "Paths bend by 0.03 rad a frame, at unchanged speed.", Law(turn=0.03)),
    _law("heating", "All speeds grow by 1 % a frame.", Law(growth=0.01)),
    _law("backwards", "All velocities are turned round where the dream begins.", Law(backwards=True)),
    _law("vanish", "One ball is gone from a frame between the 5th and the 16th on.", Law(event="vanish")),
    _law("appear", "A copy of one ball appears at such a frame.", Law(event="appear")),
    _law("teleport", "One ball jumps to another place at such a frame.", Law(event="teleport")),
    _law("recolour", "Two balls swap colours at such a frame (one alone takes another).", Law(event="recolour")),
    _law("shrink", "Balls are drawn smaller by 1 % a frame, down to half.", Law(resize=-0.01)),
    _law("grow", "Balls are drawn larger by 1 % a frame, up to twice.", Law(resize=0.01)),
    _law("stretch", "Balls are drawn wider and lower by 1.5 % a frame, of unchanged area.", Law(squeeze=0.015)),
    _law("swallowed", "A ball that is wholly hidden never comes out.", Law(emerge=0.0), occluder=True),
    _law("slowed", "A ball comes out of hiding at 70 % of its speed.", Law(emerge=0.7), occluder=True),
    _acted("ignored", "Actions do nothing.", ignored),
    _acted("delayed", "Actions come a frame late.", delayed),
    _acted("mirrored", "Left is right and up is down.", mirrored),
)  # fmt: skip

BATTERY: dict[str, Corruption] = {one.name: one for one in _ALL}
"""Every known-bad world."""
REFERENCES: dict[str, Corruption] = {
    "truth": Corruption("truth", "The true simulator from the true state.", Truth),
    "tracked": Corruption("tracked", "The true simulator from what the tracker sees in the prompt.", tracked_truth),
}
"""Who can't do better: the upper bound, and the ceiling for whoever sees nothing but frames."""


def dreamer(name: str, world: ExactWorld) -> Dreamer:
    """One of :data:`BATTERY` or :data:`REFERENCES`. Raises :class:`BatteryError` where there is none of that name, or
    it does not exist in this world."""
    every = REFERENCES | BATTERY
    if name not in every:
        near = difflib.get_close_matches(name, every, 1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(every)}."
        raise BatteryError(f"The battery has no world {name!r}. {hint}")
    if lacking := every[name].lacks(world):
        raise BatteryError(f"The bad world {name!r} takes a world with {lacking}.")
    return every[name].make(world)


def make_dreams(
    world: ExactWorld,
    dreamer: Dreamer,
    n: int,
    prompt: int,
    horizon: int,
    seed: int,
    held: HeldOut | None = None,
) -> Dreams:
    """What a probe is given: ``n`` fresh episodes of the world, dreamed by ``dreamer``, without a model or dataset.

    held: the starts instead of fresh ones, as :meth:`ExactWorld.fresh` makes them.
    """
    held = world.fresh(n, prompt, horizon, seed) if held is None else held
    sensors = list(dreamer.spec.images)
    dreamed = dreamer.dream(held, held.control, horizon, seed=seed, sensors=sensors)
    return dataclasses.replace(gather(dreamer, held, dreamed, seed), world=world, dataset=None)


__all__ = ["BATTERY", "REFERENCES", "Corruption", "delayed", "dreamer", "ignored", "make_dreams", "mirrored"]
