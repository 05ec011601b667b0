"""What dreaming costs, and reports that are equal but for it."""

from __future__ import annotations

import copy
import json
import mmap

import pytest
import torch
import toy_discs

from worldloom import models
from worldloom.evaluation import evaluate
from worldloom.evaluation.battery import Truth, make_dreams
from worldloom.evaluation.exact import ExactWorld
from worldloom.evaluation.probes import Dreams, NotMeasurableError, cost, cost_meters
from worldloom.evaluation.probes.cost import BATCHES
from worldloom.evaluation.probes.cost import cost as ask
from worldloom.evaluation.schema import TIMED, timeless
from worldloom.worlds.balls import BallsConfig

SMALL = {"starts": 4, "prompt": 3, "horizon": 8, "count_horizon": 8, "other_actions": False, "progress": None}


@pytest.fixture(scope="module", autouse=True)
def toy_family():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.FAMILIES, "toy", ("toy_discs", "Toy"))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("costly")
    data = toy_discs.write_discs(folder / "data", episodes=40, length=24)
    return toy_discs.write_run(folder / "run", data)


@pytest.fixture(scope="module")
def dreams(run) -> Dreams:
    kept: list[Dreams] = []

    def keep(given: Dreams):
        kept.append(given)
        return {"x": given.figure(given.episodes, title="", better="lower", meaning="")}

    evaluate(run, **SMALL, probes=[keep], out=run / "elsewhere")
    return kept[0]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(cost, "FRAMES", 20)
    monkeypatch.setattr(cost, "SECONDS", 600.0)  # by frames alone: nothing here depends on how busy a machine is


def test_the_figures_agree_with_each_other(dreams):
    found = ask.measure(dreams)
    assert found["cost/latency_p50_ms"].value <= found["cost/latency_p90_ms"].value
    alone = found["cost/frames_per_second_1"]
    assert alone.value == pytest.approx(1e3 / found["cost/latency_p50_ms"].value)
    assert found["cost/seconds_per_minute"].value == pytest.approx(60 * 20 / alone.value)  # 20 frames a second
    for size in BATCHES:
        low, high = found[f"cost/frames_per_second_{size}"].interval
        assert low <= found[f"cost/frames_per_second_{size}"].value <= high
    assert found["cost/parameters"].value == 1
    assert found["cost/state_kib"].value == pytest.approx((3 * 8 + 4 * 4) / 1024)  # key, frame, dreamed; x


def test_a_percentile_needs_its_frames(dreams, monkeypatch):
    found = ask.measure(dreams)
    assert found["cost/latency_p99_ms"].value is None
    assert "20 frames were timed, and this needs 100" in found["cost/latency_p99_ms"].meaning
    assert found["cost/latency_p90_ms"].value is not None
    monkeypatch.setattr(cost, "FRAMES", 100)
    assert ask.measure(dreams)["cost/latency_p99_ms"].value is not None


class Hungry(toy_discs.Toy):
    """A model that needs 64 MiB for a frame."""

    def step(self, state, control=None, *, donate=False):
        with mmap.mmap(-1, 64 * 2**20) as fresh:  # pages of its own: an allocator may hand out what it kept
            fresh.write(bytes(64 * 2**20))
        return super().step(state, control, donate=donate)


def test_memory_that_a_frame_takes_is_seen(dreams):
    memory = cost_meters.Memory(torch.device("cpu"))
    memory.begin()
    if memory.growth() is None:
        pytest.skip("this system does not tell")
    arguments = dreams.held, 1, 0.05, 0, memory, None
    assert cost.timed(dreams.model, *arguments).memory < 32 * 2**20
    assert cost.timed(Hungry(dreams.spec), *arguments).memory > 48 * 2**20


def test_energy_is_read_where_it_can_be_and_else_the_reason_is_said(dreams, tmp_path, monkeypatch):
    monkeypatch.setattr(cost_meters, "POWER", tmp_path)
    assert "RAPL" in ask.measure(dreams)["cost/energy_per_frame_mj"].meaning
    for name, span in (("intel-rapl:0", 1000), ("intel-rapl:1", 5000), ("intel-rapl:0:0", 9)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "max_energy_range_uj").write_text(f"{span}\n")
        (tmp_path / name / "energy_uj").write_text("900\n")
    counter, words = cost_meters.energy_counter(torch.device("cpu"))
    assert counter is not None
    assert counter() == 0
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("100\n")  # it began anew at 1000
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("950\n")
    assert counter() == pytest.approx((200 + 50) / 1e6)  # the parts of a package are in it already
    found = ask.measure(dreams)["cost/energy_per_frame_mj"]
    assert found.value == 0
    assert words in found.meaning
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert "FileNotFoundError" in ask.measure(dreams)["cost/energy_per_frame_mj"].meaning


def test_who_is_no_model_has_no_cost():
    world = ExactWorld(BallsConfig(height=24, width=24))
    with pytest.raises(NotMeasurableError, match="only a model"):
        ask.measure(make_dreams(world, Truth(world), 2, 2, 2, 0))


def test_two_evaluations_are_equal_to_the_byte_but_for_timings(run, tmp_path):
    probes = ["cost,regimes,drift,half_life"]
    reports = []
    for name in ("a", "b"):
        evaluate(run, **SMALL, probes=probes, out=tmp_path / name)
        reports.append(json.loads((tmp_path / name / "report.json").read_text()))
    first, second = (json.dumps(timeless(r), sort_keys=True) for r in reports)
    assert first == second
    assert json.dumps(reports[0]) != json.dumps(reports[1])
    kept = timeless(reports[0])
    assert "half_life/count_mean_frames_interval" in kept
    assert "psnr_db" in kept["details"]
    assert not [n for n in [*kept, *kept["details"]] if n.split("/")[0] in TIMED or n.startswith("frames_per_second")]
    other = copy.deepcopy(reports[0])
    other["psnr_db"]["1"] += 1e-9
    assert json.dumps(timeless(other), sort_keys=True) != first
    evaluate(run, **SMALL, probes=probes, out=tmp_path / "c", seed=1)
    assert json.dumps(timeless(json.loads((tmp_path / "c" / "report.json").read_text())), sort_keys=True) != first


def test_the_report_that_is_given_stays_as_it_is():
    report = {"details": {"cost/x": {}}, "cost/x": 1, "cost/x_n": 2, "created": "", "verdict": {"points": []}}
    assert timeless(report) == {"details": {}, "verdict": {"points": []}}
    assert report["cost/x"] == 1
