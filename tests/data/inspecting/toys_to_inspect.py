"""Good episodes in memory, for tests to spoil."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np

from worldloom.contract import Control, Sensor, Spec
from worldloom.data import Episode
from worldloom.worlds import make_world

SPEC = Spec(
    {"camera": Sensor("image", (3, 32, 32)), "place": Sensor("vector", (2,))},
    {"action": Control("discrete", n=5, names=("stay", "left", "right", "up", "down"))},
)


def good(episodes: int = 24, length: int = 90, seed: int = 0) -> list[Episode]:
    """A ball that is pushed about, as the library's world draws it."""
    world = make_world("balls", episodes, action="discrete", height=32, width=32, radius=3.0, speed=1.0, seed=seed)
    rng = np.random.default_rng(seed)
    control = SPEC.given["action"]
    frames = [world.reset(seed)]
    actions = [np.full(episodes, control.n)]
    for _ in range(length - 1):
        actions.append(rng.integers(0, 5, episodes))
        frames.append(world.step(actions[-1]))
    image = np.stack([f.obs["camera"] for f in frames], 1)
    place = np.stack([f.truth["position"][:, 0] for f in frames], 1).astype(np.float32)
    action = np.stack(actions, 1)
    reward = (place[..., 0] > 16).astype(np.float32)
    reward[:, 0] = 0
    out = []
    for i in range(episodes):
        obs = {"camera": image[i].copy(), "place": place[i].copy()}
        out.append(Episode(obs, {"action": action[i].copy()}, reward[i].copy(), False))
    return out


def spoiled(episodes: list[Episode], number: int, **changes: np.ndarray) -> list[Episode]:
    """A copy in which arrays of one episode are others: ``camera=``, ``place=``, ``action=``, ``reward=``."""
    out = copy.copy(episodes)
    old = out[number]
    obs = {name: changes.get(name, x) for name, x in old.obs.items()}
    control = {"action": changes.get("action", old.control["action"])}
    out[number] = dataclasses.replace(old, obs=obs, control=control, reward=changes.get("reward", old.reward))
    return out


def drifting(episodes: int, length: int, seed: int = 0, policy: str = "random") -> tuple[Spec, list[Episode]]:
    """Vectors only: a mass with a little friction, pushed; ``answering`` policies push back to where they come from."""
    rng = np.random.default_rng(seed)
    spec = Spec({"state": Sensor("vector", (2,))}, {"action": Control("continuous", (1,), low=(-1.0,), high=(1.0,))})
    out = []
    for _ in range(episodes):
        x, v, rows, actions = 0.0, 0.0, [], []
        for t in range(length):
            a = 0.0
            if t:
                a = float(np.clip(rng.normal(0, 0.6) - (0.5 * x if policy == "answering" else 0), -1, 1))
                v = 0.9 * v + 0.3 * a + rng.normal(0, 0.03)
                x = x + v
            rows.append([x, v])
            actions.append([a])
        out.append(Episode({"state": np.array(rows, np.float32)}, {"action": np.array(actions, np.float32)}))
    return spec, out


def moved(spec: Spec, episodes: list[Episode], shift: int) -> list[Episode]:
    """The column moved so that entry t + shift is the one that led to frame t."""
    control = spec.action
    assert control is not None
    out = []
    for e in episodes:
        action = np.roll(e.control["action"], shift, 0)
        action[0] = control.null().numpy()
        keep = slice(max(0, shift), e.length + min(0, shift))
        out.append(Episode({n: x[keep] for n, x in e.obs.items()}, {"action": action[keep]}, info=e.info))
    return out
