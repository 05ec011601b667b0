"""Tables in every usual form become the same numbers; which columns are the action; and what is wrong is said."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from video_toys import movie, stamped

from worldloom.contract import Control
from worldloom.data import DataError, Episode
from worldloom.data.sources import ImportConfig
from worldloom.data.sources.films.actions import Rows, read_rows
from worldloom.data.sources.films.tables import Table, read_table
from worldloom.data.sources.films.video import VideoSource


def text(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def table(tmp_path: Path, content: str | bytes, name: str = "t.csv") -> Table:
    return read_table(text(tmp_path / name, content), name)


def rows(tmp_path: Path, content: str | bytes, **options: Any) -> Rows:
    return read_rows(table(tmp_path, content), ImportConfig(**options))


NUMBERS = {"steer": [0.5, -1.0, 0.25], "gas": [1.0, 2.0, 3.0]}


@pytest.mark.parametrize(
    "content",
    [
        "steer,gas\n0.5,1\n-1,2\n0.25,3\n",
        "\ufeffsteer,gas\r\n0.5,1\r\n-1,2\r\n0.25,3",
        "steer;gas\n0,5;1\n-1,0;2\n0,25;3\n",
        "steer\tgas\n0.5\t1\n-1\t2\n0.25\t3\n\n\n",
        '"steer", "gas"\n"0.5", "1"\n"-1", "2"\n"0.25", "3"\n',
        "steer,gas,\n0.5,1,\n-1,2,\n0.25,3,\n",
        "# steer gas\n5.0e-01 1.0e+00\n-1.0 2.0\n2.5e-1   3.0\n",
    ],
)
def test_every_way_to_write_csv_is_one_table(tmp_path: Path, content: str) -> None:
    found = table(tmp_path, content).columns
    assert {name: column.astype(float).tolist() for name, column in found.items()} == NUMBERS


def test_binary_tables(tmp_path: Path) -> None:
    arrays = {name: np.array(x, np.float32) for name, x in NUMBERS.items()}
    np.savez(tmp_path / "t.npz", note=np.array("a scalar is no column"), **arrays)
    found = read_table(tmp_path / "t.npz", "t")
    assert {name: column.tolist() for name, column in found.columns.items()} == NUMBERS
    np.save(tmp_path / "t.npy", np.arange(6, dtype=np.int16).reshape(3, 2))
    assert read_table(tmp_path / "t.npy", "t").columns["action"].tolist() == [[0, 1], [2, 3], [4, 5]]
    columns = {
        "action": [[0.5, 1.0], [2.0, 3.0]],
        "key": pa.array(["a", "b"]).dictionary_encode(),
        "n": pa.array([1, None]),
        "done": [False, True],
        "when": pa.array([0, 1], pa.timestamp("s")),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    found = read_table(tmp_path / "t.parquet", "t")
    assert found.columns["action"].tolist() == [[0.5, 1.0], [2.0, 3.0]]
    assert found.columns["key"].tolist() == ["a", "b"]
    assert found.columns["n"][0] == 1
    assert np.isnan(found.columns["n"][1])
    assert found.columns["done"].tolist() == [0, 1]
    assert "when" not in found.columns


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=5), st.booleans())
@settings(max_examples=30, deadline=None)
def test_numbers_survive_text(tmp_path_factory: pytest.TempPathFactory, values: list[float], header: bool) -> None:
    path = tmp_path_factory.mktemp("t") / "t.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(([["action"]] if header else []) + [[str(np.float32(v))] for v in values])
    assert read_table(path, "t").columns["action"].astype(np.float32).tolist() == values


def test_without_a_header(tmp_path: Path) -> None:
    assert list(table(tmp_path, "1\n0\n2\n").columns) == ["action"]
    assert table(tmp_path, "left\nright\nleft\n").columns["action"].tolist() == ["left", "right", "left"]
    assert list(table(tmp_path, "0.5,1\n0.1,2\n").columns) == ["action_0", "action_1"]
    assert list(table(tmp_path, "0,5\n1,6\n2,7\n").columns) == ["frame", "action"]  # the first one counts
    assert table(tmp_path, "true\nFalse\ntrue\n").columns["action"].tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "empty"),
        ("   \n\n", "empty"),
        ("action\n", "no rows"),
        ("start\nleft\nright\nleft\n", "is 'start' in the first line the name"),  # wrong, all would move by a row
        ("action\n1,2\n", "line 2 has 2 cells, the first line 1"),
        ("a,a\n1,2\n", "two columns are named 'a'"),
        ("tür\n1\n".encode("latin-1"), "not in UTF-8 (byte 0xfc at 1)"),
        ("action\n1\n".encode("utf-16"), "UTF-16"),
        (b"action\n1\0\n", "zero bytes"),
        ('action\n"1' + "1" * 200_000 + "\n", "csv"),
    ],
)
def test_bad_text_is_explained(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(DataError) as found:
        table(tmp_path, content)
    assert str(found.value).startswith("t.csv: ")
    assert said in str(found.value)


def test_a_blank_line_in_a_single_column_is_an_empty_cell(tmp_path: Path) -> None:
    def actions(content: str) -> list[float]:
        return table(tmp_path, content).columns["action"].tolist()

    assert str(actions("action\n1\n\n2\n3\n")) == "[1.0, nan, 2.0, 3.0]"  # skipped, 2 and 3 would move up by a frame
    assert str(actions("action\n\n1\n\n\n2\n")) == "[nan, 1.0, nan, nan, 2.0]"
    assert actions("\naction\n1\n2\n\n\n") == [1, 2]  # before and after the table they are nothing
    assert actions("action\r\r\n1\r\r\n2\r\r\n3\r\r\n") == [1, 2, 3]  # csv.writer on Windows without newline=""
    with pytest.raises(DataError, match=r"row 1 .* holds no action"):
        rows(tmp_path, "action\n1\n\n2\n3\n")
    assert table(tmp_path, "a,b\n1,2\n\n3,4\n").columns["a"].tolist() == [1, 3]


@pytest.mark.parametrize("name", ["t.npz", "t.npy", "t.parquet"])
def test_bad_binaries_are_explained_and_never_unpickled(tmp_path: Path, name: str) -> None:
    for content in (b"", b"PK\x03\x04 nonsense", b"\x93NUMPY\x01\x00", b"PAR1 nonsense PAR1"):
        with pytest.raises(DataError, match=rf"^{name}: .*can't be read"):
            table(tmp_path, content, name)
    if name == "t.npz":
        np.savez(tmp_path / name, action=np.array([{"a": 1}], dtype=object))
    elif name == "t.npy":
        np.save(tmp_path / name, np.array([{"a": 1}], dtype=object))
    else:
        return
    with pytest.raises(DataError, match="never unpickled"):
        read_table(tmp_path / name, name)


# ---------------------------------------------------------------------------------------------- which column is what


def test_columns_are_known_by_name(tmp_path: Path) -> None:
    everything = "frame,time,steer,gas,reward,done\n0,0.1,1,2,0.5,0\n1,0.2,3,4,1.5,1\n"
    found = rows(tmp_path, everything)
    assert found.names == ("steer", "gas")
    assert found.action is not None
    assert found.action.tolist() == [[1, 2], [3, 4]]
    assert found.reward is not None
    assert found.reward.tolist() == [0.5, 1.5]
    assert found.ended is True
    assert rows(tmp_path, "state,action\n5,1\n6,0\n").names == ("action",)
    assert rows(tmp_path, "Action_x,pose,action.y\n5,1,2\n").names == ("Action_x", "action.y")
    assert rows(tmp_path, everything, columns=("GAS", "time")).names == ("gas", "time")
    assert rows(tmp_path, everything, actions="none").action is None
    with pytest.raises(DataError, match=r"no column 'brake'; it has frame, time, steer"):
        rows(tmp_path, everything, columns=("brake",))
    with pytest.raises(DataError, match=r"in row 0 .*of the column 'note', is no number.*--columns"):
        rows(tmp_path, "steer,note\n1,ok\n2,bad\n")


def test_a_last_row_without_action_is_none_and_whole_numbers_stay_whole(tmp_path: Path) -> None:
    found = rows(tmp_path, "action,reward\n1,2\n0,3\n,\n")
    assert found.action is not None
    assert found.action.dtype == np.int64
    assert found.action.tolist() == [1, 0]
    assert found.count == 2
    numbered = rows(tmp_path, "frame,action\n0,1\n1,0\n2,\n")
    assert numbered.action is not None
    assert numbered.action.dtype == np.int64  # though a blank stood among them
    assert numbered.action.tolist() == [1, 0]
    same = rows(tmp_path, "action,reward\n,\n1,2\n0,3\n", pairing="same")
    assert same.count == 3
    assert same.action is not None
    assert same.action[1:].tolist() == [1, 0]
    words = rows(tmp_path, "action,frame\nleft,0\n,1\n")
    assert words.action is not None
    assert words.action.tolist() == ["left"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("action,reward\n1,0\n,\n2,2\n", "row 1 (counted from 0) holds no action"),
        ("action,frame\n1.5,0\n,1\n2,2\n", "row 1 (counted from 0) holds no action in action"),
        ("action,frame\nnan,0\n2,1\n", "row 0"),
        ("action,frame\n1,0\ninf,1\n", "row 1"),
        ("action,reward\n1,0\n1,nan\n1,2\n", "reward in row 1 is no number"),
        ("action,reward\n1,good\n1,bad\n", "'reward' must be 2 numbers"),
        ("action,done\n1,0\n1,1\n1,0\n1,0\n", "row 1 of 4 says that the recording ended"),
        ("action,frame\n1,0\n1,1\n1,3\n", "goes from 1 to 3 (row 2)"),
    ],
)
def test_bad_rows_are_explained(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(DataError) as found:
        rows(tmp_path, content)
    assert said in str(found.value)


def test_how_a_recording_ended(tmp_path: Path) -> None:
    assert rows(tmp_path, "action,done\n1,0\n1,0\n").ended is False
    assert rows(tmp_path, "action,terminated,truncated\n1,0,0\n1,0,1\n").ended is False
    assert rows(tmp_path, "action,done,truncated\n1,0,0\n1,1,1\n").ended is False  # done by a time limit
    assert rows(tmp_path, "action,done\n1,0\n1,1\n1,1\n").ended is True  # as many rows as frames, both told
    assert rows(tmp_path, "action,truncated\n1,0\n1,1\n").ended is False
    assert rows(tmp_path, "action,truncated\n1,0\n1,0\n").ended is None
    assert rows(tmp_path, "action\n1\n").ended is None


# --------------------------------------------------------------------------------------------- tables beside videos


def opened(path: Path, **options: Any) -> VideoSource:
    return VideoSource(path, ImportConfig(**options))


def read(source: VideoSource, number: int = 0) -> list[Episode]:
    return list(source.read(source.items[number]))


@pytest.mark.parametrize(
    ("done", "last"),
    [("0001", 2 + 9), ("001", 2), ("0010", 2), ("0011", 2), ("0000", 2)],  # rewards are 0, 1, 2, 9 row by row
)
def test_the_reward_of_an_end_is_where_the_end_is(tmp_path: Path, done: str, last: float) -> None:
    movie(tmp_path / "x.mp4", 4)
    lines = [f"1,{r},{d}\n" for r, d in zip((0, 1, 2, 9), done, strict=False)]
    text(tmp_path / "x.csv", "action,reward,done\n" + "".join(lines))
    (episode,) = read(opened(tmp_path))
    assert episode.terminal is ("1" in done)
    assert episode.reward is not None
    assert episode.reward.tolist() == [0, 0, 1, last]


@pytest.mark.parametrize(
    "name", ["x.csv", "x.CSV", "x.tsv", "x.actions.csv", "x_actions.csv", "x.mp4.csv", "actions.csv", "x.npy", "x.npz"]
)
def test_a_table_is_found_by_its_name(tmp_path: Path, name: str) -> None:
    movie(tmp_path / "x.mp4", 5)
    path, values = tmp_path / name, np.array([0.5, 0.25, 1.0, 2.0])
    if name.endswith(("npy", "npz")):
        (np.save if name.endswith("npy") else np.savez)(path, values)
    else:
        text(path, "steer\n" + "\n".join(map(str, values)))
    episode = read(opened(tmp_path))[0]
    assert episode.control["action"].tolist() == [[0.0], [0.5], [0.25], [1.0], [2.0]]
    assert stamped(episode.obs["camera"]) == [0, 1, 2, 3, 4]
    if name not in ("x.mp4.csv", "actions.csv"):
        assert read(opened(tmp_path / "x.mp4"))[0].control["action"].tolist()[1] == [0.5]
    assert "action" not in read(opened(tmp_path, actions="none"))[0].control


def test_the_print_out_shows_which_action_led_to_which_frame(tmp_path: Path) -> None:
    movie(tmp_path / "drive_01.mp4", 4)
    text(tmp_path / "drive_01.csv", "steer,gas\n0.1,7\n0.2,8\n0.3,9\n0.4,10\n")
    after = opened(tmp_path)
    assert "For example drive_01.mp4: row 0 (steer=0.1, gas=7) -> frame 1." in after.notes
    assert any("row t of a table was taken after frame t" in note for note in after.notes)
    assert read(after)[0].control["action"][:2].tolist() == [[0, 0], [np.float32(0.1), 7]]
    same = opened(tmp_path, pairing="same")
    assert "For example drive_01.mp4: row 1 (steer=0.2, gas=8) -> frame 1." in same.notes
    assert read(same)[0].control["action"][:2].tolist() == [[0, 0], [np.float32(0.2), 8]]
    assert after.spec.action == Control("continuous", (2,), names=("steer", "gas"))


def test_words_are_choices_of_all_recordings_together(tmp_path: Path) -> None:
    for name, words in (("a", "left\nnone\nleft\n"), ("b", "right\nright\nnone\n")):
        movie(tmp_path / f"{name}.mp4", 4)
        text(tmp_path / f"{name}.csv", "key\n" + words)
    source = opened(tmp_path)
    assert source.spec.action == Control("discrete", n=3, names=("left", "none", "right"))
    assert read(source, 1)[0].control["action"].tolist() == [3, 2, 2, 1]
    assert "For example a.mp4: row 0 (key=left) -> frame 1." in source.notes
    with pytest.raises(DataError, match="words"):
        opened(tmp_path, actions="continuous")
    text(tmp_path / "b.csv", "key\n1\n2\n3\n")
    with pytest.raises(DataError, match=r"words in a\.csv and numbers in b\.csv"):
        opened(tmp_path)


def test_one_table_for_a_whole_folder(tmp_path: Path) -> None:
    for i in (1, 2, 10):
        movie(tmp_path / f"ep{i}.mp4", 4)
    content = "".join(f"{name},{n}\n" for name, n in (("ep10.mp4", 5), ("ep2", 3), ("./ep1.mp4", 1)) for _ in range(4))
    text(tmp_path / "actions.csv", "video,action\n" + content)
    assert [read(opened(tmp_path), i)[0].control["action"][1] for i in range(3)] == [1, 3, 5]
    numbered = "".join(f"{e},{e}\n" for e in (10, 2, 1) for _ in range(4))
    text(tmp_path / "actions.csv", "episode_index,action\n" + numbered)  # the numbers in the names
    assert [read(opened(tmp_path), i)[0].control["action"][1] for i in range(3)] == [1, 2, 10]
    for i, name in ((1, "one"), (2, "three"), (10, "two")):
        (tmp_path / f"ep{i}.mp4").rename(tmp_path / f"{name}.mp4")
    text(tmp_path / "actions.csv", "episode,action\n" + "".join(f"{e},{e}\n" for e in (0, 1, 2) for _ in range(4)))
    source = opened(tmp_path)
    assert [i.name for i in source.items] == ["one.mp4", "three.mp4", "two.mp4"]
    assert [read(source, i)[0].control["action"][1] for i in range(3)] == [0, 1, 2]
    assert any("actions.csv, by its column 'episode': 3 of 3" in note for note in source.notes)
    text(tmp_path / "actions.csv", "action\n1\n")
    with pytest.raises(DataError, match="column 'video' or 'episode'"):
        opened(tmp_path)


def test_numbers_in_a_table_count_the_recordings_that_cannot_be_used_too(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        movie(tmp_path / f"{name}.mp4", 4)
    text(tmp_path / "actions.csv", "episode,action\n" + "".join(f"{e},{e}\n" for e in (0, 1, 2) for _ in range(4)))
    alone = VideoSource(tmp_path / "b.mp4", ImportConfig())
    assert read(alone)[0].control["action"][1] == 1
    text(tmp_path / "a.mp4", b"")
    source = opened(tmp_path)
    assert [i.name for i in source.items] == ["b.mp4", "c.mp4"]
    assert [read(source, i)[0].control["action"][1] for i in range(2)] == [1, 2]
    assert any("2 of 2 recordings have rows, b.mp4 first" in note for note in source.notes)


def test_tables_that_do_not_fit_are_problems_of_their_video(tmp_path: Path) -> None:
    good = "steer\n0.1\n0.2\n0.3\n0.4\n"
    contents = {
        "good": good,
        "longer": good + "0.5\n",
        "shorter": "steer\n0.1\n0.2\n",
        "nan": "steer\n0.1\nnan\n0.3\n0.4\n",
        "latin": "stéer\n0.1\n".encode("latin-1"),
        "other": "brake\n0.1\n0.2\n0.3\n0.4\n",
        "wider": "steer,brake\n" + "0.1,2\n" * 4,
        "lacking": None,
        "two": good,
        "a b é": good,
    }
    for name, content in contents.items():
        movie(tmp_path / f"{name}.mp4", 4)
        if content is not None:
            text(tmp_path / f"{name}.csv", content)
    text(tmp_path / "two.tsv", good)
    text(tmp_path / "nobody.csv", good)
    source = opened(tmp_path)
    said = {p.where: p.what for p in source.problems}
    assert [i.name for i in source.items] == ["a b é.mp4", "good.mp4", "other.mp4"]  # one column may have any name
    assert "5 rows of actions for 4 frames; expected 4 or 3" in said["longer.mp4"]
    assert "2 rows of actions for 4 frames" in said["shorter.mp4"]
    assert "nan.csv: row 1" in said["nan.mp4"]
    assert "not in UTF-8" in said["latin.mp4"]
    assert "are steer, brake; those of the first table are steer" in said["wider.mp4"]
    assert "no table of actions (lacking.csv, say)" in said["lacking.mp4"]
    assert "two.csv and two.tsv are both tables" in said["two.mp4"]
    assert len(said) == 7
    assert any("belong to no recording: nobody.csv" in note for note in source.notes)


@pytest.mark.parametrize("count", [8, 11])
def test_where_only_decoding_counts_the_frames_both_numbers_are_told(tmp_path: Path, count: int) -> None:
    movie(tmp_path / "x.mkv", 10)  # matroska has no index of its frames
    text(tmp_path / "x.csv", "action\n" + "0.5\n" * count)
    source = opened(tmp_path, length=4)
    pieces: list[Episode] = []

    def whole() -> None:
        for piece in source.read(source.items[0]):
            pieces.append(piece)  # so that those before the error are kept

    with pytest.raises(DataError, match=r"x\.mkv.*(11 rows of actions for 10 frames|more than 9 frames, but 8 rows)"):
        whole()
    assert all(p.length == 4 for p in pieces)


def test_columns_in_another_order_are_put_right(tmp_path: Path) -> None:
    for name, head in (("a", "steer,gas\n" + "1,2.5\n" * 3), ("b", "gas,steer\n" + "4.5,3\n" * 3)):
        movie(tmp_path / f"{name}.mp4", 4)
        text(tmp_path / f"{name}.csv", head)
    source = opened(tmp_path)
    assert read(source, 1)[0].control["action"][1].tolist() == [3, 4.5]


def test_rewards_and_ends_count_only_where_all_tell_them(tmp_path: Path) -> None:
    for name, content in (("a", "action,reward,done\n1,2,0\n1,2,1\n"), ("b", "action,done\n1,0\n1,0\n")):
        movie(tmp_path / f"{name}.mp4", 3)
        text(tmp_path / f"{name}.csv", content)
    source = opened(tmp_path)
    episodes = [read(source, i)[0] for i in range(2)]
    assert [e.reward for e in episodes] == [None, None]
    assert [e.terminal for e in episodes] == [True, False]
    assert any("tell the ends" in note for note in source.notes)
    assert "Left out: the rewards, which 1 of 2 tables do not tell (b.csv, say)." in source.notes
