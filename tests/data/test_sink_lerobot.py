"""What is exported to LeRobot's layout comes back equal, and the layout is theirs, field by field."""

import itertools
import json
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from worldloom.contract import Control, Sensor, Spec
from worldloom.data import DataError, Dataset, DatasetWriter, Episode
from worldloom.data.sinks import export_data
from worldloom.data.sinks.lerobot.export import export_lerobot
from worldloom.data.sources import ImportConfig
from worldloom.data.sources.lerobot.source import LeRobotSource

LENGTHS = (7, 1, 12)
FPS = 15.0
CHOICES = Control("discrete", n=5, names=("up", "down", "left", "right", "stay"))
NUMBERS = Control("continuous", (2,), names=("gas", "wheel"), low=(-4.0, -4.0), high=(4.0, 4.0))
STATISTICS = ("min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99")
COLUMNS = {
    "observation.place": "fixed_size_list<element: float>[3]",
    "observation.speed": "float",
    "action": "int64",
    "next.reward": "float",
    "next.done": "bool",
    "timestamp": "float",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


def spec(action: Control | None = CHOICES, fps: float = FPS) -> Spec:
    shown = {
        "image": Sensor("image", (3, 32, 48)),
        "side": Sensor("image", (3, 24, 32)),
        "place": Sensor("vector", (3,), "m"),
        "speed": Sensor("vector", (1,)),
    }
    return Spec(shown, {} if action is None else {"action": action}, fps)


def picture(number: int, length: int, size: tuple[int, int]) -> np.ndarray:
    """A moving square on a background that tells the episode, (T, 3, H, W)."""
    out = np.zeros((length, 3, *size), np.uint8)
    out[:, 0], out[:, 2] = 60 + 40 * number, np.linspace(0, 250, size[1]).astype(np.uint8)
    for t in range(length):
        out[t, 1, 8:16, 2 * t : 2 * t + 8] = 220
    return out


def episode(number: int, length: int, action: Control | None = CHOICES) -> Episode:
    rng = np.random.default_rng(number)
    control = {}
    if action is not None:
        taken = rng.integers(0, 4, length) if action.kind == "discrete" else rng.uniform(-4, 4, (length, 2))
        control["action"] = taken if action.kind == "discrete" else taken.astype(np.float32)
        control["action"][0] = action.null().numpy()
    reward = rng.normal(size=length).astype(np.float32)
    reward[0] = 0
    return Episode(
        {
            "image": picture(number, length, (32, 48)),
            "side": picture(number, length, (24, 32)),
            "place": rng.normal(size=(length, 3)).astype(np.float32),
            "speed": rng.normal(size=(length, 1)).astype(np.float32),
        },
        control,
        reward,
        number != 1,
        info={"task": "pull" if number == 1 else "push", "seed": 3},
    )


def write(path: Path, action: Control | None = CHOICES, fps: float = FPS) -> Dataset:
    with DatasetWriter(path, spec(action, fps)) as writer:
        for number, length in enumerate(LENGTHS):
            writer.add(episode(number, length, action))
    return Dataset(path)


def read(path: Path) -> tuple[LeRobotSource, list[Episode]]:
    source = LeRobotSource(path, ImportConfig())
    assert source.problems == []
    return source, [e for item in source.items for e in source.read(item)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write(tmp_path_factory.mktemp("toy") / "data")


@pytest.fixture(scope="module")
def exported(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("lerobot") / "out"
    export_data(dataset, out, "lerobot")
    return out


# ------------------------------------------------------------------------------- there and back


@pytest.mark.parametrize("action", [CHOICES, NUMBERS, None], ids=["choices", "numbers", "none"])
def test_round_trip(action: Control | None, tmp_path: Path) -> None:
    dataset = write(tmp_path / "data", action)
    told: list[int] = []
    notes = export_data(dataset, tmp_path / "out", "lerobot", told.append)
    assert told == [1, 2, 3]
    source, back = read(tmp_path / "out")
    assert source.spec == dataset.spec  # a choice that nobody took, names, bounds, units
    assert [e.length for e in back] == list(LENGTHS)
    for number, found in enumerate(back):
        wanted = dataset.episode(number)
        for name in ("place", "speed"):
            np.testing.assert_array_equal(found.obs[name], wanted.obs[name])
        for name in ("image", "side"):
            error = np.abs(found.obs[name].astype(int) - wanted.obs[name])
            assert error.mean() < 3  # colours have half the resolution
            assert np.abs(error[:, :, :, 24:].mean(2)).max() < 16  # away from the square
        assert found.control.keys() == wanted.control.keys()
        for name in found.control:
            assert found.control[name].dtype == wanted.control[name].dtype
            np.testing.assert_array_equal(found.control[name], wanted.control[name])
        np.testing.assert_array_equal(found.reward, wanted.reward)
        assert found.terminal is wanted.terminal
        assert found.info["task"] == wanted.info["task"]
    assert any("remarks" in note for note in notes)


def test_no_frame_is_another(exported: Path, dataset: Dataset) -> None:
    """The square moves by two pixels a frame; each frame is nearest to itself."""
    _, back = read(exported)
    found, wanted = back[2].obs["image"].astype(int), dataset.episode(2).obs["image"].astype(int)
    apart = np.abs(found[:, None] - wanted[None]).mean((2, 3, 4))
    assert (apart.argmin(1) == np.arange(12)).all()


def test_what_is_unknown_stays_unknown(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "data", spec(None)) as writer:
        one = episode(0, 5, None)
        one.reward = one.terminal = None
        writer.add(one)
    notes = export_data(Dataset(tmp_path / "data"), tmp_path / "out", "lerobot")
    _, (found,) = read(tmp_path / "out")
    assert found.reward is None
    assert found.terminal is None
    assert any("unknown how episodes ended" in note for note in notes)


def test_numbers_that_look_like_choices_stay_numbers(tmp_path: Path) -> None:
    control = Control("continuous", (1,))
    with DatasetWriter(tmp_path / "data", Spec({"x": Sensor("vector", (2,))}, {"action": control})) as writer:
        writer.add(Episode({"x": np.ones((4, 2), np.float32)}, {"action": np.float32([[0], [1], [2], [3]])}))
    export_data(Dataset(tmp_path / "data"), tmp_path / "out", "lerobot")
    source, (found,) = read(tmp_path / "out")
    assert source.spec.action == control
    assert found.control["action"].tolist() == [[0], [1], [2], [3]]
    assert json.loads((tmp_path / "out/meta/info.json").read_text(encoding="utf-8"))["video_path"] is None


def test_a_null_action_in_the_middle_comes_back(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "data", spec()) as writer:
        one = episode(0, 6)
        one.control["action"][3] = CHOICES.n
        writer.add(one)
    notes = export_data(Dataset(tmp_path / "data"), tmp_path / "out", "lerobot")
    assert any("1 rows hold the null action" in note for note in notes)
    source, (found,) = read(tmp_path / "out")
    np.testing.assert_array_equal(found.control["action"], one.control["action"])
    assert source.spec.action == CHOICES


def test_a_rate_that_is_no_whole_number(tmp_path: Path) -> None:
    dataset = write(tmp_path / "data", fps=12.5)
    notes = export_data(dataset, tmp_path / "out", "lerobot")
    assert any("12.5" in note and "whole number" in note for note in notes)
    source, back = read(tmp_path / "out")
    assert source.spec.fps == 12.5
    assert [e.length for e in back] == list(LENGTHS)


def test_what_has_no_place_is_left_out_and_said(tmp_path: Path) -> None:
    """Odd sizes, grey pictures, depth, a layout, the exact state, a name that is no key."""
    shown = {
        "eye.left": Sensor("image", (1, 15, 17)),
        "depth": Sensor("range", (1, 8, 8)),
        "stack": Sensor("image", (4, 8, 8)),
    }
    given = {"action": CHOICES, "layout": Control("map", (2, 8, 8))}
    with DatasetWriter(tmp_path / "data", Spec(shown, given)) as writer:
        grey = np.repeat(np.arange(0, 240, 40, dtype=np.uint8)[:, None, None, None], 15, 2).repeat(17, 3)
        writer.add(
            Episode(
                {
                    "eye.left": grey,
                    "depth": np.zeros((6, 1, 8, 8), np.float32),
                    "stack": np.zeros((6, 4, 8, 8), np.uint8),
                },
                {"action": np.array([5, 0, 1, 2, 3, 4]), "layout": np.zeros((6, 2, 8, 8), np.float32)},
                truth={"speed": np.zeros((6, 2))},
            )
        )
    said = "\n".join(export_data(Dataset(tmp_path / "data"), tmp_path / "out", "lerobot"))
    for part in ("17×15 pixels became 18×16", "grey", "called eye_left", "sensor depth", "sensor stack"):
        assert part in said
    assert "the control layout" in said
    assert "the exact state speed" in said
    source, (found,) = read(tmp_path / "out")
    assert source.spec.shown == {"eye_left": Sensor("image", (3, 16, 16))}
    assert np.abs(found.obs["eye_left"][:, 0, 4, 4].astype(int) - np.arange(0, 240, 40)).max() <= 2


# ------------------------------------------------------------------------------------ the layout


def test_info(exported: Path) -> None:
    info = json.loads((exported / "meta/info.json").read_text(encoding="utf-8"))
    features = info.pop("features")
    assert info == {
        "codebase_version": "v3.0",
        "robot_type": None,
        "total_episodes": 3,
        "total_frames": 20,
        "total_tasks": 2,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": 15,
        "splits": {"train": "0:3"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    assert isinstance(info["fps"], int)
    assert list(features) == ["observation.images.image", "observation.images.side", *COLUMNS]
    for key, size in (("image", [32, 48]), ("side", [24, 32])):
        feature = features[f"observation.images.{key}"]
        about = feature.pop("info")
        assert feature == {"dtype": "video", "shape": [*size, 3], "names": ["height", "width", "channels"]}
        assert [about["video.height"], about["video.width"]] == size
        wanted = {"video.codec": "h264", "video.pix_fmt": "yuv420p", "video.fps": 15, "video.channels": 3}
        assert {k: about[k] for k in wanted} == wanted
        assert about["has_audio"] is about["is_depth_map"] is False
    dtypes = {"double": "float64", "float": "float32"}
    for key, kind in COLUMNS.items():
        assert features[key].keys() >= {"dtype", "shape", "names"}
        scalar = kind.partition("[")[0].replace("fixed_size_list<element: ", "").rstrip(">")
        assert features[key]["dtype"] == dtypes.get(scalar, scalar)
        assert features[key]["shape"] == [3 if "list" in kind else 1]
    assert features["action"]["names"] == ["action"]


def test_data(exported: Path, dataset: Dataset) -> None:
    table = pq.read_table(exported / "data/chunk-000/file-000.parquet")
    assert {name: str(kind) for name, kind in zip(table.schema.names, table.schema.types, strict=True)} == COLUMNS
    assert pq.ParquetFile(exported / "data/chunk-000/file-000.parquet").num_row_groups == 3  # one an episode
    rows = table.to_pylist()
    begin = 0
    for number, length in enumerate(LENGTHS):
        one = dataset.episode(number)
        part = rows[begin : begin + length]
        assert [r["index"] for r in part] == list(range(begin, begin + length))
        assert [r["frame_index"] for r in part] == list(range(length))
        assert {r["episode_index"] for r in part} == {number}
        assert {r["task_index"] for r in part} == {int(number == 1)}
        np.testing.assert_array_equal([r["timestamp"] for r in part], np.float32(np.arange(length) / FPS))
        assert one.reward is not None
        # The action taken at a frame and the reward it earned stand with that frame.
        assert [r["action"] for r in part] == [*one.control["action"][1:].tolist(), 0]
        assert [r["next.reward"] for r in part] == [*one.reward[1:].tolist(), 0]
        assert [r["next.done"] for r in part] == [number != 1 and t >= length - 2 for t in range(length)]
        begin += length


def test_episodes(exported: Path) -> None:
    table = pq.read_table(exported / "meta/episodes/chunk-000/file-000.parquet")
    kinds = {name: str(kind) for name, kind in zip(table.schema.names, table.schema.types, strict=True)}
    keys = ["observation.images.image", "observation.images.side"]
    expected = {"episode_index": "int64", "tasks": "list<element: string>", "length": "int64"}
    expected |= dict.fromkeys(
        ["data/chunk_index", "data/file_index", "dataset_from_index", "dataset_to_index"], "int64"
    )
    for key in keys:
        expected |= {f"videos/{key}/{n}": "int64" for n in ("chunk_index", "file_index")}
        expected |= {f"videos/{key}/{n}": "double" for n in ("from_timestamp", "to_timestamp")}
    flat, deep = "list<element: double>", "list<element: list<element: list<element: double>>>"
    for key in (*keys, *COLUMNS):
        shape = deep if key in keys else flat
        expected |= {f"stats/{key}/{n}": "list<element: int64>" if n == "count" else shape for n in STATISTICS}
    expected |= {"meta/episodes/chunk_index": "int64", "meta/episodes/file_index": "int64"}
    assert kinds == expected
    rows = table.to_pylist()
    begin = 0
    for number, (row, length) in enumerate(zip(rows, LENGTHS, strict=True)):
        assert (row["episode_index"], row["length"]) == (number, length)
        assert row["tasks"] == ["pull" if number == 1 else "push"]
        assert (row["dataset_from_index"], row["dataset_to_index"]) == (begin, begin + length)
        for key in keys:
            assert (row[f"videos/{key}/chunk_index"], row[f"videos/{key}/file_index"]) == (0, 0)
            assert row[f"videos/{key}/from_timestamp"] == pytest.approx(begin / FPS, abs=1e-12)
            assert row[f"videos/{key}/to_timestamp"] == pytest.approx((begin + length) / FPS, abs=1e-12)
        begin += length


def test_tasks_are_the_index_of_a_table_of_pandas(exported: Path) -> None:
    table = pq.read_table(exported / "meta/tasks.parquet")
    assert table.to_pydict() == {"task_index": [0, 1], "task": ["push", "pull"]}
    assert [str(kind) for kind in table.schema.types] == ["int64", "string"]
    pandas = json.loads(table.schema.metadata[b"pandas"])
    assert pandas["index_columns"] == ["task"]
    assert [c["name"] for c in pandas["columns"]] == ["task_index", "task"]


def test_videos(exported: Path) -> None:
    for key in ("image", "side"):
        path = exported / f"videos/observation.images.{key}/chunk-000/file-000.mp4"
        with av.open(str(path)) as container:
            (stream,) = container.streams.video
            assert stream.codec_context.name == "h264"
            assert stream.codec_context.pix_fmt == "yuv420p"
            frames = [(f.pts * Fraction(f.time_base or 1), f.key_frame) for f in container.decode(stream)]
        assert [t for t, _ in frames] == [Fraction(i, 15) for i in range(20)]
        keys = [i for i, (_, key_frame) in enumerate(frames) if key_frame]
        assert {0, 7, 8} <= set(keys)  # every episode begins with one
        assert max(np.diff(keys)) <= 2


def test_statistics(exported: Path, dataset: Dataset) -> None:
    rows = pq.read_table(exported / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    place, image = dataset.episode(2).obs["place"].astype(float), dataset.episode(2).obs["image"] / 255
    said = {n: np.array(rows[2][f"stats/observation.place/{n}"]) for n in STATISTICS}
    for name, wanted in (("min", place.min(0)), ("max", place.max(0)), ("mean", place.mean(0)), ("std", place.std(0))):
        np.testing.assert_allclose(said[name], wanted, rtol=1e-12)
    np.testing.assert_allclose(said["q90"], np.quantile(place, 0.9, axis=0), rtol=1e-12)
    assert said["count"].tolist() == [12]
    said = {n: np.array(rows[2][f"stats/observation.images.image/{n}"]) for n in STATISTICS}
    assert said["mean"].shape == (3, 1, 1)
    for name, wanted in (("min", image.min((0, 2, 3))), ("max", image.max((0, 2, 3))), ("mean", image.mean((0, 2, 3)))):
        np.testing.assert_allclose(said[name].ravel(), wanted, atol=1e-12)
    np.testing.assert_allclose(said["std"].ravel(), image.std((0, 2, 3)), atol=1e-9)
    np.testing.assert_allclose(said["q50"].ravel(), np.quantile(image, 0.5, (0, 2, 3), method="inverted_cdf"))
    total = json.loads((exported / "meta/stats.json").read_text(encoding="utf-8"))
    assert set(total) == {"observation.images.image", "observation.images.side", *COLUMNS}
    whole = np.concatenate([dataset.episode(e).obs["place"] for e in range(3)]).astype(float)
    for name, wanted in (("min", whole.min(0)), ("max", whole.max(0)), ("mean", whole.mean(0)), ("std", whole.std(0))):
        np.testing.assert_allclose(total["observation.place"][name], wanted, rtol=1e-9)
    assert total["observation.place"]["count"] == [20]
    assert np.array(total["observation.images.side"]["q99"]).shape == (3, 1, 1)


def test_files_roll_over(tmp_path: Path) -> None:
    """A wide vector fills data files of 1 MB, noise fills videos of 1 MB, and two files fill a chunk."""
    rng = np.random.default_rng(0)
    shown = {"image": Sensor("image", (3, 96, 96)), "wide": Sensor("vector", (1500,))}
    with DatasetWriter(tmp_path / "data", Spec(shown, {"action": Control("discrete", n=2)})) as writer:
        for number in range(6):
            noise = rng.integers(0, 255, (60, 3, 96, 96), np.uint8)
            noise[:, :, :32, :32] = 40 * number
            wide = rng.normal(size=(60, 1500)).astype(np.float32)
            action = np.full(60, number % 2)
            action[0] = 2
            writer.add(Episode({"image": noise, "wide": wide}, {"action": action}))
    dataset = Dataset(tmp_path / "data")
    export_lerobot(dataset, tmp_path / "out", lambda _: None, data_mb=1, video_mb=1, chunk_files=2)
    found = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*") if p.is_file()}
    for number in range(3):
        chunk, file = divmod(number, 2)
        where = f"chunk-{chunk:03d}/file-{file:03d}"
        assert {f"data/{where}.parquet", f"videos/observation.image/{where}.mp4"} <= found
    for path in found:
        limit = 1.1 * 2**20  # an estimate decides
        assert (tmp_path / "out" / path).stat().st_size < limit
    rows = pq.read_table(tmp_path / "out/meta/episodes").to_pylist()
    for row in rows:  # those that share a file follow one another in it, from its beginning
        key = "videos/observation.image"
        same = [r for r in rows if all(r[f"{key}/{n}_index"] == row[f"{key}/{n}_index"] for n in ("chunk", "file"))]
        assert same[0][f"{key}/from_timestamp"] == 0
        for a, b in itertools.pairwise(same):
            assert a[f"{key}/to_timestamp"] == b[f"{key}/from_timestamp"]
    _, back = read(tmp_path / "out")
    for number, one in enumerate(back):
        np.testing.assert_array_equal(one.obs["wide"], dataset.episode(number).obs["wide"])
        corner = one.obs["image"][:, :, 8:24, 8:24].astype(int)
        assert np.abs(corner.mean((2, 3)) - 40 * number).max() < 3


# ---------------------------------------------------------------------------- whole or not at all


def test_a_disk_that_refuses_leaves_nothing_behind(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for what in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(*((Path, what) if what == "replace" else (os, what)), full)
            with pytest.raises(DataError, match=r"(?s)No space left on device.*Free some space"):
                export_data(dataset, tmp_path / "out", "lerobot")
        assert list(tmp_path.iterdir()) == []
    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", full)
        with pytest.raises(DataError, match="No space left on device"):
            export_data(dataset, tmp_path / "out", "lerobot")
    assert list(tmp_path.iterdir()) == []


def test_being_stopped_leaves_nothing_behind(dataset: Dataset, tmp_path: Path) -> None:
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_data(dataset, tmp_path / "out", "lerobot", stop)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled_and_a_full_one_kept(exported: Path, dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export_data(dataset, tmp_path / "out", "lerobot")
    assert (tmp_path / "out/meta/info.json").is_file()
    with pytest.raises(DataError, match="not an empty folder"):
        export_data(dataset, tmp_path / "out", "lerobot")


def test_names_that_become_one_and_nothing_to_show(tmp_path: Path) -> None:
    twice = Spec({"a.b": Sensor("vector", (1,)), "a b": Sensor("vector", (1,))})
    nothing = Spec({"depth": Sensor("range", (1, 4, 4))})
    for number, (one, said) in enumerate([(twice, "Rename one of them"), (nothing, "neither images nor vectors")]):
        with DatasetWriter(tmp_path / f"{number}", one) as writer:
            obs = {name: np.zeros((3, *s.shape), np.float32) for name, s in one.shown.items()}
            writer.add(Episode(obs))
        with pytest.raises(DataError, match=said):
            export_data(Dataset(tmp_path / f"{number}"), tmp_path / "out", "lerobot")


def test_damage_to_the_tables_is_found(exported: Path, tmp_path: Path) -> None:
    """Pages carry checksums, so that no flipped bit is taken for an action."""
    path = exported / "data/chunk-000/file-000.parquet"
    whole = path.read_bytes()
    place = whole.index(np.float32(np.arange(12) / FPS).tobytes()[8:20])
    damaged = tmp_path / "file.parquet"
    damaged.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
    with pytest.raises(OSError, match="CRC"):
        pq.ParquetFile(damaged, page_checksum_verification=True).read()
    path.write_bytes(damaged.read_bytes())
    try:
        with pytest.raises(DataError, match=r"file-000\.parquet as parquet"):
            LeRobotSource(exported, ImportConfig())
    finally:
        path.write_bytes(whole)
