"""The bridge on real environments: Atari, ViZDoom, MiniGrid, CartPole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from worldloom.contract import ContractError
from worldloom.worlds.base import Frames, sample_action
from worldloom.worlds.gym import GymWorld


def _drive(world: GymWorld, steps: int, seed: int = 3) -> list[Frames]:
    rng = np.random.default_rng(seed)
    frames = [world.reset(seed=seed)]
    for _ in range(steps):
        ended = frames[-1].ended
        action = sample_action(world.spec.given["action"], world.num, rng)
        frames.append(world.reset(mask=ended) if ended.any() else world.step(action))
    return frames


def _same(a: list[Frames], b: list[Frames]) -> bool:
    return all((x.obs[k] == y.obs[k]).all() for x, y in zip(a, b, strict=True) for k in x.obs)


def test_atari(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    with GymWorld("ALE/Pong-v5", 2, frame_skip=4) as pong:
        assert pong.spec.shown["camera"].shape == (3, 64, 64)
        assert pong.spec.given["action"].names[:3] == ("NOOP", "FIRE", "RIGHT")
        assert pong.spec.fps == 15
        one = _drive(pong, 120)
        again = _drive(pong, 120)
        assert _same(one, again)  # seeding begins everything anew
        rewards = np.concatenate([f.reward for f in one if f.reward is not None])
        assert set(rewards) <= {-1.0, 0.0, 1.0}
        assert (rewards == -1).any()  # the left side scores against random play within 480 frames
        assert (one[-1].obs["camera"][0] != one[-1].obs["camera"][1]).any()
    with GymWorld("ALE/Pong-v5", 1, frame_skip=4) as alone:
        assert all(
            (a.obs["camera"][0] == b.obs["camera"][0]).all() for a, b in zip(_drive_noop(alone), _two(), strict=True)
        )
    assert "Stella" not in capfd.readouterr().err


def _drive_noop(world: GymWorld) -> list[Frames]:
    return [world.reset(seed=9), *(world.step(np.zeros(world.num, np.int64)) for _ in range(20))]


def _two() -> list[Frames]:
    with GymWorld("ALE/Pong-v5", 2, frame_skip=4) as world:
        return _drive_noop(world)


def test_all_ways_to_skip_frames_agree() -> None:
    """Four console frames a step: counted by our loop, by the environment for us, or by its own default."""

    def play(skip: int | None, **options: object) -> list[Frames]:
        with GymWorld("ALE/Breakout-v5", frame_skip=skip, env_options=options) as world:
            assert world.spec.fps == 15
            return _drive(world, 80)

    for chance in (0.0, 0.25):
        own = play(None, repeat_action_probability=chance)
        assert _same(own, play(4, repeat_action_probability=chance))
        assert _same(own, play(4, repeat_action_probability=chance, frameskip=1))
    assert _same(own, play(None))  # v5's sticky actions are kept
    with GymWorld("ALE/Breakout-v5", frame_skip=1) as raw:
        assert raw.spec.fps == 60


def test_breakouts_ball_and_paddle_survive_the_resize() -> None:
    options = {"frame_skip": 4, "shrink": "max", "crop": (17, 14, 0, 0)}
    with GymWorld("ALE/Breakout-v5", env_options={"repeat_action_probability": 0.0}, **options) as world:
        world.reset(seed=0)
        world.step(np.array([1]))  # fire
        seen = []
        for _ in range(8):
            camera = world.step(np.array([0])).obs["camera"][0]
            below = camera[0, 30:, 5:59]  # under the bricks, between the walls
            rows = np.flatnonzero((below == 200).any(1))
            seen.append(int(rows[0]))
            assert below[-8:].max() == 200  # the paddle
        assert len(set(seen)) >= 5  # the ball falls
    with pytest.raises(ContractError, match="leaves nothing"):
        GymWorld("ALE/Breakout-v5", crop=(200, 14, 0, 0))


def test_vizdoom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with GymWorld("VizdoomBasic-v1", 1, frame_skip=4, size=(60, 80)) as doom:
        assert doom.spec.shown["screen"].shape == (3, 60, 80)
        assert doom.spec.shown["gamevariables"].shape == (1,)
        assert set(doom.spec.given["action"].names) == {"NOOP", "ATTACK", "MOVE_LEFT", "MOVE_RIGHT"}
        assert doom.spec.fps == pytest.approx(35 / 4)
        frames = [doom.reset(seed=1)]
        while not frames[-1].ended[0]:
            frames.append(doom.step(np.array([0])))
        assert frames[-1].truncated[0]  # nothing was shot: the clock ran out, 300 tics
        assert not frames[-1].terminal[0]
        assert len(frames) == 76
        assert min(f.obs["screen"].mean() for f in frames) > 20  # no black frame at the end
        assert (doom.reset(seed=1).obs["screen"] == frames[0].obs["screen"]).all()
    assert list(tmp_path.iterdir()) == []  # it leaves no file behind


def test_minigrid() -> None:
    with GymWorld("MiniGrid-Empty-5x5-v0", 2) as grid:
        assert grid.spec.shown["camera"].shape == (3, 64, 64)
        assert grid.spec.shown["direction"].shape == (4,)
        assert grid.spec.given["action"].names[:3] == ("left", "right", "forward")
        assert any("mission" in note for note in grid.notes)
        first = grid.reset(seed=0)
        assert first.obs["direction"].tolist() == [[1, 0, 0, 0]] * 2
        turned = grid.step(np.array([1, 6]))
        assert turned.obs["direction"].tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]
        assert (turned.obs["camera"][0] != first.obs["camera"][0]).any()
        grid.reset()
        for action in (2, 2, 1, 2):  # forward twice, right, forward; then the goal
            assert not grid.step(np.array([action, 6])).ended.any()
        goal = grid.step(np.array([2, 6]))
        assert goal.terminal.tolist() == [True, False]
        assert goal.reward is not None
        assert goal.reward[0] > 0.9


def test_cartpole_is_rendered() -> None:
    with GymWorld("CartPole-v1", 2, pixels="require") as pole:
        assert list(pole.spec.shown) == ["camera", "vector"]
        first = pole.reset(seed=0)
        for _ in range(5):
            last = pole.step(np.array([0, 1]))
        assert first.obs["camera"].shape == (2, 3, 64, 64)
        centre = [
            np.average(np.arange(64), weights=255 - c.mean((0, 1)) + 1e-6) for c in last.obs["camera"][:, :, 45:50]
        ]
        assert last.obs["vector"][0, 0] < last.obs["vector"][1, 0]
        assert centre[0] < centre[1]  # the carts are where the numbers say
    with GymWorld("CartPole-v1", pixels="no") as blind:
        assert list(blind.spec.shown) == ["vector"]


def test_the_examples_of_the_docs_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "environments.md").read_text(encoding="utf-8")
    blocks = [part.split("```")[0] for part in page.split("```python\n")[1:]]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_module.py").write_text(blocks[1], encoding="utf-8")
    exec(compile(blocks[0], "environments.md", "exec"), {})
    with GymWorld("my_module:Drift") as world:
        assert {name: s.shape for name, s in world.spec.shown.items()} == {"eye": (3, 64, 64), "speed": (1,)}
        assert any(f.terminal.any() for f in _drive(world, 60))
