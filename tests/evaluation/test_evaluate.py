"""The whole way, from a run's folder to its report, with a model that knows the world's law, and with broken ones."""

import dataclasses
import json
import re

import numpy as np
import pytest
import toy_discs

from worldloom import models
from worldloom.configs import ConfigError
from worldloom.contract import Spec, WorldloomError
from worldloom.data.mixing.adapt import Reading, View
from worldloom.data.store import Dataset
from worldloom.data.writer import DatasetWriter
from worldloom.evaluation import evaluate, load_report, parse
from worldloom.evaluation.heldout import draw
from worldloom.evaluation.pages.command import Asked, again, as_given
from worldloom.evaluation.probes import default_probes, find_probes
from worldloom.files import DamagedFileError, read_json, write_json

SMALL = {"starts": 8, "horizon": 20, "count_horizon": 40, "progress": None, "probes": "none"}


@pytest.fixture(scope="module", autouse=True)
def toy_family():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.FAMILIES, "toy", ("toy_discs", "Toy"))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_discs.write_discs(tmp_path_factory.mktemp("discs") / "data", episodes=50, length=36)


@pytest.fixture(scope="module")
def reports(data, tmp_path_factory):
    """Report of a fault, measured once."""
    made = {}

    def get(fault):
        if fault not in made:
            run = toy_discs.write_run(tmp_path_factory.mktemp("runs") / fault, data, fault)
            made[fault] = evaluate(run, **SMALL), run
        return made[fault]

    return get


def test_a_model_that_knows_the_law_is_as_good_as_the_tracker(reports):
    report, _ = reports("none")
    for h in ("1", "5", "10", "20"):
        assert report["position_error_px"][h] < 0.05
        assert report["position_error_px"][h] == pytest.approx(report["position_error_px_floor"][h], abs=1e-3)
    assert report["position_lost"] == {"1": 0, "5": 0, "10": 0, "20": 0}
    assert report["object_count_ok"] == report["object_count_ok_floor"] == 1
    assert report["object_count_ok_interval"][1] == 1
    assert report["psnr_db"]["20"] > 45  # equal but for rounding
    assert report["ssim"]["20"] > 0.99
    assert report["action_gain_db"]["20"] > 3
    assert report["verdict"]["headline"].startswith("Believable for all 20 frames")
    baselines = report["details"]["position_error_px"]["baselines"]
    assert baselines["copy_last"]["20"] > 3
    assert baselines["constant_velocity"]["1"] < baselines["copy_last"]["1"]


def test_figures_carry_n_seed_and_interval(reports):
    report, _ = reports("noisy")
    for name in report["details"]:
        assert report[f"{name}_n"] >= 1
        assert isinstance(report[f"{name}_seed"], int)
    for h, (low, high) in report["position_error_px_interval"].items():
        assert low <= report["position_error_px"][h] <= high
    assert report["position_error_px_n"] == report["setting"]["starts"] == 8
    assert report["train_seconds"] == 12.5
    assert report["train_seconds_seed"] == 5
    assert report["frames_per_second"] > 0


@pytest.mark.parametrize(
    ("fault", "figure", "wrong"),
    [
        ("vanish", "object_count_ok", lambda r: r["object_count_ok"] == pytest.approx(7 / 40)),
        ("fade", "object_count_ok", lambda r: r["object_count_ok"] == pytest.approx(7 / 40)),
        ("double", "object_count_ok", lambda r: r["object_count_ok"] < 0.4),
        ("still", "position_error_px", lambda r: r["position_error_px"]["20"] > 2),
        ("noisy", "position_error_px", lambda r: r["position_error_px"]["20"] > 3 * r["position_error_px"]["1"] > 0.1),
        ("deaf", "action_gain_db", lambda r: set(r["action_gain_db"].values()) == {0.0}),
    ],
)
def test_each_fault_shows_in_its_figure(reports, fault, figure, wrong):
    assert wrong(reports(fault)[0]), reports(fault)[0][figure]
    assert not wrong(reports("none")[0])


def test_a_lost_ball_counts_as_the_diagonal(reports):
    report, _ = reports("vanish")
    assert report["position_error_px"]["5"] < 0.05
    assert report["position_error_px"]["10"] == pytest.approx(32 * 2**0.5)
    assert report["position_lost"]["10"] == 1
    assert report["verdict"]["headline"].startswith("Believable for about 7 frames")


def test_measured_twice_is_the_same(reports, tmp_path):
    report, run = reports("noisy")
    again = evaluate(run, out=tmp_path, **SMALL)
    for name in report["details"]:
        if name != "frames_per_second":
            assert again[name] == report[name]
            assert again[f"{name}_interval"] == report[f"{name}_interval"]
    other = evaluate(run, out=tmp_path, **SMALL, seed=1)
    assert other["position_error_px"] != report["position_error_px"]
    assert other["position_error_px_seed"] == 1


