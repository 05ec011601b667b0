"""Captioned balls: every caption is true of its video, every word means one thing, and the data carry both."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import worldloom
from worldloom.contract import Control, Sensor, Spec, WorldloomError
from worldloom.data.collect import collect
from worldloom.data.episode import DataError
from worldloom.data.windows import Windows
from worldloom.nn.words import split, to_text, to_tokens
from worldloom.worlds import make_world
from worldloom.worlds.balls import Balls, BallsConfig, BallsError, Captions, CaptionsConfig
from worldloom.worlds.balls.captions import (
    ATTRIBUTES,
    COLOURS,
    COUNTS,
    FILLERS,
    LENGTH,
    VOCABULARY,
    CaptionError,
    Meaning,
    caption,
    draw_meaning,
    read,
)
from worldloom.worlds.base import Frames


def some(count: int, seed: int = 0) -> list[Meaning]:
    random = np.random.default_rng(seed)
    return [draw_meaning(random, (1, 2, 3, 4), tuple(COLOURS)) for _ in range(count)]


def test_a_word_means_one_thing():
    assert len(set(VOCABULARY)) == len(VOCABULARY) == sum(map(len, ATTRIBUTES.values())) + len(FILLERS)
    assert all(split(word) == [word] for word in VOCABULARY)


def test_the_plain_caption():
    meaning = Meaning("three", "small", "red", "strong", "fast")
    assert caption(meaning) == "three small red balls, strong gravity, fast"
    assert read(caption(meaning)) == meaning
    assert caption(Meaning()) == ""
    assert read("") == Meaning()


def test_captions_say_nothing_but_what_is_so_and_vary():
    random = np.random.default_rng(1)
    said = dict.fromkeys(ATTRIBUTES, 0)
    orders, texts = set(), set()
    for meaning in some(300):
        text = caption(meaning, random, 0.3)
        words = split(text)
        assert set(words) <= set(VOCABULARY)
        assert len(words) <= LENGTH
        told = read(text)
        assert told.said.items() <= meaning.said.items(), (text, meaning)
        assert "ball" not in words or meaning.count == "one"
        assert "balls" not in words or meaning.count != "one"
        for name in said:
            said[name] += name in told.said
        if len(told.said) == 5:
            orders.add(tuple(w for w in words if w in ("gravity", *COLOURS, *ATTRIBUTES["speed"])).index("gravity"))
        texts.add(text)
    # Left out about three times in ten; of "one" the word "ball" tells the number too.
    assert all(0.6 < share / 300 < 0.85 for share in said.values()), said
    assert orders == {0, 1, 2}
    assert len(texts) > 200


def test_what_a_text_says():
    assert read("A red ball!") == Meaning(count="one", colour="red")
    assert read("red balls") == Meaning(colour="red")
    assert read("gravity") == Meaning()
    for wrong in ("red blue balls", "a two", "three small ball"):
        with pytest.raises(CaptionError, match="found"):
            read(wrong)
    with pytest.raises(CaptionError, match="one of one, two"):
        Meaning(count="five")


def test_it_is_a_world():
    worlds = []

    def make(num):
        worlds.append(make_world("captions", num))
        return worlds[-1]

    assert worldloom.check_world(make(3), make=make, frames=6).passed


def test_the_video_is_what_was_drawn():
    config = CaptionsConfig()
    world = Captions(config, 96, seed=2)
    first = world.reset()
    second = world.step()
    truth = first.truth
    for i, meaning in enumerate(world.meanings):
        count = COUNTS.index(meaning.count or "") + 1
        assert truth["count"][i] == count
        for name in ("size", "colour", "gravity", "speed"):
            assert ATTRIBUTES[name][truth[name][i]] == getattr(meaning, name)
        there = np.isfinite(truth["radius"][i])
        assert there.sum() == count
        assert there[:count].all()
        assert (truth["radius"][i, :count] == config.radii[meaning.index("size")]).all()
        assert np.isfinite(truth["position"][i]).all(-1).tolist() == there.tolist()
        speed = np.hypot(*truth["velocity"][i, :count].T) / config.speeds[meaning.index("speed")]
        assert (np.abs(speed - 1) <= config.spread + 1e-9).all()
        free = (second.truth["wall_hits"][i].sum(1) + second.truth["ball_hits"][i].sum(1) == 0) & there
        gained = (second.truth["velocity"] - truth["velocity"])[i, free]
        np.testing.assert_allclose(gained[:, 1], config.gravities[meaning.index("gravity")], atol=1e-12)
        np.testing.assert_allclose(gained[:, 0], 0, atol=1e-12)
        # The picture: as many pixels of the colour as discs have, and the box elsewhere.
        picture = first.obs["camera"][i].astype(float)
        own = np.abs(picture - np.array(COLOURS[meaning.colour or ""])[:, None, None]).max(0) < 1.5
        area = count * np.pi * config.radii[meaning.index("size")] ** 2
        assert 0.45 * area < own.sum() < 1.05 * area
        text = to_text(torch.from_numpy(first.given["text"][i]), world.spec.given["text"])
        assert read(text).said.items() <= meaning.said.items()
        assert text == " ".join(split(world.captions[i]))
    assert {m.count for m in world.meanings} == set(COUNTS)
    assert {m.colour for m in world.meanings} == set(COLOURS)


def test_each_episode_moves_as_balls_do_alone():
    """Worlds of different number and gravity advance together; each as if it stood alone."""
    world = Captions(num=12, seed=5)
    frames = [world.reset()] + [world.step() for _ in range(30)]
    for i, meaning in enumerate(world.meanings):
        n = COUNTS.index(meaning.count or "") + 1
        first = frames[0].truth
        alone = Balls(
            BallsConfig(
                balls=n,
                radius=world.config.radii[meaning.index("size")],
                gravity=(0.0, world.config.gravities[meaning.index("gravity")]),
                colours=(COLOURS[meaning.colour or ""],),
            )
        )
        seen = alone.place(first["position"][i : i + 1, :n], first["velocity"][i : i + 1, :n])
        for one in frames:
            np.testing.assert_allclose(one.truth["position"][i, :n], seen.truth["position"][0], atol=1e-9)
            np.testing.assert_array_equal(one.truth["wall_hits"][i, :n], seen.truth["wall_hits"][0])
            np.testing.assert_array_equal(one.truth["ball_hits"][i, :n, :n], seen.truth["ball_hits"][0])
            np.testing.assert_array_equal(one.obs["camera"][i], seen.obs["camera"][0])
            seen = alone.step()


@pytest.mark.parametrize("size", [(32, 48), (96, 64)])
def test_other_frames_show_the_same_words(size):
    config = CaptionsConfig(height=size[0], width=size[1], radii=(2.0, 3.0, 5.0))
    world = Captions(config, 32)
    frames = world.reset()
    assert frames.obs["camera"].shape == (32, 3, *size)
    for _ in range(10):
        truth = world.step().truth
        low = truth["position"] - truth["radius"][..., None]
        high = truth["position"] + truth["radius"][..., None]
        assert np.nanmin(low) > -1e-9
        assert np.nanmax(high[..., 0]) < size[1] + 1e-9
        assert np.nanmax(high[..., 1]) < size[0] + 1e-9


def test_fewer_counts_and_colours():
    world = Captions(CaptionsConfig(counts=(2,), colours=("blue",), leave_out=0.0), 8)
    truth = world.reset().truth
    assert truth["position"].shape == (8, 2, 2)
    assert (truth["count"] == 2).all()
    assert all("two" in text and "blue" in text for text in world.captions)
    with pytest.raises(BallsError, match="up to 2 balls, asked for four"):
        world.show([Meaning(count="four")] * 8)


def test_true_videos_of_prompts():
    wanted = [read("two red balls, strong gravity"), read("small"), Meaning()]
    world = Captions(num=3)
    frames = world.show(wanted, seed=4)
    for one, drawn in zip(wanted, world.meanings, strict=True):
        assert one.said.items() <= drawn.said.items()
        assert len(drawn.said) == 5
    assert frames.given["text"].tolist() == [
        to_tokens(t, world.spec.given["text"]).tolist() for t in ("two red balls strong gravity", "small", "")
    ]


def test_the_data_carry_the_caption_once(tmp_path):
    data = collect(Captions(num=4), tmp_path / "d", 10, 6, seed=3)
    control = data.spec.given["text"]
    assert control.per == "once"
    assert control.names == VOCABULARY
    for number in range(10):
        episode = data.episode(number)
        assert episode.control["text"].shape == (LENGTH,)
        text = to_text(torch.from_numpy(episode.control["text"]), control)
        drawn = {name: ATTRIBUTES[name][episode.truth[name][0]] for name in ("size", "colour", "gravity", "speed")}
        drawn["count"] = COUNTS[episode.truth["count"][0] - 1]
        assert read(text).said.items() <= drawn.items()
    batch = Windows(data, "all", 4).segment([(7, 2), (0, 0)])
    assert batch.once == {"text"}
    for row, number in enumerate((7, 0)):
        assert batch.control["text"][row].tolist() == data.episode(number).control["text"].tolist()
    assert batch.time(slice(1, 3)).control["text"].equal(batch.control["text"])


def test_a_stopped_collection_goes_on_with_the_same_captions(tmp_path):
    whole = collect(Captions(num=3), tmp_path / "whole", 9, 3, seed=1)
    for episodes in (2, 4, 9):
        parts = collect(Captions(num=3), tmp_path / "parts", episodes, 3, seed=1)
    assert parts.fingerprint == whole.fingerprint


class Silent(Captions):
    """Has a text, and doesn't tell it."""

    def _look(self) -> Frames:
        return dataclasses.replace(super()._look(), given={})


