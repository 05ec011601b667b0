"""The motion is exact: what physics keeps is kept, and closed forms are met."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldloom.worlds.balls import BallsConfig, BallsError, dynamics
from worldloom.worlds.balls.dynamics import advance
from worldloom.worlds.balls.starts import deepest_overlap, draw_start

BOX = (64.0, 64.0)


def starts(config: BallsConfig, num: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    parts = [draw_start(config, np.random.default_rng((seed, i))) for i in range(num)]
    x, v, r, _ = (np.stack(p) for p in zip(*parts, strict=True))
    return x, v, r


def energy(v: np.ndarray, r: np.ndarray) -> np.ndarray:
    return (r**2 * (v**2).sum(-1)).sum(-1) / 2


def sticking_out(x: np.ndarray, r: np.ndarray, box: tuple[float, float]) -> float:
    edge = r[..., None]
    return float(np.maximum(edge - x, x - (np.array(box) - edge)).max())


def one(x: tuple[float, float], v: tuple[float, float], r: float = 4.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.array([[x]], float), np.array([[v]], float), np.array([[r]], float)


def test_energy_momentum_and_no_penetration_over_ten_thousand_frames():
    x, v, r = starts(BallsConfig(balls=6, radius=(2.0, 7.0)), 2)
    path = [(x, v, np.zeros((2, 6, 2), np.int32), np.zeros((2, 6, 6), np.int32))]
    for _ in range(10_000):
        path.append(advance(*path[-1][:2], r, BOX))
    xs, vs, walls, pairs = (np.stack(part) for part in zip(*path, strict=True))
    assert pairs.sum() // 2 > 4_000
    every = np.broadcast_to(r, xs.shape[:-1])
    assert sticking_out(xs, every, BOX) < 1e-9
    assert deepest_overlap(xs.reshape(-1, 6, 2), every.reshape(-1, 6)) < 1e-9
    np.testing.assert_allclose(energy(vs, r), np.broadcast_to(energy(v, r), (10_001, 2)), rtol=1e-9)
    total = (r[..., None] ** 2 * vs).sum(2)
    free = walls[1:].sum((2, 3)) == 0
    assert free.sum() > 1_000
    np.testing.assert_allclose(total[1:][free], total[:-1][free], atol=1e-9 * (r**2).sum() * 3)


@pytest.mark.parametrize("radius", [4.0, (3.0, 6.0)])
def test_running_backwards_comes_home(radius):
    # Each collision multiplies a rounding error by about (free path / radius), so the run is short enough for a few.
    x0, v0, r = starts(BallsConfig(balls=3, radius=radius, speed=1.5), 8, seed=4)
    x, v, collisions = x0, v0, np.zeros(8, int)
    forward = []
    for _ in range(60):
        x, v, _, pairs = advance(x, v, r, BOX)
        forward.append(x)
        collisions += pairs.sum((1, 2)) // 2
    assert collisions.sum() >= 8
    assert collisions.max() >= 2
    v = -v
    for expected in forward[-2::-1]:
        x, v, _, _ = advance(x, v, r, BOX)
        np.testing.assert_allclose(x, expected, atol=1e-6)
    x, v, _, _ = advance(x, v, r, BOX)
    np.testing.assert_allclose(x, x0, atol=1e-6)
    np.testing.assert_allclose(-v, v0, atol=1e-6)


def test_one_ball_runs_backwards_for_200_frames_exactly():
    x0, v0, r = starts(BallsConfig(), 32)
    x, v = x0, v0
    for _ in range(200):
        x, v, _, _ = advance(x, v, r, BOX)
    v = -v
    for _ in range(200):
        x, v, _, _ = advance(x, v, r, BOX)
    np.testing.assert_allclose(x, x0, atol=1e-10)


def test_one_ball_unfolds_to_a_line():
    """Mirroring the box turns the bouncing path into a straight one, which gives it in closed form for any time."""
    x0, v0, r = starts(BallsConfig(speed=9.0), 64)
    x, v, hits = x0, v0, np.zeros((64, 1, 2), int)
    for _ in range(500):
        x, v, walls, _ = advance(x, v, r, BOX)
        hits += walls
    span = 64.0 - 2 * 4.0
    line = x0 - 4.0 + 500 * v0
    inside = np.abs((line + span) % (2 * span) - span)
    np.testing.assert_allclose(x, inside + 4.0, atol=1e-9)
    np.testing.assert_array_equal(hits, np.abs(np.floor(line / span)).astype(int))


def test_many_bounces_within_one_frame():
    x, _, walls, _ = advance(*one((10, 32), (500, 0)), BOX)
    assert walls[0, 0].tolist() == [9, 0]
    assert abs(x[0, 0, 0] - (4 + abs((6 + 500 + 56) % 112 - 56))) < 1e-10


def test_a_corner_takes_both_walls_at_once():
    x, v, walls, _ = advance(*one((10, 54), (-8, 8)), BOX)
    np.testing.assert_allclose(x[0, 0], [6, 58], atol=1e-12)
    np.testing.assert_array_equal(v[0, 0], [8, -8])
    assert walls[0, 0].tolist() == [1, 1]


def test_head_on_discs_swap_velocities_at_the_solved_instant():
    x = np.array([[[20.0, 32], [44, 32]]])
    v = np.array([[[10.0, 0], [-2, 0]]])
    r = np.full((1, 2), 4.0)
    x, v, _, pairs = advance(x, v, r, BOX, duration=2.0)
    # They close 16 px at 12 px/frame: contact after 4/3, then 2/3 of a frame with the velocities swapped.
    np.testing.assert_allclose(v[0], [[-2, 0], [10, 0]], atol=1e-12)
    np.testing.assert_allclose(x[0, :, 0], [20 + 40 / 3 - 4 / 3, 44 - 8 / 3 + 20 / 3], atol=1e-12)
    assert pairs[0].tolist() == [[0, 1], [1, 0]]


def test_unequal_masses_follow_the_textbook_formula():
    x = np.array([[[20.0, 32], [44, 32]]])
    v = np.array([[[10.0, 0], [-2, 0]]])
    r = np.array([[3.0, 6.0]])
    _, v, _, _ = advance(x, v, r, BOX, duration=1.5)
    m1, m2 = 9.0, 36.0
    u1, u2 = ((m1 - m2) * 10 + 2 * m2 * -2) / (m1 + m2), ((m2 - m1) * -2 + 2 * m1 * 10) / (m1 + m2)
    np.testing.assert_allclose(v[0, :, 0], [u1, u2], atol=1e-12)


def test_three_in_a_row_pass_the_blow_on():
    """Newton's cradle: two discs touch, a third strikes; the two impacts fall on the same instant."""
    x = np.array([[[10.0, 32], [30, 32], [38, 32]]])
    v = np.array([[[6.0, 0], [0, 0], [0, 0]]])
    _, v, _, pairs = advance(x, v, np.full((1, 3), 4.0), BOX, duration=3.0)
    np.testing.assert_allclose(v[0, :, 0], [0, 0, 6], atol=1e-12)
    assert pairs[0, 0, 1] == 1
    assert pairs[0, 1, 2] == 1