def test_the_written_report_fits_the_schema(reports):
    report, run = reports("none")
    written = read_json(run / "report.json", sealed=True)
    assert written == json.loads(json.dumps(report))
    typed = load_report(run)
    assert typed.figures["position_error_px"].curve.horizon == tuple(range(1, 21))
    assert typed.data.split == "test"
    for damage in ("position_error_px_n", "verdict", "details"):
        with pytest.raises(ConfigError):
            parse({k: v for k, v in written.items() if k != damage})
    with pytest.raises(ConfigError, match="surprise"):
        parse({**written, "surprise": 1})


def test_a_report_of_something_else_is_an_error(tmp_path):
    write_json(tmp_path / "report.json", {"schema": "7"})
    with pytest.raises(DamagedFileError, match="schema '2'"):
        load_report(tmp_path)


def test_the_page_holds_everything_it_shows(reports):
    report, run = reports("none")
    page = (run / "report.html").read_text(encoding="utf-8")
    assert report["verdict"]["headline"] in page.replace("\u00a0", " ")
    addresses = re.findall(r"""(?:src|href)=["']([^"']*)["']|url\(([^)]*)\)""", page)
    assert addresses
    inside = {a for pair in addresses for a in pair if a.startswith("#")}
    assert all(f'id="{a[1:]}"' in page for a in inside)
    assert all(a.startswith("data:") for pair in addresses for a in pair if a and a not in inside)
    assert "<script" not in page
    assert page.count("<table") == page.count('<table class="stack"') == 1  # rows are stacked on narrow screens
    assert page.count('<svg class="chart"') == 5
    assert page.count('<svg class="strip"') == 2
    assert "data:image/webp" in page


def test_the_page_says_how_to_measure_the_same_again(reports):
    _, run = reports("none")
    one = load_report(run)
    rest = "--starts 8 --prompt 4 --horizon 20 --count-horizon 40 --probes none --seed 0"
    assert again(one) == f"worldloom evaluate none {rest}"
    assert f"worldloom evaluate {run} {rest}" in (run / "report.html").read_text("utf-8")  # the path as it was given
    assert str(run.parent) not in (run / "report.json").read_text("utf-8")
    usual = dataclasses.replace(one, probes=tuple(p.name for p in default_probes()))
    assert "--probes" not in again(usual)
    some = dataclasses.replace(one, probes=("mine", "gravity"), unmeasured={"walls": "None."})
    assert "--probes gravity walls MODULE:mine --seed" in again(some)
    known = dataclasses.replace(Asked("a run", ("--data", "its data")), probes={"mine": "probes:mine"})
    assert again(some, known).startswith("worldloom evaluate 'a run' --data 'its data' --starts")
    assert "--probes gravity walls probes:mine --seed" in again(some, known)


def test_what_was_given_is_told_where_it_can_be_typed_again(tmp_path):
    probes = find_probes(["gravity", toy_discs.write_discs, lambda_named("here")])
    given = as_given(tmp_path, probes, toy_discs.Toy, data=tmp_path / "data", extractor=None)
    assert given.run == str(tmp_path)
    assert given.options == ("--model", "toy_discs:Toy", "--data", str(tmp_path / "data"))
    assert given.probes == {"write_discs": "toy_discs:write_discs"}  # a function within a function has no such name


def lambda_named(name):
    def within(dreams):
        raise AssertionError

    within.__name__ = name
    return within


def test_a_position_that_is_none_is_not_used(tmp_path):
    path = toy_discs.write_discs(tmp_path / "data", episodes=12, length=30, actions=False)
    with DatasetWriter(tmp_path / "robot", Dataset(path).spec) as writer:
        for number in range(12):
            episode = Dataset(path).episode(number)
            writer.add(dataclasses.replace(episode, truth={"position": episode.truth["position"][:, 0]}))
    held = draw(Dataset(tmp_path / "robot"), 2, 4, 10, 10, seed=0)
    assert "position" not in held.truth
    assert "(frames, objects, 2) in px, found (14, 2)." in held.notes[-1]


def test_names_can_not_write_into_the_page(data, tmp_path):
    run = toy_discs.write_run(tmp_path / "<img src=x onerror=alert(1)>", data)
    evaluate(run, **SMALL)
    assert "<img src=x" not in (run / "report.html").read_text(encoding="utf-8")


