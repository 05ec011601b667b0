"""The protocol of worlds as tests: ours keep it, and a world with one broken promise fails the check of that name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import worldloom
from worldloom.contract import ContractError, Control, Sensor, Spec
from worldloom.worlds.base import Frames
from worldloom.worlds.checking import CHECKS, check_world


class Walk:
    """A walk on a line that ends after eight steps; every hook is a promise that a broken one takes back."""

    def __init__(self, num: int, **broken):
        self.num, self.broken = num, broken
        action = Control("continuous", (1,), low=(-1.0,), high=(1.0,))
        self.spec = Spec({"place": Sensor("vector", (2,)), "eye": Sensor("image", (1, 2, 2))}, {"action": action})
        self.x, self.age, self.drawn = np.zeros(num), np.zeros(num, int), 0

    def reset(self, seed=None, mask=None):
        self.drawn += 1
        for i in np.flatnonzero(np.ones(self.num, bool) if mask is None else mask):
            entropy = {"seeds": [self.drawn, i], "number": [seed or 0, i, self.num]}
            broken = next((n for n in entropy if n in self.broken), "")
            self.x[i] = np.random.default_rng(entropy.get(broken, [seed or 0, i])).uniform()
            self.age[i] = 0
        if "mask" in self.broken:
            self.x[:] += 1
        return self.frames()

    def step(self, action):
        if "null_action" in self.broken and not action.any():
            raise RuntimeError("do something")
        self.x = self.x + action[:, 0]
        self.age = self.age + 1
        if "memory" in self.broken:
            action[:] = 0
        return self.frames()

    def frames(self):
        place = np.stack([self.x, self.age], 1).astype(np.float32)
        no = np.zeros(self.num, bool)
        frames = Frames({"place": place, "eye": np.zeros((self.num, 1, 2, 2), np.uint8)}, self.age >= 8, no, None)
        frames = replace(frames, truth={"x": self.x.copy()})
        change = self.broken.get("frames")
        return change(frames) if change else frames

    def close(self):
        pass


def checked(**broken) -> dict[str, str]:
    return check_world(Walk(3, **broken), make=lambda n: Walk(n, **broken), raise_on_failure=False).failures


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("balls", {"action": "continuous", "task": "goal", "balls": 2, "time_limit": 5}),
        ("balls", {}),
        ("lab", {}),
        ("phyworld", {"scenario": "collision"}),
        ("CartPole-v1", {"size": (32, 32)}),
    ],
)
def test_our_worlds_keep_it(name, options):
    worlds = []

    def make(num):
        worlds.append(worldloom.make_world(name, num, **options))
        return worlds[-1]

    report = worldloom.check_world(make(2), make=make, frames=8)
    assert [check.name for check in report.checks] == list(CHECKS)
    worlds[0].close()


def test_a_good_one_passes():
    assert not checked()


@pytest.mark.parametrize("name", ["seeds", "number", "mask", "memory", "null_action"])
def test_a_broken_promise_fails_its_check(name):
    assert set(checked(**{name: True})) >= {name}
    with pytest.raises(ContractError, match=name):
        check_world(Walk(2, **{name: True}), make=lambda n: Walk(n, **{name: True}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: replace(f, obs={"place": f.obs["place"]}), "must show the sensors"),
        (lambda f: replace(f, obs={**f.obs, "place": f.obs["place"].astype(float)}), "must be float32"),
        (lambda f: replace(f, obs={**f.obs, "eye": f.obs["eye"][:, 0]}), r"\(3, 1, 2, 2\)"),
        (lambda f: replace(f, obs={**f.obs, "place": f.obs["place"] * np.nan}), "NaN"),
        (lambda f: replace(f, terminal=f.terminal.astype(int)), "terminal after reset must be bool"),
        (lambda f: replace(f, reward=f.terminal.astype(float)), "reward after reset must be float32"),
        (lambda f: replace(f, truth={"x": f.truth["x"][:2]}), "one row a world"),
        (lambda f: replace(f, truth={"x": f.truth["x"]} if f.terminal.any() else {}), "same names, shapes"),
        (lambda f: f.obs, "return worldloom.Frames"),
    ],
)
def test_frames_that_do_not_fit(change, says):
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(checked(frames=change)["frames"])


def test_frames_that_change_later():
    world = Walk(3)
    shared = np.zeros((3, 2), np.float32)

    def show():
        shared[:, 0] = world.x
        return Frames({"place": shared, "eye": np.zeros((3, 1, 2, 2), np.uint8)}, world.age >= 8, np.zeros(3, bool))

    world.frames = show
    assert "memory" in check_world(world, raise_on_failure=False).failures


def test_what_is_no_world_says_so_once():
    class Nothing:
        num = 2

    report = check_world(Nothing(), raise_on_failure=False)
    assert list(report.failures) == ["page"]
    assert "'spec' is missing" in report.failures["page"]
