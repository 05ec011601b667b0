import numpy as np
import pytest
from toy_discs import GROUND, render

from worldloom.contract import WorldloomError
from worldloom.evaluation.figures import track
from worldloom.evaluation.tracker import FOUND, MISSING, Scene, background, calibrate, detect, match, match_clip

SIZE = 64


def apart(rng, frames, radii, margin=1.0):
    """Random positions (F, K, 2) at which discs neither touch nor leave the frame."""
    radii = np.asarray(radii, float)
    x = rng.uniform(radii[:, None] + 1, SIZE - 1 - radii[:, None], (40 * frames, len(radii), 2))
    distance = np.linalg.norm(x[:, :, None] - x[:, None], axis=-1) + 1e9 * np.eye(len(radii))
    return x[(distance > radii[:, None] + radii + margin).all((1, 2))][:frames]


def draw(position, radii):
    """Discs of different radii, oversampled 8 times: another renderer than the one whose formula the fit knows."""
    fine = (np.arange(SIZE * 8) + 0.5) / 8
    frames = []
    for now in position:
        inside = np.zeros((SIZE * 8, SIZE * 8), bool)
        for (x, y), r in zip(now, radii, strict=True):
            inside |= (fine - x) ** 2 + (fine[:, None] - y) ** 2 < r * r
        cover = inside.reshape(SIZE, 8, SIZE, 8).mean((1, 3))
        frames.append([np.round(20 + c * cover) for c in (200, 60, 20)])
    return np.array(frames, np.uint8)


def scene(count=1, radius=4.0):
    ground = np.broadcast_to(np.array(GROUND, np.float32)[:, None, None], (3, SIZE, SIZE))
    return calibrate(render(np.array([[[20.5 + 12 * k, 30.0] for k in range(count)]]), SIZE, radius), count, ground)


@pytest.mark.parametrize("radii", [[4.0], [4.0, 4.0, 4.0], [3.0, 4.0, 6.0]])
@pytest.mark.parametrize(("noise", "limit"), [(0, 0.008), (0.03, 0.03)])
def test_accuracy_on_antialiased_discs(radii, noise, limit):
    rng = np.random.default_rng(0)
    position = apart(rng, 120, radii)
    frames = draw(position, radii)
    frames = np.clip(frames + rng.normal(0, noise * 255, frames.shape), 0, 255).astype(np.uint8)
    known = calibrate(frames[:8], len(radii), background(frames))
    objects = detect(frames, known)
    found, reason = match_clip(objects, position)
    assert (objects.count == len(radii)).all()
    assert (reason == FOUND).all()
    assert np.sqrt(np.mean((found - position) ** 2)) < limit
    assert known.masses == pytest.approx(np.pi * np.square(radii), rel=0.03 + 3 * noise)  # noise adds to every mass


def test_the_centre_of_the_first_pixel_is_one_half():
    frame = np.zeros((1, 3, 8, 8), np.uint8)
    frame[0, :, 0, 0] = frame[0, :, 2, 5] = 255
    objects = detect(frame, Scene(np.zeros((3, 8, 8), np.float32), 441.67, np.array([1.0, 1.0])))
    assert sorted(objects.position[0].tolist()) == [[0.5, 0.5], [5.5, 2.5]]


def test_agrees_with_the_world_of_balls():
    from worldloom.worlds.balls import Balls, BallsConfig

    world = Balls(BallsConfig(), 16, seed=0)
    frames, position = [], []
    frame = world.reset(seed=0)
    for _ in range(20):
        frames.append(next(iter(frame.obs.values())))
        position.append(frame.truth["position"])
        frame = world.step(np.zeros(16, np.int64))
    shown, known = np.stack(frames, 1), np.stack(position, 1)
    ground = background(shown)
    error = []
    for clip, where in zip(shown, known, strict=True):
        objects = detect(clip, calibrate(clip[:4], 1, ground))
        assert (objects.count == 1).all()
        error.append(match_clip(objects, where)[0] - where)
    assert np.sqrt(np.mean(np.square(error))) <= 0.05  # the target for radius 4 at 64 px


