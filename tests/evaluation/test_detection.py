"""Test the tests: every claimed bad world is detected, and the true simulator never is."""

from __future__ import annotations

import dataclasses

import pytest

from worldloom.evaluation.battery.table import judge
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
