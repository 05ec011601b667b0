"""The prompts' benchmark: an oracle scores as the truth does, faults are found at their size, verdicts turn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from benchmarks.sora import asked as ask
from benchmarks.sora import given, page
from benchmarks.sora.dreams import Asked, Played

from worldloom.worlds.balls import CaptionsConfig

WORLD = CaptionsConfig(counts=(1, 2), radii=(3.0, 5.0, 6.0))


@dataclass
class Oracle(Asked):
    """Dreams the true video that was played last, after ``spoil`` had its hand on it."""

    spoil: object = None

    def play(self, *args, **kwargs) -> Played:
        played = super().play(*args, **kwargs)
        if not kwargs.get("turn"):
            self.last = played
        return played

    def dream(self, texts, first=None, last=None, rows=32, **asked) -> np.ndarray:
        frames = self.last.frames.copy()
        assert len(texts) == len(frames)
        assert first is None or (first == frames[:, : first.shape[1]]).all()
        assert last is None or (last == frames[:, -last.shape[1] :]).all()
        return frames if self.spoil is None else self.spoil(frames)


def oracle(spoil=None) -> Oracle:
    return Oracle(None, WORLD, 0, spoil=spoil)


def test_an_oracle_is_as_near_to_the_truth_as_true_frames_are():
    found = given.extension(oracle(), 5)
    for side in ("forward", "backward"):
        rows = found[side]
        assert rows["joint"] == rows["next"] == rows["true frames"]
        assert rows["joint"]["error_px"]["10"][0] < 0.1
        assert rows["joint"]["lost"] == 0
        assert rows["straight on"]["error_px"]["10"][0] > 0.5  # walls, gravity
    ends = given.infilling(oracle(), 5)["rows"]
    for ways in ends.values():
        assert ways["joint"] == ways["true frames"]
        assert ways["straight line"]["with an impact"][0] > 10 * ways["joint"]["with an impact"][0]
    picture = given.picture(oracle(), 5)["rows"]
    assert picture["joint"]["error_px"]["5"][0] < 0.1
    assert picture["another true video from that picture"]["error_px"]["5"][0] > 3


@pytest.mark.parametrize("px", [1, 3])
def test_a_video_that_is_shifted_is_so_far_off(px):
    def shift(frames):
        return np.roll(frames, px, -1)

    found = given.extension(oracle(shift), 3)
    for side in ("forward", "backward"):
        assert found[side]["joint"]["error_px"]["1"][0] == pytest.approx(px, abs=0.1)
        assert found[side]["true frames"]["error_px"]["1"][0] < 0.1


def test_backward_is_held_against_what_came_before():
    """A video that stands still before its known end is wrong by how far the balls came."""

    def still(frames):
        out = frames.copy()
        out[:, :-4] = frames[:, -4:-3]
        return out

    one = oracle(still)
    found = given.extension(one, 6)["backward"]["joint"]["error_px"]
    at = one.last.truth["position"]
    way = np.linalg.norm(at[:, -5] - at[:, -4], axis=-1)
    assert found["1"][0] == pytest.approx(float(np.nanmedian(way)), abs=0.1)


def test_balls_that_are_lost_count_as_the_diagonal():
    def dark(frames):
        frames[:, 8:] = np.array(WORLD.background, np.uint8)[:, None, None]
        return frames

    found = given.extension(oracle(dark), 4)["forward"]["joint"]
    assert found["lost"] == 1
    assert found["error_px"]["10"][0] == pytest.approx(np.hypot(64, 64))


def test_fidelity_of_an_oracle_and_of_one_that_reads_no_prompt(monkeypatch):
    monkeypatch.setattr(ask, "WEIGHTS", (1.0, 2.0))
    monkeypatch.setattr(ask, "OTHER_STEPS", ())
    rows = ask.fidelity(oracle(), 6)
    figures = rows["weights"]["2"]["figures"]
    assert all(figures[a]["value"] == 1 for a in ("count", "size", "colour", "gravity", "speed", "all", "stays"))
    deaf = ask.fidelity(oracle(lambda frames: np.roll(frames, 1, 0)), 6)["weights"]["1"]["figures"]
    assert deaf["all"]["value"] < 0.5
    assert deaf["all"]["floor"] == 1
    assert deaf["stays"]["value"] == 1


class Planted:
    def __init__(self, share, n=40):
        self.stays = self.steady = self.count = (np.arange(n) < share * n).astype(float)


@pytest.mark.parametrize(
    ("joint", "same", "best", "says"),
    [(0.9, 0.3, 0.5, ("better", "better")), (0.5, 0.2, 0.95, ("better", "worse")), (0.5, 0.5, 0.5, ("no", "no"))],
)
def test_the_claim_of_joint_denoising_is_held_against_equal_passes_and_the_best(joint, same, best, says):
    kept = {"joint": Planted(joint), "next, 1": Planted(best), "next, 8": Planted(same), "true": Planted(1.0)}
    found = ask.compared(kept, {"joint": 128, "next, 1": 16, "next, 8": 128}, 0)
    pairs = found["joint minus next"]
    assert pairs["equal passes"]["ways"] == ["joint", "next, 8"]
    assert pairs["best"]["ways"] == ["joint", "next, 1"]
    lines = page.verdict({"16 from text": found})
    for what, word in zip(("equal passes", "best"), says, strict=True):
        (line,) = [x for x in lines if f", {what} (" in x]
        assert {"better": "keeps balls better", "worse": "keeps balls worse", "no": "no difference"}[word] in line
    text = "\n".join(page.persistence({"16 from text": found}))
    assert "true videos" in text
    assert "next-frame, 8 steps a frame" in text
