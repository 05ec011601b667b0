"""Several runs side by side: which is surely better at what, and what stands in the way of saying so."""

import dataclasses

import pytest
import toy_discs

from worldloom import models
from worldloom.contract import WorldloomError
from worldloom.evaluation import load_report
from worldloom.evaluation.compare import WATCH, compare, contrast, surely_best
from worldloom.files import read_json

SMALL = {"starts": 8, "horizon": 20, "count_horizon": 24, "progress": None, "probes": "none"}


@pytest.fixture(scope="module", autouse=True)
def toy_family():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.FAMILIES, "toy", ("toy_discs", "Toy"))
        yield


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    data = toy_discs.write_discs(folder / "data", episodes=160, length=36)
    runs = [toy_discs.write_run(folder / "a" / "run", data), toy_discs.write_run(folder / "b" / "run", data, "deaf")]
    said = []
    result = compare(runs, out=folder / "out", **SMALL | {"progress": said.append})
    return folder / "out", result, said


def test_the_better_run_is_named_where_its_interval_is_apart(compared):
    _, result, said = compared
    assert list(result["runs"]) == ["a-run", "b-run"]  # as many folders as tell them apart
    position = result["figures"]["position_error_px"]
    assert position["horizon"] == "20"
    assert position["value"]["a-run"] < position["value"]["b-run"]
    assert position["surely_best"] == "a-run"
    choices = {choice["purpose"]: choice for choice in result["choices"]}
    assert choices["To act and plan in"]["best"] == "a-run"
    assert choices["To go far"]["best"] == "a-run"
    assert any(line.startswith("To act and plan in: a-run.") for line in said)


def test_what_is_written_can_be_read_and_shows_every_run(compared):
    folder, result, _ = compared
    read = read_json(folder / "comparison.json", sealed=True)
    assert {k: v for k, v in read.items() if k != "check"} == result
    page = (folder / "comparison.html").read_text(encoding="utf-8")
    assert page.count('<svg class="strip"') == 2
    assert '<polygon class="band run1"' in page
    assert page.count("<table") == page.count('<table class="stack"') == 2  # rows are stacked on narrow screens
    assert page.count('class="line first"') == 3  # position, PSNR and SSIM of repeating the last frame
    assert "There are more runs than" not in page
    for name in ("a-run", "b-run"):
        assert load_report(folder / name).run.name == "run"
        assert (folder / name / "report.html").exists()


def test_overlapping_intervals_name_nobody(compared):
    folder, _, _ = compared
    figure = load_report(folder / "a-run").figures["position_error_px"]
    one = dataclasses.replace(figure, value=1.0, interval=(0.5, 1.5), curve=None)
    two = dataclasses.replace(figure, value=2.0, interval=(1.4, 2.5), curve=None)
    far = dataclasses.replace(figure, value=4.0, interval=(3.5, 4.5), curve=None)
    assert surely_best({"one": one, "two": two}, "") is None
    assert surely_best({"one": one, "far": far}, "") == "one"
    assert (
        surely_best(
            {"one": dataclasses.replace(one, better="higher"), "far": dataclasses.replace(far, better="higher")}, ""
        )
        == "far"
    )
    assert surely_best({"one": one, "two": two, "far": far}, "") is None
    assert surely_best({"one": one, "none": dataclasses.replace(far, interval=None)}, "") is None
    assert surely_best({"one": one}, "") is None
    assert surely_best({"one": one, "far": far}, "", 2.0) == "one"
    assert surely_best({"one": one, "far": far}, "", 2.5) is None


def test_a_run_without_actions_is_not_chosen_to_act_in(compared):
    folder, _, _ = compared
    a, b = (load_report(folder / name) for name in ("a-run", "b-run"))
    film = dataclasses.replace(a, run=dataclasses.replace(a.run, controls=()))
    del film.figures["action_gain_db"]
    choices = {c["purpose"]: c for c in contrast({"film": film, "deaf": b})["choices"]}
    assert choices["To act and plan in"]["best"] == ""  # the other one does not listen
    assert "film takes no actions" in choices["To act and plan in"]["words"]
    choices = {c["purpose"]: c for c in contrast({"film": film, "game": load_report(folder / "a-run")})["choices"]}
    assert choices["To act and plan in"]["best"] == "game"


