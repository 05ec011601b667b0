"""A dataset that leaves as a folder of mp4 comes back with the same actions, rewards, ends, and nearly its pictures."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worldloom.contract import Control, Sensor, Spec
from worldloom.data import DataError, Dataset, DatasetWriter, Episode
from worldloom.data.sinks import export_data, video
from worldloom.data.sources import ImportConfig
from worldloom.data.sources.films.video import VideoSource

CHOICES = Control("discrete", n=6, names=("noop", "up", "down", "left", "right", "fire"))
NUMBERS = Control("continuous", (2,), names=("steer", "gas"), low=(-1.0, 0.0), high=(1.0, 2.0))
BARE = Control("continuous", (1,))
LENGTHS = (12, 1, 2, 300)


def dataset(path: Path, control: Control | None, *, size: tuple[int, int] = (16, 24), **options: Any) -> Dataset:
    """Episodes with little squares that move, random actions, rewards, and ends."""
    cameras = options.pop("cameras", {"image": (3, *size)})
    known = options.pop("known", True)
    lengths = options.pop("lengths", LENGTHS)
    rng = np.random.default_rng(0)
    shown = {n: Sensor("image", s) for n, s in cameras.items()} | options.pop("vectors", {})
    spec = Spec(shown, {} if control is None else {"action": control}, options.pop("fps", 12.5))
    with DatasetWriter(path, spec, {"world": {"name": "toy"}}) as writer:
        for number, length in enumerate(lengths):
            obs: dict[str, np.ndarray] = {}
            for name, sensor in spec.shown.items():
                if sensor.kind == "vector":
                    obs[name] = np.zeros((length, *sensor.shape), np.float32)
                    continue
                x = np.full((length, *sensor.shape), 30 * (number + 1), np.uint8)
                for t in range(length):
                    x[t, :, t % 8 : t % 8 + 4, 2:7] = rng.integers(0, 256, (sensor.shape[0], 1, 1))
                obs[name] = x
            action: dict[str, np.ndarray] = {}
            if control is not None:
                value = control.null(length).numpy()
                if control.kind == "discrete":
                    value[1:] = rng.integers(0, 4, length - 1)  # the last choices are never taken
                else:
                    value[1:] = rng.uniform(0, 1, (length - 1, *control.shape))
                action["action"] = value
            reward = np.concatenate([[0], rng.normal(size=length - 1)]).astype(np.float32) if known else None
            writer.add(Episode(obs, action, reward, number % 2 == 0 if known else None))
    return Dataset(path)


def back(path: Path, **options: Any) -> tuple[VideoSource, list[Episode]]:
    source = VideoSource(path, ImportConfig(**options))
    assert source.problems == []
    return source, [e for item in source.items for e in source.read(item)]


@pytest.mark.parametrize("control", [CHOICES, NUMBERS, BARE, None], ids=["choices", "numbers", "bare", "none"])
def test_what_goes_out_comes_back(tmp_path: Path, control: Control | None) -> None:
    data = dataset(tmp_path / "data", control)
    done: list[int] = []
    notes = export_data(data, tmp_path / "out", "video", done.append)
    assert done == [1, 2, 3, 4]
    source, episodes = back(tmp_path / "out")
    assert source.spec == data.spec
    assert [e.length for e in episodes] == list(LENGTHS)
    for number, e in enumerate(episodes):
        expected = data.episode(number)
        assert e.control.keys() == expected.control.keys()
        for name, value in expected.control.items():
            assert e.control[name].dtype == value.dtype
            np.testing.assert_array_equal(e.control[name], value)
        assert expected.reward is not None
        assert e.reward is not None
        np.testing.assert_array_equal(e.reward, expected.reward)
        assert e.reward.dtype == np.float32
        assert e.terminal is expected.terminal
        difference = np.abs(e.obs["image"].astype(int) - expected.obs["image"])
        assert difference.max() <= 24
        assert difference.mean() < 1.5
    assert any("4:4:4" in note for note in notes)
    assert sorted(p.suffix for p in (tmp_path / "out").iterdir()) == [".csv"] * 4 + [".json"] + [".mp4"] * 4
    assert not list(tmp_path.glob(".*"))


def test_the_tables_say_what_was_done_after_each_frame(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data", NUMBERS, lengths=(3,))
    notes = export_data(data, tmp_path / "out", "video")
    with (tmp_path / "out" / "episode_000000.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.reader(file))
    e = data.episode(0)
    assert e.reward is not None
    assert table[0] == ["frame", "action.steer", "action.gas", "reward", "terminal"]
    assert table[1] == ["0", *map(str, e.control["action"][1]), str(e.reward[1]), "0"]
    assert table[2] == ["1", *map(str, e.control["action"][2]), str(e.reward[2]), "1"]
    assert table[3] == ["2", "", "", "", ""]
    about = json.loads((tmp_path / "out" / "about.json").read_text(encoding="utf-8"))
    assert about["pairing"] == "next"
    assert Spec.from_json(about["spec"]) == data.spec
    assert "after frame t" in about["tables"]
    assert any("after frame t" in note for note in notes)
    (tmp_path / "out" / "about.json").unlink()  # others' readers and editors may lose it
    source, episodes = back(tmp_path / "out")
    np.testing.assert_array_equal(episodes[0].control["action"], e.control["action"])
    assert source.spec.action == Control("continuous", (2,), names=("action.steer", "action.gas"))


def test_nothing_known_leaves_no_table(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data", None, known=False)
    export_data(data, tmp_path / "out", "video")
    assert not list((tmp_path / "out").glob("*.csv"))
    source, episodes = back(tmp_path / "out")
    assert source.spec == data.spec
    assert all(e.reward is None and e.terminal is None for e in episodes)


def test_cameras_are_files_of_their_own(tmp_path: Path) -> None:
    cameras = {"front": (3, 16, 24), "depth map": (1, 32, 24)}
    data = dataset(
        tmp_path / "data", CHOICES, cameras=cameras, vectors={"pose": Sensor("vector", (2,))}, lengths=(5, 6)
    )
    notes = export_data(data, tmp_path / "out", "video")
    assert sorted(p.name for p in (tmp_path / "out").glob("*.mp4")) == [
        f"episode_00000{i}.{name}.mp4" for i in (0, 1) for name in ("depth_map", "front")
    ]
    assert any("sensor pose" in note for note in notes)
    assert any("Grey" in note for note in notes)
    source, episodes = back(tmp_path / "out")
    assert list(source.spec.shown) == ["front"]
    assert any("--cameras" in note for note in source.notes)
    np.testing.assert_array_equal(episodes[1].control["action"], data.episode(1).control["action"])
    deep, grey = back(tmp_path / "out", cameras=("depth map",))
    assert list(deep.spec.shown) == ["depth map"]
    assert grey[1].obs["depth map"].shape == (6, 3, 32, 24)
    expected = np.repeat(data.episode(1).obs["depth map"], 3, 1).astype(int)
    assert np.abs(grey[1].obs["depth map"] - expected).mean() < 1.5


def test_odd_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset(tmp_path / "data", None, size=(15, 21), lengths=(4,))
    export_data(data, tmp_path / "whole", "video")
    source, episodes = back(tmp_path / "whole", size=(15, 21))
    assert episodes[0].obs["image"].shape == (4, 3, 15, 21)
    assert np.abs(episodes[0].obs["image"].astype(int) - data.episode(0).obs["image"]).mean() < 1.5
    monkeypatch.setattr(video, "encoder", lambda: "mpeg4")  # which, as all but x264, takes 4:2:0 and even sizes alone
    notes = export_data(data, tmp_path / "even", "video")
    assert any("pictures of 21×15 have their last row or column twice" in note for note in notes)
    source, episodes = back(tmp_path / "even", size=(16, 22))
    assert not any("resized" in note for note in source.notes)
    assert np.abs(np.diff(episodes[0].obs["image"][:, :, 14:].astype(int), axis=2)).mean() < 4


def test_a_reward_that_nothing_led_to_is_said(tmp_path: Path) -> None:
    spec = Spec({"image": Sensor("image", (3, 16, 16))}, {"action": CHOICES})
    with DatasetWriter(tmp_path / "data", spec) as writer:
        x = np.zeros((3, 3, 16, 16), np.uint8)
        writer.add(Episode({"image": x}, {"action": np.array([6, 0, 1])}, np.array([5, 1, 2], np.float32), False))
    notes = export_data(Dataset(tmp_path / "data"), tmp_path / "out", "video")
    assert any("1 episodes have a reward at their first frame" in note for note in notes)
    _, episodes = back(tmp_path / "out")
    assert episodes[0].reward is not None
    assert episodes[0].reward.tolist() == [0, 1, 2]


def test_what_can_not_be_held_is_refused_and_nothing_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = Spec({"image": Sensor("image", (3, 16, 16))}, {"action": CHOICES})
    with DatasetWriter(tmp_path / "null", spec) as writer:
        writer.add(Episode({"image": np.zeros((3, 3, 16, 16), np.uint8)}, {"action": np.array([6, 0, 6])}))
    with pytest.raises(DataError, match="Episode 0 has no action at frame 2"):
        export_data(Dataset(tmp_path / "null"), tmp_path / "out", "video")
    spec = Spec({"pose": Sensor("vector", (2,))})
    with DatasetWriter(tmp_path / "blind", spec) as writer:
        writer.add(Episode({"pose": np.zeros((3, 2), np.float32)}))
    with pytest.raises(DataError, match="no images, only pose"):
        export_data(Dataset(tmp_path / "blind"), tmp_path / "out", "video")
    data = dataset(tmp_path / "data", CHOICES, lengths=(3, 4))
    writes = 0

    def full(path: Path, value: object) -> None:
        nonlocal writes
        writes += 1
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(video, "write_json", full)
    with pytest.raises(DataError, match=r"Can't write .*out: No space left on device.*nothing was left"):
        export_data(data, tmp_path / "out", "video")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["blind", "data", "null"]
    assert writes == 1


@pytest.mark.parametrize("kind", ["lerobot", "minari", "video"])
def test_a_place_that_can_not_be_written_is_a_sentence(tmp_path: Path, kind: str) -> None:
    data = dataset(tmp_path / "data", CHOICES, lengths=(3,))
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with pytest.raises(DataError, match=r"Can't write .*out.*folder you may write to"):
        export_data(data, tmp_path / "file" / "out", kind)
