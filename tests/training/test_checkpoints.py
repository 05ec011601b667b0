"""Checkpoints: the newest few are kept, damage is found, told of, and stepped over."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worldloom.files import DamagedFileError
from worldloom.training.checkpoints import list_checkpoints, newest_valid, save_checkpoint


def write(folder, *steps, keep=9):
    for step in steps:
        save_checkpoint(folder, step, {"model/w": torch.arange(40.0) * step}, {"note": f"at {step}"}, keep)


def test_newest_comes_back_with_its_meta(tmp_path):
    write(tmp_path, 3, 20, 100)
    found = newest_valid(tmp_path, print)
    assert found.step == 100
    assert found.meta["note"] == "at 100"
    assert torch.equal(found.part("model")["w"], torch.arange(40.0) * 100)
    assert found.part("mod") == {}


def test_only_the_newest_are_kept(tmp_path):
    write(tmp_path, 5, 10, 15, 20, keep=2)
    assert [step for step, _ in list_checkpoints(tmp_path)] == [20, 15]
    write(tmp_path, 25, keep=1)
    assert [step for step, _ in list_checkpoints(tmp_path)] == [25]


def test_one_from_the_future_is_not_counted_among_the_kept(tmp_path):
    """After a fall back behind an unreadable checkpoint the new, good ones must not be the ones deleted."""
    write(tmp_path, 900)
    write(tmp_path, 10, 20, 30, keep=2)
    assert [step for step, _ in list_checkpoints(tmp_path)] == [900, 30, 20]


def test_nothing_there_is_not_an_error(tmp_path):
    assert newest_valid(tmp_path / "none", print) is None
    (tmp_path / "step_1.tmp").write_text("x")
    assert newest_valid(tmp_path, print) is None


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_flipped_bit_or_cut_is_noticed(tmp_path, data):
    folder = tmp_path / "c"
    write(folder, 1, 2)
    path = list_checkpoints(folder)[0][1]
    whole = path.read_bytes()
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(whole) * 8 - 1))
        broken = bytearray(whole)
        broken[place // 8] ^= 1 << (place % 8)
        path.write_bytes(broken)
    else:
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    said = []
    assert newest_valid(folder, said.append).step == 1
    assert len(said) == 1
    assert "step_00000002.safetensors is damaged" in said[0]
    assert [step for step, _ in list_checkpoints(folder)] == [1]
    (folder / (path.name + ".damaged")).unlink()


def test_a_checkpoint_under_another_name_is_not_believed(tmp_path):
    write(tmp_path, 1, 2)
    list_checkpoints(tmp_path)[0][1].rename(tmp_path / "step_00000007.safetensors")
    assert newest_valid(tmp_path, print).step == 1


def test_all_damaged_is_a_clear_error_and_stays_one(tmp_path):
    write(tmp_path, 1, 2)
    for _, path in list_checkpoints(tmp_path):
        path.write_bytes(path.read_bytes()[:-1])
    for _ in range(2):
        with pytest.raises(DamagedFileError, match=r"No checkpoint .* can be used: step_00000001.*step_00000002"):
            newest_valid(tmp_path, print)