def test_a_run_that_is_right_by_chance_is_not_shown_to_listen(compared):
    folder, _, _ = compared
    a, b = (load_report(folder / name) for name in ("a-run", "b-run"))
    film = dataclasses.replace(a, run=dataclasses.replace(a.run, controls=()))
    base = dataclasses.replace(a.figures["object_count_ok"], curve=None)

    def acts(value, interval):
        figure = dataclasses.replace(base, value=value, interval=interval)
        game = dataclasses.replace(b, figures=b.figures | {"counterfactual/sign_right": figure})
        return {c["purpose"]: c for c in contrast({"film": film, "game": game})["choices"]}["To act and plan in"]

    assert acts(0.9, (0.85, 0.95))["best"] == "game"
    chance = acts(0.51, (0.45, 0.57))  # as one that moves at random
    assert (chance["figure"], chance["best"]) == ("counterfactual/sign_right", "")
    assert "is not shown to listen" in chance["words"]
    still = dataclasses.replace(base, value=0.0, interval=(0.0, 0.05))
    random = dataclasses.replace(base, value=0.51, interval=(0.45, 0.57))
    two = {
        name: dataclasses.replace(run, figures=run.figures | {"counterfactual/sign_right": figure})
        for name, run, figure in (("a", a, still), ("b", b, random))
    }
    chosen = {c["purpose"]: c for c in contrast(two)["choices"]}["To act and plan in"]
    assert chosen["best"] == ""  # the better of two that do not listen
    assert chosen["words"].startswith("None is shown to listen")


def test_different_data_and_settings_are_noted(compared):
    folder, result, _ = compared
    a, b = (load_report(folder / name) for name in ("a-run", "b-run"))
    assert result["notes"] == []
    elsewhere = dataclasses.replace(b, data=dataclasses.replace(b.data, fingerprint="0" * 32, stored="0" * 32))
    otherwise = dataclasses.replace(b, data=dataclasses.replace(b.data, fingerprint="0" * 32))
    assert "the same data differently" in contrast({"a": a, "b": otherwise})["notes"][0]
    assert "different data" in contrast({"a": a, "b": elsewhere})["notes"][0]
    later = dataclasses.replace(b, setting=dataclasses.replace(b.setting, prompt=2))
    assert "different starts" in contrast({"a": a, "b": later})["notes"][0]


def test_nobody_wins_on_different_data_or_under_different_settings(compared):
    folder, _, _ = compared
    a, b = (load_report(folder / name) for name in ("a-run", "b-run"))
    assert contrast({"a": a, "b": b})["figures"]["position_error_px"]["surely_best"] == "a"
    assert a.data.frames == b.data.frames
    otherwise = dataclasses.replace(b, data=dataclasses.replace(b.data, fingerprint="0" * 32))
    found = contrast({"a": a, "b": otherwise})  # without its actions, say: the same frames
    assert found["notes"]
    assert found["figures"]["position_error_px"]["surely_best"] == "a"
    elsewhere = dataclasses.replace(b, data=dataclasses.replace(b.data, frames="0" * 32))
    later = dataclasses.replace(b, setting=dataclasses.replace(b.setting, prompt=2))
    few = dataclasses.replace(b, data=dataclasses.replace(b.data, episodes_used=5))
    assert "come from 5 held-out episodes; 6 are needed" in contrast({"a": a, "b": few})["notes"][0]
    for other in (elsewhere, later, few):
        found = contrast({"a": a, "b": other})
        assert {figure["surely_best"] for figure in found["figures"].values()} == {None}
        assert {choice["best"] for choice in found["choices"]} == {""}
        assert any(choice["words"].startswith("Not to be told") for choice in found["choices"])


