from __future__ import annotations

import copy

import gymnasium
import numpy as np
import pytest
import torch
from dream_toys import CHOICES, Counter, Slider, history, unroll
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from worldloom.contract import (
    ContractError,
    Control,
    Segment,
    Sensor,
    Spec,
    UnsupportedError,
    WorldloomError,
)
from worldloom.files import DamagedFileError, save_tensors
from worldloom.imagination import DreamEnv, DreamVectorEnv, load_starts, save_starts
from worldloom.models import build, family
from worldloom.models.saved import save_model

STARTS = history([[9, 3], [9, 5], [9, 11], [9, 23]])


def value(obs):
    return int(obs[0, 0, 0])


def play(env, actions):
    out = []
    for action in actions:
        obs, reward, ended, truncated, _ = env.step(action)
        out.append((value(obs), reward, ended, truncated))
    return out


# ------------------------------------------------------------------------------------- one dream


@pytest.mark.parametrize(
    "make",
    [
        lambda: DreamEnv(Counter(), STARTS, max_steps=8),
        lambda: DreamEnv(Counter(action=False), STARTS, max_steps=8, render_mode=None),
        lambda: DreamEnv(Counter(ends=0.3), STARTS, max_steps=8, ends="sample", seed=5),
    ],
)
def test_gymnasiums_own_checker_has_nothing_to_say(make):
    check_env(make())  # warnings are errors


def test_checker_with_several_sensors_and_a_box():
    # The checker always warns of unbounded observations, which a vector sensor is; nothing else may come.
    with pytest.warns(UserWarning, match="infinity") as warned:
        check_env(DreamEnv(Slider(), max_steps=8))
    assert all("infinity" in str(w.message) for w in warned)


def test_step_by_step():
    env = DreamEnv(Counter(), STARTS, max_steps=4, ends="never")
    assert env.observation_space == gymnasium.spaces.Box(0, 255, (2, 4, 1), np.uint8)
    assert env.action_space == gymnasium.spaces.Discrete(CHOICES)
    obs, info = env.reset(seed=1, options={"start": 2})
    assert value(obs) == 11, "reset shows the last frame of the prompt"
    assert info == {"start": 2}
    expected = unroll(11, [0, 1, 2, 0])
    assert play(env, [0, 1, 2, 0]) == [(v, pytest.approx(v / 10), False, t == 3) for t, v in enumerate(expected)]
    with pytest.raises(WorldloomError, match=r"ended: call reset\(\)"):
        env.step(0)


def test_true_end_and_what_decides_it():
    # From 3 with action 0: 7, a multiple of seven.
    for ends, chance, expected in (("threshold", 0.6, True), ("threshold", 0.4, False), ("never", 1.0, False)):
        env = DreamEnv(Counter(ends=chance), STARTS, ends=ends)
        env.reset(seed=0, options={"start": 0})
        assert play(env, [0])[0][2] is expected
    many = DreamVectorEnv(Counter(ends=0.3), STARTS, num_envs=300, ends="sample")
    many.reset(seed=0, options={"start": 0})
    assert 60 < many.step(np.zeros(300, dtype=np.int64))[2].sum() < 120  # 90 expected; four deviations are 32


def test_last_valid_frame_of_a_padded_prompt_is_shown():
    starts = history([[4, 5, 6, 7]])
    starts.valid[0, 2:] = False
    obs, _ = DreamEnv(Counter(), starts).reset(seed=0)
    assert value(obs) == 5


def test_seeds_choose_start_and_dream():
    env = DreamEnv(Counter(), STARTS, ends="never", seed=3)
    first = [env.reset()[1]["start"] for _ in range(12)]
    assert len(set(first)) == 4
    env.reset(seed=3)
    assert [env.reset()[1]["start"] for _ in range(11)] == first[1:], (
        "the constructor's seed is that of the first reset"
    )
    runs = []
    for seed in (7, 7, 8):
        env.reset(seed=seed, options={"start": 1})
        runs.append([env.step(0)[0] for _ in range(4)])
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_reward_function_sees_the_frame_arrived_at_and_the_action():
    env = DreamEnv(Counter(), STARTS, ends="never", reward=lambda obs, action: 1000 * action + value(obs))
    env.reset(seed=0, options={"start": 0})
    assert [r for _, r, *_ in play(env, [1, 2])] == [1000 + unroll(3, [1])[0], 2000 + unroll(3, [1, 2])[1]]