class Lying(Captions):
    """Tells a text of another shape."""

    def _look(self) -> Frames:
        return dataclasses.replace(super()._look(), given={"text": np.zeros((self.num, 3), np.int64)})


def test_a_world_that_does_not_tell_its_text(tmp_path):
    with pytest.raises(DataError, match=r"given \['text'\].*Frames.given"):
        collect(Silent(num=2), tmp_path / "d", 2, 3)
    for kind, says in ((Silent, "Frames.given, found"), (Lying, "shape")):
        failures = worldloom.check_world(kind(num=2), raise_on_failure=False).failures
        assert says in failures["frames"]


class Rain:
    """Another control of a world's own, told with every frame: what falls on it now."""

    num = 2
    spec = Spec({"eye": Sensor("vector", (1,))}, {"rain": Control("continuous", (1,))})

    def reset(self, seed: int | None = None, mask: np.ndarray | None = None) -> Frames:
        self.t = 0
        return self._now()

    def step(self, action: np.ndarray) -> Frames:
        self.t += 1
        return self._now()

    def _now(self) -> Frames:
        t = np.full((2, 1), self.t, np.float32)
        never = np.zeros(2, bool)
        return Frames({"eye": t}, never, never, given={"rain": t + np.array([[0.5], [10]], np.float32)})

    def close(self) -> None:
        pass


