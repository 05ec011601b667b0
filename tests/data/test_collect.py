"""The collector stores what happened, all of it and nothing else, in an order that does not depend on luck."""

import numpy as np
import pytest
from data_toys import TellingWorld, same

from worldloom.contract import ContractError, Control, Sensor, Spec
from worldloom.data import DataError, Dataset
from worldloom.data.collect import collect
from worldloom.worlds.base import Frames


def check_truth(world: TellingWorld, data: Dataset) -> None:
    """Every stored transition is in the world's log, with its action, and every episode is whole."""
    happened = set(world.log)
    for number in range(len(data)):
        e = data.episode(number)
        says, truth, action = e.obs["says"], e.truth["says"], e.control["action"]
        np.testing.assert_array_equal(says, truth)
        np.testing.assert_array_equal(e.obs["image"][:, 0, 0, 1], says[:, 2] + 1)
        assert action[0] == 5
        assert says[0, 2:].tolist() == [0, -1]  # frame 0 is a reset's, and no action led to it
        assert (says[0, 0], says[0, 1]) == (e.info["world"], e.info["seed"] % 1000)
        for t in range(1, e.length):
            assert (tuple(truth[t - 1]), int(action[t]), tuple(truth[t])) in happened
        assert e.reward is not None
        np.testing.assert_array_equal(e.reward, np.append(0, says[1:, 2] * 10 + action[1:]))
        ends = 2 + (5 * says[0, 1] + says[0, 0]) % 6
        assert e.length == min(ends, 6)
        assert e.terminal is bool(e.length == ends and ends % 2 == 0)


@pytest.mark.parametrize("policy", ["random", "sticky", lambda frames, rng: rng.integers(0, 5, len(frames.terminal))])
@pytest.mark.parametrize("num", [1, 3, 7])
def test_what_is_stored_happened(tmp_path, num, policy):
    world = TellingWorld(num)
    data = collect(world, tmp_path / "d", 20, 6, seed=4, policy=policy)
    assert len(data) == 20
    assert data.verify() == 20
    check_truth(world, data)
    assert len(set(data.lengths.tolist())) > 3  # cut ones, ended ones, and time limits were all met
    # Episode e lives in world e mod N; no seed is used twice by one world.
    infos = [(e.info["seed"], e.info["world"]) for e in map(data.episode, range(20))]
    assert [w for _, w in infos] == [e % num for e in range(20)]
    assert len(set(infos)) == 20


@pytest.mark.parametrize("policy", ["random", "sticky"])
def test_collecting_again_tops_up_to_what_one_go_gives(tmp_path, policy):
    whole = collect(TellingWorld(3), tmp_path / "whole", 17, 6, seed=1, policy=policy)
    for episodes in (1, 5, 6, 13, 17):
        parts = collect(TellingWorld(3), tmp_path / "parts", episodes, 6, seed=1, policy=policy)
        assert len(parts) == episodes
    assert parts.fingerprint == whole.fingerprint
    for number in range(17):
        same(parts.episode(number), whole.episode(number))
    assert collect(TellingWorld(3), tmp_path / "other", 17, 6, seed=2, policy=policy).fingerprint != whole.fingerprint


def test_a_full_dataset_does_not_touch_the_world(tmp_path):
    collect(TellingWorld(2), tmp_path / "d", 4, 6)
    world = TellingWorld(2)
    assert len(collect(world, tmp_path / "d", 4, 6)) == 4
    assert (world.steps, world.seeds) == (0, [])


def test_another_number_of_worlds_never_repeats_a_seed(tmp_path):
    seeds: set[tuple[int, int]] = set()
    for num, episodes in ((2, 20), (8, 40)):
        collect(TellingWorld(num), tmp_path / "d", episodes, 6)
    data = Dataset(tmp_path / "d")
    for number in range(40):
        info = data.episode(number).info
        seeds.add((info["seed"], info["world"]))
    assert len(seeds) == 40