def test_plain_video_without_truth(tmp_path):
    data = toy_discs.write_discs(tmp_path / "data", episodes=21, length=24, actions=False, truth=False)
    run = toy_discs.write_run(tmp_path / "run", data, actions=False)
    (run / "summary.json").unlink()
    report = evaluate(run, out=tmp_path / "elsewhere", starts=4, progress=None)
    assert "position_error_px" not in report
    assert "action_gain_db" not in report
    assert report["setting"]["horizon"] == 20
    assert report["setting"]["count_horizon"] == 0
    assert report["psnr_gain_db"]["10"] > 3
    assert report["train_seconds"] is None
    assert report["verdict"]["headline"].startswith("Better than repeating the last frame for all 20 frames")
    notes = " ".join(report["notes"])
    assert "horizon is 20 frames, not 50" in notes
    assert "Training time is unknown" in notes
    assert (tmp_path / "elsewhere" / "report.html").exists()
    assert not (run / "report.json").exists()
    parse(report)


def test_starts_come_from_episodes_that_training_never_saw(data):
    dataset = Dataset(data)
    held = draw(dataset, 9, 4, 20, 60, seed=0)
    assert set(held.episodes) == set(dataset.splits["test"].tolist())
    assert held.segment.length == 24
    assert held.horizon == 20
    state = held.segment.obs["state"].numpy()
    assert np.allclose(state[:, :, :2], held.truth["position"][:, :, 0], atol=1e-4)
    assert held.control["action"].shape == (9, 60, 2)
    assert np.array_equal(held.control["action"][:, :20], held.segment.control["action"][:, 4:])
    assert len({clip.tobytes() for clip in state}) == 9


def test_controls_past_the_end_are_the_recorded_ones_again(data):
    dataset = Dataset(data)
    held = draw(dataset, 3, 4, 32, 80, seed=0)  # the whole episode of 36 frames: begin 0
    assert held.segment.first[:, 0].all()
    assert np.array_equal(held.control["action"][:, :32], held.segment.control["action"][:, 4:])
    assert np.array_equal(held.control["action"][:, 32:64], held.control["action"][:, :32])


def test_what_was_done_in_a_world_of_ours_is_known_where_the_model_is_not_given_it(data):
    source = Dataset(data)
    spec = Spec(source.spec.shown, {}, source.spec.fps)
    film = View(source, spec, Reading({name: name for name in spec.shown}))
    assert not draw(film, 3, 4, 32, 80, seed=0).control
    film.info = {"world": {}}
    held, whole = (draw(dataset, 3, 4, 32, 80, seed=0) for dataset in (film, source))
    assert np.array_equal(held.control["action"], whole.control["action"])
    assert np.array_equal(held.segment.control["action"], whole.segment.control["action"])


def test_fewer_starts_than_asked_for_are_noted(data):
    held = draw(Dataset(data), 100, 4, 31, 31, seed=0)
    assert len(held.episodes) == 2 * len(set(held.episodes.tolist()))
    assert "instead of 100" in held.notes[0]


def test_the_horizon_leaves_room_for_different_starts(data):
    assert draw(Dataset(data), 2, 4, None, 1, seed=0).horizon == 32  # all that episodes of 36 frames hold
    held = draw(Dataset(data), 12, 4, None, 1, seed=0)
    lengths = [36 - (4 + held.horizon + more) + 1 for more in (0, 1)]
    episodes = len(Dataset(data).splits["test"])
    assert episodes * lengths[0] >= 12 > episodes * lengths[1]
    assert draw(Dataset(data), 1000, 4, None, 1, seed=0).horizon == 20


def test_bad_input_is_said_clearly(data, tmp_path):
    with pytest.raises(WorldloomError, match="not a folder"):
        evaluate(tmp_path / "nothing")
    with pytest.raises(WorldloomError, match=r"has no model\.safetensors"):
        evaluate(data)
    run = toy_discs.write_run(tmp_path / "run", tmp_path / "gone")
    with pytest.raises(WorldloomError, match="not there any more"):
        evaluate(run)
    with pytest.raises(WorldloomError, match="is not a dataset"):
        evaluate(run, data=run)
    (run / "config.json").unlink()
    with pytest.raises(WorldloomError, match="does not say which dataset"):
        evaluate(run)
    with pytest.raises(WorldloomError, match="starts must be at least 1"):
        evaluate(run, starts=0)
    with pytest.raises(WorldloomError, match="leaves nothing to dream"):
        evaluate(run, data=data, prompt=36, progress=None)
    assert not (run / "report.json").exists()


def test_the_dataset_is_found_when_both_were_moved(data, tmp_path):
    run = toy_discs.write_run(tmp_path / "runs" / "one", "../../data")
    (tmp_path / "data").symlink_to(data)
    assert evaluate(run, **SMALL | {"starts": 2})["data"]["name"] == data.resolve().name


def test_the_verdict_has_no_holes(reports):
    report, _ = reports("none")
    assert "{" not in " ".join([report["verdict"]["headline"], *report["verdict"]["points"]])
    assert dataclasses.asdict(load_report(reports("none")[1]).verdict)["headline"] == report["verdict"]["headline"]
