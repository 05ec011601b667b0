"""What writes files: training, resuming, a dataset, splits, a report, a video, an import."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
import training_toys as toys
from faults import Scenario

from worldloom.data import DataError, Dataset, DatasetWriter
from worldloom.data.episode import Episode
from worldloom.data.splits import stored_seed
from worldloom.files import load_tensors
from worldloom.imagination.starts import load_starts
from worldloom.training import InterruptedTrainingError, train
from worldloom.training.checkpoints import list_checkpoints, newest_valid

QUIET = {"echo": lambda line: None}
CONFIG = {"steps": 6, "checkpoint_every": 2, "log_every": 2, "validate_every": 3, "sample_every": 6, "prefetch": 0}


def config(**changes: Any) -> Any:
    return toys.quick(**{**CONFIG, **changes})


def begin(data: Dataset, out: Path) -> None:
    """Train half of it, then stop by a signal."""
    model = toys.at_call(toys.Toy(), 3, lambda: signal.raise_signal(signal.SIGTERM))
    try:
        train(model, data, config(), out, **QUIET)
    except InterruptedTrainingError:
        return
    raise AssertionError("it was not interrupted")


def go_on(data: Dataset, out: Path, **changes: Any) -> None:
    train(toys.Toy(), data, config(**changes), out, **QUIET)


def run_is_intact(out: Path) -> None:
    """Whatever failed, checkpoints and model can be read; there is a checkpoint if there was one."""
    listed = list_checkpoints(out / "checkpoints")
    said: list[str] = []
    if listed:
        found = newest_valid(out / "checkpoints", said.append)
        assert found is not None
        assert found.step == listed[0][0]
    assert not said
    for name in ("model.safetensors", "starts.safetensors"):
        if (out / name).exists():
            load_tensors(out / name)


def began_is_intact(out: Path) -> None:
    run_is_intact(out)
    assert list_checkpoints(out / "checkpoints")[0][0] >= 3


def run_outcome(out: Path) -> Any:
    """Everything that a run leaves, but for times."""
    step, tensors, _ = toys.newest(out)
    model, _ = load_tensors(out / "model.safetensors")
    starts = load_starts(out)
    samples = {p.name: p.read_bytes() for p in out.glob("samples/*")}
    kept = sorted(p.name for p in out.iterdir() if p.is_file() and not p.name.startswith(".lock"))
    return step, bytes_of(tensors), bytes_of(model), bytes_of(starts.obs), toys.untimed(out), samples, kept


def bytes_of(tensors: dict[str, torch.Tensor]) -> dict[str, bytes]:
    return {name: x.numpy().tobytes() for name, x in tensors.items()}


def training(data: Dataset) -> Scenario:
    return Scenario(lambda out: out.mkdir(), lambda out: go_on(data, out), run_is_intact, run_outcome)


def resuming(data: Dataset) -> Scenario:
    return Scenario(lambda out: begin(data, out), lambda out: go_on(data, out), began_is_intact, run_outcome)


def going_on_regardless(data: Dataset) -> Scenario:
    """With ``save_errors="continue"``; only what does not depend on what could be saved is compared."""

    def outcome(out: Path) -> Any:
        step, tensors, model, starts, log, *_ = run_outcome(out)
        return step, tensors, model, starts, log

    def act(out: Path) -> None:
        go_on(data, out, save_errors="continue")

    return Scenario(lambda out: begin(data, out), act, began_is_intact, outcome)


# ------------------------------------------------------------------------------------------------------------- datasets


def episodes(path: Path) -> list[bytes]:
    """The frames of all episodes, once every hash is right."""
    data = Dataset(path)
    assert data.verify() == len(data)
    return [data.episode(i).obs["screen"].tobytes() for i in range(len(data))]


def short_episode(number: int) -> Episode:
    rng = np.random.default_rng(number)
    action = np.array([3, *rng.integers(0, 3, 4)])
    return Episode({"screen": rng.integers(0, 255, (5, 1, 4, 5), np.uint8)}, {"action": action}, info={"n": number})


def append(path: Path, upto: int, commit_seconds: float = 0.0) -> None:
    """Episodes of 100 bytes and some into shards that hold two of them."""
    with DatasetWriter(path, toys.SPEC, shard_bytes=250, commit_seconds=commit_seconds) as writer:
        for number in range(len(writer), upto):
            writer.add(short_episode(number))


def dataset_is_intact(count: int) -> Any:
    def intact(path: Path) -> None:
        try:
            found = episodes(path)
        except DataError:
            assert count == 0
            return
        assert len(found) >= count
        assert found == [short_episode(i).obs["screen"].tobytes() for i in range(len(found))]

    return intact


def dataset_outcome(path: Path) -> Any:
    data = Dataset(path)
    files = {p.name: p.read_bytes() for p in path.rglob("*") if p.is_file() and p.name != "dataset.json"}
    return episodes(path), data.fingerprint, files


def appending(commit_seconds: float = 0.0) -> Scenario:
    return Scenario(
        lambda path: append(path, 3),
        lambda path: append(path, 6, commit_seconds),
        dataset_is_intact(3),
        dataset_outcome,
    )


def making(commit_seconds: float = 0.0) -> Scenario:
    return Scenario(
        lambda path: path.mkdir(),
        lambda path: append(path, 3, commit_seconds),
        dataset_is_intact(0),
        dataset_outcome,
    )


def splitting() -> Scenario:
    def act(path: Path) -> None:
        stored_seed(path)

    def outcome(path: Path) -> Any:
        return (path / "splits.json").read_bytes()

    return Scenario(lambda path: append(path, 3), act, dataset_is_intact(3), outcome)


def collecting() -> Scenario:
    from worldloom.data.collect import collect
    from worldloom.worlds.balls import Balls, BallsConfig

    def gather(path: Path, count: int) -> None:
        world = Balls(BallsConfig(), 2, 0)
        try:
            collect(world, path, count, 4, seed=1)
        finally:
            world.close()

    def intact(path: Path) -> None:
        data = Dataset(path)
        assert data.verify() >= 2

    def outcome(path: Path) -> Any:
        data = Dataset(path)
        return data.fingerprint, data.verify()

    return Scenario(lambda path: gather(path, 2), lambda path: gather(path, 5), intact, outcome)


def importing(recordings: Path) -> Scenario:
    """``recordings``: a folder of npz files, imported by one thread, so that operations come in one order."""
    from worldloom.data.importing import import_data
    from worldloom.data.sources import ImportConfig

    recordings.mkdir(exist_ok=True)
    for number in range(3):
        frames = np.random.default_rng(number).integers(0, 255, (6, 16, 16, 3), np.uint8)
        np.savez(recordings / f"{number}.npz", image=frames, action=np.arange(6) % 3)

    def act(path: Path) -> None:
        import_data(recordings, path, ImportConfig(length=4), workers=1, say=lambda line: None)

    def intact(path: Path) -> None:
        try:
            data = Dataset(path)
        except DataError:
            return  # nothing was committed yet; that it can go on is seen next
        assert data.verify() == len(data)

    def outcome(path: Path) -> Any:
        data = Dataset(path)
        return data.fingerprint, data.verify(), sorted(p.name for p in path.rglob("*") if not p.name.endswith(".lock"))

    return Scenario(lambda path: path.mkdir(), act, intact, outcome)


def fine_tuning(data: Dataset, other: Path) -> Scenario:
    """A training that begins with another run's weights."""

    def act(out: Path) -> None:
        train(toys.Toy(), data, config(), out, init=other, **QUIET)

    return Scenario(lambda out: out.mkdir(), act, run_is_intact, run_outcome)


