"""Everything that may be wrong with a LeRobot dataset is a sentence that names the file, and the rest is kept."""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lerobot_toys import TOP, WRIST, build, build_v21, edit_info, edit_table, png, write_video

from worldloom.contract import WorldloomError
from worldloom.data import DataError
from worldloom.data.importing import import_data
from worldloom.data.sources import ImportConfig, detect, open_source
from worldloom.data.sources.lerobot.layout import place
from worldloom.data.sources.lerobot.source import LeRobotSource

DATA = "data/chunk-000/file-000.parquet"
LIST = "meta/episodes/chunk-000/file-000.parquet"
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("lerobot") / "v3")


@pytest.fixture
def mine(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "mine"))


def source(path: Path, **config: Any) -> LeRobotSource:
    return LeRobotSource(path, ImportConfig(**config))


def without(path: Path, *bad: int) -> str:
    """What is said of the bad episodes; the others can be read."""
    opened = source(path)
    assert [p.where for p in opened.problems] == [f"episode {n}" for n in bad]
    assert [i.name for i in opened.items] == [f"episode {n}" for n in range(3) if n not in bad]
    for item in opened.items:
        assert sum(e.length for e in opened.read(item)) == item.frames
    return " ".join(p.what for p in opened.problems)


# -------------------------------------------------------------------------------- info.json


@pytest.mark.parametrize("text", ["", "{", "[1, 2", '{"codebase_version": "v3.0"', "\x00\x01", "[" * 100_000])
def test_garbage_where_json_should_be(mine: Path, text: str) -> None:
    (mine / "meta/info.json").write_text(text, encoding="utf-8")
    assert detect(mine) == "lerobot"
    with pytest.raises(WorldloomError, match=r"info\.json.*JSON"):
        open_source(mine)


def test_other_json_is_not_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_text('{"fps": 3}', encoding="utf-8")
    assert not LeRobotSource.sniff(tmp_path)
    assert not LeRobotSource.sniff(tmp_path / "absent")
    with pytest.raises(DataError, match=r"info\.json.*codebase_version"):
        source(tmp_path)


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("v4.0", "reads up to v3.0. Update worldloom"),
        ("v10.2", "reads up to v3.0. Update worldloom"),
        ("v1.6", "v1.6; worldloom reads v2.0 to v3.0. Convert it with LeRobot's own scripts"),
        ("three", "must be a version such as 'v3.0', found 'three'"),
        (3, "must be a version such as 'v3.0', found 3"),
        (None, "must be a version such as 'v3.0', found None"),
    ],
)
def test_versions_that_cannot_be_read(mine: Path, version: Any, said: str) -> None:
    edit_info(mine, lambda info: info.update(codebase_version=version))
    with pytest.raises(DataError) as caught:
        source(mine)
    assert said in str(caught.value)
    assert "info.json" in str(caught.value)


def test_a_newer_minor_version_is_read_and_said(mine: Path) -> None:
    edit_info(mine, lambda info: info.update(codebase_version="v3.1"))
    assert any("3.1 is newer" in note for note in source(mine).notes)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("fps", 0, "fps must be a positive number"),
        ("fps", "10", "fps must be a positive number"),
        ("fps", -3.5, "fps must be a positive number"),
        ("fps", 10**400, "fps must be a positive number"),
        ("fps", True, "fps must be a positive number"),
        ("chunks_size", 0, "chunks_size must be a whole number"),
        ("features", {}, "names no features"),
        ("features", [], "names no features"),
        ("features", {"action": 3}, "the feature 'action' must have a dtype"),
        ("features", {"action": {"dtype": "float32", "shape": "2"}}, "shape of the feature 'action'"),
        ("features", {"action": {"dtype": "float32", "shape": [0]}}, "shape of the feature 'action'"),
        ("data_path", None, "must be templates of paths"),
        ("video_path", 3, "must be templates of paths"),
        ("video_path", None, "nothing of where videos are"),
    ],
)
def test_fields_of_the_wrong_kind(mine: Path, field: str, value: Any, said: str) -> None:
    edit_info(mine, lambda info: info.update({field: value}))
    with pytest.raises(DataError, match=said) as caught:
        source(mine)
    assert "info.json" in str(caught.value)