def test_without_head_or_function_the_reward_is_zero_and_nothing_ends():
    env = DreamEnv(Slider())
    obs, _ = env.reset(seed=0)
    assert set(obs) == {"eye", "pose"}
    assert obs["eye"].shape == (4, 6, 3)
    obs, reward, ended, _, _ = env.step(np.array([1.0, -1.0]))
    assert obs["pose"] == pytest.approx([0.6, 0.4])
    assert (reward, ended) == (0.0, False)


def test_render_is_the_newest_frame_in_colour():
    env = DreamEnv(Counter(), STARTS, ends="never")
    obs, _ = env.reset(seed=0)
    assert np.array_equal(env.render(), np.repeat(obs, 3, -1))
    obs = env.step(1)[0]
    assert env.render().shape == (2, 4, 3)
    assert np.array_equal(env.render()[..., 1], obs[..., 0])
    assert env.metadata["render_fps"] == 10.0


def test_observations_belong_to_the_receiver():
    env = DreamEnv(Counter(), STARTS, ends="never")
    env.reset(seed=0, options={"start": 0})
    obs = env.step(1)[0]
    picture, before = env.render(), obs.copy()
    obs[:] = 0
    assert np.array_equal(env.render(), picture)
    kept, _ = env.reset(seed=0, options={"start": 0})
    env.step(1)
    assert value(kept) == 3
    assert value(before) == unroll(3, [1])[0]


def test_wrappers_and_copies_share_the_model():
    env = gymnasium.wrappers.TimeLimit(DreamEnv(Counter(), STARTS), 3)
    assert env.spec.id == "worldloom/Dream-v0"
    assert copy.deepcopy(env.unwrapped.spec).make().unwrapped.dreams.model is env.unwrapped.dreams.model
    assert "worldloom/Dream-v0" not in gymnasium.registry


@pytest.mark.parametrize("action", [3, -1, 1.0, True, None, np.array([0, 1]), np.float32(1)])
def test_discrete_actions_outside_the_space(action):
    env = DreamEnv(Counter(), STARTS)
    env.reset(seed=0)
    with pytest.raises(ContractError, match=r"whole numbers 0\.\.2"):
        env.step(action)
    env.step(np.int32(2))  # and the dream goes on


@pytest.mark.parametrize("action", [[2.0, 0.0], [0.0], [np.nan, 0.0], 0.5, ["a", "b"]])
def test_continuous_actions_outside_the_space(action):
    env = DreamEnv(Slider())
    env.reset(seed=0)
    with pytest.raises(ContractError, match=r"bounds|shape|NaN|numbers"):
        env.step(action)


def test_bad_arguments():
    with pytest.raises(WorldloomError, match="reset"):
        DreamEnv(Counter(), STARTS).step(0)
    with pytest.raises(UnsupportedError, match="unprompted"):
        DreamEnv(Counter())
    with pytest.raises(ContractError, match="screen"):
        DreamEnv(Counter(), Segment({"eye": torch.zeros(1, 1, 3)}, {}, *[torch.ones(1, 1, dtype=torch.bool)] * 2))
    with pytest.raises(ContractError, match=r"4 starts.*start=4"):
        DreamEnv(Counter(), STARTS).reset(options={"start": 4})
    with pytest.raises(UnsupportedError, match="wind"):
        DreamEnv(Counter(extra=True), STARTS)
    with pytest.raises(ContractError, match="max_steps"):
        DreamEnv(Counter(), STARTS, max_steps=0)
    with pytest.raises(ContractError, match="render_mode"):
        DreamEnv(Counter(), STARTS, render_mode="human")


# ------------------------------------------------------------------------------------ many dreams


