"""Training on a mixture: resumed bit by bit, refused where it changed, validated part by part."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from training_toys import SPEC, Toy, make_data, quick

from worldloom.contract import Control, Sensor, Spec, WorldloomError
from worldloom.data import Dataset, DatasetWriter, Episode, Mixture
from worldloom.data.mixing.adapt import View
from worldloom.evaluation.datasets import open_data
from worldloom.files import load_tensors, read_json
from worldloom.imagination import load_starts
from worldloom.training import train
from worldloom.training.held import HeldOut
from worldloom.training.logs import read_log
from worldloom.training.run import RunFolder


def other_data(path: Path, episodes: int = 6, length: int = 9) -> Dataset:
    """Bright noise of twice the size, with two choices."""
    rng = np.random.default_rng(1)
    spec = Spec({"screen": Sensor("image", (1, 8, 10))}, {"action": Control("discrete", n=2)}, fps=10.0)
    with DatasetWriter(path, spec) as writer:
        for _ in range(episodes):
            action = np.r_[2, rng.integers(0, 2, length - 1)]
            screen = rng.integers(200, 256, (length, 1, 8, 10)).astype(np.uint8)
            writer.add(Episode({"screen": screen}, {"action": action}))
    return Dataset(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_data(tmp_path / "ant")
    other_data(tmp_path / "bee")
    return tmp_path


def mixture(folder: Path, weights: tuple[float, ...] | None = (3.0, 1.0), first: str = "2") -> Mixture:
    told = {"bee": {"0": first, "1": "0"}}
    return Mixture([folder / "ant", folder / "bee"], weights, size="first", actions=told)


def model() -> Toy:
    return Toy(SPEC)


def outcome(run: Path) -> dict[str, torch.Tensor]:
    return load_tensors(run / "model.safetensors")[0]


def test_a_mixed_run_stopped_and_resumed_is_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(model(), mixture(folder), quick(steps=12), folder / "straight", echo=lambda line: None)
    stopping = quick(steps=12, checkpoint_every=5)
    plain, calls = Toy.loss, 0

    def loss(self, segment, generator=None):
        nonlocal calls
        calls += self.training
        if calls == 8:
            raise WorldloomError("stopped here")
        return plain(self, segment, generator)

    monkeypatch.setattr(Toy, "loss", loss)
    with pytest.raises(WorldloomError, match="stopped here"):
        train(model(), mixture(folder), stopping, folder / "run", echo=lambda line: None)
    monkeypatch.setattr(Toy, "loss", plain)
    lines: list[str] = []
    train(model(), mixture(folder), stopping, folder / "run", echo=lines.append)
    assert any("Going on from step 5" in line for line in lines)
    a, b = outcome(folder / "straight"), outcome(folder / "run")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[n], b[n]) for n in a)
    train(model(), mixture(folder, (1.0, 1.0)), quick(steps=12), folder / "even", echo=lambda line: None)
    assert not all(torch.equal(a[n], x) for n, x in outcome(folder / "even").items())


def test_another_mixture_is_refused_and_what_changed_is_named(folder: Path) -> None:
    train(model(), mixture(folder), quick(steps=4), folder / "run", echo=lambda line: None)
    for changed, says in (
        (mixture(folder, (2.0, 1.0)), r"data\.0\.share: 0\.75 -> 0\.66"),
        (mixture(folder, first="1"), r"data\.1\.reading\.action: \[2, 0\] -> \[1, 0\]"),
        (Dataset(folder / "ant"), r"data\.fingerprint"),
    ):
        with pytest.raises(WorldloomError, match=says):
            train(model(), changed, quick(steps=4), folder / "run", echo=lambda line: None)
    shutil.move(folder / "bee", folder / "moved" / "bee")
    same = Mixture(
        [folder / "ant", folder / "moved" / "bee"], [6, 2], size="first", actions={"bee": {"0": "2", "1": "0"}}
    )
    lines: list[str] = []
    train(model(), same, quick(steps=4), folder / "run", echo=lines.append)
    assert any("Nothing to do" in line for line in lines)


def test_validation_is_said_of_each_part_and_weighs_them(folder: Path) -> None:
    config = quick(steps=4, validate_every=2)
    train(model(), mixture(folder), config, folder / "run", echo=lambda line: None)
    records = [r for r in read_log(RunFolder(folder / "run").log_file) if r["kind"] == "validate"]
    assert len(records) == 2
    for record in records:
        ant, bee = record["val_loss/ant"], record["val_loss/bee"]
        assert ant != bee
        assert record["val_loss"] == pytest.approx(0.75 * ant + 0.25 * bee)  # all their frames are valid
    alone = HeldOut(Dataset(folder / "ant"), config, 5, torch.device("cpu"), "float32")
    mixed = HeldOut(Mixture([folder / "ant"]), config, 5, torch.device("cpu"), "float32")
    found = mixed.validate(model())
    assert found.pop("val_loss/ant") == found["val_loss"]
    assert alone.validate(model()) == found


def test_a_part_without_held_out_episodes_is_named(folder: Path) -> None:
    other_data(folder / "lone" / "bee", episodes=1)
    mixed = Mixture([folder / "ant", folder / "lone" / "bee"], size="first", actions={"bee": {"0": 0, "1": 1}})
    lines: list[str] = []
    train(model(), mixed, quick(steps=2), folder / "run", echo=lines.append)
    assert any("bee has no held-out episode" in line for line in lines)


def test_starts_come_from_all_parts(folder: Path) -> None:
    train(model(), mixture(folder), quick(steps=2), folder / "run", echo=lambda line: None)
    starts = load_starts(folder / "run")
    bright = (starts.obs["screen"].flatten(1).float().mean(1) > 100).tolist()
    assert bright[:2] == [False, True]
    assert starts.obs["screen"].shape[-2:] == (4, 5)


def test_what_a_run_is_measured_on_is_read_as_it_was_in_training(folder: Path) -> None:
    run = folder / "run"
    mixed = mixture(folder)
    train(model(), mixed, quick(steps=2), run, echo=lambda line: None)
    config = read_json(run / "config.json", sealed=True)
    assert config["data"]["path"] == [str((folder / n).resolve()) for n in ("ant", "bee")]
    first, own, notes = open_data(run, config, None)
    assert own
    assert first.path == folder / "ant"
    assert "75.0% ant, 25.0% bee" in notes[0]
    second, own, notes = open_data(run, config, folder / "bee")
    assert not own
    assert isinstance(second, View)
    assert second.fingerprint == mixed.parts[1].fingerprint
    assert "8×10 read as 4×5" in notes[-1]
    again, _, notes = open_data(run, config, other_data(folder / "later", episodes=9).path)
    assert isinstance(again, View)
    assert again.reading == second.reading
    assert "not as it was in training" in notes[0]
    third, own, notes = open_data(run, config, make_data(folder / "ant2", episodes=4).path)
    assert not own
    assert third.spec == SPEC
    stranger = folder / "stranger"
    with DatasetWriter(stranger, Spec({"screen": Sensor("image", (1, 4, 5))}, {}, 7.0)) as writer:
        writer.add(Episode({"screen": np.zeros((5, 1, 4, 5), np.uint8)}))
    _, own, notes = open_data(run, config, stranger)
    assert not own
    assert "which is none of them" in notes[0]
    damaged = {**config, "data": {**config["data"], "parts": [{"name": "ant"}]}}
    with pytest.raises(WorldloomError, match="does not say how its data were read"):
        open_data(run, damaged, None)


def test_of_parts_of_one_spec_the_very_one_is_found(folder: Path) -> None:
    make_data(folder / "cow", seed=5)
    run = folder / "run"
    mixed = Mixture([folder / "ant", folder / "cow"], [1, 3])
    train(model(), mixed, quick(steps=2), run, echo=lambda line: None)
    config = read_json(run / "config.json", sealed=True)
    shutil.move(folder / "cow", folder / "moved")
    opened, own, notes = open_data(run, config, folder / "moved")
    assert (own, notes) == (False, ["Trained on 25.0% ant, 75.0% cow; on cow here; on another by --data."])
    assert opened.fingerprint == mixed.parts[1].fingerprint
    assert open_data(run, config, folder / "ant").own