def test_two_discs_strike_a_third_at_once():
    x = np.array([[[32.0, 32], [12, 32], [52, 32]]])
    v = np.array([[[0.0, 0], [8, 0], [-8, 0]]])
    x, v, _, pairs = advance(x, v, np.full((1, 3), 4.0), BOX, duration=2.0)
    # Whichever is taken first, the middle disc ends at rest and the outer two fly back.
    np.testing.assert_allclose(v[0, :, 0], [0, -8, 8], atol=1e-12)
    assert pairs[0, 0].sum() >= 2


def test_a_disc_against_the_wall_is_struck():
    """Disc 1 leans on the right wall: the blow sends it into the wall and back within the same instant."""
    x = np.array([[[40.0, 32], [60, 32]]])
    v = np.array([[[12.0, 0], [0, 0]]])
    x, v, walls, pairs = advance(x, v, np.full((1, 2), 4.0), BOX, duration=2.0)
    np.testing.assert_allclose(v[0, :, 0], [-12, 0], atol=1e-12)
    np.testing.assert_allclose(x[0, :, 0], [40, 60], atol=1e-12)
    assert walls[0, 1, 0] == 1
    assert pairs[0, 0, 1] == 2


def test_free_fall_is_a_parabola():
    x0, v0, r = one((20, 30), (1.5, -2.0))
    x, v = x0, v0
    for t in range(1, 9):
        x, v, walls, _ = advance(x, v, r, BOX, gravity=(0.1, 0.25))
        assert walls.sum() == 0
        np.testing.assert_allclose(x[0, 0], [20 + 1.5 * t + 0.05 * t * t, 30 - 2 * t + 0.125 * t * t], atol=1e-12)
        np.testing.assert_allclose(v[0, 0], [1.5 + 0.1 * t, -2 + 0.25 * t], atol=1e-12)


