"""Shipping a model: what is packed of a run, that its data can be had again, and measuring it without touching it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.checkpoints import figures as measuring
from benchmarks.checkpoints import pack as packing
from benchmarks.checkpoints.figures import rounding, row
from benchmarks.checkpoints.pack import pack, rounded, ship
from benchmarks.checkpoints.page import page

import worldloom
from worldloom import shipped
from worldloom.contract import WorldloomError
from worldloom.data import Dataset
from worldloom.evaluation.datasets import at_home, open_data
from worldloom.evaluation.schema import Figure
from worldloom.files import read_json
from worldloom.models.saved import load_model
from worldloom.recipes import find
from worldloom.recipes.run import run_recipe
from worldloom.shipped import home


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe duo at debug size, of more episodes than are collected again."""
    folder = tmp_path_factory.mktemp("shipping") / "run"
    recipe = find("duo").debug()
    quick = replace(recipe.train, steps=2, sample_every=0, validate_every=0)
    run_recipe(replace(recipe, train=quick, collect=replace(recipe.collect, episodes=25)), folder, say=lambda _: None)
    return folder


@pytest.fixture
def package(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that ships the run as ``tiny``; the working folder is fresh."""
    monkeypatch.setattr(packing, "AGAIN", 23 * 40)
    folder = tmp_path / "package" / "shipped"
    pack(run, tmp_path / "packed", Dataset(run / "data"), find("duo").debug().collect, "float16")
    ship(tmp_path / "packed", "tiny", folder)
    monkeypatch.setattr(shipped, "FOLDER", folder)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return folder


def test_weights_are_rounded_once_and_nothing_else_changes(run: Path, package: Path) -> None:
    own, stored = load_model(run).state_dict(), load_model("tiny").state_dict()
    changed = 0
    for name, x in own.items():
        assert torch.equal(stored[name], x.half().float() if x.is_floating_point() else x)
        changed += int((stored[name] != x).sum())
    assert changed > 0


def test_weights_too_large_for_their_kind_are_refused() -> None:
    with pytest.raises(WorldloomError, match=r"\['wide'\].*--precision"):
        rounded({"wide": torch.tensor([1e6]), "fine": torch.tensor([1.0])}, torch.float16)
    assert (
        rounded({"wide": torch.tensor([1e6]), "count": torch.tensor(3)}, torch.bfloat16)["count"].dtype == torch.int64
    )


def test_the_package_names_no_machine(run: Path, package: Path) -> None:
    config = read_json(package / "tiny" / "config.json", sealed=True)
    assert "platform" not in config["versions"]
    assert config["data"]["path"] == "data"
    assert str(run.parent) not in (package / "tiny" / "config.json").read_text(encoding="utf-8")


def test_evaluating_a_shipped_model_writes_into_a_copy_that_is_a_run(run: Path, package: Path) -> None:
    before = {f: f.read_bytes() for f in package.rglob("*") if f.is_file()}
    small = {"starts": 1, "horizon": 2, "count_horizon": 2, "probes": "none", "other_actions": False, "progress": None}
    report = worldloom.evaluate("tiny", **small)
    assert {f: f.read_bytes() for f in package.rglob("*") if f.is_file()} == before
    here = Path("tiny")
    assert (here / "report.html").exists()
    assert not any("The dataset is not as it was" in note for note in report["notes"])
    again, trained = Dataset(here / "data"), Dataset(run / "data")
    assert len(again) == 23 < len(trained)
    for number in range(len(again)):
        a, b = again.episode(number), trained.episode(number)
        assert np.array_equal(a.obs["camera"], b.obs["camera"])
    assert set(again.splits["test"]) <= set(trained.splits["test"])  # what is held out here was held out there
    assert home("tiny") == Path("tiny")  # now a run of one's own, with its data


def test_a_benchmark_takes_a_shipped_model_with_data_of_its_own(package: Path) -> None:
    said: list[str] = []
    assert at_home("tiny", said.append) == Path("tiny")
    assert "the first 23 episodes" in said[0]
    assert len(open_data(Path("tiny"), read_json(Path("tiny/config.json"), sealed=True), None).dataset) == 23


def test_out_is_where_a_shipped_model_is_measured(package: Path) -> None:
    with pytest.raises(WorldloomError, match="a prompt of 400 frames leaves nothing to dream"):
        worldloom.evaluate("tiny", out="x", prompt=400, progress=None)
    assert [f.name for f in Path().iterdir()] == ["x"]
    assert worldloom.load("x").spec == worldloom.load("tiny").spec


def test_a_run_whose_data_can_not_be_had_again_is_not_shipped(run: Path, tmp_path: Path) -> None:
    collected = replace(find("duo").debug().collect, seed=1)
    with pytest.raises(WorldloomError, match="is not what its recipe collects"):
        pack(run, tmp_path / "packed", Dataset(run / "data"), collected, "float16")


def test_shipping_again_leaves_nothing_of_before_and_keeps_the_others(package: Path, tmp_path: Path) -> None:
    (tmp_path / "packed" / "trust.json").write_text("{}", encoding="utf-8")
    ship(tmp_path / "packed", "other", package)
    (tmp_path / "packed" / "trust.json").unlink()
    ship(tmp_path / "packed", "other", package)
    assert not (package / "other" / "trust.json").exists()
    assert list(shipped.manifest()) == ["other", "tiny"]
    assert worldloom.load("tiny").spec == worldloom.load("other").spec


def test_too_much_is_not_shipped(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MOST", sum(f.stat().st_size for f in (package / "tiny").iterdir()) + 10)
    with pytest.raises(WorldloomError, match="more than"):
        ship(tmp_path / "packed", "other", package)
    assert not (package / "other").exists()


def test_rounding_is_measured_from_the_same_starts(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def wiped(weights, kind):
        asked.append(kind)
        return {name: torch.zeros_like(x) for name, x in weights.items()}

    monkeypatch.setattr(measuring, "HORIZON", 10)
    monkeypatch.setattr(measuring, "rounded", wiped)
    rows = rounding(run, Dataset(run / "data"), 2, 0)
    assert [r["stored"] for r in rows] == ["float32", "float16", "bfloat16"]
    assert rows[0]["more_px"] == [0.0] * 2
    assert asked == [torch.float16, torch.bfloat16]
    assert rows[1]["median_px"] == rows[2]["median_px"] != rows[0]["median_px"]  # black frames show no ball


def test_the_page_says_what_was_asked_for_and_whether_it_was_reached() -> None:
    figure = Figure(
        value={"1": 0.04},
        interval={"1": (0.03, 0.05)},
        n=64,
        seed=0,
        statistic="median",
        n_of="starts",
        title="",
        unit="px",
        better="lower",
        meaning="",
    )
    reached = row(figure, "1", "one frame", 0.05, True)
    missed = row(figure, "1", "one frame", 0.03, True)
    assert (reached["reached"], missed["reached"]) == (True, False)
    assert row(figure, "1", "more is better", 0.03, False)["reached"] is True
    rounded_row = {
        "stored": "float16", "frames": [1], "median_px": [1.0], "interval": [[0.5, 1.5]], "more_px": [0.0],
        "more_interval": [[0.0, 0.0]], "n": 4, "seed": 0,
    }  # fmt: skip
    model = {
        "steps": 10, "train_seconds": 60.0, "parameters": 5, "precision": "bf16", "device": "cpu", "stored": "float16",
        "train": {"batch": 2, "optimizer": "muon", "seed": 0}, "weights": "abc", "bytes": {"model": 1_000_000},
        "starts": 4, "seed": 0, "rows": [reached, missed], "rounding": [rounded_row], "machine": "one",
    }  # fmt: skip
    text = page({"balls": model})
    assert "Together 1.0 MB" in text
    assert "| 0.05 | yes |" in text
    assert "| 0.03 | **no** |" in text
