import dataclasses

import numpy as np
import pytest

from worldloom.evaluation.exact import ExactWorld
from worldloom.evaluation.linking import LinkConfig
from worldloom.evaluation.tracking import (
    FADED,
    HIDDEN,
    LOST,
    MERGED,
    SEEN,
    UNBORN,
    background,
    calibrate,
    detect,
    track_clip,
)
from worldloom.worlds.balls import BallsConfig
from worldloom.worlds.balls.render import Renderer

ORANGE = ((255, 178, 84),)
TWO = BallsConfig(balls=2)
ALIKE = BallsConfig(balls=2, colours=ORANGE)


def straight(start, velocity, frames=25):
    """(F, K, 2) positions of uniform motion."""
    return np.array(start, float) + np.arange(frames)[:, None, None] * np.array(velocity, float)


def blank(config):
    renderer = Renderer(config)
    return np.broadcast_to(renderer.background[:, None, None], renderer.shape).astype(np.float32)


def learnt(config):
    """The scene of a world, learnt from two frames in which its balls are apart."""
    k = config.balls
    place = np.stack([12 + 13 * (np.arange(k) % 4), 12 + 20 * (np.arange(k) // 4)], 1)[None] + [
        [[0.0, 0]],
        [[0.4, 0.7]],
    ]
    frames = Renderer(config).draw(place, np.full((2, k), config.radii[0]))
    return calibrate(frames, k, blank(config), position=place)


def draw(config, position, radius=None):
    """Frames of balls at (F, K, 2); NaN draws none."""
    away = np.where(np.isfinite(position), position, -100.0)
    size = np.full(position.shape[:2], config.radii[0]) if radius is None else radius
    return Renderer(config).draw(away, size)


def follow(config, frames, position, **options):
    """Tracks of the frames after the first, begun from the truth of the first two."""
    return track_clip(frames[1:], learnt(config), position[0], position[1] - position[0], **options)


def off(tracks, position):
    """(F, K) px between tracks and truth, NaN where not seen."""
    return np.linalg.norm(tracks.position[:, : position.shape[1]] - position[1:], axis=-1)


def test_what_is_seen_has_its_mass_colour_and_shape():
    position = straight([[15, 15], [45, 40]], [[1.1, 0.3], [-0.7, 0.2]])
    for config in (TWO, BallsConfig(balls=2, channels=1)):
        tracks = follow(config, draw(config, position), position)
        assert (tracks.reason == SEEN).all()
        assert off(tracks, position).max() < 0.02
        assert np.sqrt(tracks.mass / np.pi) == pytest.approx(4.0, abs=0.03)
        assert tracks.axes == pytest.approx(2.0, abs=0.03)
        colour = np.stack(Renderer(config).colours)
        assert np.abs(tracks.colour - colour).max() < 3
        assert tracks.count.tolist() == [2] * 24
        assert not tracks.parted.any()


def test_an_ellipse_has_two_axes_and_a_shrunken_ball_less_mass():
    y, x = np.mgrid[:64, :64] + 0.5
    frames = np.repeat(blank(TWO)[None], 3, 0)
    oval = np.clip(1.5 - np.hypot((x - 30) / 6, (y - 30) / 3), 0, 1) > 0.5
    frames[:, :, oval] = Renderer(TWO).colours[0][:, None]
    found = detect(frames.astype(np.uint8), learnt(dataclasses.replace(TWO, balls=1)))
    assert found.axes[0, 0] == pytest.approx([3.0, 1.5], abs=0.1)
    small = draw(dataclasses.replace(TWO, balls=1), straight([[30, 30]], [[0, 0]], 1), np.full((1, 1), 3.0))
    assert np.sqrt(detect(small, learnt(TWO)).mass[0, 0] / np.pi) == pytest.approx(3.0, abs=0.05)


@pytest.mark.parametrize("config", [TWO, ALIKE], ids=["two colours", "one"])
@pytest.mark.parametrize("gap", [0.0, 2.0, 4.0, 6.0])
def test_balls_that_pass_through_each_other_keep_who_they_are(config, gap):
    position = straight([[8.3, 30], [55.1, 30 + gap]], [[1.9, 0.05], [-1.9, 0]], 26)
    tracks = follow(config, draw(config, position), position)
    seen = np.isfinite(off(tracks, position))
    assert np.nanmax(off(tracks, position)) < 0.15
    apart = np.linalg.norm(position[1:, 0] - position[1:, 1], axis=-1) > 8.5
    assert seen[apart].all()
    assert set(np.unique(tracks.reason[~seen])) <= {MERGED}
    assert tracks.position.shape[1] == 2
    assert tracks.parted.any()


def test_either_of_two_colours_may_lie_on_top():
    position = straight([[30, 30], [34.3, 31.2]], [[0, 0.1], [0, 0]], 3)
    turned = dataclasses.replace(TWO, colours=TWO.colours[1::-1])
    for frames in (draw(TWO, position), draw(turned, position[:, ::-1])):
        tracks = follow(TWO, frames, position)
        assert tracks.parted.all()
        assert off(tracks, position).max() < 0.02


def test_two_of_one_colour_right_behind_each_other_are_merged_and_not_guessed():
    position = straight([[10, 32], [20.3, 32]], [[1.8, 0], [1, 0]], 27)
    tracks = follow(ALIKE, draw(ALIKE, position), position)
    at = int(np.linalg.norm(position[1:, 0] - position[1:, 1], axis=-1).argmin())
    apart = np.linalg.norm(position[1:, 0] - position[1:, 1], axis=-1)
    assert (tracks.reason[(apart > 0.5) & (apart < 2)] == MERGED).all()
    assert np.isnan(tracks.position[tracks.reason == MERGED]).all()
    assert (tracks.reason[[0, -1]] == SEEN).all()
    assert off(tracks, position)[at + 9 :].max() < 0.05


def test_a_swap_of_colours_shows_as_one():
    position = straight([[12, 15], [50, 45]], [[1, 0.2], [-1, 0.1]])
    swapped = draw(TWO, position)
    swapped[12:] = draw(TWO, position[:, ::-1])[12:]
    tracks = follow(TWO, swapped, position)
    assert off(tracks, position).max() < 0.05
    colour = np.stack(Renderer(TWO).colours)
    assert np.abs(tracks.colour[:11] - colour).max() < 3
    assert np.abs(tracks.colour[11:] - colour[::-1]).max() < 3


@pytest.mark.parametrize(
    "look", [{"colours": ORANGE}, {}, {"colours": ORANGE, "radius": (2.5, 6.0)}], ids=["alike", "colours", "sizes"]
)
def test_balls_that_bounce_within_a_frame_are_not_swapped(look):
    world = ExactWorld(BallsConfig(**{"balls": 3, "speed": 8.0, **look}))
    held = world.fresh(6, 2, 50, 0)
    frames, position = held.segment.obs["camera"].numpy(), held.truth["position"]
    for clip, where in zip(frames, position, strict=True):
        scene = calibrate(clip, 3, blank(world.config), position=where)
        tracks = track_clip(clip[1:], scene, where[0], where[1] - where[0])
        assert np.nanmax(off(tracks, where)) < 0.2
        assert tracks.seen.mean() > 0.99


def test_worlds_of_many_balls_are_followed_without_a_swap():
    config = BallsConfig(balls=8)
    held = ExactWorld(config).fresh(3, 2, 40, 1)
    for clip, where in zip(held.segment.obs["camera"].numpy(), held.truth["position"], strict=True):
        tracks = track_clip(clip[1:], learnt(config), where[0], where[1] - where[0])
        assert tracks.seen.mean() > 0.99
        assert np.nanmax(off(tracks, where)) < 0.1
        assert tracks.position.shape[1] == 8


def test_a_ball_that_vanishes_is_lost_and_never_filled_in():
    position = straight([[15, 15], [45, 40]], [[1, 0], [-0.5, 0]])
    shown = position.copy()
    shown[10:, 1] = np.nan
    tracks = follow(TWO, draw(TWO, shown), position)
    assert (tracks.reason[9:, 1] == LOST).all()
    for values in (tracks.position, tracks.mass, tracks.colour, tracks.axes):
        assert np.isnan(values[9:, 1]).all()
        assert np.isfinite(values[:9]).all()
    assert tracks.count.tolist() == [2] * 9 + [1] * 15


def test_one_that_comes_back_near_its_prediction_is_the_same_and_elsewhere_is_another():
    position = straight([[15, 15], [45, 40]], [[1, 0], [-0.5, 0]])
    shown = position.copy()
    shown[10:15, 1] = np.nan
    tracks = follow(TWO, draw(TWO, shown), position)
    assert tracks.reason[:, 1].tolist() == [SEEN] * 9 + [LOST] * 5 + [SEEN] * 10
    shown[10:, 1] = position[10:, 1] + (-25, -25)
    tracks = follow(TWO, draw(TWO, shown), position)
    assert (tracks.reason[9:, 1] == LOST).all()
    assert tracks.reason[:, 2].tolist() == [UNBORN] * 9 + [SEEN] * 15
    assert np.abs(tracks.position[9:, 2] - shown[10:, 1]).max() < 0.05


def test_one_that_comes_back_half_a_frame_away_is_another_however_long_it_was_lost():
    position = straight([[20, 15]], [[1.5, 0]], 25)
    shown = position.copy()
    shown[5:] = np.nan
    shown[18:] = (22, 55)
    one = dataclasses.replace(TWO, balls=1)
    tracks = follow(one, draw(one, shown), position)
    assert (tracks.reason[4:, 0] == LOST).all()
    assert (tracks.reason[17:, 1] == SEEN).all()


def test_flicker_is_not_born():
    position = straight([[15, 15]], [[1, 0]])
    one = dataclasses.replace(TWO, balls=1)
    for frames, born in (([5, 11, 17], 0), ([5, 6], 0), ([5, 6, 7], 1)):
        shown = np.concatenate([position, np.full_like(position, np.nan)], 1)
        shown[frames, 1] = (45, 50)
        tracks = follow(one, draw(TWO, shown), position)
        assert tracks.position.shape[1] == 1 + born
        assert (tracks.count == 2).sum() == len(frames)
    assert follow(one, draw(TWO, shown), position, links=LinkConfig(life=4)).position.shape[1] == 1


def test_a_smudge_where_it_should_be_is_a_faded_ball():
    position = straight([[15, 15], [45, 40]], [[1, 0], [-0.5, 0]])
    faded = TWO.background + 0.2 * (np.array(TWO.colours[1]) - TWO.background)
    pale = dataclasses.replace(TWO, colours=(TWO.colours[0], tuple(int(c) for c in faded)))
    frames = draw(TWO, position)
    frames[10:] = draw(pale, position)[10:]
    tracks = follow(TWO, frames, position)
    assert (tracks.reason[9:, 1] == FADED).all()
    assert (tracks.smudges[9:] == 1).all()


@pytest.mark.parametrize("slowed", [1.0, 0.4])
def test_behind_an_occluder_it_is_hidden_and_taken_up_again(slowed):
    box = (28.0, 0.0, 40.0, 64.0)
    config = dataclasses.replace(TWO, balls=1, occluder=box)
    at = [10.0]
    while at[-1] < 58:
        at.append(at[-1] + 1.5 * (slowed if 30 < at[-1] < 38 else 1.0))
    position = np.stack([at, 20 + 0.2 * np.arange(len(at))], 1)[:, None]
    frames = draw(config, position)
    ground = background(np.concatenate([frames, frames]))
    scene = calibrate(frames[:5], 1, ground, position=position[:5])
    tracks = track_clip(frames[1:], scene, position[0], position[1] - position[0], occluder=box)
    clear = (position[1:, 0, 0] < 28 - 4.8) | (position[1:, 0, 0] > 40 + 4.8)
    assert (tracks.reason[clear, 0] == SEEN).all()
    assert (tracks.reason[~clear, 0] == HIDDEN).all()
    assert np.nanmax(off(tracks, position)) < 0.02
    assert tracks.position.shape[1] == 1
    plain = track_clip(frames[1:], scene, position[0], position[1] - position[0])
    assert np.nanmax(off(plain, position)) > 0.5  # what half a disc says of its middle


def test_what_sticks_out_from_behind_an_occluder_is_not_born():
    box = (28.0, 0.0, 40.0, 64.0)
    config = dataclasses.replace(TWO, occluder=box)
    position = straight([[10, 12], [27, 40]], [[0.3, 0.2], [0, 0]], 12)
    ground = draw(config, position * np.nan)[0].astype(np.float32)
    scene = calibrate(draw(config, position[:3]), 1, ground, position=position[:3, :1])
    tracks = track_clip(draw(config, position)[1:], scene, position[0, :1], occluder=box)
    assert tracks.count.tolist() == [2] * 11
    assert tracks.position.shape[1] == 1
    assert track_clip(draw(config, position)[1:], scene, position[0, :1]).position.shape[1] == 2


def test_gravity_from_a_parabola_within_a_thousandth():
    t, rng = np.arange(20), np.random.default_rng(0)
    errors = []
    for _ in range(10):
        y = rng.uniform(20, 30) - 1.2 * t + 0.075 * t**2
        position = np.stack([rng.uniform(8, 10) + 1.7 * t, y], 1)[:, None]
        one = dataclasses.replace(TWO, balls=1)
        found = follow(one, draw(one, position), position).position[:, 0, 1]
        errors.append(2 * np.polyfit(t[1:], found, 2)[0] / 0.15 - 1)
    assert np.sqrt(np.mean(np.square(errors))) < 1e-3


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_any_number_of_channels_and_frames_without_anything(channels):
    rng = np.random.default_rng(1)
    colour, ground = rng.uniform(120, 250, channels), rng.uniform(0, 40, channels)
    position = straight([[15, 15]], [[1.2, 0.7]], 12)
    cover = draw(BallsConfig(channels=1, colours=((255, 255, 255),), background=(0, 0, 0)), position) / 255.0
    base = np.broadcast_to(ground[:, None, None], (channels, 64, 64)).astype(np.float32)
    frames = np.round(base + cover * (colour[:, None, None] - base)).astype(np.uint8)
    scene = calibrate(frames[:4], 1, base.round(), position=position[:4])
    frames[8:] = base.round()
    tracks = track_clip(frames[1:], scene, position[0])
    assert tracks.position.shape == (11, 1, 2)
    assert tracks.colour.shape == (11, 1, channels)
    assert np.nanmax(off(tracks, position)) < 0.03
    assert tracks.reason[:, 0].tolist() == [SEEN] * 7 + [LOST] * 4
    none = track_clip(frames[:0], scene, position[0])
    assert none.position.shape == (0, 1, 2)


def test_a_dream_of_noise_or_of_a_hundred_spots_has_dissolved():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (10, 3, 64, 64)).astype(np.uint8)
    tracks = track_clip(frames, learnt(TWO), np.array([[15.0, 15], [40, 40]]))
    assert tracks.position.shape[1] == 2
    assert not tracks.seen.any()
    assert (tracks.count == 0).all()
    assert (tracks.smudges > 0).all()
    spots = np.stack(np.meshgrid(np.arange(4, 64, 8), np.arange(4, 64, 8)), -1).reshape(1, -1, 2).astype(float)
    many = draw(BallsConfig(balls=64, radius=2.5), np.repeat(spots, 3, 0))
    tracks = track_clip(many, learnt(dataclasses.replace(TWO, radius=2.5)), np.array([[15.0, 15], [40, 40]]))
    assert (tracks.count == 0).all()
    assert (tracks.smudges == 64).all()


def test_parting_is_refused_where_discs_do_not_explain_the_blob():
    frames = np.repeat(blank(TWO)[None], 2, 0)
    frames[:, :, 20:50, 30:33] = Renderer(TWO).colours[0][:, None, None]
    found = detect(frames.astype(np.uint8), learnt(TWO))
    assert found.parts[0].tolist() == [0]


def test_sizes_and_colours_are_those_of_the_truths_order():
    config = BallsConfig(balls=3, radius=(3.0, 6.0))
    place = np.array([[[12.0, 12], [32, 40], [52, 14]]])
    radius = np.array([[6.0, 3.0, 4.5]])
    frames = Renderer(config).draw(place, radius)
    scene = calibrate(frames, 3, blank(config), position=place)
    assert np.sqrt(scene.sizes / np.pi) == pytest.approx(radius[0], abs=0.05)
    assert np.sqrt(scene.masses / np.pi) == pytest.approx(np.sort(radius[0]), abs=0.05)
    assert np.abs(scene.colours - np.stack(Renderer(config).colours)).max() < 2
    touching = Renderer(config).draw(np.array([[[12.0, 12], [21, 12], [16, 19]]]), radius)
    assert calibrate(touching, 3, blank(config), position=place).sizes is None
