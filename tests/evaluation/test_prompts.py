"""Prompt fidelity: true videos pass, and each fault lowers its own figure and no other."""

from __future__ import annotations

import numpy as np
import pytest

from worldloom.contract import WorldloomError
from worldloom.evaluation.prompts import NOTHING, Shown, look, prompt_figures, true_clips
from worldloom.worlds.balls import Captions, CaptionsConfig
from worldloom.worlds.balls.captions import ATTRIBUTES, COLOURS, Meaning, read
from worldloom.worlds.balls.render import Renderer

FRAMES = 16
PROMPTS = [
    "three small red balls, weak gravity, fast",
    "two large blue balls, strong gravity, slow",
    "four medium green balls, no gravity, moderate",
    "two small white balls, strong gravity, fast",
]
MEANINGS = [read(text) for text in PROMPTS]


@pytest.fixture(scope="module")
def true() -> Shown:
    return look(true_clips(MEANINGS, FRAMES))


def figures(frames: np.ndarray, true: Shown) -> dict[str, float]:
    """Name to value, without its family; faults are held against the prompts."""
    found = prompt_figures(frames, PROMPTS, floor=true)
    return {name.removeprefix("prompt/"): figure.value for name, figure in found.items()}


def drawn(change) -> np.ndarray:
    """The true clips drawn anew: ``change(t, position, radius, colour)`` of each frame, which it may write into."""
    world = Captions(num=len(PROMPTS))
    seen = [world.show(MEANINGS)] + [world.step() for _ in range(FRAMES - 1)]
    brush = Renderer(CaptionsConfig().scene(1, 8.0))
    out = []
    for t, frame in enumerate(seen):
        clips = []
        for i, meaning in enumerate(MEANINGS):
            n = int(frame.truth["count"][i])
            at, radius = frame.truth["position"][i, :n].copy(), frame.truth["radius"][i, :n].copy()
            colour = np.tile(np.array(COLOURS[meaning.colour or ""], np.float32), (n, 1))
            change(t, at, radius, colour)
            picture = brush.draw(np.zeros((1, 1, 2)), np.full((1, 1), -2.0))
            for k in range(n):
                brush._disc(picture, at[k : k + 1], radius[k : k + 1], 8.0, colour[k], plain=False)
            clips.append(picture[0])
        out.append(np.stack(clips))
    return np.stack(out, 1)


def test_true_videos_show_what_was_drawn():
    config = CaptionsConfig()
    world = Captions(config, 16, seed=8)
    seen = [world.reset()] + [world.step() for _ in range(23)]
    shown = look(np.stack([f.obs["camera"] for f in seen], 1), config)
    truth = seen[0].truth
    for name in ATTRIBUTES:
        np.testing.assert_array_equal(shown.value[name], truth[name] - (name == "count"), err_msg=name)
    assert shown.stays.all()
    np.testing.assert_allclose(shown.measured["gravity"], np.array(config.gravities)[truth["gravity"]], atol=0.01)
    speed = np.sqrt(np.nanmean(np.square(truth["velocity"]).sum(-1), 1))
    np.testing.assert_allclose(shown.measured["speed"], speed, rtol=0.15, atol=0.1)
    np.testing.assert_allclose(shown.measured["size"], np.array(config.radii)[truth["size"]], rtol=0.02)


def test_drawing_anew_without_a_fault_is_the_true_clip(true):
    same = drawn(lambda t, at, radius, colour: None)
    np.testing.assert_array_equal(same, true_clips(MEANINGS, FRAMES))
    assert set(figures(same, true).values()) == {1.0}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("count", {"two": "one", "three": "two", "four": "three"}),
        ("size", {"small": "medium", "large": "medium", "medium": "large"}),
        ("colour", {"red": "purple", "blue": "purple", "green": "yellow", "white": "yellow"}),
        ("gravity", {"no": "weak", "weak": "strong", "strong": "no"}),
        ("speed", {"slow": "moderate", "fast": "moderate", "moderate": "slow"}),
    ],
)
def test_another_video_than_was_asked_for_lowers_its_own_figure_alone(name, change, true):
    others = [Meaning(**{**m.said, name: change[m.said[name]]}) for m in MEANINGS]
    found = figures(true_clips(others, FRAMES, seed=3), true)
    assert found.pop(name) == 0
    assert found.pop("all") == 0
    assert set(found.values()) == {1.0}, found


