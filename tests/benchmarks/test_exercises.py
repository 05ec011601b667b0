"""The parts of the exercises that can be wrong without being noticed: planted laws, planted events."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.exercises import laws, starts

from worldloom.evaluation.exact import ExactWorld
from worldloom.worlds.balls import BallsConfig

H = np.arange(1, 201)
PLANTED = {
    "linear": (0.3, None),
    "h^1.5": (0.02, None),
    "saturating": (25.0, 37.0),
    "power": (0.1, 1.2),
    "saturating h^1.5": (25.0, 60.0),
}


@pytest.mark.parametrize("law", list(laws.LAWS))
def test_a_planted_law_is_recovered_to_its_parameters(law):
    scale, inner = PLANTED[law]
    found = laws.fit(law, H, laws.Fit(law, scale, inner).at(H))
    assert found.scale == pytest.approx(scale, rel=1e-2)
    if inner is not None:
        assert found.inner == pytest.approx(inner, rel=1e-2)
    assert laws.misfit(found.at(H), H, laws.Fit(law, scale, inner).at(H)) < 2e-3


def scattered(law, n=64, seed=0):
    """Dreams (n, 200) whose mean error follows a law: each its own scale and its own slow wandering about it."""
    draw = np.random.default_rng(seed)
    wander = np.cumsum(draw.normal(0, 0.02, (n, len(H))), 1)
    return laws.Fit(law, *PLANTED[law]).at(H) * np.exp(draw.normal(0, 0.2, (n, 1)) + wander)


@pytest.mark.parametrize("law", ["linear", "h^1.5", "saturating", "saturating h^1.5"])
def test_the_law_that_was_planted_foretells_other_starts_best(law):
    found = laws.compare(scattered(law), (1, 200), 0, rounds=16)
    simple = {name: found["laws"][name]["misfit"][0] for name in ("linear", "h^1.5", "saturating")}
    if law in simple:
        assert min(simple, key=simple.get) == law
    assert found["laws"][law]["misfit"][0] < 1.5 * found["halves"]
    low, high = found["laws"][law]["scale"][1:]
    assert low < PLANTED[law][0] * 1.1
    assert high > PLANTED[law][0] * 0.9


def test_where_two_laws_are_alike_none_is_called_best():
    """Far below its level a saturating law is the linear one."""
    found = laws.compare(scattered("linear"), (1, 20), 0, rounds=16)
    assert found["best"] is None
    assert found["laws"]["h^1.5"]["best_in"] == 0


def test_a_range_does_not_see_beyond_itself():
    errors = scattered("linear")
    spoiled = errors.copy()
    spoiled[:, 20:] = 7.0
    assert laws.compare(errors, (1, 20), 0, 5) == laws.compare(spoiled, (1, 20), 0, 5)
    assert laws.compare(errors, (1, 21), 0, 5) != laws.compare(spoiled, (1, 21), 0, 5)


def impacts(frames, walls=(), pairs=(), balls=2):
    w, p = np.zeros((frames, 1, balls), int), np.zeros((frames, 1, balls, balls), int)
    for t, k in walls:
        w[t, 0, k] += 1
    for t, i, j in pairs:
        p[t, 0, i, j] += 1
        p[t, 0, j, i] += 1
    return starts.kinds(w, p)


@pytest.mark.parametrize(
    ("walls", "pairs", "expected"),
    [
        ([], [], -1),
        ([(2, 0)], [], starts.KINDS.index("wall")),
        ([(2, 0), (2, 1)], [], -2),
        ([(2, 0), (2, 0)], [], -2),
        ([], [(2, 0, 1)], starts.KINDS.index("contact")),
        ([(2, 1)], [(2, 0, 1)], starts.KINDS.index("wall and ball")),
        ([(2, 2)], [(2, 0, 1)], -2),
    ],
    ids=["nothing", "wall", "two walls", "corner", "contact", "both", "wall of a third"],
)
def test_what_happened_in_a_frame(walls, pairs, expected):
    assert impacts(4, walls, pairs, balls=3)[:, 0].tolist() == [-1, -1, expected, -1]


def test_windows_hold_the_event_where_it_is_asked_for_and_nothing_else():
    happened = impacts(40, walls=[(10, 0), (30, 0)], pairs=[(10, 0, 1), (20, 0, 1)])
    assert starts.windows(happened, "wall and ball", 6, 10).tolist() == [[4, 0]]
    assert starts.windows(happened, "contact", 6, 10).tolist() == [[14, 0]]
    assert starts.windows(happened, "wall", 6, 10).tolist() == [[24, 0]]
    assert starts.windows(happened, "contact", 6, 11).tolist() == [[14, 0]]
    assert starts.windows(happened, "contact", 6, 17).tolist() == []  # the next event lies within
    free = starts.windows(happened, "free", 6, 10)
    assert [0, 0] in free.tolist()
    assert [10, 0] in free.tolist()  # what led to the first frame does not matter
    assert [1, 0] not in free.tolist()
    assert [9, 0] not in free.tolist()


WORLD = ExactWorld(BallsConfig(balls=2, radius=6.0, speed=3.0))


def test_a_planted_simultaneous_hit_is_seen_in_the_exact_world():
    """Ball 0 flies into the left wall, ball 1 after it into its back, within the same frame."""
    start = {
        "position": np.array([[[6.0 + 5.5 * 2.0, 32.0], [18.4 + 5.7 * 3.0, 32.0]]]),
        "velocity": np.array([[[-2.0, 0.0], [-3.0, 0.0]]]),
        "radius": np.full((1, 2), 6.0),
    }
    played = starts.play(WORLD, start, 10)
    happened = starts.kinds(played.walls, played.pairs)[:, 0]
    at = np.flatnonzero(happened != -1)
    assert happened[at[0]] == starts.KINDS.index("wall and ball")
    assert int(at[0]) == 6


@pytest.mark.parametrize("kind", starts.KINDS)
def test_found_starts_are_what_they_are_called(kind, monkeypatch):
    monkeypatch.setattr(starts, "WORLDS", 256)
    monkeypatch.setattr(starts, "LENGTH", 80)
    held = starts.find(WORLD, kind, 4, 0)
    assert held is not None
    assert held.horizon == starts.HORIZON
    happened = starts.kinds(held.truth["wall_hits"].sum(-1), held.truth["ball_hits"])
    at = starts.PROMPT - 1 + starts.EVENT
    assert (happened[:, 1:at] == -1).all()
    assert (happened[:, at + 1 :] == -1).all()
    assert (happened[:, at] == (-1 if kind == "free" else starts.KINDS.index(kind))).all()
    part = starts.took_part(held.truth, kind)
    assert part.sum(1).tolist() == [1 if kind == "wall" else 2] * len(part)


def test_one_ball_has_no_contacts():
    assert starts.find(ExactWorld(BallsConfig()), "contact", 4, 0) is None
