import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from worldloom.evaluation.pages.charts import Series, line_chart, ticks
from worldloom.evaluation.pages.comparison import _told
from worldloom.evaluation.pages.pictures import GAP, Evidence, animation, filmstrip
from worldloom.evaluation.pages.sections import bands, probe_section, shown
from worldloom.evaluation.schema import Curve, DataInfo, Figure, Report, RunInfo, Setting, Verdict
from worldloom.evaluation.verdict import believable, number


def evidence(channels=1, height=10, width=16, starts=2, prompt=3, horizon=7):
    def frames(count, value):
        values = (value + torch.arange(count)).to(torch.uint8)  # equal neighbours would become one frame of the WebP
        return values.view(1, -1, 1, 1, 1).expand(starts, count, channels, height, width)

    return Evidence(frames(prompt, 10), frames(horizon, 100), frames(horizon + 5, 200), None, 20.0)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_animation_shows_truth_above_dream(channels):
    data, size = animation(evidence(channels), [1, 0])
    assert size == (2 * 16 + GAP, 2 * 10 + GAP)
    film = Image.open(io.BytesIO(data))
    assert film.n_frames == 10
    for t, (above, below) in enumerate([(10 + t, 10 + t) for t in range(3)] + [(100 + t, 200 + t) for t in range(7)]):
        film.seek(t)
        frame = np.asarray(film.convert("RGBA"))
        assert frame[5, 5].tolist() == [above] * 3 + [255]
        assert frame[-5, 5].tolist() == [below] * 3 + [255]
        assert frame[5, 16 + GAP // 2, 3] == 0  # nothing between the starts


def test_the_filmstrip_has_a_picture_for_each_horizon_shown():
    strip = filmstrip(evidence(), 0)
    assert re.findall(r'class="at[^>]*>([^<]+)<', strip) == ["given", "given", "1", "2", "3", "5", "7"]
    assert strip.count("<image") == 7 + 5  # the dream begins after the prompt


def test_a_chart_draws_what_it_is_given():
    marks = [(2.0, "limit <here>")]
    series = [
        Series("dream", (1.0, None, 3.0), "model", (0.5, None, 2.0), (1.5, None, 4.0)),
        Series("far", (0.0, 9.0, 9.9)),
    ]
    chart = line_chart((1, 2, 3), series, "px", 'says "what"', limit=4.0, marks=marks)
    lines = re.findall(r'<polyline class="line \w+" points="([^"]+)"', chart)
    assert [len(line.split()) for line in lines] == [2, 2]  # the second leaves the plot and ends there
    assert "limit &lt;here&gt;" in chart
    assert "says &#34;what&#34;" in chart
    assert "nan" not in chart


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 0.013), (-3.0, 41.0), (17.3, 17.4), (0.0, 90.0)])
def test_ticks_cover_the_data_with_a_few_round_numbers(low, high):
    found = ticks(low, high)
    assert found[0] <= low + 1e-9
    assert found[-1] >= high - 1e-9
    assert 3 <= len(found) <= 8
    step = found[1] - found[0]
    assert np.allclose(np.diff(found), step)
    assert f"{step:.0e}"[0] in "125"


def test_an_axis_of_nothing_but_zeros_counts_no_noise():
    chart = line_chart((1, 2), [Series("dream", (0.0, 0.0))], "px", "zeros")
    assert re.findall(r'class="tick" x="\d+" y="[\d.]+" text-anchor="end">([^<]+)<', chart) == [
        "0", "0.2", "0.4", "0.6", "0.8", "1",
    ]  # fmt: skip


def places(chart):
    found = re.findall(r'<text class="label \w+" x="([\d.]+)" y="([\d.]+)">(?:<title>[^<]*</title>)?([^<]*)<', chart)
    return {label: (float(x), float(y)) for x, y, label in found}


def test_no_label_is_struck_through_or_covers_another():
    horizon = tuple(range(1, 11))
    level = Series("dream", (0.5,) * 10)
    short = [Series(name, (0.5,) * 4 + (None,) * 6, "floor") for name in ("floor", "ceiling")]
    chart = line_chart(horizon, [level, *short, Series("other", (0.5,) * 10)], "", "level", share=True)
    found = places(chart)
    line = float(re.search(r'<polyline class="line model" points="[\d.]+,([\d.]+)', chart)[1])
    for name in ("floor", "ceiling"):  # written where their lines end, within the plot
        assert found[name][0] < found["dream"][0]
        assert abs(found[name][1] - 4 - line) >= 8
    assert abs(found["floor"][1] - found["ceiling"][1]) >= 16
    assert abs(found["dream"][1] - found["other"][1]) >= 16


