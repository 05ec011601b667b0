"""Free flights and what happens between them: found from tracks alone, and right where the world is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldloom.evaluation.events import find_events, find_jumps
from worldloom.evaluation.flights import LEAST_FRAMES, Law, Paths, under_own_gravity
from worldloom.evaluation.flown import pushes
from worldloom.evaluation.tracking import SEEN, Tracks
from worldloom.worlds.balls import Balls, BallsConfig
from worldloom.worlds.balls.dynamics import advance

BOX = (64.0, 64.0)


def tracks(position):
    """Perfect tracks of positions (T, K, 2)."""
    shape = position.shape[:2]
    lost = ~np.isfinite(position).all(-1)
    reason = np.where(lost, 2, SEEN).astype(np.int8)
    blank = np.ones((*shape, 3))
    return Tracks(
        position, blank[..., 0], blank, blank[..., :2], reason, (~lost).sum(1), np.zeros(shape[0], int), lost & False
    )


def law(gravity=(0.0, 0.0), pushed=None, shape=(1, 40, 1), unknown=None):
    pushed = np.zeros((*shape, 2)) if pushed is None else pushed
    unknown = np.zeros(shape[:2], bool) if unknown is None else unknown
    return Law(np.array(gravity), pushed, unknown, BOX, None)


def play(position, velocity, radius, frames=40, gravity=(0.0, 0.0), pushed=None):
    """Exact motion (T, K, 2) with its impacts, (T, K) and (T, K, K) by frame."""
    x, v, r = np.array([position], float), np.array([velocity], float), np.array([radius], float)
    seen, walls, pairs = [x[0]], [np.zeros(len(radius), int)], [np.zeros((len(radius),) * 2, int)]
    for t in range(1, frames):
        v = v + (0 if pushed is None else pushed[0, t])
        x, v, w, p = advance(x, v, r, BOX, gravity)
        seen.append(x[0])
        walls.append(w[0].sum(-1))
        pairs.append(p[0])
    return np.stack(seen), np.stack(walls), np.stack(pairs)


def paths(position, radius, **rest):
    return Paths(0, tracks(position), np.array(radius, float), law(shape=(1, *position.shape[:2]), **rest))


@settings(max_examples=30, deadline=None)
@given(
    st.floats(8.0, 56.0), st.floats(8.0, 56.0), st.floats(-3.0, 3.0), st.floats(-3.0, 3.0), st.floats(0.0, 0.2),
    st.integers(0, 10_000),
)  # fmt: skip
def test_no_impact_lies_within_a_flight_and_flights_are_straight(x, y, u, v, g, seed):
    pushed = np.random.default_rng(seed).uniform(-0.5, 0.5, (1, 40, 1, 2))
    position, walls, _ = play([(x, y)], [(u, v)], [4.0], gravity=(0.0, g), pushed=pushed)
    one = paths(position, [4.0], gravity=(0.0, g), pushed=pushed)
    for flight in one.flights[0]:
        assert not walls[flight.start + 1 : flight.stop + 1].any()
        found, jitter = one.curve(0, flight)
        assert jitter < 1e-9
        if len(flight) > LEAST_FRAMES:
            np.testing.assert_allclose(found, 0, atol=1e-8)
    assert find_jumps([one]).found.sum() == 0
    events = find_events([one])
    for turn in events.turns:
        near = slice(max(0, int(turn.frame) - 3), int(turn.frame) + 5)
        assert walls[near].any()
        if walls[near].sum() > 1:  # pushed back to the wall at once: two touches that may pass for one
            continue
        assert turn.responded
        assert turn.after == pytest.approx(turn.before, abs=1e-6)
        assert turn.along == pytest.approx(0, abs=1e-6)
        assert turn.beyond == pytest.approx(0, abs=1e-6)


def test_a_contact_with_one_that_comes_back_from_a_wall_within_the_frame_ends_both_flights():
    position, walls, pairs = play(
        [(9.01, 39.94), (26.86, 35.67)], [(0.03, 2.69), (-2.28, 2.14)], [3.0, 3.0], 12, (0.0, 0.1)
    )
    frame = int(pairs[:, 0, 1].argmax())
    assert walls[frame, 0] == 1  # both in one frame
    one = paths(position, [3.0, 3.0], gravity=(0.0, 0.1))
    for flights in one.flights:
        assert not any(flight.start < frame <= flight.stop for flight in flights)
    assert not find_events([one]).contacts


def test_what_sticks_or_is_lost_where_it_should_bounce_is_left_out_and_not_forgotten():
    time = np.arange(30.0)
    x = np.minimum(30 + 2 * time, 60)  # flies into the right wall, and stays there
    stuck = np.stack([x, np.full(30, 32.0)], -1)[:, None]
    gone = stuck.copy()
    gone[16:] = np.nan
    for path in (stuck, gone):
        found = find_events([paths(path, [4.0])])
        assert not found.turns
        assert found.crowded_turns == [0]
    bounced = np.stack([np.where(time < 15, 30 + 2 * time, 90 - 2 * time), np.full(30, 32.0)], -1)[:, None]
    found = find_events([paths(bounced, [4.0])])
    assert len(found.turns) == 1
    assert not found.crowded_turns
    left = np.stack([10 + np.minimum(time, 17.5), np.full(30, 32.0)], -1)  # two meet, and stay together
    right = np.stack([54 - np.minimum(time, 17.5), np.full(30, 32.0)], -1)
    found = find_events([paths(np.stack([left, right], 1), [4.5, 4.5])])
    assert not found.contacts
    assert found.crowded_contacts == [0]


@settings(max_examples=30, deadline=None)
@given(st.floats(-3.0, 3.0), st.floats(1.0, 4.0), st.floats(2.0, 7.0), st.floats(2.0, 7.0), st.floats(0.0, 0.1))
def test_a_contact_is_elastic_and_keeps_momentum_and_energy(aside, speed, small, large, g):
    position, walls, pairs = play(
        [(20.0, 32.0), (44.0, 32.0 + aside)], [(speed, 0.0), (-speed / 2, 0.0)], [small, large], 24, (0.0, g)
    )
    events = find_events([paths(position, [small, large], gravity=(0.0, g))])
    if pairs[:, 0, 1].sum() == 1 and not walls.any() and 4 <= pairs[:, 0, 1].argmax() <= 20 and events.contacts:
        (contact,) = events.contacts
        assert contact.responded
        assert contact.parting == pytest.approx(contact.closing, abs=1e-6)
        assert contact.drift == pytest.approx(0, abs=1e-9)
        assert contact.energy == pytest.approx(0, abs=1e-6)
        assert contact.overlap == pytest.approx(0, abs=1e-6)
        assert abs(contact.frame - pairs[:, 0, 1].argmax()) <= 1
    for contact in events.contacts:
        assert contact.responded or not contact.due


def test_every_lone_contact_is_found_and_the_others_are_counted():
    world = Balls(BallsConfig(balls=3, radius=(3.0, 6.0)), 48, seed=3)
    seen = [world.reset(seed=3)] + [world.step() for _ in range(40)]
    position = np.stack([f.truth["position"] for f in seen], 1)
    hits = np.stack([f.truth["ball_hits"] for f in seen], 1)
    walls = np.stack([f.truth["wall_hits"].sum(-1) for f in seen], 1)
    radius = seen[0].truth["radius"]
    lone = 0
    for row, t, i, j in zip(*np.nonzero(np.triu(hits)), strict=True):
        near = slice(max(1, t - 3), t + 4)
        others = sum(walls[row, near, k].sum() + hits[row, near, k].sum() for k in (i, j)) - 2
        lone += others == 0 and 4 <= t <= 37
    every = [
        Paths(row, tracks(position[row]), radius[row], law(shape=(len(position), 41, 3)))
        for row in range(len(position))
    ]
    events = find_events(every)
    assert lone >= 20
    assert 0.8 * lone <= len(events.contacts) <= 1.2 * lone
    assert np.median([abs(c.parting / c.closing - 1) for c in events.contacts]) < 1e-9
    assert np.median([c.drift for c in events.contacts]) < 1e-9
    assert events.crowded_contacts
    assert find_jumps(every).found.sum() == 0


def bent(after, at=10, frames=24, speed=(2.0, 0.3), start=(40.0, 20.0)):
    """A ball towards the right wall, whose velocity becomes ``after`` at frame ``at``."""
    t = np.arange(frames)[:, None]
    before = np.array(start) + t * np.array(speed)
    turned = before[at] + (t - at) * np.array(after)
    return np.where(t <= at, before, turned)[:, None]


def test_a_wall_that_takes_speed_or_stands_elsewhere():
    damped = find_events([paths(bent((-1.4, 0.3)), [4.0])]).turns
    assert [round(t.after / t.before, 6) for t in damped] == [0.7]
    assert damped[0].beyond == pytest.approx(0, abs=1e-9)
    rough = find_events([paths(bent((-2.0, 0.0)), [4.0])]).turns
    assert rough[0].along == pytest.approx(0.3)
    early = find_events([paths(bent((-2.0, 0.3), start=(39.2, 20.0)), [4.0])]).turns
    assert early[0].beyond == pytest.approx(-0.8)
    deep = find_events([paths(bent((-2.0, 0.3), start=(43.0, 20.0)), [4.0])]).turns
    assert deep[0].beyond == pytest.approx(3.0)


def test_a_wall_that_does_nothing_is_a_cause_without_response():
    (turn,) = find_events([paths(bent((2.0, 0.3), frames=20, start=(36.0, 20.0)), [4.0])]).turns or [None]
    assert turn is None or (turn.due and not turn.responded)
    slowed = find_events([paths(bent((1.9, 0.3), at=12, frames=30, speed=(0.8, 0.3), start=(52.0, 20.0)), [4.0])])
    assert all(t.due and not t.responded for t in slowed.turns)


def test_balls_that_pass_through_each_other():
    t = np.arange(24)[:, None, None]
    position = np.array([[12.0, 30.0], [52.0, 33.0]]) + t * np.array([[2.0, 0.0], [-2.0, 0.0]])
    (contact,) = find_events([paths(position, [4.0, 5.0])]).contacts
    assert contact.due
    assert not contact.responded
    assert contact.deepest > 5
    far = np.array([[12.0, 20.0], [52.0, 40.0]]) + t * np.array([[2.0, 0.0], [-2.0, 0.0]])
    assert not find_events([paths(far, [4.0, 5.0])]).contacts


def test_a_jump_is_counted_once_and_a_bounce_never():
    turned = bent((0.5, 1.2), at=10, start=(14.0, 20.0))
    found = find_jumps([paths(turned, [4.0])])
    assert found.found.tolist() == [1]
    leapt = bent((2.0, 0.3), start=(8.0, 14.0))
    leapt[12:] += np.array([0.0, 20.0])
    assert find_jumps([paths(leapt, [4.0])]).found.tolist() == [1]
    assert find_jumps([paths(bent((-2.0, 0.3)), [4.0])]).found.tolist() == [0]


def test_pushes_are_taken_off_and_unknown_actions_end_a_flight():
    config = BallsConfig(balls=2, action="discrete", push=0.5, pushed=1)
    given_ = pushes(config, np.array([[5, 2, 0, 3]]))
    np.testing.assert_allclose(given_[0, :, 1], [[0, 0], [0.5, 0], [0, 0], [0, -0.5]])
    assert not given_[0, :, 0].any()
    both = pushes(BallsConfig(balls=2, action="continuous_all", push=2.0), np.full((1, 1, 4), 0.5))
    np.testing.assert_allclose(both, 1.0)
    unknown = np.zeros((1, 24), bool)
    unknown[0, 10] = True
    straight = bent((2.0, 0.3), start=(8.0, 14.0))
    (first, second) = paths(straight, [4.0], unknown=unknown).flights[0]
    assert (first.start, first.stop, second.start) == (0, 9, 10)


def test_nothing_is_measured_across_frames_that_were_not_seen():
    straight = bent((2.0, 0.3), start=(8.0, 14.0))
    straight[8:11] = np.nan
    one = paths(straight, [4.0])
    assert [(f.start, f.stop) for f in one.flights[0]] == [(0, 7), (11, 23)]
    assert not find_events([one]).turns


def test_a_wrong_gravity_is_no_fault_of_the_walls():
    position, _, _ = play([(30.0, 20.0)], [(1.3, 0.0)], [4.0], 120, (0.0, 0.2))
    every = [paths(position, [4.0], gravity=(0.0, 0.1))]
    own = under_own_gravity(every)
    np.testing.assert_allclose(own[0].law.gravity, [0, 0.2], atol=1e-9)
    assert max(t.along for t in find_events(own).turns) < 1e-6
    assert max(abs(t.after / t.before - 1) for t in find_events(own).turns) < 1e-6
    assert max(t.along + abs(t.after / t.before - 1) for t in find_events(every).turns) > 0.05


def test_a_wall_that_is_met_twice_in_a_row_is_left_out():
    pushed = np.zeros((1, 24, 1, 2))
    pushed[0, 11, 0, 0] = -2.0  # driven back into the wall two frames after leaving it
    position, walls, _ = play([(12.3, 30.0)], [(-1.0, 0.4)], [4.0], 24, pushed=pushed)
    assert walls.sum() == 2
    events = find_events([paths(position, [4.0], pushed=pushed)])
    assert not events.turns
    assert events.crowded_turns == [0]