def test_a_stopped_collection_keeps_whole_episodes_and_goes_on(tmp_path):
    class Stop(Exception):  # noqa: N818
        pass

    def progress(done: int, wanted: int) -> None:
        if done == 7:
            raise Stop

    with pytest.raises(Stop):
        collect(TellingWorld(3), tmp_path / "d", 20, 6, progress=progress)
    assert len(Dataset(tmp_path / "d")) == 7
    assert (
        collect(TellingWorld(3), tmp_path / "d", 20, 6).fingerprint
        == collect(TellingWorld(3), tmp_path / "e", 20, 6).fingerprint
    )


def test_sticky_repeats_about_three_quarters(tmp_path):
    class Endless(TellingWorld):
        def _frames(self) -> Frames:
            frames = super()._frames()
            self.ended[:] = False
            no = np.zeros(self.num, bool)
            return Frames(frames.obs, no, no, frames.reward, frames.truth)

    def repeated(policy: str) -> float:
        data = collect(Endless(1), tmp_path / policy, 1, 2000, policy=policy)
        action = data.episode(0).control["action"][1:]
        return float((action[1:] == action[:-1]).mean())

    assert 0.75 < repeated("sticky") < 0.85  # 0.75, and a fifth of the fresh draws
    assert 0.15 < repeated("random") < 0.25


def test_progress_counts_every_episode(tmp_path):
    seen: list[tuple[int, int]] = []
    collect(TellingWorld(3), tmp_path / "d", 5, 6, progress=lambda *x: seen.append(x))
    assert seen == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_mistakes_are_said(tmp_path):
    world = TellingWorld(2)
    with pytest.raises(DataError, match="no policy 'clever'"):
        collect(world, tmp_path / "d", 5, 6, policy="clever")
    with pytest.raises(DataError, match=r"must return integers of shape \(2,\)"):
        collect(world, tmp_path / "d", 5, 6, policy=lambda frames, rng: np.zeros(2))
    with pytest.raises(ContractError, match="5 choices"):
        collect(world, tmp_path / "d", 5, 6, policy=lambda frames, rng: np.full(2, 9))
    with pytest.raises(DataError, match="choices are 0 to 4"):
        collect(world, tmp_path / "d", 5, 6, policy=lambda frames, rng: np.full(2, 5))
    collect(world, tmp_path / "a", 5, 6, info={"world": {"name": "a", "size": (1, 2)}})
    collect(world, tmp_path / "a", 6, 6, info={"world": {"name": "a", "size": (1, 2)}})
    with pytest.raises(DataError, match="another world"):
        collect(world, tmp_path / "a", 7, 6, info={"world": {"name": "b"}})
    world.spec = Spec({"says": Sensor("vector", (4,))}, {"layout": Control("map", (1, 2, 2))})
    with pytest.raises(DataError, match="'layout'"):
        collect(world, tmp_path / "e", 5, 6)


def test_a_world_without_actions_or_rewards(tmp_path):
    class Film(TellingWorld):
        def __init__(self) -> None:
            super().__init__(2)
            self.spec = Spec(self.spec.shown)

        def step(self, action: np.ndarray) -> Frames:
            assert action.shape == (2, 0)
            return super().step(np.zeros(2))

        def _frames(self) -> Frames:
            frames = super()._frames()
            return Frames(frames.obs, frames.terminal, frames.truncated)

    data = collect(Film(), tmp_path / "d", 4, 6)
    e = data.episode(3)
    assert e.control == {}
    assert e.reward is None
    assert e.truth == {}
    np.testing.assert_array_equal(e.obs["says"][:, 2], np.arange(e.length))


def test_episodes_of_one_frame(tmp_path):
    data = collect(TellingWorld(3), tmp_path / "d", 5, 1)
    assert data.lengths.tolist() == [1] * 5
    assert not any(data.episode(i).terminal for i in range(5))