# -------------------------------------------------------------------------------------------------------- what is shown


def reporting(run: Path) -> Scenario:
    """``run``: of ``toy_discs``, measured quickly."""
    import shutil

    from worldloom.evaluation import evaluate, load_report

    small: dict[str, Any] = {"starts": 2, "horizon": 4, "count_horizon": 4, "prompt": 2, "progress": None}
    small["probes"] = "none"

    def act(out: Path) -> None:
        evaluate(out, **small)

    def prepare(out: Path) -> None:
        shutil.copytree(run, out)
        act(out)

    def intact(out: Path) -> None:
        load_report(out)
        assert (out / "report.html").read_text(encoding="utf-8").rstrip().endswith("</html>")

    def outcome(out: Path) -> Any:
        intact(out)
        return sorted(p.name for p in out.iterdir())

    return Scenario(prepare, act, intact, outcome)


def filming(data: Dataset) -> Scenario:
    from worldloom.imagination.video import read_video
    from worldloom.recipes.show import imagine_video

    names = ("dream.gif", "dream.mp4", "dream.png")

    def act(out: Path) -> None:
        for name in names:
            list(imagine_video(out, out / name, frames=4, prompt=2, device="cpu"))

    def prepare(out: Path) -> None:
        go_on(data, out)
        act(out)

    def intact(out: Path) -> None:
        for name in names[:2]:
            assert len(read_video(out / name)[0]) == 6

    def outcome(out: Path) -> Any:
        intact(out)
        return sorted(p.name for p in out.iterdir())

    return Scenario(prepare, act, intact, outcome)
