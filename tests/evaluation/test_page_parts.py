import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from worldloom.evaluation.pages.charts import Series, line_chart, ticks
from worldloom.evaluation.pages.pictures import GAP, Evidence, animation, filmstrip
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
