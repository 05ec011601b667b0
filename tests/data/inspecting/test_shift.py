"""A column of actions that is moved is found, with its sign; one that stands right is left alone."""

import json

import numpy as np
import pytest
from toys_to_inspect import SPEC, drifting, good, moved

from worldloom.contract import Control, Sensor, Spec
from worldloom.data import Episode
from worldloom.data.inspecting import ShiftConfig, find_shift
from worldloom.data.inspecting.shift import _decide


@pytest.mark.parametrize("shift", [-2, -1, 0, 1, 2])
@pytest.mark.parametrize("policy", ["random", "answering"])
def test_vectors(shift: int, policy: str) -> None:
    spec, episodes = drifting(12, 100, 1, policy)
    found = find_shift(spec, moved(spec, episodes, shift))
    assert (found.verdict, found.shift) == ("aligned" if shift == 0 else "shifted", shift)
    assert found.told[shift] > 0.2
    assert json.dumps(found.to_json())
    assert (found.example is None) == (shift == 0)


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_pictures(shift: int) -> None:
    spec = Spec({"camera": SPEC.shown["camera"]}, SPEC.given, SPEC.fps)
    episodes = [Episode({"camera": e.obs["camera"]}, e.control) for e in good(14, 70)]
    found = find_shift(spec, moved(spec, episodes, shift))
    assert (found.verdict, found.shift) == ("aligned" if shift == 0 else "shifted", shift)


def test_effects_of_the_past_are_not_taken_for_a_shift() -> None:
    """A mass keeps on moving: old actions show in its speed, though all they told is known already."""
    spec, episodes = drifting(12, 100, 2)
    told = find_shift(spec, episodes).told
    assert told[0] > 0.5
    assert max(told[s] for s in (-2, -1, 1, 2)) < 0.1


def test_actions_without_effect_are_unclear() -> None:
    spec, episodes = drifting(12, 100, 3)
    rng = np.random.default_rng(0)
    for e in episodes:
        e.control["action"] = rng.uniform(-1, 1, (100, 1)).astype(np.float32)
    found = find_shift(spec, episodes)
    assert (found.verdict, found.shift) == ("unclear", 0)


def test_what_cannot_be_told_says_why() -> None:
    spec, episodes = drifting(12, 100)
    assert "frames" in find_shift(spec, episodes[:2]).why
    assert "no actions" in find_shift(Spec(spec.shown), episodes).why
    for e in episodes:
        e.control["action"] = np.zeros((100, 1), np.float32)
    assert "hardly vary" in find_shift(spec, episodes).why
    still = Spec({"state": Sensor("vector", (2,))}, {"action": Control("discrete", n=2)})
    stood = [Episode({"state": np.ones((100, 2), np.float32)}, {"action": np.arange(100) % 2}) for _ in range(12)]
    assert find_shift(still, stood).verdict == "unclear"


def test_the_same_seed_gives_the_same_finding() -> None:
    spec, episodes = drifting(12, 100, 4)
    first, second = (find_shift(spec, episodes, ShiftConfig(seed=5)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("told", "certainty", "expected"),
    [
        ((0, 0, 0.3, 0, 0), (0, 0, 9, 0, 0), 0),
        ((0, 0.6, 0.3, 0, 0), (0, 20, 9, 0, 0), 0),  # leftovers may tell more than the frame's own motion
        ((0.1, 0.6, 0.01, 0, 0), (9, 20, 9, 0, 0), -1),
        ((0, 0.2, 0.6, 0.3, 0), (0, 9, 9, 9, 0), 1),
        ((0, 0.021, 0.030, 0, 0), (0, 4.1, 3.9, 0, 0), None),  # its own is told as well, but not surely
        ((0, 0.005, 0, 0, 0), (0, 9, 0, 0, 0), None),  # too little
        ((0, 0.3, 0, 0, 0), (0, 3, 0, 0, 0), None),  # not sure
    ],
)
def test_the_rule(told: tuple[float, ...], certainty: tuple[float, ...], expected: int | None) -> None:
    shares, sure = ({s: float(x) for s, x in zip(range(-2, 3), xs, strict=True)} for xs in (told, certainty))
    assert _decide(shares, sure, ShiftConfig()) == expected
