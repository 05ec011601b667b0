"""The exercises' page says what its figures say, and nothing else: verdicts turn with the numbers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from benchmarks.exercises import drift, laws, page
from benchmarks.exercises.runs import unlike
from benchmarks.exercises.starts import KINDS


def run(balls, loss, parameters=1_000_000, width=64):
    world = {"balls": balls, "radius": 4.0}
    model = {"backbone": {"width": width, "deep_width": 2 * width}}
    curve = [[50, 4 * loss], [100, 2 * loss], [200, loss]]
    about = {"steps": 200, "seconds": 10.0, "batch": 12, "training_seed": 0, "world": world, "model": model}
    return {"parameters": parameters, "loss": curve, **about}


def event(kind, error):
    span = [error, 0.9 * error, 1.1 * error]
    row = {"starts": 9, "balls": 9, "error_px": {str(h): span for h in page.FRAMES}, "velocity_error": span}
    row |= {"by_frame": [error] * 14, "lost": 0.0, "velocity_of": 9}
    if kind == "contact":
        figure = {"value": error, "interval": [0.9 * error, 1.1 * error], "n": 9, "floor": 0.01, "unit": ""}
        row["probe"] = dict.fromkeys(page.PROBED, figure)
    return row


@pytest.fixture(scope="module")
def drifted():
    """A dream whose error grows as h^1.5 and is unrelated to its start at 30 px."""
    draw = np.random.default_rng(0)
    h = np.arange(1, 201)
    mean = laws.Fit("saturating h^1.5", 30.0, 40.0).at(h)
    distance = mean * np.exp(draw.normal(0, 0.1, (40, 1)) + np.cumsum(draw.normal(0, 0.01, (40, 200)), 1))
    angle = draw.uniform(0, 2 * np.pi, (40, 1)) + np.cumsum(draw.normal(0, 0.2, (40, 200)), 1)
    error = distance[..., None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    distances = drift.means(distance, 0)
    return {
        "starts": 40, "frames": 200, "distance_px": distances, "median_px": {k: v[0] for k, v in distances.items()},
        "by_frame": list(distance.mean(0)), "lost": 0.0, "floor_px": 0.01, "unrelated_px": 30.0,
        "signed_px": drift.signed(error, np.ones_like(error), 0), "per_frame_px": distances["1"],
        "straightness": {"frames": 100, "value": drift.straightness(error, 100)},
        "laws": [laws.compare(distance, span, 0, 10) for span in ((1, 10), (1, 200))],
    }  # fmt: skip


@pytest.fixture
def result(drifted):
    runs = {"one": run(1, 0.001), "two": run(2, 0.006), "large": run(2, 0.003, 4_000_000, 128)}
    events = {"one": {kind: event(kind, 0.1) for kind in KINDS[:2]}}
    events |= {name: {kind: event(kind, 0.1 * (1 + i)) for i, kind in enumerate(KINDS)} for name in ("two", "large")}
    return {"seed": 0, "runs": runs, "unlike": unlike(runs), "events": events, "drift": {"one": drifted}}


def test_the_page_holds_every_part(result):
    text = page.page(result)
    for words in ("not told apart from flight alone", "momentum lost", "capacity was lacking", "which-model.md"):
        assert words in text
    assert "surely worse: to meet two things at once" in text
    assert "faster than in proportion" in text
    assert "nan" not in text.replace("contents", "")
    assert "not trained alike" not in text
    raw = page.figures({**result, "machine": "a machine"})
    assert all(f"`{law.text}`" in raw for law in laws.LAWS.values())


def test_verdicts_turn_with_the_figures(result):
    text = page.page(result)
    assert "loss of two balls is 6 times" in text
    assert "a factor of 3" in text
    other = copy.deepcopy(result)
    other["runs"]["large"]["loss"][-1][1] = 0.006
    assert "not capacity that is lacking" in page.page(other)
    other["events"]["two"]["free"] = event("free", 0.5)
    assert "surely worse than alone" in page.page(other)
    other["events"]["two"]["wall and ball"] = event("wall and ball", 0.3)
    assert "no difference is shown" in page.page(other)


def test_runs_that_were_not_trained_alike_are_not_set_beside_each_other(result):
    runs = copy.deepcopy(result["runs"])
    runs["two"]["world"]["radius"] = 5.0
    found = unlike(runs)
    assert any("radius" in line for line in found)
    assert "not trained alike" in page.page(result | {"unlike": found})
    assert unlike(result["runs"]) == []


def test_a_law_of_the_three_is_named_only_where_it_is_clear(drifted):
    assert page.verdict(drifted["laws"][0]).startswith("of the three: **h^1.5**")
    assert "none within 1.5 times the noise" in page.verdict(drifted["laws"][1])


def test_straight_errors_are_told_from_those_that_turn():
    line = np.arange(1, 51)[None, :, None] * np.array([[[0.3, 0.4]]]) * np.ones((6, 1, 1))
    assert drift.straightness(line, 50)[0] == pytest.approx(1.0)
    angle = np.linspace(0, 20, 50)
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)[None] * np.ones((6, 1, 1))
    assert drift.straightness(circle, 50)[0] < 0.1
    signed = drift.signed(line, np.broadcast_to([0.6, 0.8], line.shape), 0)
    assert signed["along"]["20"][0] == pytest.approx(10.0)
    assert signed["x"]["20"][0] == pytest.approx(6.0)


def test_a_lost_ball_counts_as_the_diagonal():
    error = np.zeros((2, 3, 2, 2))
    error[0, 1, 0] = np.nan
    error[1, 2, 1] = (300.0, 400.0)
    distance, lost = drift.apart(error, 90.0)
    assert distance.tolist() == [[0, 45, 0], [0, 0, 45]]
    assert int(lost.sum()) == 1
