"""Whatever is cut, flipped or killed: earlier episodes stay whole, and damage is said, never read."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_toys import SPEC, episode, same, write

from worldloom.data import DataError, Dataset, DatasetWriter


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write(tmp_path_factory.mktemp("whole") / "d", [3, 6, 2, 5], shard_bytes=2000)


@pytest.fixture
def copy(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "d"))


def _check_prefix(path: Path, count: int, lengths: list[int]) -> None:
    if count == 0:
        with pytest.raises(DataError, match="no episode yet"):
            Dataset(path)
        return
    data = Dataset(path)
    assert data.verify() == count
    for number in range(count):
        same(data.episode(number), episode(number, lengths[number]))


def test_an_index_cut_anywhere_keeps_the_lines_before_and_can_be_continued(whole, copy):
    index = copy / "index.jsonl"
    text = (whole / "index.jsonl").read_bytes()
    places = sorted({*range(0, len(text), 97), *(i + d for i, c in enumerate(text) if c == 10 for d in (-1, 0, 1, 2))})
    for cut in places:
        shutil.copytree(whole, copy, dirs_exist_ok=True)
        index.write_bytes(text[:cut])
        count = text[:cut].count(b"\n")
        _check_prefix(copy, count, [3, 6, 2, 5])
        write(copy, [4])  # cuts the torn line and the bytes that no line claims
        assert index.read_bytes().count(b"\n") == count + 1
        _check_prefix(copy, count + 1, [*[3, 6, 2, 5][:count], 4])
        claimed = Dataset(copy).index.extents()
        assert {int(p.stem): p.stat().st_size for p in (copy / "shards").iterdir()} == claimed
        shutil.rmtree(copy / "shards")


def test_every_flipped_bit_of_the_index_is_found(whole, copy):
    index = copy / "index.jsonl"
    text = bytearray((whole / "index.jsonl").read_bytes())
    rng = np.random.default_rng(0)
    ends = [i for i, c in enumerate(text) if c == 10]
    flips = [(int(i), int(b)) for i, b in zip(rng.integers(0, len(text), 120), rng.integers(0, 8, 120), strict=True)]
    flips += [(i, b) for i in (*ends, 0, len(text) - 2) for b in range(8)]
    for place, bit in flips:
        text[place] ^= 1 << bit
        index.write_bytes(text)
        with pytest.raises(DataError, match=r"index\.jsonl"):
            Dataset(copy)
        if bit == 0:
            with pytest.raises(DataError, match=r"index\.jsonl"):
                DatasetWriter(copy, SPEC)
        text[place] ^= 1 << bit
    index.write_bytes(text)
    assert Dataset(copy).verify() == 4


@pytest.mark.parametrize("change", ["swap", "drop", "repeat"])
def test_lines_that_are_swapped_dropped_or_repeated_are_found(copy, change):
    index = copy / "index.jsonl"
    a, b, c, d = index.read_bytes().splitlines(keepends=True)
    index.write_bytes(b"".join({"swap": [a, c, b, d], "drop": [a, c, d], "repeat": [a, a, b, c]}[change]))
    with pytest.raises(DataError, match="line 2"):
        Dataset(copy)


def test_a_line_of_another_dataset_is_found(copy):
    index = copy / "index.jsonl"
    a, b, _, d = index.read_bytes().splitlines(keepends=True)
    other = write(copy.parent / "other", [2, 6, 2, 5], shard_bytes=2000) / "index.jsonl"
    foreign = other.read_bytes().splitlines(keepends=True)[2]
    index.write_bytes(b"".join([a, b, foreign, d]))
    with pytest.raises(DataError, match="line 3"):
        Dataset(copy)


def test_the_index_of_another_spec_is_found(copy):
    header = json.loads((copy / "dataset.json").read_text())
    other = write(copy.parent / "other", [3]) / "dataset.json"
    header["spec"]["fps"] = 99.0
    (copy / "dataset.json").write_text(json.dumps(header))
    with pytest.raises(DataError, match=r"do(es)? not match"):
        Dataset(copy)
    shutil.copy(other, copy / "dataset.json")
    assert Dataset(copy).verify() == 4


def test_every_flipped_bit_of_the_header_is_found(whole, copy):
    text = bytearray((whole / "dataset.json").read_bytes())
    rng = np.random.default_rng(1)
    for place, bit in zip(rng.integers(0, len(text), 200).tolist(), rng.integers(0, 8, 200).tolist(), strict=True):
        text[place] ^= 1 << bit
        (copy / "dataset.json").write_bytes(text)
        try:
            found = Dataset(copy)
        except DataError:
            pass
        else:  # only white space may differ
            assert bytes(text).split() == (whole / "dataset.json").read_bytes().split(), found
        text[place] ^= 1 << bit


def test_a_truncated_or_missing_shard_is_found_on_opening(copy):
    shard = sorted((copy / "shards").iterdir())[1]
    data = shard.read_bytes()
    for size in (len(data) - 1, len(data) // 2, 0):
        shard.write_bytes(data[:size])
        with pytest.raises(DataError, match=f"{shard.name} is truncated"):
            Dataset(copy)
        with pytest.raises(DataError, match="truncated"):
            DatasetWriter(copy, SPEC)
    shard.unlink()
    with pytest.raises(DataError, match="missing"):
        Dataset(copy)


def test_a_shard_cut_while_it_is_read_is_an_error(copy):
    data = Dataset(copy)
    shard = sorted((copy / "shards").iterdir())[0]
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(DataError, match="inside an episode"):
        data.episode(0)


def test_flipped_bits_of_frames_are_found_by_verify(copy):
    data = Dataset(copy)
    for number in (1, 3):
        shard = copy / "shards" / f"{int(data.index.shard[number]):06d}.bin"
        raw = bytearray(shard.read_bytes())
        raw[int(data.index.offset[number]) + 200] ^= 4
        shard.write_bytes(raw)
    data = Dataset(copy)
    first = f"{int(data.index.shard[1]):06d}.bin"
    with pytest.raises(DataError, match=rf"Episode 1 is damaged.*{first}.*Also damaged: episodes \[3\]"):
        data.verify()
    with pytest.raises(DataError, match="Episode 3"):
        data.episode(3, verify=True)
    same(data.episode(0, verify=True), episode(0, 3))


def test_a_folder_that_is_no_dataset(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        Dataset(tmp_path / "nothing")
    (tmp_path / "x").mkdir()
    with pytest.raises(DataError, match="is not a dataset"):
        Dataset(tmp_path / "x")
    (tmp_path / "x" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match=r"not empty \(it has 'thesis.txt'\)"):
        DatasetWriter(tmp_path / "x", SPEC)
    assert [p.name for p in (tmp_path / "x").iterdir()] == ["thesis.txt"]
    (tmp_path / "x" / "dataset.json").write_text('{"format": "other"}')
    with pytest.raises(DataError, match="does not describe"):
        Dataset(tmp_path / "x")
    (tmp_path / "x" / "dataset.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="not valid JSON"):
        Dataset(tmp_path / "x")
    with pytest.raises(DataError, match="Can't write"):
        DatasetWriter(tmp_path / "x" / "thesis.txt", SPEC)


def test_a_dataset_without_episodes(tmp_path):
    DatasetWriter(tmp_path / "d", SPEC).close()
    with pytest.raises(DataError, match="holds no episode yet"):
        Dataset(tmp_path / "d")
    assert Dataset(write(tmp_path / "d", [2])).verify() == 1


def _kill(tmp_path: Path, rounds: int) -> None:
    script = Path(__file__).with_name("kill_writer.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path / "d", str(rounds)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "episodes survived" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_a_killed_writer_harms_nothing(tmp_path):
    _kill(tmp_path, 15)


@pytest.mark.soak
@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_a_thousand_kills_harm_nothing(tmp_path):
    _kill(tmp_path, 1000)
