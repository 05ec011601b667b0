"""Test the tests: every claimed bad world is detected, and the true simulator never is."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from worldloom.evaluation.battery.claims import CLAIMS, asserted, claimed_in
from worldloom.evaluation.battery.corruptions import BATTERY
from worldloom.evaluation.battery.table import WORLDS, Asked, Setting, all_probes, ask, judge, starts
from worldloom.evaluation.heldout import HeldOut
from worldloom.evaluation.schema import Figure

PLAIN = Figure(
    value=1.0,
    interval=(0.9, 1.1),
    n=10,
    n_of="starts",
    seed=0,
    title="A title",
    unit="px",
    statistic="mean",
    better="lower",
    meaning="What it means.",
)


def figure(value, interval, better="lower") -> Figure:
    return dataclasses.replace(PLAIN, value=value, interval=interval, better=better)


@pytest.mark.parametrize(
    ("bad", "interval", "lower", "higher"),
    [
        (1.5, (1.2, 1.8), "detected", "better"),
        (0.5, (0.4, 0.6), "better", "detected"),
        (1.5, (1.05, 1.9), "blind", "blind"),
        (1.04, (1.11, 1.12), "blind", "blind"),  # a narrow interval makes a trifle no fault
        (None, None, "unmeasured", "unmeasured"),
        (1.5, None, "unmeasured", "unmeasured"),
    ],
)
def test_when_two_figures_lie_apart(bad, interval, lower, higher):
    assert judge(figure(bad, interval), PLAIN) == lower
    assert judge(figure(bad, interval, "higher"), dataclasses.replace(PLAIN, better="higher")) == higher


@pytest.mark.parametrize(("bad", "interval"), [(1.5, (1.2, 1.8)), (0.5, (0.4, 0.6))])
def test_where_one_value_is_right_neither_side_looks_better(bad, interval):
    true = dataclasses.replace(PLAIN, better="neither", floor=1.0)
    assert judge(figure(bad, interval, "neither"), true) == "detected"


def test_a_figure_by_horizon_detects_at_any_and_errors_outweigh_what_looks_better():
    true = figure({"1": 1.0, "5": 1.0}, {"1": (0.9, 1.1), "5": (0.9, 1.1)})
    worse, better = (2.0, (1.8, 2.2)), (0.5, (0.4, 0.6))
    same = (1.0, (0.9, 1.1))

    def judged(first, second) -> str:
        return judge(figure({"1": first[0], "5": second[0]}, {"1": first[1], "5": second[1]}), true)

    assert judged(same, worse) == judged(better, worse) == "detected"
    assert judged(same, better) == "better"
    assert judged(same, same) == "blind"
    assert judged(same, (None, None)) == "blind"
    assert judge(None, true) == judge(true, None) == "unmeasured"


def test_what_the_instrument_does_itself_is_no_fault():
    true = dataclasses.replace(figure(0.02, (0.019, 0.021)), floor=0.02)
    assert judge(figure(0.035, (0.03, 0.04)), true) == "blind"
    assert judge(figure(0.06, (0.05, 0.07)), true) == "detected"
    high = dataclasses.replace(figure(0.9, (0.88, 0.92), "higher"), floor=0.9)
    assert judge(figure(0.5, (0.4, 0.6), "higher"), high) == "detected"


def test_rounding_is_no_fault():
    exact = figure(0.0, (0.0, 0.0))
    assert judge(figure(1e-9, (1e-9, 2e-9)), exact) == "blind"
    assert judge(figure(0.1, (0.05, 0.2)), exact) == "detected"


SMALL = {
    "free": Setting(starts=16, horizon=24),
    "pushed": Setting(starts=12, horizon=24),
    "hidden": Setting(starts=40, horizon=32),
}
"""As few starts as the claims can do with."""
TESTED = {figure: bad for figure, bad in CLAIMS.items() if asserted(figure)}
CASES = [
    pytest.param(world, name, id=f"{name} in {world}")
    for world in SMALL
    for name in BATTERY
    if any(name in bad and claimed_in(figure) == world for figure, bad in TESTED.items())
]


@pytest.fixture(scope="module")
def asked():
    """What the probes with claims in a world say of a dreamer; all dreamers of a world share their starts."""
    known: dict[tuple[str, str, int], Asked] = {}
    begun: dict[tuple[str, int], HeldOut] = {}

    def once(world: str, name: str, seed: int = 0) -> Asked:
        if (world, name, seed) not in known:
            setting = dataclasses.replace(SMALL[world], seed=seed)
            if (world, seed) not in begun:
                begun[world, seed] = starts(WORLDS[world], setting)
            wanted = {f.split("/")[0] for f, bad in TESTED.items() if claimed_in(f) == world}
            if name in BATTERY:
                wanted = {f.split("/")[0] for f, bad in TESTED.items() if claimed_in(f) == world and name in bad}
            probes = [p for p in all_probes(world) if p.name in wanted]
            shared = {} if name == "truth" else once(world, "truth").shared
            known[world, name, seed] = ask(WORLDS[world], name, probes, setting, begun[world, seed], shared)
            assert not known[world, name, seed].failures
        return known[world, name, seed]

    return once


@pytest.mark.parametrize(("world", "name"), CASES)
def test_what_is_claimed_is_detected(world, name, asked):
    true, bad = asked(world, "truth").figures, asked(world, name).figures
    claimed = [f for f, names in TESTED.items() if name in names and claimed_in(f) == world]
    said = {f: judge(bad.get(f), true.get(f)) for f in claimed}
    missed = {
        f: (verdict, bad[f].value, bad[f].interval, true[f].value, true[f].interval)
        if f in bad and f in true
        else verdict
        for f, verdict in said.items()
        if verdict != "detected"
    }
    assert not missed


@pytest.mark.parametrize("world", SMALL)
def test_the_true_simulator_is_never_detected(world, asked):
    true, other = asked(world, "truth").figures, asked(world, "truth", 1).figures
    alarms = {f: (x.value, x.interval, true[f].value) for f, x in other.items() if judge(x, true.get(f)) == "detected"}
    assert not alarms


def test_claims_name_what_there_is():
    known = {p.name for world in WORLDS for p in all_probes(world)}
    for figure, bad in CLAIMS.items():
        assert figure.split("/")[0] in known, figure
        assert len(set(bad)) == len(bad)
        for name in bad:
            assert BATTERY[name].fits(WORLDS[claimed_in(figure)]), (figure, name)
    for world in WORLDS:
        assert {p.name for p in all_probes(world)} >= {f.split("/")[0] for f in CLAIMS if claimed_in(f) == world}


def test_no_bad_world_goes_unnoticed():
    assert set(BATTERY) - {name for bad in CLAIMS.values() for name in bad} == {"escape"}


def test_the_published_table_holds_every_claim():
    """What takes too long to be measured here was measured for the docs, by these very claims."""
    table = json.loads((Path(__file__).parents[2] / "docs/results/detection.json").read_text(encoding="utf-8"))
    said = {
        (figure, name): table["worlds"][claimed_in(figure)]["figures"][figure]["bad"][name]["verdict"]
        for figure, bad in CLAIMS.items()
        for name in bad
    }
    assert set(said.values()) == {"detected"}
    assert table["claims_missed"] == {}