TEMPLATES = [
    "../{chunk_index}/{file_index}",
    "/etc/passwd",
    "data/../../x",
    "{chunk_index.__class__}",
    "{chunk_index[0]}",
    "{0}",
    "{}",
    "{evil}",
    "{chunk_index!r}",
    "{chunk_index:>999999999d}",
    "{chunk_index:{file_index}}",
    "C:\\data\\{file_index}",
    "\\\\server\\share",
    "..\\..\\x",
    "data/\x00",
    "data/{chunk_index",
    "",
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_that_lead_outside_or_ask_for_more(mine: Path, template: str) -> None:
    edit_info(mine, lambda info: info.update(data_path=template))
    with pytest.raises(DataError, match=r"info\.json: the template .* is not a path inside the dataset"):
        source(mine)


@pytest.mark.parametrize("key", ["../../outside", "a/../../b", "..\\x"])
def test_names_of_cameras_that_lead_outside(mine: Path, key: str) -> None:
    edit_info(mine, lambda info: info["features"].update({key: info["features"].pop(TOP)}))
    listed = pq.read_table(mine / LIST)
    pq.write_table(listed.rename_columns([n.replace(TOP, key) for n in listed.column_names]), mine / LIST)
    with pytest.raises(DataError, match="is not a path inside the dataset"):
        source(mine)


@settings(max_examples=300, deadline=None)
@given(st.text("{}/\\.:dr!0123chunk_index", max_size=30))
def test_no_template_ever_leads_outside(template: str) -> None:
    root = Path("/somewhere/data")
    try:
        path = root / place(template, root, chunk_index=1, file_index=2)
    except DataError:
        return
    assert path.is_relative_to(root)
    assert ".." not in path.parts
    assert len(str(path)) < 300


# ------------------------------------------------------------------------------ the episodes


def test_the_list_of_episodes_is_missing_or_damaged(mine: Path) -> None:
    path = mine / LIST
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"Can't read .*meta/episodes.*file-000\.parquet as parquet"):
        source(mine)
    pq.write_table(pq.read_table(pa.BufferReader(whole)).drop_columns(["length"]), path)
    with pytest.raises(DataError, match=r"file-000\.parquet lacks the columns length"):
        source(mine)
    path.unlink()
    with pytest.raises(DataError, match="the list of episodes is missing"):
        source(mine)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("length", 6, "has 7 rows of episode 0; the list of episodes says 6"),
        ("length", 8, "has 7 rows of episode 0; the list of episodes says 8"),
        ("length", 0, "gives it 0 frames"),
        ("length", None, "length as a whole number, found None"),
        ("data/file_index", 1, "has 0 rows of episode 0"),
        ("data/file_index", 7, "file-007.parquet is missing"),
        ("data/chunk_index", -1, "data/chunk_index as a whole number, found -1"),
        (f"videos/{TOP}/file_index", 9, "file-009.mp4 is missing"),
        (f"videos/{TOP}/from_timestamp", None, "from_timestamp in seconds, found None"),
        (f"videos/{TOP}/from_timestamp", float("nan"), "from_timestamp in seconds, found nan"),
    ],
)
def test_an_episode_that_the_list_has_wrong(mine: Path, column: str, value: Any, said: str) -> None:
    edit_table(mine / LIST, lambda rows: rows[0].update({column: value}))
    assert said in without(mine, 0)