@pytest.mark.parametrize("gap", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("radii", [(4.0, 4.0), (3.0, 6.0)])
def test_touching_discs_are_two(gap, radii):
    rng = np.random.default_rng(1)
    angle, first = rng.uniform(0, 2 * np.pi, 12), 30 + rng.uniform(0, 1, (12, 2))
    second = first + (sum(radii) + gap) * np.stack([np.cos(angle), np.sin(angle)], -1)
    position = np.stack([first, second], 1)
    frames = draw(position, radii)
    ground = np.full((3, SIZE, SIZE), 20, np.float32)
    known = calibrate(draw(np.array([[[10.0, 10], [40, 40]]]), radii), 2, ground)
    objects = detect(frames, known)
    assert (objects.count == 2).all()
    assert np.sqrt(np.mean((match_clip(objects, position)[0] - position) ** 2)) < 0.05


@pytest.mark.parametrize(
    ("opacity", "count", "smudges"), [([1.0], 1, 0), ([0.5], 1, 0), ([0.2], 0, 1), ([1, 1], 2, 0), ([1, 0.2], 1, 1)]
)
def test_faded_and_doubled_balls_are_counted_as_such(opacity, count, smudges):
    frame = render(np.array([[[20.0, 20], [44, 40]][: len(opacity)]]), SIZE, 4, np.array([opacity]))
    objects = detect(frame, scene())
    assert (objects.count[0], objects.smudges[0]) == (count, smudges)


def test_a_torn_ball_is_two_and_a_large_one_is_one_up_to_twice_the_mass():
    frame = render(np.array([[[30.5, 30.5]]]), SIZE, 4)
    frame[..., 30, :] = frame[..., 31, :] = np.array(GROUND, np.uint8)[:, None]
    assert detect(frame, scene()).count[0] == 2
    assert detect(render(np.array([[[30.5, 30.5]]]), SIZE, 5.5), scene()).count[0] == 1
    assert detect(render(np.array([[[30.5, 30.5]]]), SIZE, 6.0), scene()).count[0] == 0


@pytest.mark.parametrize("level", [0.05, 0.1, 0.2, 0.5, 1.0])
def test_noise_all_over_the_frame_is_no_ball(level):
    rng = np.random.default_rng(0)
    position = np.full((20, 1, 2), 30.0)

    def noisy(frames):
        return np.clip(frames + rng.normal(0, level * 255, frames.shape), 0, 255).astype(np.uint8)

    assert (detect(noisy(render(position * np.nan, SIZE, 4)), scene()).count == 0).all()
    objects = detect(noisy(render(position, SIZE, 4)), scene())
    assert (objects.count == (level < 0.5)).all()
    if level < 0.5:
        assert np.abs(objects.position - position).max() < 2 * level


def test_what_is_lost_is_not_made_up():
    position = np.array([[[20.0, 20]], [[np.nan, np.nan]], [[24.0, 20]]])
    objects = detect(render(position, SIZE, 4), scene())
    assert objects.count.tolist() == [1, 0, 1]
    found, reason = match_clip(objects, np.full((3, 1, 2), 20.0))
    assert np.isnan(found[1]).all()
    assert reason[:, 0].tolist() == [FOUND, MISSING, FOUND]


def test_matching_takes_the_least_sum_of_distances():
    known = np.array([[0.0, 0], [3, 0], [50, 50]])
    found = np.array([[3.2, 0], [np.nan, np.nan], [2.0, 0]])  # greedily, 3.2 would take 3 and 2.0 too
    got, reason = match(found, known)
    assert got[:2].tolist() == [[2.0, 0], [3.2, 0]]
    assert reason.tolist() == [FOUND, FOUND, MISSING]


def test_a_start_whose_prompt_shows_nothing_is_measured_by_what_the_others_show():
    rng = np.random.default_rng(3)
    start = rng.uniform([10, 10], [30, 50], (8, 1, 2))
    position = np.stack([s + 2.0 * np.arange(12)[:, None] * np.array([1.0, 0.0]) for s in start])[:, :, None]
    frames = np.stack([render(p, SIZE, 4) for p in position])
    empty = frames[:, :4].copy()
    empty[0] = background(frames[:, 4:])  # as if it were behind something
    found = track(empty, frames[:, 4:], frames[:, 4:], position)
    assert found.error[:, -4:].max() < 0.1
    assert not found.lost.any()
    with pytest.raises(WorldloomError, match="sees no objects"):
        track(np.repeat(empty[:1], 8, 0), frames[:, 4:], frames[:, 4:], position)


def test_a_scene_without_objects_is_an_error():
    with pytest.raises(WorldloomError, match="sees no objects"):
        calibrate(np.zeros((4, 3, 16, 16), np.uint8), 1, np.zeros((3, 16, 16), np.float32))