def test_controls_of_every_frame_are_kept_frame_by_frame(tmp_path):
    data = collect(Rain(), tmp_path / "d", 2, 4)
    assert data.episode(0).control["rain"].tolist() == [[0.5], [1.5], [2.5], [3.5]]
    assert data.episode(1).control["rain"].tolist() == [[10], [11], [12], [13]]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"counts": (0, 2)}, "counts of 1 to 4"),
        ({"counts": ()}, "counts of 1 to 4"),
        ({"colours": ("red", "mauve")}, "colours among red"),
        ({"radii": (3.0, 3.0, 8.0)}, "radii that rise"),
        ({"height": 16}, "larger than its largest ball"),
        ({"gravities": (0.1, 0.2, 0.3)}, "rise from 0"),
        ({"speeds": (2.0, 1.0, 4.0)}, "speeds that rise"),
        ({"spread": 1.0}, "spread"),
        ({"leave_out": 1.5}, "leave_out"),
        ({"speeds": (1.0, 2.0, float("nan"))}, "finite"),
    ],
)
def test_impossible_worlds(options, says):
    with pytest.raises(BallsError, match=says):
        CaptionsConfig(**options)


def test_misuse():
    world = Captions(num=2)
    with pytest.raises(BallsError, match="reset"):
        world.step()
    with pytest.raises(BallsError, match="without a mask"):
        world.reset(mask=np.array([True, False]))
    world.reset()
    with pytest.raises(BallsError, match="no actions"):
        world.step(np.ones((2, 1)))
    with pytest.raises(BallsError, match="each of 2 worlds"):
        world.show([Meaning()])
    with pytest.raises(WorldloomError, match="unknown field"):
        make_world("captions", 1, colour="red")
