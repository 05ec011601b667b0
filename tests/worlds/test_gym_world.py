"""The bridge to Gymnasium on environments whose every step can be accounted for."""

from __future__ import annotations

import gc
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from worldloom.contract import ContractError, UnsupportedError, WorldloomError
from worldloom.worlds.base import World, sample_action
from worldloom.worlds.gym import GymConfig, GymWorld
from worldloom.worlds.gym.find import EnvError

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _own_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in the folder that holds ``clockworld.py``, as a user stands beside their own environment."""
    monkeypatch.chdir(HERE)
    monkeypatch.syspath_prepend(str(HERE))


def test_no_step_is_invented_across_ends() -> None:
    rng = np.random.default_rng(0)
    with GymWorld("clockworld:ClockEnv", 3, env_options={"length": 4}) as world:
        assert isinstance(world, World)
        frames = world.reset(seed=1)
        world.step(np.array([0, 0, 0]))  # world 1 is put out of step with the others
        frames = world.reset(mask=np.array([False, True, False]))
        before = frames.obs["vector"]
        assert before[:, 1].tolist() == [1, 0, 1]
        for _ in range(40):
            if frames.ended.any():
                ended = frames.ended
                frames = world.reset(mask=ended)
                now = frames.obs["vector"]
                assert (now[ended, 0] == before[ended, 0] + 1).all()
                assert (now[ended, 1:3] == [0, -1]).all()
                assert (now[~ended] == before[~ended]).all()  # repeated, not stepped
                assert not frames.ended.any()
            else:
                action = sample_action(world.spec.given["action"], 3, rng)
                frames = world.step(action)
                now = frames.obs["vector"]
                assert (now[:, 0] == before[:, 0]).all()
                assert (now[:, 1] == before[:, 1] + 1).all()
                assert (now[:, 2] == action).all()
                assert frames.reward is not None
                assert (frames.reward == now[:, 1]).all()
                assert (frames.terminal == (now[:, 1] == 4)).all()
            before = frames.obs["vector"]


def test_frames_belong_to_the_receiver() -> None:
    with GymWorld("clockworld:FlickerEnv", size=None) as world:
        dark = world.reset(seed=0)
        lit = world.step(np.array([0]))
        assert dark.obs["camera"].max() == 0
        assert lit.obs["camera"].min() == 100


def test_stepping_an_ended_or_unbegun_world_is_an_error() -> None:
    with GymWorld("clockworld:ClockEnv", 2, env_options={"length": 1}) as world:
        with pytest.raises(ContractError, match="has not begun"):
            world.step(np.array([0, 0]))
        with pytest.raises(ContractError, match=r"\[1\] have no frame"):
            world.reset(mask=np.array([True, False]))
        world.reset()
        assert world.step(np.array([0, 0])).terminal.all()
        with pytest.raises(ContractError, match=r"Worlds \[0, 1\] have ended"):
            world.step(np.array([0, 0]))
        frames = world.reset(mask=np.array([True, False]))
        assert frames.terminal.tolist() == [False, True]
        with pytest.raises(ContractError, match=r"Worlds \[1\] have ended"):
            world.step(np.array([0, 0]))


def test_a_time_limit_is_not_terminal() -> None:
    with GymWorld("clockworld:ClockEnv", env_options={"length": 9, "limit": 3}) as world:
        world.reset()
        frames = [world.step(np.array([0])) for _ in range(3)]
        assert [f.truncated[0] for f in frames] == [False, False, True]
        assert not any(f.terminal[0] for f in frames)
    with GymWorld("clockworld:ClockEnv", env_options={"length": 4}, max_steps=4) as world:
        for ends in ([0, 0, 0, 1], [0, 0, 0, 1]):  # the count begins anew with the episode
            world.reset()
            frames = [world.step(np.array([0])) for _ in range(4)]
            assert [f.terminal[0] for f in frames] == ends
            assert not any(f.truncated[0] for f in frames)  # it truly ended in that very step
    with GymWorld("clockworld:ClockEnv", max_steps=2) as world:
        world.reset()
        frames = [world.step(np.array([0])) for _ in range(2)]
        assert frames[1].truncated[0]
        assert not frames[1].terminal[0]


def test_frame_skip_sums_rewards_and_stops_at_the_end() -> None:
    with GymWorld("clockworld:ClockEnv", frame_skip=3) as world:  # 5 steps long: 3, then 2
        world.reset()
        one, two = world.step(np.array([1])), world.step(np.array([1]))
        assert one.reward is not None
        assert two.reward is not None
        assert [one.reward[0], two.reward[0]] == [1 + 2 + 3, 4 + 5]
        assert [one.obs["vector"][0, 1], two.obs["vector"][0, 1]] == [3, 5]
        assert [one.terminal[0], two.terminal[0]] == [False, True]
        assert world.spec.fps == pytest.approx(20 / 3)


def test_pool_joins_the_last_two_raw_frames_even_in_one_buffer() -> None:
    for pool, lit in ((False, 0), (True, 100)):
        with GymWorld("clockworld:FlickerEnv", frame_skip=2, pool=pool, size=None, channels=1) as world:
            assert world.reset().obs["camera"].max() == 0
            assert world.step(np.array([0])).obs["camera"].max() == lit
    with pytest.raises(ContractError, match="frame_skip of at least 2"):
        GymConfig(pool=True)


def test_world_i_does_not_depend_on_how_many_there_are() -> None:
    def luck(num: int, seed: int | None, first: int = 0) -> np.ndarray:
        with GymWorld("clockworld:ClockEnv", num, seed=first) as world:
            return world.reset(seed=seed).obs["vector"][:, 3]

    many = luck(5, 7)
    assert (luck(2, 7) == many[:2]).all()
    assert len(set(many)) == 5
    assert (luck(5, None, first=7) == many).all()
    assert not (luck(5, 8) == many).any()


def test_only_a_seed_repeats_an_episode() -> None:
    with GymWorld("clockworld:ClockEnv", 2) as world:
        luck = [world.reset(seed=s).obs["vector"][:, 3] for s in (3, None, None, 3, None)]
        assert (luck[0] == luck[3]).all()
        assert (luck[1] == luck[4]).all()
        assert not (luck[0] == luck[1]).any()
        assert not (luck[1] == luck[2]).any()


def _play(name: str, workers: int, num: int = 3, **options: object) -> list[np.ndarray]:
    rng, seen = np.random.default_rng(5), []
    with GymWorld(name, num, workers=workers, **options) as world:
        frames = world.reset(seed=11)
        for _ in range(15):
            action = sample_action(world.spec.given["action"], num, rng)
            frames = world.reset(mask=frames.ended) if frames.ended.any() else world.step(action)
            seen += [*frames.obs.values(), frames.reward, frames.terminal, frames.truncated]
    return seen


def test_workers_give_the_same_as_one_process(capfd: pytest.CaptureFixture[str]) -> None:
    options = {"env_options": {"length": 6, "limit": 4}, "frame_skip": 2}
    for a, b in zip(
        _play("clockworld:ClockEnv", 0, **options), _play("clockworld:ClockEnv", 2, **options), strict=True
    ):
        assert a.dtype == b.dtype
        assert (a == b).all()
    for a, b in zip(_play("CartPole-v1", 0, 2), _play("CartPole-v1", 1, 2), strict=True):
        assert (a == b).all()
    assert "Traceback" not in capfd.readouterr().err


def test_a_workers_errors_arrive_and_the_world_goes_on() -> None:
    with GymWorld("clockworld:BrokenEnv", 2, workers=2) as world:
        world.reset(seed=0)
        world.step(np.array([0, 0]))
        with pytest.raises(
            EnvError, match=r"BrokenEnv can't be stepped: ZeroDivisionError: a bug.*clockworld.py, line"
        ):
            world.step(np.array([0, 0]))
        with pytest.raises(ContractError, match="has not begun"):
            world.step(np.array([0, 0]))
        assert not world.reset(seed=0).ended.any()
    with pytest.raises(EnvError, match="no 'Nothing'"):
        GymWorld("clockworld:Nothing", 2, workers=1)


def test_a_killed_worker_is_one_sentence() -> None:
    world = GymWorld("clockworld:ClockEnv", 2, workers=1)
    world.reset()
    world._lanes[0]._process.kill()  # type: ignore[union-attr]
    world._lanes[0]._process.wait()  # type: ignore[union-attr]
    with pytest.raises(EnvError, match="worker of clockworld:ClockEnv died"):
        world.step(np.array([0, 0]))
    world.close()


def test_callables_work_here_and_in_workers_and_must_make_new_ones() -> None:
    import clockworld

    length = 2
    for workers in (0, 1):
        with GymWorld(lambda: clockworld.ClockEnv(length), workers=workers) as world:
            world.reset()
            assert [world.step(np.array([0])).terminal[0] for _ in range(2)] == [False, True]
    with GymWorld(clockworld.ClockEnv, env_options={"length": 1}) as world:
        world.reset()
        assert world.step(np.array([0])).terminal[0]
    one = clockworld.CallableEnv()
    with pytest.raises(EnvError, match="same environment twice"):
        GymWorld(lambda: one, 2)
    with pytest.raises(EnvError, match="not an environment"):
        GymWorld(one)


def test_closing_frees_everything_even_when_forgotten() -> None:
    import clockworld

    made: list[clockworld.ClockEnv] = []

    def make() -> clockworld.ClockEnv:
        made.append(clockworld.ClockEnv())
        return made[-1]

    world = GymWorld(make, 2)
    world.close()
    world.close()
    assert all(env.closed for env in made)
    with pytest.raises(ContractError, match="closed"):
        world.reset()
    forgotten = GymWorld(make, 1)
    process = GymWorld("clockworld:ClockEnv", workers=1)
    popen = process._lanes[0]._process  # type: ignore[union-attr]
    del forgotten, process
    gc.collect()
    assert made[-1].closed
    assert popen.poll() == 0


def test_nested_observations_become_named_sensors() -> None:
    with GymWorld("clockworld:PictureEnv", 2, size=(16, 24)) as world:
        shown = {name: (s.kind, s.shape) for name, s in world.spec.shown.items()}
        assert shown == {
            "eye": ("image", (3, 16, 24)),
            "body.arm": ("vector", (4,)),
            "body.gear": ("vector", (3,)),
            "pair.0": ("vector", (2,)),
            "pair.1": ("vector", (1,)),
        }
        assert next(iter(shown)) == "eye"
        assert any("words" in note for note in world.notes)
        obs = world.reset().obs
        assert obs["eye"].shape == (2, 3, 16, 24)
        assert (obs["eye"][:, 0, :, :12] == 200).all()
        assert (obs["eye"][:, 0, :, 12:] == 0).all()
        assert (obs["eye"][:, 1:] == 0).all()
        assert obs["body.arm"].tolist() == [[1, 2, 3, 4]] * 2
        assert obs["body.gear"].tolist() == [[0, 0, 1]] * 2
        assert obs["pair.0"].tolist() == [[0, 1]] * 2
        assert all(x.dtype == (np.uint8 if k == "eye" else np.float32) for k, x in obs.items())
    with GymWorld("clockworld:PictureEnv", sensors=("body.arm",)) as world:
        assert list(world.reset().obs) == ["body.arm"]
    with GymWorld("clockworld:PictureEnv", pixels="no") as world:
        assert "eye" not in world.spec.shown
    with pytest.raises(ContractError, match=r"no sensors \['nose'\]"):
        GymWorld("clockworld:PictureEnv", sensors=("nose",))


def test_box_actions_keep_shape_and_bounds() -> None:
    with GymWorld("clockworld:PictureEnv", 2) as world:
        control = world.spec.given["action"]
        assert (control.kind, control.shape, control.low, control.high) == ("continuous", (2,), (-1, 0), (1, 2))
        world.reset()
        frames = world.step(np.array([[0.5, 2.00001], [0.0, 1.0]]))  # a rounding error outside is clipped
        assert frames.reward is not None
        assert frames.reward.tolist() == [2, 1]
        for bad, why in (([[0, 0], [0, 2.5]], "World 1: action entry 1 is 2.5"), ([[0, np.nan]] * 2, "entry 1 is nan")):
            with pytest.raises(ContractError, match=why):
                world.step(np.array(bad))
        with pytest.raises(ContractError, match=r"shape \(2, 2\)"):
            world.step(np.zeros(2))


def test_choices_of_several_kinds_become_one() -> None:
    with GymWorld("clockworld:FlickerEnv") as world:
        assert world.spec.given["action"].n == 6
        world.reset()
        told = [world.step(np.array([a])).reward for a in range(6)]
        assert [float(r[0]) for r in told if r is not None] == [0, 1, 2, 10, 11, 12]
    with GymWorld("clockworld:FlickerEnv", env_options={"action_space": gym.spaces.Discrete(2, start=5)}) as world:
        world.reset()
    huge = {"action_space": gym.spaces.MultiBinary(30)}
    with pytest.raises(UnsupportedError, match="1073741824 combinations"):
        GymWorld("clockworld:FlickerEnv", env_options=huge)
    half = {"action_space": gym.spaces.Box(np.array([0, -np.inf]), np.array([1, np.inf]), dtype=np.float64)}
    with pytest.raises(UnsupportedError, match="bounded in some entries"):
        GymWorld("clockworld:FlickerEnv", env_options=half)
    with pytest.raises(UnsupportedError, match="not supported"):
        GymWorld("clockworld:FlickerEnv", env_options={"action_space": gym.spaces.Text(3)})


@pytest.mark.parametrize(
    ("action", "why"),
    [
        ([0, 3], "World 1: action 3 is outside 0..2 .*only a model"),
        ([-1, 0], "World 0: action -1"),
        ([0.0, 1.0], "whole numbers"),
        ([0], "shape"),
        ([[0], [1]], "shape"),
    ],
)
def test_actions_outside_the_space_change_nothing(action: list[float], why: str) -> None:
    with GymWorld("clockworld:ClockEnv", 2) as world:
        assert world.spec.given["action"].names == ("stay", "left", "right")
        world.reset()
        with pytest.raises(ContractError, match=why):
            world.step(np.array(action))
        assert (world.step(np.array([1, 2])).obs["vector"][:, 1] == 1).all()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("ALE/Brakout-v5", "Did you mean ALE/Breakout-v5"),
        ("pong", "Did you mean ALE/Pong-v5"),
        ("CartPol-v1", "Did you mean CartPole-v1"),
        ("MiniGrid-Emty-5x5-v0", "Did you mean MiniGrid-Empty-5x5-v0"),
        ("qqqqqqqqqqqq", "module:Class"),
        ("nomodule:Thing", "no module 'nomodule'"),
        ("clockworld:ClokEnv", "Did you mean 'ClockEnv'"),
        ("clockworld.py:ClockEnv", "'clockworld:ClockEnv'"),
        ("clockworld:np", "not a class"),
        ("clockworld:HERE_IS_NOTHING", "has no"),
    ],
)
def test_unknown_environments_name_the_nearest(name: str, why: str) -> None:
    with pytest.raises(EnvError, match=why) as caught:
        GymWorld(name)
    assert "\n" not in str(caught.value)


def test_bad_options_are_clear() -> None:
    with pytest.raises(ContractError, match="did you mean 'frame_skip'"):
        GymWorld("CartPole-v1", frameskip=4)
    with pytest.raises(EnvError, match="lenght"):
        GymWorld("clockworld:ClockEnv", env_options={"lenght": 4})
    with pytest.raises(ContractError, match="num >= 1"):
        GymWorld("CartPole-v1", 0)
    for bad in ({"size": (0, 3)}, {"max_steps": 0}, {"frame_skip": 0}, {"crop": (1, 1, 1, -1)}):
        with pytest.raises(ContractError, match=next(iter(bad))):
            GymConfig(**bad)  # type: ignore[arg-type]


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from worldloom.worlds.gym import find

    monkeypatch.setitem(find.PACKAGES, "Absent-", ("absent_package", "absent_package"))
    with pytest.raises(WorldloomError, match=r"'absent_package': pip install 'worldloom\[envs\]'"):
        GymWorld("Absent-World-v0")


def test_without_pixels() -> None:
    with GymWorld("clockworld:ClockEnv") as world:
        assert list(world.spec.shown) == ["vector"]
        assert any("No pixels" in note for note in world.notes)
    with pytest.raises(EnvError, match=r"shows no pixels: .* render modes are none"):
        GymWorld("clockworld:ClockEnv", pixels="require")


def test_autoreset_wrappers_and_old_environments_are_refused() -> None:
    import clockworld

    with pytest.raises(EnvError, match="Autoreset"):
        GymWorld(lambda: gym.wrappers.Autoreset(clockworld.ClockEnv()))

    class Old(clockworld.ClockEnv):
        def step(self, action: object) -> object:
            obs, reward, terminal, _, info = super().step(action)
            return obs, reward, terminal, info

    with GymWorld(Old) as world:
        world.reset()
        with pytest.raises(EnvError, match=r"returned 4 values.*gymnasium"):
            world.step(np.array([0]))
