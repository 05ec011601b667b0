"""LeRobot datasets made by hand are read as they were meant, frame by frame."""

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_toys import (
    FPS,
    LENGTHS,
    TASKS,
    TOP,
    WRIST,
    action,
    build,
    build_v21,
    edit_info,
    edit_table,
    level,
    png,
    reward,
    table,
)

from worldloom.contract import Control, Sensor, WorldloomError
from worldloom.data import DataError, Dataset
from worldloom.data.episode import Episode
from worldloom.data.importing import import_data
from worldloom.data.sources import ImportConfig, detect
from worldloom.data.sources.lerobot.source import LeRobotSource

DATA = "data/chunk-000/file-000.parquet"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("lerobot") / "v3")


@pytest.fixture
def mine(made: Path, tmp_path: Path) -> Path:
    """A copy of one's own, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "mine"))


def source(path: Path, **config: Any) -> LeRobotSource:
    return LeRobotSource(path, ImportConfig(**config))


def everything(path: Path, **config: Any) -> list[list[Episode]]:
    opened = source(path, **config)
    assert opened.problems == []
    return [list(opened.read(item)) for item in opened.items]


def shows(pictures: np.ndarray, key: str, episode: int, frames: list[int]) -> None:
    wanted = np.array([level(key, episode, t) for t in frames])[:, None, None, None]
    assert len(pictures) == len(frames)
    assert np.abs(pictures.astype(int) - wanted).max() <= 2, "another frame, which is at least 5 away"


def test_it_is_found_and_its_spec_is_what_the_features_say(made: Path) -> None:
    assert detect(made) == "lerobot"
    opened = source(made)
    assert opened.spec.shown == {
        "top": Sensor("image", (3, 32, 48)),
        "wrist": Sensor("image", (3, 24, 40)),
        "state": Sensor("vector", (3,)),
    }
    assert opened.spec.given == {"action": Control("continuous", (2,), names=("x", "y"))}
    assert opened.spec.fps == FPS
    assert [(i.name, i.frames) for i in opened.items] == [(f"episode {e}", n) for e, n in enumerate(LENGTHS)]
    assert any("led to frame t+1" in note for note in opened.notes)


@pytest.mark.parametrize("make", [build, build_v21])
def test_every_frame_of_every_camera_is_the_right_one(make: Any, tmp_path: Path) -> None:
    episodes = everything(make(tmp_path / "x"))
    assert len(episodes) == 3
    for e, (one,) in enumerate(episodes):
        n = LENGTHS[e]
        shows(one.obs["top"], TOP, e, list(range(n)))
        shows(one.obs["wrist"], WRIST, e, list(range(n)))
        np.testing.assert_array_equal(one.obs["state"], np.float32([[e, t, 0.25] for t in range(n)]))
        np.testing.assert_array_equal(one.control["action"][0], [0, 0])
        np.testing.assert_array_equal(one.control["action"][1:], np.float32([action(e, t) for t in range(n - 1)]))
        earned = [0.0, *(reward(e, t) for t in range(n - 1))]
        earned[-1] += reward(e, n - 1)  # of a frame that nobody recorded
        np.testing.assert_array_equal(one.reward, np.float32(earned))
        assert one.terminal is (e != 1)
        assert one.info["task"] == TASKS[e]


def test_an_import_is_a_dataset(made: Path, tmp_path: Path) -> None:
    dataset = import_data(made, tmp_path / "out", say=lambda _: None, workers=2)
    assert isinstance(dataset, Dataset)
    assert dataset.lengths.tolist() == list(LENGTHS)
    shows(dataset.episode(1).obs["wrist"], WRIST, 1, list(range(5)))


def test_pairing_same_keeps_the_row(made: Path) -> None:
    one = everything(made, pairing="same")[2][0]
    np.testing.assert_array_equal(one.control["action"][1:], np.float32([action(2, t) for t in range(1, 9)]))


def test_pieces_are_short_and_join_up(made: Path) -> None:
    whole, pieces = everything(made)[2][0], everything(made, length=4)[2]
    assert [p.length for p in pieces] == [4, 4, 1]
    np.testing.assert_array_equal(np.concatenate([p.obs["top"] for p in pieces]), whole.obs["top"])
    np.testing.assert_array_equal(np.concatenate([p.obs["state"] for p in pieces]), whole.obs["state"])
    for number, piece in enumerate(pieces):
        at = slice(4 * number + 1, 4 * number + piece.length)
        np.testing.assert_array_equal(piece.control["action"][0], [0, 0])
        np.testing.assert_array_equal(piece.control["action"][1:], whole.control["action"][at])
        assert whole.reward is not None
        assert piece.reward is not None
        np.testing.assert_array_equal(piece.reward, [0, *whole.reward[at]])
    assert [p.terminal for p in pieces] == [False, False, True]


def test_another_rate_leaves_frames_out_and_adds_up_rewards(made: Path) -> None:
    opened = source(made, fps=5.0)
    assert [i.frames for i in opened.items] == [4, 3, 5]
    (one,) = opened.read(opened.items[2])
    kept = [0, 2, 4, 6, 8]
    shows(one.obs["top"], TOP, 2, kept)
    np.testing.assert_array_equal(one.control["action"][1:], np.float32([action(2, t - 1) for t in kept[1:]]))
    assert one.reward is not None
    assert float(one.reward.sum()) == sum(reward(2, t) for t in range(9))
    assert one.reward[1] == reward(2, 0) + reward(2, 1)
    with pytest.raises(DataError, match=r"come twice.*--fps 10"):
        source(made, fps=20.0)
    (plain, *_) = everything(made, fps=20.0, actions="none")[1]
    shows(plain.obs["top"], TOP, 1, [0, 0, 1, 1, 2, 2, 3, 3, 4])


def test_cameras_are_chosen_by_either_name(made: Path) -> None:
    assert set(source(made, cameras=("wrist",)).spec.images) == {"wrist"}
    assert set(source(made, cameras=(TOP,)).spec.images) == {"top"}
    with pytest.raises(DataError, match=r"no camera side; it has top, wrist"):
        source(made, cameras=("side",))


def test_sensors_that_end_alike_keep_their_whole_names(mine: Path) -> None:
    old, new = "observation.images.wrist", "observation.left.top"

    def rename(info: dict[str, Any]) -> None:
        info["features"] = {new if k == old else k: v for k, v in info["features"].items()}

    edit_info(mine, rename)
    (mine / "videos" / old).rename(mine / "videos" / new)
    path = mine / "meta/episodes/chunk-000/file-000.parquet"
    listed = pq.read_table(path)
    pq.write_table(listed.rename_columns([n.replace(old, new) for n in listed.column_names]), path)
    assert set(source(mine).spec.images) == {TOP, new}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["x", "y"], ("x", "y")),
        (None, ()),
        ({"motors": ["x", "y"]}, ("x", "y")),
        ({"left": ["x"], "right": ["y"]}, ("x", "y")),
        ({"y": 1, "x": 0}, ("x", "y")),
        ([["x", "y"]], ("x", "y")),
        (["motors"], ()),
        ("x", ()),
        ([1, 2], ()),
    ],
)
def test_names_of_actions_in_their_several_forms(mine: Path, names: Any, expected: tuple[str, ...]) -> None:
    edit_info(mine, lambda info: info["features"]["action"].update(names=names))
    control = source(mine, cameras=("top",)).spec.action
    assert control is not None
    assert control.names == expected


def test_columns_choose_the_action(made: Path, mine: Path) -> None:
    control = source(made, columns=("observation.state", "action")).spec.action
    assert control is not None
    assert control.shape == (5,)
    assert control.names == ("a", "b", "c", "x", "y")
    with pytest.raises(DataError, match=r"no column fist of numbers; it has observation.state, action"):
        source(made, columns=("fist",))
    edit_info(mine, lambda info: info["features"].pop("action"))
    opened = source(mine)
    assert opened.spec.action is None
    assert any("plain video" in note for note in opened.notes)


def test_whole_numbers_of_one_column_are_choices(mine: Path) -> None:
    for number, episodes in enumerate([(0, 1), (2,)]):
        path = mine / f"data/chunk-000/file-{number:03d}.parquet"
        old = table(episodes)
        chosen = pa.array((np.arange(old.num_rows) % 4).tolist(), pa.int64())
        pq.write_table(old.set_column(old.column_names.index("action"), "action", chosen), path)
    edit_info(mine, lambda info: info["features"]["action"].update(dtype="int64", shape=[1], names=None))
    opened = source(mine)
    assert opened.spec.action == Control("discrete", n=4)
    (one,) = opened.read(opened.items[0])
    assert one.control["action"].tolist() == [4, 0, 1, 2, 3, 0, 1]


def test_what_is_not_there_is_unknown(mine: Path) -> None:
    edit_info(mine, lambda info: [info["features"].pop(name) for name in ("next.reward", "next.done")])
    one = everything(mine)[0][0]
    assert one.reward is None
    assert one.terminal is None


def test_cut_episodes_did_not_end(mine: Path) -> None:
    edit_info(mine, lambda info: info["features"].update({"next.truncated": info["features"]["next.done"]}))
    for path in (mine / "data/chunk-000").iterdir():
        old = pq.read_table(path)
        cut = pa.array([e == 0 and t == LENGTHS[0] - 1 for e, t in zip(*map(_column, (old, old), _KEYS), strict=True)])
        pq.write_table(old.append_column("next.truncated", cut), path)
    assert [one.terminal for (one,) in everything(mine)] == [False, False, True]


_KEYS = ("episode_index", "frame_index")


def _column(of: pa.Table, name: str) -> list[Any]:
    return of.column(name).to_pylist()


def test_lists_of_any_kind_and_doubles_are_read(mine: Path) -> None:
    for path in (mine / "data/chunk-000").iterdir():
        old = pq.read_table(path)
        loose = old.set_column(1, "action", old.column("action").cast(pa.list_(pa.float64())))
        single = loose.set_column(2, "next.reward", pa.array([[x] for x in _column(old, "next.reward")]))
        pq.write_table(single, path)
    edit_info(mine, lambda info: info["features"]["action"].update(dtype="float64"))
    one = everything(mine)[2][0]
    np.testing.assert_array_equal(one.control["action"][1:], np.float32([action(2, t) for t in range(8)]))
    assert one.reward is not None
    assert one.reward[1] == reward(2, 0)


@pytest.mark.parametrize("embedded", [True, False])
def test_pictures_in_the_table(mine: Path, embedded: bool) -> None:
    """Feature of dtype image: a struct of bytes, or a path into the dataset; colour or grey, of more than one size."""
    key = "observation.image"
    edit_info(
        mine, lambda info: info["features"].update({key: {"dtype": "image", "shape": [16, 24, 3], "names": None}})
    )
    for path in (mine / "data/chunk-000").iterdir():
        old = pq.read_table(path)
        cells = []
        for e, t in zip(*map(_column, (old, old), _KEYS), strict=True):
            size, mode = ((32, 48), "L") if t == 1 else ((16, 24), "RGB")
            data = png(level(TOP, e, t), size, mode)
            if embedded:
                cells.append({"bytes": data, "path": None})
            else:
                (mine / "images").mkdir(exist_ok=True)
                (mine / f"images/{e}-{t}.png").write_bytes(data)
                cells.append({"bytes": None, "path": f"images/{e}-{t}.png"})
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        pq.write_table(old.append_column(key, pa.array(cells, kind)), path, row_group_size=3)
    pieces = everything(mine, cameras=("image",), length=4)
    for e, parts in enumerate(pieces):
        pictures = np.concatenate([p.obs["image"] for p in parts])
        assert pictures.shape == (LENGTHS[e], 3, 16, 24)
        assert pictures[:, 0, 0, 0].tolist() == [level(TOP, e, t) for t in range(LENGTHS[e])]


def test_pictures_are_resized_and_fitted(made: Path) -> None:
    (one, *_) = everything(made, size=(16, 24), cameras=("top",))[1]
    assert one.obs["top"].shape == (5, 3, 16, 24)
    shows(one.obs["top"], TOP, 1, list(range(5)))
    shows(everything(made, size=(16, 16), fit="crop")[1][0].obs["wrist"], WRIST, 1, list(range(5)))
    with pytest.raises(DataError, match=r"no episode that can be used.*--fit crop"):
        source(made, size=(16, 24))


def test_a_drift_of_less_than_half_a_frame_is_forgiven(mine: Path) -> None:
    """LeRobot adds up rounded lengths of episodes, so that late ones begin a little beside their frame."""

    def drift(rows: list[dict[str, Any]]) -> None:
        rows[1][f"videos/{TOP}/from_timestamp"] += 0.4 / FPS
        rows[2][f"videos/{WRIST}/from_timestamp"] -= 0.4 / FPS

    edit_table(mine / "meta/episodes/chunk-000/file-000.parquet", drift)
    episodes = everything(mine)
    shows(episodes[1][0].obs["top"], TOP, 1, list(range(5)))
    shows(episodes[2][0].obs["wrist"], WRIST, 2, list(range(9)))


def test_several_threads_read_the_same(made: Path) -> None:
    opened = source(made, length=3)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda i: list(opened.read(i)), opened.items * 4))
    for n, pieces in enumerate(found):
        shows(np.concatenate([p.obs["top"] for p in pieces]), TOP, n % 3, list(range(LENGTHS[n % 3])))


def test_a_reader_that_stops_early_closes_its_files(made: Path) -> None:
    opened = source(made, length=2)
    reading = opened.read(opened.items[2])
    next(reading)
    reading.close()  # a container left open would warn, and warnings are errors


def test_depth_maps_are_left_out_and_said(mine: Path) -> None:
    edit_info(mine, lambda info: info["features"][WRIST]["info"].update({"video.is_depth_map": True}))
    opened = source(mine)
    assert set(opened.spec.images) == {"top"}
    assert any("Left out" in note and WRIST in note for note in opened.notes)


def test_without_pyarrow_the_extra_is_named(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(WorldloomError, match=r"pip install 'worldloom\[data\]'"):
        source(made)
