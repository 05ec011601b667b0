"""Small episodes and a world whose frames say where they come from."""

from pathlib import Path

import numpy as np

from worldloom.contract import Control, Sensor, Spec
from worldloom.data import DatasetWriter, Episode
from worldloom.worlds.base import Frames

SPEC = Spec(
    {"image": Sensor("image", (3, 5, 7)), "where": Sensor("vector", (2,))},
    {"action": Control("discrete", n=4)},
)


def episode(number: int, length: int, spec: Spec = SPEC) -> Episode:
    """Frame t of episode e has pixels e and t, the vector (e, t), the action (e + t) % 4 and the reward 100 e + t."""
    t = np.arange(length)
    image = np.zeros((length, 3, 5, 7), np.uint8)
    image[:, 0] = number % 256
    image[:, 1] = (t % 256)[:, None, None]
    image[:, 2] = (t // 256)[:, None, None]
    action = (number + t) % 4
    action[0] = 4
    where = np.stack([np.full(length, number), t], 1).astype(np.float32)
    return Episode(
        {"image": image, "where": where},
        {"action": action},
        (100 * number + t).astype(np.float32),
        number % 2 == 0,
        {"exact": np.stack([t / 3, np.full(length, number)], 1)},
        {"number": number},
    )


def write(path: Path, lengths: list[int], **options: int) -> Path:
    with DatasetWriter(path, SPEC, {"world": {"name": "toy"}}, **options) as writer:
        for number, length in enumerate(lengths, len(writer)):
            writer.add(episode(number, length))
    return path


def same(a: Episode, b: Episode) -> None:
    """Equal in every array, dtype, and remark."""
    for x, y in ((a.obs, b.obs), (a.control, b.control), (a.truth, b.truth)):
        assert x.keys() == y.keys()
        for name in x:
            assert x[name].dtype == y[name].dtype
            np.testing.assert_array_equal(x[name], y[name])
    assert (a.reward is None) == (b.reward is None)
    if a.reward is not None and b.reward is not None:
        np.testing.assert_array_equal(a.reward, b.reward)
    assert a.terminal is b.terminal
    assert a.info == b.info


class TellingWorld:
    """Its frames hold (world, seed, t, last action) and its log every transition that happened.

    World i seeded by s ends after 2 + (5 s + i) % 6 frames: truly if that is even, else by a time limit.
    """

    def __init__(self, num: int):
        self.num = num
        self.spec = Spec(
            {"image": Sensor("image", (1, 2, 3)), "says": Sensor("vector", (4,))}, {"action": Control("discrete", n=5)}
        )
        self.says = np.zeros((num, 4))
        self.ended = np.ones(num, bool)
        self.log: list[tuple[tuple[float, ...], int, tuple[float, ...]]] = []
        self.seeds: list[tuple[int, int]] = []
        self.steps = 0

    def _frames(self) -> Frames:
        last = 2 + (5 * self.says[:, 1] + self.says[:, 0]) % 6 - 1
        over = self.says[:, 2] >= last
        self.ended = over
        image = np.zeros((self.num, 1, 2, 3), np.uint8)
        image[:, 0, 0, :] = self.says[:, [0, 2, 3]] + 1
        even = last % 2 == 1
        reward = (self.says[:, 2] * 10 + self.says[:, 3]).astype(np.float32)
        truth = {"says": self.says.copy()}
        return Frames({"image": image, "says": self.says.astype(np.float32)}, over & even, over & ~even, reward, truth)

    def reset(self, seed: int | None = None, mask: np.ndarray | None = None) -> Frames:
        assert seed is not None
        for i in np.flatnonzero(np.ones(self.num, bool) if mask is None else mask).tolist():
            self.seeds.append((seed % 1000, i))
            self.says[i] = (i, seed % 1000, 0, -1)
        return self._frames()

    def step(self, action: np.ndarray) -> Frames:
        assert not self.ended.any(), "stepped a world that has ended"
        before = self.says.copy()
        self.says[:, 2] += 1
        self.says[:, 3] = action
        self.steps += 1
        for i in range(self.num):
            self.log.append((tuple(before[i]), int(action[i]), tuple(self.says[i])))
        return self._frames()

    def close(self) -> None:
        pass