def test_a_label_with_no_room_is_cut_and_keeps_its_whole_as_title():
    chart = line_chart((1, 2), [Series("a-run-<with>-a-very-long-name", (0.0, 1.0))], "", "long")
    assert "<title>a-run-&lt;with&gt;-a-very-long-name</title>a-run…-name" in chart


def figure(value, **more):
    told = {"n": 6, "n_of": "dreams", "seed": 0, "title": "It", "unit": "", "statistic": "mean", "better": "lower"}
    return Figure(value, None, meaning="What it means.", **(told | more))


def report(figures, starts=6, episodes=3):
    return Report(
        RunInfo("run", "toy", "", 1),
        DataInfo("data", "", "test", 9, episodes),
        Setting(starts, 4, 2, 0, 0, "cpu", 1),
        Verdict("It is.", ()),
        figures,
        {},
        "",
    )


def test_a_probe_says_once_what_a_figure_means_and_folds_what_has_no_number():
    curve = Curve((1, 2), (1.0, 2.0), (None, None), (None, None))
    found = probe_section(
        report(
            {
                "mine/one": figure(1.0, curve=curve),
                "mine/by_horizon": figure({"1": 1.0}, curve=curve, title="By horizon"),
                "mine/none": figure(None, title="None", baselines={"copy_last": None}),
            }
        ),
        "mine",
        "",
    )
    assert [row["meaning"] for row in found["rows"]] == ["What it means."]
    assert [(title, meaning) for title, meaning, _ in found["charts"]] == [("It", ""), ("By horizon", "What it means.")]
    assert found["empty"] == ["None"]


@pytest.mark.parametrize(
    ("n", "n_of", "words"),
    [
        (6, "dreams", "6 dreams, 3 episodes"),
        (12, "starts × objects", "12 starts × objects, 3 episodes"),
        (4, "dreams", "4 dreams"),  # of some of the starts: of how many episodes is not known
        (6, "turns at walls", "6 turns at walls"),
    ],
)
def test_episodes_are_told_where_every_start_counts(n, n_of, words):
    found = probe_section(report({"mine/one": figure(1.0, n=n, n_of=n_of)}), "mine", "")
    assert found["rows"][0]["n"] == words


def test_bands_are_not_spoken_of_where_there_are_none():
    many, one = report({}), report({}, episodes=1)
    assert bands({"a": many}).startswith("Bands are 95 % intervals")
    assert bands({"a": one}).startswith("There are no bands")
    assert "b: none" in bands({"a": many, "b": one})


def test_what_is_not_drawn_is_not_told():
    meaning = "Half. The floor is 0.5 px, of true frames: too low. The ceiling is the exact world. By Kaplan and Meier."
    assert _told(meaning, floor=False, still=False) == "Half. By Kaplan and Meier."
    assert "The floor is 0.5 px, of true frames: too low." in _told(meaning, floor=True, still=False)
    assert _told("Against others; the floor is the same, of 0.5.", floor=False, still=False) == "Against others."
    likeness = "How alike, against repeating the prompt's last frame."
    assert _told(likeness, floor=False, still=False) == "How alike."
    assert _told(likeness, floor=False, still=True) == likeness


def test_huge_and_tiny_numbers_have_powers_of_ten():
    assert shown(2_548_001_282_399.0, "px") == "2.55 × 10¹² px"
    assert shown(-1.19e-5) == "−1.19 × 10⁻⁵"
    assert shown(999_999.0) == "999,999"
    assert shown(0.0) == "0"
    assert shown(None) == "–"


def test_numbers_for_reading():
    assert number(None) == "–"
    assert number(-0.01234, "px") == "−0.0123 px"
    assert number(1234.5) == "1,234"
    assert number(1.0, "%") == "100 %"
    assert number(0.99996, "%") == "99.9 %"  # never rounded up to certainty
    assert number(0.5, "%") == "50 %"


def test_believable_ends_at_the_first_frame_above():
    assert believable([1.0, 2.0, 3.0, 1.0], 2.5) == 2
    assert believable([1.0, None, 1.0], 2.5) == 1
    assert believable([9.0], 2.5) == 0
    assert believable([1.0, 1.0], 1.0) == 2
