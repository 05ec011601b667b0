"""Probes: what they are given, what becomes of their figures, and what is said of those that fail."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import toy_discs

from worldloom import models
from worldloom.contract import WorldloomError
from worldloom.evaluation import evaluate, load_report, probes
from worldloom.evaluation.probes import Dreams, ProbeError, find_probes, probe
from worldloom.evaluation.schema import Figure

SMALL = {"starts": 8, "prompt": 3, "horizon": 12, "count_horizon": 16, "other_actions": False, "progress": None}
WORDS = {"title": "A title", "better": "lower", "meaning": "What it means."}


@pytest.fixture(scope="module", autouse=True)
def toy_family():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.FAMILIES, "toy", ("toy_discs", "Toy"))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probed")
    data = toy_discs.write_discs(folder / "data", episodes=60, length=30)
    return toy_discs.write_run(folder / "run", data)


def position(dreams: Dreams) -> dict[str, Figure]:
    """The toy knows the law: what it dreams as ``state`` is the truth."""
    error = np.abs(dreams.dreamed["state"][..., :2] - dreams.truth["position"][:, :, 0]).max(-1)
    still = np.abs(dreams.truth_shown["position"][:, -1:, 0] - dreams.truth["position"][:, :, 0]).max(-1)
    return {
        "error": dreams.figure(error, unit="px", baselines={"standing_still": still}, floor=0 * error, **WORDS),
        "worst": dreams.figure(error.max(1), statistic="median", **WORDS),
        "right": dreams.figure(error < 0.01, share=True, **WORDS),
    }


def test_a_probe_sees_the_dreams_and_its_figures_are_in_the_report(run):
    seen: list[Dreams] = []

    def look(dreams: Dreams) -> dict[str, Figure]:
        seen.append(dreams)
        return {"starts": dreams.figure(np.arange(len(dreams)), **WORDS)}

    plain = evaluate(run, **SMALL, probes="none")
    report = evaluate(run, **SMALL, probes=[position, look])
    assert report["position/error"]["10"] < 1e-3
    assert report["position/error_floor"]["10"] == 0
    assert report["details"]["position/error"]["baselines"]["standing_still"]["10"] > 1
    assert report["position/right"] == {"1": 1.0, "5": 1.0, "10": 1.0}
    assert report["position/right_interval"]["5"][0] < 1  # the exact limit, as for ours
    assert report["position/worst"] < 1e-3
    assert report["details"]["position/worst"]["statistic"] == "median"
    assert report["look/starts"] == 3.5
    assert report["look/starts_interval"][0] < 3.5 < report["look/starts_interval"][1]
    assert report["probes"] == ("position", "look")
    assert load_report(run).figures["position/error"].curve is not None
    page = (run / "report.html").read_text("utf-8")
    assert page.count("A title") >= 4
    assert "Standing still" in page
    for name in ("psnr_db", "position_error_px", "object_count_ok"):
        assert report[name] == plain[name]
    assert report["verdict"]["headline"] == plain["verdict"]["headline"]

    (dreams,) = seen
    assert len(dreams) == 8
    assert (dreams.prompt, dreams.horizon, dreams.seed, dreams.spec.fps) == (3, 12, 0, 20.0)
    assert dreams.shown["image"].shape == (8, 3, 3, 32, 32)
    assert dreams.real["image"].shape == dreams.dreamed["image"].shape == (8, 12, 3, 32, 32)
    assert dreams.control["action"].shape == (8, 12, 2)
    assert dreams.truth["position"].shape == (8, 12, 1, 2)
    assert dreams.truth_shown["position"].shape == (8, 3, 1, 2)
    np.testing.assert_allclose(dreams.real["state"][..., :2], dreams.truth["position"][:, :, 0], atol=1e-4)
    # action[t] led to frame t: where no wall was hit, the velocity grew by it
    before = np.concatenate([dreams.shown["state"][:, -1:], dreams.real["state"][:, :-1]], 1)[..., 2:]
    grown = np.isclose(before + dreams.control["action"], dreams.real["state"][..., 2:], atol=1e-4)
    assert grown.mean() > 0.8
    for part in (dreams.real, dreams.dreamed, dreams.truth, dreams.control):
        for array in part.values():
            with pytest.raises(ValueError, match="read-only"):
                array[:] = 0


def test_starts_of_one_episode_are_drawn_together(run):
    found: list[tuple[float, float]] = []

    def twice(dreams: Dreams) -> dict[str, Figure]:
        values = np.random.default_rng(0).normal(size=len(dreams) // 2).repeat(2)
        for episodes in (np.arange(len(dreams)), np.arange(len(dreams) // 2).repeat(2)):
            interval = dataclasses.replace(dreams, episodes=episodes).figure(values, **WORDS).interval
            assert isinstance(interval, tuple)
            found.append(interval)
        alone = dataclasses.replace(dreams, episodes=np.zeros(len(dreams), int)).figure(values, **WORDS)
        assert alone.interval is None
        return {"x": alone}

    evaluate(run, **SMALL, probes=[twice])
    (a, b), (c, d) = found
    assert d - c > 1.2 * (b - a)


def fails(dreams):
    return 1 / 0


def returns_nothing(dreams):
    return {}


def returns_a_number(dreams):
    return {"x": 3.0}


def returns_one(dreams):
    return dreams.figure(np.zeros(len(dreams)), **WORDS)


def bad_name(dreams):
    return {"a b": dreams.figure(np.zeros(len(dreams)), **WORDS)}


def not_finite(dreams):
    return {"x": dreams.figure(np.full(len(dreams), np.nan), **WORDS)}


def wrong_rows(dreams):
    return {"x": dreams.figure(np.zeros((3, len(dreams), 2)), **WORDS)}


def too_long(dreams):
    return {"x": dreams.figure(np.zeros((len(dreams), 99)), **WORDS)}


def not_shares(dreams):
    return {"x": dreams.figure(np.full(len(dreams), 2.0), share=True, **WORDS)}


def by_hand(dreams):
    figure = dreams.figure(np.zeros(len(dreams)), **WORDS)
    return {"x": dataclasses.replace(figure, value=float("inf"))}


def wrong_type(dreams):
    figure = dreams.figure(np.zeros(len(dreams)), **WORDS)
    object.__setattr__(figure, "n", "many")  # past the type checks that these tests run under
    return {"x": figure}


def clash(dreams):
    figure = dreams.figure(np.zeros(len(dreams)), **WORDS)
    return {"x": figure, "x_n": figure}


FAILING = {
    fails: r"ZeroDivisionError: division by zero \(test_probes.py, line \d+\)",
    returns_nothing: "an empty one",
    returns_a_number: "'returns_a_number/x' is a float",
    returns_one: "must return a dictionary of figures by name",
    bad_name: "letters, digits and _, found 'bad_name/a b'",
    not_finite: "NaN or infinite values at 8 places",
    wrong_rows: r"found float64 \(3, 8, 2\)",
    too_long: "at most 12 frames",
    not_shares: r"lie in \[0, 1\]",
    by_hand: "not JSON compliant|Out of range float",
    wrong_type: "n must be int, found 'many'",
    clash: r"would write \['clash/x_n'\] twice",
}


def test_a_probe_that_fails_is_an_error_that_names_it_after_the_report_is_written(run, tmp_path):
    with pytest.raises(ProbeError) as raised:
        evaluate(run, **SMALL, out=tmp_path, probes=[*FAILING, position])
    report = load_report(tmp_path)
    assert {"psnr_db", "position/error"} <= report.figures.keys()
    assert not any(name.startswith(tuple(f.__name__ for f in FAILING)) for name in report.figures)
    failures = [note for note in report.notes if note.startswith("The probe")]
    for note, (function, says) in zip(failures, FAILING.items(), strict=True):
        assert f"'{function.__name__}" in note
        with pytest.raises(AssertionError, match=says):
            raise AssertionError(note)
        assert note in str(raised.value)
    assert str(tmp_path) in str(raised.value)
    assert "failed" in (tmp_path / "report.html").read_text("utf-8")


def test_what_a_probe_needs_is_looked_at_before_anything_is_dreamed(run, tmp_path):
    @probe(name="needy", truth=("velocity",), capabilities=("reward",), sensors=("depth",), actions=True)
    def impossible(dreams):
        raise AssertionError("was run")

    with pytest.raises(ProbeError, match=r"'needy' needs the truth 'velocity'.*\['position'\].*'reward'.*'depth'"):
        evaluate(run, **SMALL, out=tmp_path, probes=[impossible])
    assert not list(tmp_path.iterdir())
    still = probe(lambda dreams: {}, name="still", actions=True)
    seen = []
    look = probe(lambda dreams: seen.append(dreams) or position(dreams), name="look")
    evaluate(run, **SMALL, out=tmp_path / "out", probes=[look])
    plain = dataclasses.replace(seen[0], spec=toy_discs.make_spec(32, actions=False))
    assert still.lacks(plain) == "actions"
    assert still.lacks(seen[0]) == ""
    assert probe(position, truth=("position",)).lacks(plain) == ""
    assert "exact simulator" in probe(position, exact=True).lacks(plain)


def test_probes_are_found_by_name(monkeypatch):
    monkeypatch.setitem(probes.PROBES, "inside", ("test_probes", "position"))
    monkeypatch.setitem(probes.PROBES, "second", ("test_probes", "fails"))
    assert [p.name for p in find_probes(["inside,second", "test_probes:bad_name", clash])] == [
        "inside", "second", "bad_name", "clash",
    ]  # fmt: skip
    assert [p.name for p in find_probes("inside,second")] == ["inside", "second"]
    for given, says in (
        (["insight"], "Did you mean 'inside'"),
        (["nothing"], "Probes: .*inside, second"),
        (["test_probes:positoin"], "Did you mean 'position'"),
        (["test_probes:WORDS"], "is a dict, not a function"),
        (["test_probes:Figure"], "not a function"),
        ([position, "test_probes:position"], r"Several probes are named \['position'\]"),
        ([lambda dreams: {}], r"probe\(name=...\)"),
        (["nowhere:x"], "no module 'nowhere'"),
    ):
        with pytest.raises(WorldloomError, match=says):
            find_probes(given)