def test_texts_that_are_none_are_done_without(mine: Path) -> None:
    """Reading parquet does not look into texts; this one would fail only when it is used."""
    listed = pq.read_table(mine / LIST)
    offsets, text = np.array([0, 2, 4, 6], np.int32), b"\xff\xfe" * 3
    texts = pa.StringArray.from_buffers(3, pa.py_buffer(offsets.tobytes()), pa.py_buffer(text))
    tasks = pa.ListArray.from_arrays([0, 1, 2, 3], texts)
    pq.write_table(listed.set_column(listed.column_names.index("tasks"), "tasks", tasks), mine / LIST)
    opened = source(mine)
    assert opened.problems == []
    assert "task" not in next(opened.read(opened.items[0])).info


def test_an_episode_listed_twice(mine: Path) -> None:
    edit_table(mine / LIST, lambda rows: rows.append(rows[1]))
    opened = source(mine)
    assert "file-000.parquet lists the episode 1 twice" in opened.problems[0].what


def test_nothing_left_is_an_error(mine: Path) -> None:
    for path in (mine / "data/chunk-000").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"no episode that can be used.*file-000\.parquet is missing"):
        source(mine)


# ---------------------------------------------------------------------------------- the data


def test_a_data_file_that_is_cut_off(mine: Path) -> None:
    path = mine / DATA
    path.write_bytes(path.read_bytes()[:-40])
    assert "file-000.parquet as parquet" in without(mine, 0, 1)