@pytest.mark.parametrize("ends", ["never", "threshold", "sample"])
@pytest.mark.parametrize("reward", [None, lambda obs, action: value(obs) + 0.5 * action])
def test_vector_agrees_with_gymnasiums_own_over_single_dreams(ends, reward):
    """Observations, rewards, ends, autoresets and infos, over many episodes."""

    def options():
        return {"max_steps": 5, "ends": ends, "reward": reward}

    ours = DreamVectorEnv(Counter(ends=0.8), STARTS, num_envs=3, **options())
    theirs = SyncVectorEnv(
        [lambda: DreamEnv(Counter(ends=0.8), STARTS, **options())] * 3, autoreset_mode=AutoresetMode.SAME_STEP
    )
    assert ours.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    a, b = ours.reset(seed=11), theirs.reset(seed=11)
    assert np.array_equal(a[0], b[0])
    assert np.array_equal(a[1]["start"], b[1]["start"])
    rng, finals, true_ends = np.random.default_rng(0), 0, 0
    for _ in range(24):
        actions = rng.integers(0, CHOICES, 3)
        a, b = ours.step(actions), theirs.step(actions)
        for x, y in zip(a[:4], b[:4], strict=True):
            assert x.dtype == y.dtype
            assert np.array_equal(x, y)
        assert set(a[4]) == set(b[4])
        true_ends += int(a[2].sum())
        if "final_obs" in a[4]:
            assert np.array_equal(a[4]["_final_obs"], b[4]["_final_obs"])
            assert np.array_equal(a[4]["_final_obs"], a[2] | a[3])
            assert np.array_equal(a[4]["start"], b[4]["start"])
            for x, y in zip(a[4]["final_obs"], b[4]["final_obs"], strict=True):
                finals += x is not None
                assert (x is None) == (y is None)
                assert x is None or np.array_equal(x, y)
    assert finals >= 12
    assert (true_ends > 0) == (ends != "never")


def test_all_rows_in_one_batch_and_resets_in_another():
    model = Counter()
    env = DreamVectorEnv(model, STARTS, num_envs=5, max_steps=2)
    env.reset(seed=0)
    for _ in range(6):
        env.step(np.zeros(5, dtype=np.int64))
    assert model.batches == [5] * 6


def test_the_final_observation_is_what_the_last_action_led_to():
    env = DreamVectorEnv(Counter(), STARTS, num_envs=2, ends="threshold")
    obs, _ = env.reset(seed=0, options={"start": [0, 1]})
    assert [value(o) for o in obs] == [3, 5]
    obs, rewards, ended, truncated, info = env.step(np.array([0, 0]))
    assert ended.tolist() == [True, False]  # 7 and 11
    assert truncated.tolist() == [False, False]
    assert rewards == pytest.approx([0.7, 1.1])
    assert value(info["final_obs"][0]) == 7
    assert info["final_obs"][1] is None
    assert value(obs[0]) == [3, 5, 11, 23][info["start"][0]], "the new dream's first frame"
    assert value(obs[1]) == 11
    obs, *_ = env.step(np.array([2, 1]))
    assert value(obs[1]) == unroll(5, [0, 1])[1]


def test_reset_of_some_rows_leaves_the_others_alone():
    env = DreamVectorEnv(Counter(), STARTS, num_envs=3, ends="never", max_steps=6)
    env.reset(seed=0, options={"start": 3})
    env.step(np.array([0, 1, 2]))
    obs, info = env.reset(options={"reset_mask": np.array([False, True, False]), "start": 1})
    assert [value(o) for o in obs] == [*unroll(23, [0]), 5, *unroll(23, [2])]
    assert info["_start"].tolist() == [False, True, False]
    for _ in range(4):
        *_, truncated, _ = env.step(np.array([0, 0, 0]))
    assert truncated.tolist() == [False] * 3
    assert env.step(np.array([0, 0, 0]))[3].tolist() == [True, False, True]


def test_vector_of_several_sensors_and_render():
    env = DreamVectorEnv(Slider(), num_envs=2)
    obs, _ = env.reset(seed=0)
    assert obs["eye"].shape == (2, 4, 6, 3)
    obs, *_ = env.step(np.array([[1.0, 0.0], [0.0, -1.0]], dtype=np.float32))
    assert obs["pose"] == pytest.approx(np.array([[0.6, 0.5], [0.5, 0.4]]))
    assert [p.shape for p in env.render()] == [(4, 6, 3)] * 2