def test_a_dropped_ball_bounces_at_the_solved_instants():
    g, drop = 0.4, 20.0
    period = 2 * np.sqrt(2 * drop / g)
    x, v, r = one((32, 60 - drop), (0, 0))
    hits = 0
    for frame in range(1, 2001):
        x, v, walls, _ = advance(x, v, r, BOX, gravity=(0.0, g))
        hits += int(walls[0, 0, 1])
        phase = (frame + period / 2) % period
        height = drop - g / 2 * (phase - period / 2) ** 2
        assert abs(60 - x[0, 0, 1] - height) < 1e-8
    assert hits == int((2000 + period / 2) // period)


@pytest.mark.parametrize("frames", [1.0, 7.3, 400.0])
def test_bounces_that_begin_and_end_within_one_call(frames):
    g, drop = 0.4, 0.05  # a period of exactly one frame
    x, v, walls, _ = advance(*one((32, 60 - drop), (0, 0)), BOX, gravity=(0.0, g), duration=frames)
    phase = frames % 1.0
    fall = min(phase, 1 - phase)
    np.testing.assert_allclose(60 - x[0, 0, 1], drop - g / 2 * fall**2, atol=1e-10)
    np.testing.assert_allclose(v[0, 0, 1], g * fall * (1 if phase <= 0.5 else -1), atol=1e-10)
    assert walls[0, 0].tolist() == [0, round(frames)]


@pytest.mark.parametrize("gravity", [0.0, 0.3])
def test_a_wall_is_hit_at_the_solved_instant_and_not_before(gravity):
    for gap, v in np.random.default_rng(0).uniform(0.5, 9, (100, 2)) * [5, 1]:
        hit = 2 * gap / (v + np.sqrt(v * v + 2 * gravity * gap))
        x, v_after, walls, _ = advance(*one((4 + gap, 32), (-v, 0)), BOX, gravity=(-gravity, 0.0), duration=hit + 1e-9)
        assert walls[0, 0, 0] == 1
        assert v_after[0, 0, 0] > 0
        assert abs(x[0, 0, 0] - 4) < 1e-7
        x, _, walls, _ = advance(*one((4 + gap, 32), (-v, 0)), BOX, gravity=(-gravity, 0.0), duration=hit - 1e-9)
        assert walls[0, 0, 0] == 0


def test_throwing_up_to_the_ceiling_and_only_nearly():
    g = 0.5
    just = np.sqrt(2 * g * 10)
    for factor, hit in ((1.001, 1), (0.999, 0)):
        _, _, walls, _ = advance(*one((32, 14), (0, -just * factor)), BOX, gravity=(0.0, g), duration=12.0)
        assert walls[0, 0].tolist() == [0, hit]


def test_energy_holds_under_gravity():
    g = np.array([0.05, 0.2])
    x, v, r = starts(BallsConfig(balls=4, radius=(2.0, 6.0)), 4, seed=7)

    def total(x: np.ndarray, v: np.ndarray) -> np.ndarray:
        return energy(v, r) - (r**2 * (x @ g)).sum(-1)

    at_start, hits = total(x, v), 0
    for _ in range(1500):
        x, v, walls, pairs = advance(x, v, r, BOX, gravity=(0.05, 0.2))
        hits += min(int(walls.sum()), int(pairs.sum()))
        assert sticking_out(x, r, BOX) < 1e-9
        assert deepest_overlap(x, r) < 1e-9
    assert hits > 500
    np.testing.assert_allclose(total(x, v), at_start, atol=1e-9 * (r**2).sum(1).max() * 64)


def test_a_ball_at_rest_on_the_floor_stays_and_rolls():
    x, v, walls, _ = advance(*one((20, 60), (2.0, 0.0)), BOX, gravity=(0.0, 0.3), duration=5.0)
    np.testing.assert_array_equal(x[0, 0], [30, 60])
    np.testing.assert_array_equal(v[0, 0], [2, 0])
    assert walls.sum() == 0


def test_a_falling_disc_meets_one_at_rest_on_the_floor():
    """Their accelerations differ, so the instant is the root of a quartic; here it is known: a drop of 12 px."""
    g = 0.25
    x = np.array([[[32.0, 60], [32, 40]]])
    v = np.zeros((1, 2, 2))
    r = np.full((1, 2), 4.0)
    t = np.sqrt(2 * 12 / g)
    x1, v1, _, pairs = advance(x, v, r, BOX, gravity=(0.0, g), duration=t + 1)
    # Equal masses on one line: the lower one is driven into the floor and back, the upper one bounces as off a wall.
    speed = g * t
    np.testing.assert_allclose(v1[0, :, 1], [0, -speed + g], atol=1e-9)
    np.testing.assert_allclose(x1[0, :, 1], [60, 52 - speed + g / 2], atol=1e-9)
    assert pairs[0, 0, 1] == 2
    # Off the line of centres too, without penetration at any frame.
    x = np.array([[[32.0, 60], [35, 40]]])
    for _ in range(300):
        x, v, _, _ = advance(x, v, r, BOX, gravity=(0.0, g))
        assert deepest_overlap(x, r) < 1e-9


def test_discs_piled_up_at_rest_are_an_error_and_not_dropped(monkeypatch):
    monkeypatch.setattr(dynamics, "MAX_IMPACTS", 300)
    x = np.array([[[32.0, 60], [32, 52]]])
    with pytest.raises(BallsError, match="rest on each other"):
        advance(x, np.zeros((1, 2, 2)), np.full((1, 2), 4.0), BOX, gravity=(0.0, 0.25))


def test_inputs_are_not_written_to_and_worlds_do_not_mix():
    x, v, r = starts(BallsConfig(balls=4), 6)
    kept = x.copy(), v.copy()
    together = advance(x, v, r, BOX, duration=30.0)
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(v, kept[1])
    for i in range(6):
        alone = advance(x[i : i + 1], v[i : i + 1], r[i : i + 1], BOX, duration=30.0)
        for a, b in zip(alone, together, strict=True):
            np.testing.assert_array_equal(a[0], b[i])


@settings(max_examples=40, deadline=None)
@given(
    balls=st.integers(1, 6),
    width=st.floats(30, 90),
    height=st.floats(30, 90),
    speed=st.floats(0, 40),
    gravity=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
    seed=st.integers(0, 999),
)
def test_any_box_keeps_discs_apart_and_energy_constant(balls, width, height, speed, gravity, seed):
    gravity = tuple(0.0 if abs(g) < 1e-3 else g for g in gravity)
    config = BallsConfig(balls=balls, radius=(1.0, 4.0), width=int(width), height=int(height), speed=speed)
    box = (float(config.width), float(config.height))
    x, v, r = starts(config, 2, seed)
    g = np.array(gravity)
    mass = (r**2).sum()

    def total(x: np.ndarray, v: np.ndarray) -> np.ndarray:
        return energy(v, r) - (r**2 * (x @ g)).sum(-1)

    at_start = total(x, v)
    for _ in range(40):
        x, v, _, _ = advance(x, v, r, box, gravity)
        assert sticking_out(x, r, box) < 1e-9
        assert deepest_overlap(x, r) < 1e-9
    np.testing.assert_allclose(total(x, v), at_start, atol=1e-9 * mass * (1 + speed**2 + 90 * np.abs(g).max()))
