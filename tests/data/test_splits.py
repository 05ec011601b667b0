"""An episode's part is decided once and never changes."""

import json

import numpy as np
import pytest
from data_toys import write
from hypothesis import given, settings
from hypothesis import strategies as st

from worldloom.contract import WorldloomError
from worldloom.data import DataError, Dataset, splits
from worldloom.data.splits import NAMES, assign


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 300), st.integers(0, 200), st.integers(0, 2**40))
def test_parts_are_disjoint_whole_stable_and_never_empty(count, more, seed):
    now, later = assign(count, seed), assign(count + more, seed)
    assert sorted(np.concatenate(list(now.values())).tolist()) == list(range(count))
    for name in NAMES:
        assert now[name].tolist() == [e for e in later[name].tolist() if e < count]
        assert len(now[name]) > 0 or count < 3
    assert count < 1 or 0 in now["train"]


def test_shares_are_90_5_5_in_every_block_and_places_are_drawn():
    parts = assign(2000, 0)
    assert [len(parts[n]) for n in NAMES] == [1800, 100, 100]
    for name in ("val", "test"):
        assert (np.bincount(parts[name] // 20) == 1).all()
        assert len(set((parts[name] % 20).tolist())) > 15
    assert assign(2000, 1)["val"].tolist() != parts["val"].tolist()


def test_the_split_is_the_same_on_every_machine():
    """Figures, not a formula: a changed split would let test episodes of old datasets into training."""
    parts = assign(100, 0)
    assert parts["val"].tolist() == [1, 34, 54, 72, 98]
    assert parts["test"].tolist() == [2, 28, 55, 73, 81]


def test_the_seed_is_stored_once_and_appending_keeps_the_parts(tmp_path):
    data = Dataset(write(tmp_path / "d", [2] * 30))
    assert not (tmp_path / "d" / "splits.json").exists()
    before = data.splits
    stored = (tmp_path / "d" / "splits.json").read_text()
    assert json.loads(stored)["seed"] == 0
    after = Dataset(write(tmp_path / "d", [2] * 30)).splits
    assert (tmp_path / "d" / "splits.json").read_text() == stored
    for name in NAMES:
        assert before[name].tolist() == [e for e in after[name].tolist() if e < 30]


def test_another_seed_in_the_file_is_obeyed_and_damage_is_said(tmp_path):
    path = write(tmp_path / "d", [2] * 30) / "splits.json"
    Dataset(path.parent).splits  # noqa: B018
    sealed = path.read_text()
    path.write_text(sealed.replace('"seed": 0', '"seed": 5'))
    with pytest.raises(DataError, match=r"splits\.json is damaged.*Do not delete"):
        Dataset(path.parent).splits  # noqa: B018
    written = {name: value for name, value in json.loads(sealed).items() if name != "check"}
    path.write_text(json.dumps({**written, "seed": 5}))  # by somebody who means it
    assert Dataset(path.parent).splits["val"].tolist() == assign(30, 5)["val"].tolist()
    path.write_text('{"seed": 5}')
    with pytest.raises(DataError, match=r"splits\.json is damaged"):
        Dataset(path.parent).splits  # noqa: B018


def test_a_read_only_dataset_has_its_split_too(tmp_path, monkeypatch):
    def refuse(path: object, value: object, *, sealed: bool = False) -> None:
        raise WorldloomError("read-only")

    data = Dataset(write(tmp_path / "d", [2] * 5))
    monkeypatch.setattr(splits, "write_json", refuse)
    assert {name: part.tolist() for name, part in data.splits.items()} == {"train": [0, 3, 4], "val": [1], "test": [2]}
