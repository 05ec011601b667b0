"""Every write of everything that writes fails in turn: one sentence, nothing lost, and it goes on afterwards."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import scenarios
import toy_discs
from faults import Disk, every_fault, one_fault, operations

from worldloom import models
from worldloom.contract import WorldloomError

# name: (how to make it, every how many-th case is tried in the ordinary tests, fewest operations it has)
SCENARIOS = {
    "training": (scenarios.training, 41, 60),
    "resuming": (scenarios.resuming, 37, 40),
    "going_on_regardless": (scenarios.going_on_regardless, 37, 40),
    "appending": (lambda data: scenarios.appending(), 3, 15),
    "appending_at_once": (lambda data: scenarios.appending(1e9), 3, 8),
    "making": (lambda data: scenarios.making(), 5, 20),
    "making_at_once": (lambda data: scenarios.making(1e9), 5, 15),
    "splitting": (lambda data: scenarios.splitting(), 1, 5),
    "collecting": (lambda data: scenarios.collecting(), 7, 8),
    "importing": (lambda data: scenarios.importing(data.path.parent / "recordings"), 11, 15),
    "fine_tuning": (lambda data: scenarios.fine_tuning(data, other_run(data)), 61, 60),
    "filming": (scenarios.filming, 19, 15),
}


def other_run(data) -> Path:
    """A finished run to take weights from."""
    out = data.path.parent / "other_run"
    scenarios.go_on(data, out)
    return out


def exercise(name: str, data, scratch: Path, share: int | None = None) -> tuple[int, int]:
    make, usual, fewest = SCENARIOS[name]
    cases, errors = every_fault(make(data), scratch, usual if share is None else share)
    share = usual if share is None else share
    assert cases * share >= 6 * fewest, "the harness does not see the writes any more"
    assert errors > 0 or name == "splitting", "no fault ever surfaced"  # without splits.json the default is used
    print(f"faults {name}: {cases} cases, {errors} errors")
    return cases, errors


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_refused_write(name, data, tmp_path):
    exercise(name, data, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_refused_write(name, data, tmp_path):
    exercise(name, data, tmp_path, 1)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.FAMILIES, "toy", ("toy_discs", "Toy"))
        folder = tmp_path_factory.mktemp("discs")
        found = toy_discs.write_discs(folder / "data", episodes=6, length=8, size=16, truth=False)
        yield toy_discs.write_run(folder / "run", found, size=16)


def test_a_report_that_can_not_be_written(measured, tmp_path):
    cases, errors = every_fault(scenarios.reporting(measured), tmp_path, 11)
    assert cases >= 6
    assert errors > 0


@pytest.mark.soak
def test_every_write_of_a_report(measured, tmp_path):
    cases, errors = every_fault(scenarios.reporting(measured), tmp_path)
    print(f"faults reporting: {cases} cases, {errors} errors")


def test_the_harness_sees_every_way_to_write(tmp_path):
    (tmp_path / "old").write_text("x")
    with Disk(tmp_path) as disk:
        (tmp_path / "folder").mkdir()
        (tmp_path / "a").write_bytes(b"12")
        with (tmp_path / "a").open("a", encoding="utf-8") as file:
            file.write("3")
        descriptor = os.open(tmp_path / "b", os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, b"4")
        os.fsync(descriptor)
        os.ftruncate(descriptor, 0)
        os.close(descriptor)
        (tmp_path / "b").replace(tmp_path / "c")
        (tmp_path / "c").unlink()
        (tmp_path / "old").read_text()
    found = [operation for operation, _ in disk.calls]
    assert found == [
        *("mkdir", "open", "write", "open", "write", "open", "write", "fsync", "truncate", "rename", "unlink")
    ]
    with Disk(tmp_path, 2, errno.ENOSPC) as disk, pytest.raises(OSError, match="No space left"):
        (tmp_path / "full").write_bytes(b"12345678")
    assert (tmp_path / "full").read_bytes() == b"1234"
    with Disk(tmp_path, 1, errno.EACCES, stays=True), pytest.raises(OSError, match="denied"):
        (tmp_path / "full").unlink()


def test_the_harness_would_notice(data, tmp_path, monkeypatch):
    """A writer without a temporary file leaves half a checkpoint: the exercise must fail."""
    from worldloom import files
    from worldloom.training import checkpoints

    def carelessly(path, content):
        try:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            raise WorldloomError(f"Can't write {path}: {error.strerror}. Free some space.") from error

    def in_place(path, tensors, meta):
        with monkeypatch.context() as patch:
            patch.setattr(files, "write_atomic", carelessly)
            return files.save_tensors(path, tensors, meta)

    monkeypatch.setattr(checkpoints, "save_tensors", in_place)
    scenario = scenarios.resuming(data)
    calls, expected = operations(scenario, tmp_path)
    place = next(i for i, call in enumerate(calls, 1) if call == ("write", "checkpoints/step_00000004.safetensors"))
    with pytest.raises(AssertionError, match=r"operation .* of .*step_00000004"):
        one_fault(scenario, tmp_path, expected, place, errno.ENOSPC, False)