def test_a_column_that_is_missing(mine: Path) -> None:
    path = mine / DATA
    pq.write_table(pq.read_table(path).drop_columns(["action"]), path)
    assert "file-000.parquet lacks the columns action" in without(mine, 0, 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("column", ["action", "observation.state"])
def test_numbers_that_are_none(mine: Path, column: str, value: float) -> None:
    edit_table(mine / DATA, lambda rows: rows[7 + 3].update({column: [value] * len(rows[0][column])}))
    said = without(mine, 1)
    assert f"file-000.parquet: {column} holds NaN or infinite values in 1 rows of episode 1, first in row 3" in said


@pytest.mark.parametrize(
    ("kind", "cells", "said"),
    [
        (pa.list_(pa.float32()), lambda n: [[1.0, 2.0, 3.0]] * n, "must hold 2 numbers in each"),
        (pa.list_(pa.float32()), lambda n: [[1.0]] + [[1.0, 2.0]] * (n - 2) + [[1.0, 2.0, 3.0]], "must hold 2 numbers"),
        (pa.list_(pa.float32()), lambda n: [None] + [[1.0, 2.0]] * (n - 1), "must hold 2 numbers in each"),
        (pa.list_(pa.float32()), lambda n: [[1.0, None]] + [[1.0, 2.0]] * (n - 1), "has empty cells"),
        (pa.string(), lambda n: ["left"] * n, "must hold numbers, found string"),
        (pa.float32(), lambda n: [1.0] * n, "must hold 2 numbers in each"),
    ],
)
def test_actions_of_another_shape(mine: Path, kind: Any, cells: Callable[[int], list[Any]], said: str) -> None:
    path = mine / DATA
    old = pq.read_table(path)
    pq.write_table(old.set_column(old.column_names.index("action"), "action", pa.array(cells(12), kind)), path)
    found = without(mine, 0, 1)
    assert said in found
    assert "column action" in found


def test_rows_that_are_mixed_up(mine: Path) -> None:
    def swap(rows: Rows) -> None:
        rows[3], rows[9] = rows[9], rows[3]

    edit_table(mine / DATA, swap)
    assert "rows of episode 0 do not follow one another" in without(mine, 0, 1)


def test_times_that_do_not_rise(mine: Path) -> None:
    edit_table(mine / DATA, lambda rows: rows[3].update(timestamp=0.1))
    assert "timestamps of episode 0 do not rise" in without(mine, 0)


@pytest.mark.parametrize("value", [{"worldloom.choices": 2}, {"worldloom.choices": 10**30}, {"worldloom.names": 3}])
def test_what_the_action_says_of_itself_is_checked(mine: Path, value: dict[str, Any]) -> None:
    said = {"worldloom.kind": "discrete", "worldloom.choices": 9, **value}
    edit_info(mine, lambda info: info["features"]["action"].update(dtype="int64", shape=[1], info=said))
    for path in (mine / "data/chunk-000").iterdir():
        old = pq.read_table(path)
        numbers = pa.array((np.arange(old.num_rows) % 5).tolist(), pa.int64())
        pq.write_table(old.set_column(old.column_names.index("action"), "action", numbers), path)
    with pytest.raises(DataError, match=r"info\.json: what it says of the action's kind does not fit.*--actions"):
        source(mine)
    assert source(mine, actions="discrete").spec.action is not None


# -------------------------------------------------------------------------------- the videos


def test_a_video_that_is_missing_cut_off_or_none(mine: Path) -> None:
    path = mine / f"videos/{TOP}/chunk-000/file-000.mp4"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert f"{path}" in without(mine, 0, 1)
    path.write_text("this is no video", encoding="utf-8")
    assert f"Can't read {path} as a video" in without(mine, 0, 1)
    path.write_bytes(b"")
    assert f"Can't read {path} as a video" in without(mine, 0, 1)
    path.unlink()
    assert f"{path} is missing" in without(mine, 0, 1)


def test_a_playlist_called_mp4_opens_nothing_else(mine: Path) -> None:
    path = mine / f"videos/{TOP}/chunk-000/file-000.mp4"
    path.rename(path.with_name("secret.mp4"))
    path.write_text("ffconcat version 1.0\nfile 'secret.mp4'\n", encoding="utf-8")
    assert f"Can't read {path} as a video" in without(mine, 0, 1)


def test_a_video_with_too_few_frames_or_the_wrong_ones(mine: Path) -> None:
    path = mine / f"videos/{WRIST}/chunk-000/file-001.mp4"
    write_video(path, list(range(20, 220, 20)), (24, 40))
    opened = source(mine)
    assert len(list(opened.read(opened.items[1]))) == 1
    with pytest.raises(DataError, match=r"episode 2: .*file-001\.mp4 has no frame at 1\.000 s for row 5"):
        list(opened.read(opened.items[2]))
    write_video(path, list(range(20, 220, 20)), (24, 40), fps=2)
    with pytest.raises(DataError, match=r"episode 1: .*its rate is not that of meta/info\.json"):
        list(opened.read(opened.items[1]))
    write_video(path, list(range(20, 220, 20)), (32, 40))
    with pytest.raises(DataError, match=r"episode 1: .*changes its size to 40×32"):
        list(opened.read(opened.items[1]))


def test_an_episode_that_begins_behind_the_video(mine: Path) -> None:
    edit_table(mine / LIST, lambda rows: rows[2].update({f"videos/{TOP}/from_timestamp": 99.0}))
    opened = source(mine)
    with pytest.raises(DataError, match=r"episode 2: .*file-001\.mp4 has no frame"):
        list(opened.read(opened.items[2]))


def test_what_a_decoder_painted_over_is_refused(mine: Path) -> None:
    """H.264 has no checksums, so that not all damage is seen; what the decoder does see is no picture any more."""
    path = mine / f"videos/{TOP}/chunk-000/file-000.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (12, 32, 48, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "6", "bf": "0", "sc_threshold": "0"})
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for frame in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    opened = source(mine, cameras=("top",))
    whole = path.read_bytes()
    begin, end = whole.index(b"mdat") + 8, whole.index(b"moov")
    seen = set()
    for at in range(begin + 800, end - 10, (end - begin) // 30):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x5A]) + whole[at + 1 :])
        bad = []
        with av.open(str(path)) as container, contextlib.suppress(av.error.InvalidDataError):
            bad = [i for i, frame in enumerate(container.decode(video=0)) if frame.is_corrupt]
        if not bad:
            continue
        # The keyframes are 0 and 6; the first episode shows frames 0 to 6, the second begins with frame 7.
        for item, hurt in zip(opened.items[:2], (bad[0] <= 6, bad[-1] >= 6), strict=True):
            seen.add((item.name, hurt))
            if hurt:
                with pytest.raises(DataError, match=rf"{item.name}: .*file-000\.mp4 is damaged at"):
                    list(opened.read(item))
            else:
                assert sum(e.length for e in opened.read(item)) == item.frames
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ({"bytes": b"no picture", "path": None}, "can't be decoded"),
        ({"bytes": png(3)[:60], "path": None}, "can't be decoded"),
        ({"bytes": b"P6\n24 16\n255\n" + bytes(24 * 16 * 3), "path": None}, "can't be decoded"),  # of an odd kind
        ({"bytes": None, "path": "../../secret.png"}, "lies outside the dataset"),
        ({"bytes": None, "path": "/etc/hostname"}, "lies outside the dataset"),
        ({"bytes": None, "path": "absent.png"}, "can't read the picture"),
        ({"bytes": None, "path": None}, "expected an encoded picture, found NoneType"),
        (None, "expected an encoded picture, found NoneType"),
    ],
)
@pytest.mark.parametrize("row", [0, 2])
def test_pictures_that_are_none(mine: Path, cell: Any, said: str, row: int) -> None:
    key = "observation.image"
    edit_info(
        mine, lambda info: info["features"].update({key: {"dtype": "image", "shape": [16, 24, 3], "names": None}})
    )
    for path in (mine / "data/chunk-000").iterdir():
        old = pq.read_table(path)
        cells: list[Any] = [{"bytes": png(9), "path": None}] * old.num_rows
        if path.name == "file-001.parquet":
            cells[row] = cell
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        pq.write_table(old.append_column(key, pa.array(cells, kind)), path)
    opened = source(mine)
    if row == 0:  # which is looked at to learn the size
        (found,) = [p.what for p in opened.problems]
    else:
        with pytest.raises(DataError) as caught:
            list(opened.read(opened.items[2]))
        found = str(caught.value)
    assert f"episode 2, {key} in" in found
    assert "file-001.parquet" in found
    assert said in found