def test_what_is_not_one_figure_has_no_winner(compared):
    folder, _, _ = compared
    figure = dataclasses.replace(load_report(folder / "a-run").figures["position_error_px"], curve=None)
    one = dataclasses.replace(figure, value=1.0, interval=(0.5, 1.5), title="Life: mean of 100")
    far = dataclasses.replace(one, value=4.0, interval=(3.5, 4.5))
    assert surely_best({"one": one, "far": far}, "") == "one"
    for change in (
        {"title": "Life: mean of 200"},  # looked at for longer
        {"hashes": figure.hashes | {"extractor": "other"}},
    ):
        assert surely_best({"one": one, "far": dataclasses.replace(far, **change)}, "") is None
    either = {name: dataclasses.replace(x, better="neither") for name, x in (("one", one), ("far", far))}
    assert surely_best(either, "") is None  # a restitution of 4 is no better than one of 1, nor worse by its sign


def test_a_figure_that_was_not_measured_alike_does_not_decide(compared):
    folder, _, _ = compared
    a, b = (load_report(folder / name) for name in ("a-run", "b-run"))
    base = dataclasses.replace(a.figures["position_error_px"], curve=None, better="higher")

    def choice(first, second):
        reports = {
            run: dataclasses.replace(r, figures=r.figures | {"half_life/position_mean_frames": x})
            for (run, r), x in zip({"a": a, "b": b}.items(), (first, second), strict=True)
        }
        return {c["purpose"]: c for c in contrast(reports)["choices"]}["To go far"]

    short = dataclasses.replace(base, value=90.0, interval=(80.0, 95.0), title="Life: mean of 100")
    long = dataclasses.replace(base, value=190.0, interval=(180.0, 195.0), title="Life: mean of 200")
    none = dataclasses.replace(short, value=None, interval=None)
    assert choice(short, dataclasses.replace(long, title=short.title))["best"] == "b"
    for first, second in ((short, long), (short, none)):  # then the next of the figures decides
        found = choice(first, second)
        assert (found["figure"], found["best"]) == ("position_error_px", "a")


def test_a_run_that_is_not_there_is_told_before_the_others_are_measured(compared, tmp_path):
    folder, _, _ = compared
    with pytest.raises(WorldloomError, match="gone: no such folder"):
        compare([folder.parent / "a" / "run", tmp_path / "gone"], out=tmp_path / "out", **SMALL)
    assert not (tmp_path / "out").exists()


def test_one_run_is_nothing_to_compare(tmp_path):
    for runs in ([tmp_path], [tmp_path, tmp_path / "."]):
        with pytest.raises(WorldloomError, match="two or more different runs"):
            compare(runs)


def test_what_is_nearest_to_nothing_is_not_worth_watching(compared):
    """A run may be surely nearest in one space of features and still be noise."""
    folder, _, _ = compared
    a, b = (load_report(folder / name) for name in ("a-run", "b-run"))
    gain = a.figures["psnr_gain_db"]

    def of(report, distance, decibels):
        near = dataclasses.replace(
            gain, title="Kernel distance", better="lower", value=distance, interval=(distance, distance), curve=None
        )
        better = dataclasses.replace(
            gain,
            value=dict.fromkeys(gain.value, decibels),
            interval=dict.fromkeys(gain.value, (decibels - 0.1, decibels + 0.1)),
        )
        return dataclasses.replace(report, figures=report.figures | {"kernel/embedded": near, "psnr_gain_db": better})

    def watch(one, two):
        return next(c for c in contrast({"a": one, "b": two})["choices"] if c["purpose"] == WATCH)

    assert watch(of(a, 1.0, 3.0), of(b, 5.0, 2.0))["best"] == "a"
    both = watch(of(a, 1.0, -9.0), of(b, 5.0, 1.0))
    assert both["best"] == ""
    assert "disagree" in both["words"]
    neither = watch(of(a, 1.0, -2.0), of(b, 5.0, -9.0))
    assert neither["best"] == ""
    assert "None is shown to be better than repeating the last frame" in neither["words"]