def test_vector_bad_input():
    env = DreamVectorEnv(Counter(), STARTS, num_envs=2)
    with pytest.raises(WorldloomError, match="reset"):
        env.step(np.array([0, 0]))
    with pytest.raises(WorldloomError, match="all rows once"):
        env.reset(options={"reset_mask": np.array([True, False])})
    env.reset(seed=[4, 9])
    for actions in (np.array([0, 3]), np.array([0]), np.array([0.0, 1.0]), 0):
        with pytest.raises(ContractError, match="whole numbers"):
            env.step(actions)
    with pytest.raises(ContractError, match="one for each of 2"):
        env.reset(seed=[1, 2, 3])
    with pytest.raises(ContractError, match="reset_mask"):
        env.reset(options={"reset_mask": np.array([False, False])})
    with pytest.raises(ContractError, match="num_envs"):
        DreamVectorEnv(Counter(), STARTS, num_envs=0)


# ---------------------------------------------------------------------------------- from a folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    spec = Spec({"screen": Sensor("image", (3, 16, 16))}, {"action": Control("discrete", n=3)})
    torch.manual_seed(0)
    save_model(folder / "model.safetensors", build("recurrent", spec, family("recurrent").Config.debug()))
    first = torch.zeros(2, 3, dtype=torch.bool)
    obs = torch.randint(0, 256, (2, 3, 3, 16, 16), dtype=torch.uint8)
    segment = Segment({"screen": obs}, {"action": torch.ones(2, 3, dtype=torch.int64)}, first, ~first)
    save_starts(folder / "starts.safetensors", segment)
    return folder


def test_a_runs_folder_is_enough(run):
    env = DreamEnv(run, max_steps=20)
    check_env(env)
    rows = DreamVectorEnv(str(run), num_envs=2, max_steps=3, ends="never")
    singles = [DreamEnv(run, max_steps=3, ends="never") for _ in range(2)]
    obs, _ = rows.reset(seed=5)
    assert np.array_equal(obs, [e.reset(seed=5 + i)[0] for i, e in enumerate(singles)])
    for actions in ([0, 1], [2, 2]):
        obs, *_ = rows.step(np.array(actions))
        for i, single in enumerate(singles):
            # A matrix product over two rows rounds differently from one over one row.
            assert np.abs(obs[i].astype(int) - single.step(actions[i])[0]).max() <= 1


def test_a_folder_that_is_not_a_run(tmp_path, run):
    with pytest.raises(WorldloomError, match=r"no starts\.safetensors"):
        load_starts(tmp_path)
    with pytest.raises(WorldloomError, match=r"no model\.safetensors"):
        DreamEnv(tmp_path)
    with pytest.raises(WorldloomError, match="does not exist"):
        DreamEnv(tmp_path / "nowhere", STARTS)
    with pytest.raises(WorldloomError, match="holds no starts"):
        DreamEnv(run, run / "model.safetensors")


def test_starts_round_trip(tmp_path):
    full = Segment(
        STARTS.obs, {**STARTS.control, "text": torch.arange(8).view(4, 2)}, STARTS.first, STARTS.valid,
        torch.rand(4, 2), torch.zeros(4, 2, dtype=torch.bool), frozenset({"text"}),
    )  # fmt: skip
    for segment in (full, Segment(STARTS.obs, {}, STARTS.first, STARTS.valid)):
        save_starts(tmp_path / "s.safetensors", segment)
        loaded = load_starts(tmp_path / "s.safetensors")
        for part in ("obs", "control"):
            assert getattr(loaded, part).keys() == getattr(segment, part).keys()
            assert all(torch.equal(x, getattr(segment, part)[n]) for n, x in getattr(loaded, part).items())
        for part in ("first", "valid", "reward", "terminal"):
            a, b = getattr(loaded, part), getattr(segment, part)
            assert (a is None and b is None) or torch.equal(a, b)
        assert loaded.once == segment.once
    for once in ("text", ["text"], [["text"]]):
        save_tensors(
            tmp_path / "s.safetensors",
            {"obs.screen": full.obs["screen"], "first": full.first, "valid": full.valid},
            {"kind": "starts", "once": once},
        )
        with pytest.raises(DamagedFileError, match="given once"):
            load_starts(tmp_path / "s.safetensors")
    save_tensors(tmp_path / "s.safetensors", {"first": STARTS.first}, {"kind": "starts"})
    with pytest.raises(DamagedFileError, match="lacks"):
        load_starts(tmp_path / "s.safetensors")