def test_one_ball_of_another_colour(true):
    def paint(t, at, radius, colour):
        colour[0] = COLOURS["yellow"]

    found = figures(drawn(paint), true)
    assert found.pop("colour") == found.pop("all") == 0
    assert set(found.values()) == {1.0}, found


def test_a_ball_that_vanishes_lowers_what_stays(true):
    def hide(t, at, radius, colour):
        if t >= 11:
            radius[-1] = -2

    found = figures(drawn(hide), true)
    assert found.pop("stays") == 0
    assert set(found.values()) == {1.0}, found


def test_an_empty_video_shows_nothing(true):
    dark = np.zeros((4, FRAMES, 3, 64, 64), np.uint8) + np.array((14, 16, 24), np.uint8)[:, None, None]
    shown = look(dark)
    assert all((value == NOTHING).all() for value in shown.value.values())
    assert not shown.stays.any()
    assert not shown.steady.any()
    assert set(figures(dark, true).values()) == {0.0}
    noise = np.random.default_rng(0).integers(0, 255, dark.shape).astype(np.uint8)
    assert set(figures(noise, true).values()) == {0.0}


def test_only_what_is_told_counts():
    prompts = ["red", "red", "two balls", ""]
    frames = true_clips([read(text) for text in prompts], FRAMES)
    found = prompt_figures(frames, prompts)
    assert set(found) == {"prompt/colour", "prompt/count", "prompt/all", "prompt/stays"}
    assert [found[f"prompt/{name}"].n for name in ("colour", "count", "all", "stays")] == [2, 1, 3, 4]
    colour, both = found["prompt/colour"], found["prompt/all"]
    assert (colour.value, colour.floor, both.value) == (1.0, 1.0, 1.0)
    assert colour.interval is not None
    assert colour.interval[0] < 0.2  # both were told the same: one prompt's worth
    assert colour.baselines["chance"] == 1 / 6
    assert both.baselines["chance"] == pytest.approx((1 / 6 + 1 / 6 + 1 / 4) / 3)
    curve = found["prompt/stays"].curve
    assert curve is not None
    assert curve.value == (1.0,) * FRAMES


def test_a_model_that_reads_no_prompt_gets_what_others_prompts_get(true):
    frames = true_clips([MEANINGS[1]] * 4, FRAMES)
    found = prompt_figures(frames, PROMPTS, floor=true)
    assert found["prompt/count"].value == 0.5
    assert found["prompt/count"].baselines["other_prompts"] == 0.5
    assert found["prompt/colour"].baselines["other_prompts"] == 0.25


def test_other_frames_are_their_own_box():
    world = CaptionsConfig(height=48, width=96)
    frames = true_clips(MEANINGS, FRAMES, world)
    assert frames.shape == (4, FRAMES, 3, 48, 96)
    assert {f.value for f in prompt_figures(frames, PROMPTS).values()} == {1.0}  # the box is that of the frames


def test_misuse():
    with pytest.raises(WorldloomError, match="8 frames at least; these clips have 4"):
        look(np.zeros((1, 4, 3, 64, 64), np.uint8))
    with pytest.raises(WorldloomError, match="found float64"):
        look(np.zeros((1, 8, 3, 64, 64)))
    with pytest.raises(WorldloomError, match="found 1 for 2"):
        prompt_figures(np.zeros((2, 8, 3, 64, 64), np.uint8), ["red"])
