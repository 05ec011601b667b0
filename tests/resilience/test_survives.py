"""What else goes wrong around a training: data that vanish, memory that ends, clocks that jump, locks of the dead."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import scenarios
import torch
import training_toys as toys

from worldloom.contract import Spec, WorldloomError
from worldloom.data import Dataset, DatasetWriter
from worldloom.data.windows import Windows
from worldloom.files import DamagedFileError, load_tensors, read_json
from worldloom.imagination.starts import load_starts
from worldloom.training import train
from worldloom.training.checkpoints import list_checkpoints, newest_valid, save_checkpoint
from worldloom.training.run import RunFolder


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "run"
    scenarios.go_on(data, out)
    return out


def again(data, out: Path, **changes) -> list[str]:
    said: list[str] = []
    train(toys.Toy(), data, scenarios.config(**changes), out, echo=said.append)
    return said


# --------------------------------------------------------------------------------------------------------------- damage


def spoilt(whole: bytes) -> dict[str, bytes]:
    """Cut at every 4 KiB boundary and in the middle, and a bit flipped in each of those blocks."""
    found = {f"cut at {at}": whole[:at] for at in {*range(0, len(whole), 4096), len(whole) // 2, len(whole) - 1}}
    for at in range(17, len(whole), 4096):
        flipped = bytearray(whole)
        flipped[at] ^= 16
        found[f"flip at {at}"] = bytes(flipped)
    return found


def test_a_checkpoint_cut_or_flipped_in_any_block_is_answered_by_the_one_before(tmp_path):
    tensors = {"model/w": torch.arange(9000.0), "model/b": torch.arange(40)}
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {n: x * step for n, x in tensors.items()}, {}, 5)
    path = list_checkpoints(tmp_path)[0][1]
    cases = spoilt(path.read_bytes())
    assert len(cases) > 15
    for name, content in cases.items():
        path.write_bytes(content)
        said: list[str] = []
        assert newest_valid(tmp_path, said.append).step == 1, name
        assert len(said) == 1
        assert f"{path.name} is damaged" in said[0]


@pytest.mark.parametrize("name", ["model.safetensors", "starts.safetensors", "summary.json", "config.json"])
def test_a_damaged_file_of_a_finished_run_is_found_said_and_written_anew(name, data, finished, tmp_path):
    whole = (finished / name).read_bytes()
    for number, (case, content) in enumerate(spoilt(whole).items()):
        if name.endswith(".json") and content.strip() == whole.strip():
            continue  # only the last newline is missing
        out = tmp_path / str(number)
        shutil.copytree(finished, out)
        (out / name).write_bytes(content)
        said = again(data, out)
        told = [line for line in said if name in line and re.search("damaged|not valid JSON|truncated", line)]
        assert told, (case, said)
        if name != "config.json":  # of which the checkpoints hold a copy: the run is still finished
            assert any("Writing it anew" in line for line in said)
        assert scenarios.run_outcome(out)[:4] == scenarios.run_outcome(finished)[:4]
        if name != "config.json":
            assert "Nothing to do" in again(data, out)[-1]


def test_damaged_lines_of_a_log_are_left_out_and_counted(data, finished, tmp_path):
    out = tmp_path / "run"
    scenarios.begin(data, out)
    lines = (out / "log.jsonl").read_bytes().splitlines(keepends=True)
    lines[0] = lines[0].replace(b'"step": 2', b'"step": 3')
    (out / "log.jsonl").write_bytes(b"".join(lines))
    assert any("1 damaged lines, which are left out" in line for line in again(data, out))


def test_the_files_that_can_not_be_made_anew_are_refused(data, tmp_path):
    folder = Path(shutil.copytree(data.path, tmp_path / "d"))
    _ = Dataset(folder).splits
    whole = (folder / "splits.json").read_bytes()
    (folder / "splits.json").write_bytes(whole.replace(b'"seed": 0', b'"seed": 4'))
    with pytest.raises(WorldloomError, match=r"splits\.json is damaged.*Do not delete"):
        _ = Dataset(folder).splits


# ----------------------------------------------------------------------------------------------------- locks and change


def test_the_number_of_a_dead_owner_is_not_named(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        dead = process.pid
    run = RunFolder(tmp_path / "run")
    with run.locked():
        me = json.loads((run.path / ".lock.pid").read_text())
        assert me["pid"] == os.getpid()
        for wrong in (
            {**me, "pid": dead},
            {**me, "began": "1"},  # a later process that was given the number again
            {**me, "pid": 10**12},
            {"pid": "x"},
            [],
        ):
            (run.path / ".lock.pid").write_text(json.dumps(wrong))
            if wrong == {**me, "began": "1"} and not Path("/proc/self/stat").exists():
                continue
            with pytest.raises(WorldloomError, match=r"Another trainer \(its number is not known\)"), run.locked():
                pass
        (run.path / ".lock.pid").write_text(json.dumps({**me, "host": "elsewhere"}))
        with pytest.raises(WorldloomError, match=rf"process {os.getpid()} on elsewhere"), run.locked():
            pass
        (run.path / ".lock.pid").write_text(json.dumps({**me, "host": socket.gethostname()}))
        with pytest.raises(WorldloomError, match=rf"Another trainer \(process {os.getpid()}\)"), run.locked():
            pass


def test_a_temporary_file_in_use_is_not_swept(data, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    alive, dead = run.path / ".report.json.abc.tmp", run.path / ".model.safetensors.def.tmp"
    dead.write_bytes(b"x")
    with alive.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with run.locked():
            assert alive.exists()
            assert not dead.exists()


def test_other_data_of_the_same_size_and_another_spec_are_refused(data, tmp_path):
    out = tmp_path / "run"
    scenarios.begin(data, out)
    other = toys.make_data(tmp_path / "other", seed=5)
    assert len(other) == len(data)
    assert other.frames == data.frames
    with pytest.raises(WorldloomError, match=r"data\.fingerprint.*(?s:.*)--force"):
        scenarios.go_on(other, out)
    spec = Spec(
        toys.SPEC.shown, {"action": replace(toys.SPEC.given["action"], names=("left", "stay", "right"))}, fps=10.0
    )
    with DatasetWriter(tmp_path / "named", spec) as writer:
        for number in range(len(data)):
            writer.add(data.episode(number))
    named = Dataset(tmp_path / "named")
    with pytest.raises(WorldloomError, match="The model reads the control 'action'"):
        scenarios.go_on(named, out)
    with pytest.raises(WorldloomError, match=r"model\.spec\.given"):
        train(toys.Toy(spec), named, scenarios.config(), out, echo=lambda line: None)
    assert toys.newest(out)[0] == 3


# --------------------------------------------------------------------------------------------------- data and the clock


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("kind", ["vanished", "memory", "system"])
def test_a_batch_that_can_not_be_made_saves_all_that_was_done(kind, prefetch, data, finished, tmp_path, monkeypatch):
    out, plain = tmp_path / "run", Windows.batch
    shutil.copytree(data.path, tmp_path / "data")
    mine = Dataset(tmp_path / "data")

    def batch(self, size, seed, step, device="cpu"):
        if step == 4 and seed == 0:
            if kind == "memory":
                raise MemoryError
            if kind == "system":
                raise OSError(5, "Input/output error")
            for shard in (mine.path / "shards").iterdir():
                os.truncate(shard, 10)
        return plain(self, size, seed, step, device)

    with monkeypatch.context() as patch:
        patch.setattr(Windows, "batch", batch)
        with pytest.raises(WorldloomError, match=r"everything up to step 4 is saved.*run the same command") as caught:
            again(mine, out, prefetch=prefetch, validate_every=0, checkpoint_every=None)
    words = {"vanished": "inside an episode", "memory": "not enough memory", "system": "Input/output error"}
    assert words[kind] in str(caught.value)
    assert toys.newest(out)[0] == 4
    again(data, out, prefetch=prefetch, validate_every=0, checkpoint_every=None)
    straight = tmp_path / "straight"
    again(data, straight, prefetch=prefetch, validate_every=0, checkpoint_every=None)
    assert scenarios.run_outcome(out)[:4] == scenarios.run_outcome(straight)[:4]


def test_a_clock_that_jumps_changes_nothing(data, finished, tmp_path, monkeypatch):
    """Only the monotonic clock is asked for intervals; the time of day may do what it likes."""
    jumps = iter([0.0, 4e9, -4e9, 1e12, -1e12] * 100_000)
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    out = tmp_path / "run"
    again(data, out, checkpoint_minutes=60.0)
    assert scenarios.run_outcome(out)[:4] == scenarios.run_outcome(finished)[:4]
    summary = read_json(out / "summary.json", sealed=True)
    assert 0 <= summary["train_seconds"] <= summary["total_seconds"] < 600


def test_a_gym_worker_that_is_killed_costs_nothing_that_was_written(tmp_path):
    from worldloom.data.collect import collect
    from worldloom.worlds.gym import GymConfig, GymWorld

    def policy(frames, rng):
        if len(killed) == 1 and next(steps) == 30:
            worker = world._lanes[-1]  # of the world's processes
            os.kill(worker._process.pid, signal.SIGKILL)
            killed.append(True)
        return rng.integers(0, 2, world.num)

    steps, killed = iter(range(10**6)), [True]
    world = GymWorld("CartPole-v1", 2, GymConfig(), seed=0, workers=1)
    try:
        with pytest.raises(WorldloomError, match=r"A worker of CartPole-v1 died \(exit code -9\)"):
            collect(world, tmp_path / "d", 50, 10, policy=policy)
    finally:
        world.close()
    found = Dataset(tmp_path / "d").verify()
    assert 2 <= found < 50
    world = GymWorld("CartPole-v1", 2, GymConfig(), seed=0)
    try:
        assert collect(world, tmp_path / "d", found + 4, 10, policy=policy).verify() == found + 4
    finally:
        world.close()


def test_nothing_of_a_run_is_read_when_it_is_hostile(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    tensors, meta = load_tensors(out / "starts.safetensors")
    from worldloom.files import save_tensors

    save_tensors(out / "starts.safetensors", {**tensors, "valid": torch.ones(3, 3, dtype=torch.bool)}, meta)
    with pytest.raises(DamagedFileError, match="does not fit together"):
        load_starts(out)


def test_the_command_says_one_sentence_of_what_nobody_expected(capsys, monkeypatch):
    from worldloom import cli

    for error, words in ((PermissionError(13, "Permission denied", "/a/file"), "/a/file: Permission denied"),
                         (MemoryError(), "not enough memory")):  # fmt: skip
        monkeypatch.setattr(cli, "dispatch", lambda *args, e=error: (_ for _ in ()).throw(e))
        assert cli.main(["train"]) == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1


def test_the_suite_has_no_network():
    with socket.socket() as plug, pytest.raises(OSError, match="no network"):
        plug.connect(("192.0.2.1", 80))
    with pytest.raises(OSError, match="no network"):
        socket.create_connection(("example.invalid", 80), timeout=1)
    with socket.socket() as server, socket.socket() as plug:
        server.bind(("127.0.0.1", 0))
        server.listen()
        plug.connect(server.getsockname())