# -------------------------------------------------------------------------------- version 2


def test_version_2_with_lines_missing_or_damaged(tmp_path: Path) -> None:
    root = build_v21(tmp_path / "old")
    lines = root / "meta/episodes.jsonl"
    good = lines.read_text(encoding="utf-8")
    (root / "videos/chunk-001" / TOP / "episode_000002.mp4").unlink()
    assert "episode_000002.mp4 is missing" in without(root, 2)
    for bad, said in (("{oops", "line 4 is no JSON"), ("[3]", "line 4 must be a JSON object")):
        lines.write_text(good + bad, encoding="utf-8")
        with pytest.raises(DataError, match=rf"episodes\.jsonl, {said}"):
            source(root)
    lines.unlink()
    with pytest.raises(DataError, match=r"Can't read .*episodes\.jsonl"):
        source(root)


def test_the_good_part_is_imported_if_asked_for(mine: Path, tmp_path: Path) -> None:
    edit_table(mine / LIST, lambda rows: rows[0].update(length=6))
    with pytest.raises(DataError, match="episode 0"):
        import_data(mine, tmp_path / "out", say=lambda _: None)
    dataset = import_data(mine, tmp_path / "out", skip_bad=True, say=lambda _: None)
    assert dataset.lengths.tolist() == [5, 9]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bytes_anywhere_are_a_sentence_or_harmless(made: Path, tmp_path: Path, data: st.DataObject) -> None:
    root = tmp_path / "fuzzed"
    if not root.exists():
        shutil.copytree(made, root)
    files = sorted(p for p in root.rglob("*") if p.is_file() and p.suffix != ".mp4")
    path = data.draw(st.sampled_from(files))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :])
    try:
        opened = source(root)
        for item in opened.items:
            for episode in opened.read(item):
                episode.check(opened.spec)
    except WorldloomError:
        pass
    finally:
        path.write_bytes(whole)
