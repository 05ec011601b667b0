"""Importing: in order whatever the threads do, resumable by the piece, the good part kept only when asked for."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worldloom.contract import Control, Sensor, Spec
from worldloom.data import DataError, Dataset, Episode
from worldloom.data import sources as registry
from worldloom.data.importing import import_data, imported_from
from worldloom.data.sources import ImportConfig, Item, Problem, Source

SPEC = Spec({"camera": Sensor("image", (3, 8, 8))}, {"action": Control("discrete", n=3)}, 10.0)


class Toy(Source):
    """Text files ``NAME.toy``, each holding its number of frames; ``bad`` after it breaks the recording there."""

    format = "toy"
    alive = 0
    most_alive = 0
    lock = threading.Lock()

    def __init__(self, path: Path, config: ImportConfig):
        super().__init__(path, config)
        self.spec = SPEC
        for file in sorted(path.glob("*.toy")):
            if file.read_text(encoding="utf-8") == "":
                self.problems.append(Problem(file.name, "it is empty."))
            else:
                self.items.append(Item(file.name))
        self.notes.append("toys")

    @classmethod
    def sniff(cls, path: Path) -> bool:
        return any(path.glob("*.toy"))

    def read(self, item: Item) -> Iterator[Episode]:
        with Toy.lock:
            Toy.alive += 1
            Toy.most_alive = max(Toy.most_alive, Toy.alive)
        try:
            words = (self.path / item.name).read_text(encoding="utf-8").split()
            seed = int(hashlib.sha256(item.name.encode()).hexdigest()[:8], 16)
            time.sleep((seed % 5) / 500)  # recordings take differently long, so that threads finish out of order
            rng = np.random.default_rng(seed)
            left = int(words[0])
            while left:
                n = min(left, self.config.length)
                action = rng.integers(0, 3, n)
                action[0] = 3
                yield Episode({"camera": rng.integers(0, 256, (n, 3, 8, 8), np.uint8)}, {"action": action})
                left -= n
            if "bad" in words:
                raise DataError(f"{item.name}: broken after {words[0]} frames.")
            if "crash" in words:
                raise RuntimeError("a fault of the reader")
        finally:
            with Toy.lock:
                Toy.alive -= 1


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(registry, "FORMATS", {"toy": (__name__, "Toy")})
    monkeypatch.setattr(registry, "source_class", lambda name: Toy)
    folder = tmp_path / "source"
    folder.mkdir()
    for name, words in {"a": "30", "b": "3", "c": "25", "d": "10", "e": "11"}.items():
        (folder / f"{name}.toy").write_text(words, encoding="utf-8")
    return folder


def _import(source: Path, out: Path, **options: Any) -> Dataset:
    return import_data(source, out, ImportConfig(length=10), say=lambda _: None, **options)


def _content(dataset: Dataset) -> list[tuple[str, int, bytes]]:
    found = []
    for number in range(len(dataset)):
        episode = dataset.episode(number)
        found.append((episode.info["source"], episode.info["part"], episode.obs["camera"].tobytes()))
    return found


def test_the_dataset_is_the_same_for_any_number_of_threads(toys: Path, tmp_path: Path) -> None:
    one = _import(toys, tmp_path / "one", workers=1)
    many = _import(toys, tmp_path / "many", workers=4)
    names = [(source, part) for source, part, _ in _content(one)]
    assert names == [("a.toy", 0), ("a.toy", 1), ("a.toy", 2), ("b.toy", 0), ("c.toy", 0), ("c.toy", 1), ("c.toy", 2),
                     ("d.toy", 0), ("e.toy", 0), ("e.toy", 1)]  # fmt: skip
    assert one.lengths.tolist() == [10, 10, 10, 3, 10, 10, 5, 10, 10, 1]
    assert _content(one) == _content(many)


def test_several_recordings_are_read_at_once_but_not_all(toys: Path, tmp_path: Path) -> None:
    for i in range(20):
        (toys / f"more{i}.toy").write_text("40", encoding="utf-8")
    Toy.most_alive = 0
    _import(toys, tmp_path / "out", workers=3)
    assert 1 < Toy.most_alive <= 3
    assert Toy.alive == 0


def test_an_import_that_was_stopped_goes_on_by_the_piece(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _content(_import(toys, tmp_path / "whole"))
    for stop_after in (1, 2, 4, 9):
        out = tmp_path / f"stopped{stop_after}"
        from worldloom.data import importing

        class Stopped(importing.DatasetWriter):
            def add(self, episode: Episode, stop_after: int = stop_after) -> int:
                if len(self) == stop_after:
                    raise KeyboardInterrupt
                return super().add(episode)

        with monkeypatch.context() as patch:
            patch.setattr(importing, "DatasetWriter", Stopped)
            with pytest.raises(KeyboardInterrupt):
                _import(toys, out)
        assert len(Dataset(out)) == stop_after
        assert imported_from(out) is None
        assert _content(_import(toys, out)) == whole
        assert imported_from(out) == toys.resolve()
        before = (out / "index.jsonl").read_bytes()
        _import(toys, out)
        assert (out / "index.jsonl").read_bytes() == before


def test_added_recordings_are_appended(toys: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    before = _content(_import(toys, out))
    (toys / "a2.toy").write_text("12", encoding="utf-8")
    after = _content(_import(toys, out))
    assert after[: len(before)] == before
    assert [(name, part) for name, part, _ in after[len(before) :]] == [("a2.toy", 0), ("a2.toy", 1)]


@pytest.mark.parametrize("change", ["other frames", "fewer frames", "other actions"])
def test_a_recording_that_changed_since_is_refused_and_not_kept_as_it_was(
    toys: Path, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    _import(toys, out)
    before = (out / "index.jsonl").read_bytes()
    if change == "other actions":  # a table that was mended, say

        def other(self: Toy, item: Item, read: Any = Toy.read) -> Iterator[Episode]:
            for episode in read(self, item):
                episode.control["action"][-1] = (episode.control["action"][-1] + (item.name == "c.toy")) % 3
                yield episode

        monkeypatch.setattr(Toy, "read", other)
    else:
        (toys / "c.toy").write_text("26" if change == "other frames" else "20", encoding="utf-8")
    for skip in (False, True):
        with pytest.raises(DataError, match=r"c\.toy: is no longer what was imported .*new --out"):
            _import(toys, out, skip_bad=skip)
    assert (out / "index.jsonl").read_bytes() == before


def test_a_source_that_grew_is_split_as_it_was_begun_and_that_is_said(toys: Path, tmp_path: Path) -> None:
    _import(toys, tmp_path / "out")
    for i in range(10):
        (toys / f"more{i}.toy").write_text("3", encoding="utf-8")
    (toys / "a.toy").unlink()
    said: list[str] = []
    import_data(toys, tmp_path / "out", ImportConfig(length=10), say=said.append)
    assert any("Held-out episodes may come from the same recordings" in line for line in said)
    assert any("1 of these recordings are no longer in" in line for line in said)


def test_bad_recordings_stop_the_import_unless_the_good_part_is_asked_for(toys: Path, tmp_path: Path) -> None:
    (toys / "b.toy").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"(?s)1 of the recordings.*b\.toy: it is empty.*other 4 by --skip-bad"):
        _import(toys, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (toys / "b.toy").write_text("3", encoding="utf-8")
    (toys / "c.toy").write_text("20 bad", encoding="utf-8")
    with pytest.raises(DataError, match=r"c\.toy: broken after 20 frames"):
        _import(toys, tmp_path / "out")
    assert imported_from(tmp_path / "out") is None
    said: list[str] = []
    dataset = import_data(toys, tmp_path / "out", ImportConfig(length=10), skip_bad=True, say=said.append)
    names = [name for name, _, _ in _content(dataset)]
    assert names.count("c.toy") == 2
    assert names[-2:] == ["e.toy", "e.toy"]
    assert [line for line in said if line.startswith("Left out")] == [
        "Left out: c.toy: broken after 20 frames. Kept: the 2 episodes before that."
    ]


def test_nothing_good_is_an_error_even_when_the_good_part_is_asked_for(tmp_path: Path, toys: Path) -> None:
    for file in toys.glob("*.toy"):
        file.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="can't be used"):
        _import(toys, tmp_path / "out", skip_bad=True)


def test_a_fault_of_the_reader_is_not_taken_for_bad_data(toys: Path, tmp_path: Path) -> None:
    (toys / "c.toy").write_text("20 crash", encoding="utf-8")
    with pytest.raises(RuntimeError, match="a fault of the reader"):
        _import(toys, tmp_path / "out", skip_bad=True)
    assert Toy.alive == 0


def test_another_import_into_the_same_folder_is_refused(toys: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _import(toys, out)
    with pytest.raises(DataError, match="--length 10 -> 20"):
        import_data(toys, out, ImportConfig(length=20), say=lambda _: None)
    other = toys.with_name("other")
    toys.rename(other)
    with pytest.raises(DataError, match=r"source .*source -> .*other"):
        _import(other, out)


def test_the_source_is_never_touched(toys: Path, tmp_path: Path) -> None:
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in toys.rglob("*")}
    _import(toys, tmp_path / "out")
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in toys.rglob("*")} == before


def test_pieces_of_one_recording_are_held_out_together_where_there_are_recordings_enough(
    toys: Path, tmp_path: Path
) -> None:
    few = _import(toys, tmp_path / "few")
    assert few.splits["test"].tolist() == [2]  # five recordings: by piece, or three fifths would be lost to training
    for i in range(40):
        (toys / f"more{i:02}.toy").write_text("30", encoding="utf-8")
    many = _import(toys, tmp_path / "many")
    parts = {name: {many.info_of(n)["source"] for n in part.tolist()} for name, part in many.splits.items()}
    assert parts["train"] | parts["val"] | parts["test"] == {p.name for p in toys.iterdir()}
    assert len(parts["train"]) + len(parts["val"]) + len(parts["test"]) == 45
    assert sorted(np.concatenate(list(many.splits.values())).tolist()) == list(range(len(many)))
    assert len(parts["test"]) >= 2 <= len(parts["val"])
    (toys / "zz.toy").write_text("30", encoding="utf-8")
    later = _import(toys, tmp_path / "many")
    for name, part in many.splits.items():
        assert part.tolist() == [n for n in later.splits[name].tolist() if n < len(many)]
