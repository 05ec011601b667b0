"""What is drawn is where the truth says it is."""

import numpy as np
import pytest

from worldloom.worlds.balls import Balls, BallsConfig
from worldloom.worlds.balls.render import Renderer


def centroids(frames: np.ndarray, background: float) -> np.ndarray:
    """(N, 2) as (x, y): mean position of the light above the background."""
    light = frames[:, 0].astype(float) - background
    x, y = np.arange(frames.shape[3]) + 0.5, np.arange(frames.shape[2]) + 0.5
    total = light.sum((1, 2))
    return np.stack([(light.sum(1) * x).sum(1) / total, (light.sum(2) * y).sum(1) / total], 1)


def draw(config: BallsConfig, centre: np.ndarray, radius: np.ndarray | None = None, goal=None) -> np.ndarray:
    centre = np.asarray(centre, float).reshape(-1, config.balls, 2)
    radius = np.full(centre.shape[:2], config.radii[1]) if radius is None else radius
    return Renderer(config).draw(centre, radius, goal)


def supersampled(x: float, y: float, radius: float, size: tuple[int, int], fine: int = 16) -> np.ndarray:
    """The share of each pixel within the disc, by counting fine x fine points: slow and obvious."""
    rows = (np.arange(size[0] * fine) + 0.5) / fine
    columns = (np.arange(size[1] * fine) + 0.5) / fine
    inside = (columns[None] - x) ** 2 + (rows[:, None] - y) ** 2 <= radius**2
    return inside.reshape(size[0], fine, size[1], fine).mean((1, 3))


BLACK = {"background": (0, 0, 0), "colours": ((255, 255, 255),), "channels": 1}


@pytest.mark.parametrize(("radius", "worst"), [(2.0, 0.018), (4.0, 0.007), (7.5, 0.007)])
def test_the_centroid_is_the_true_position(radius, worst):
    config = BallsConfig(radius=radius, **BLACK)
    centre = np.random.default_rng(0).uniform(radius, 64 - radius, (500, 2))
    error = np.hypot(*(centroids(draw(config, centre), 0) - centre).T)
    assert error.max() < worst + 0.007  # at a wall the frame cuts the soft edge off
    inner = (np.abs(centre - 32) < 32 - radius - 1).all(1)
    assert error[inner].max() < worst


def test_shades_are_the_covered_shares():
    config = BallsConfig(height=20, width=26, **BLACK)
    random = np.random.default_rng(1)
    for x, y in [(4, 4), (22, 16), (4, 16), *random.uniform(4, 16, (20, 2))]:
        shade = draw(config, np.array([x, y]))[0, 0] / 255
        exact = supersampled(x, y, 4.0, (20, 26))
        assert np.abs(shade - exact).max() < 0.08
        assert abs(shade.sum() - exact.sum()) < 0.01 * np.pi * 16


def test_without_antialiasing_a_pixel_is_full_or_empty():
    config = BallsConfig(antialias=False, **BLACK)
    shown = draw(config, np.array([20.5, 30.5]))[0, 0]
    assert set(np.unique(shown)) == {0, 255}
    rows, columns = np.nonzero(shown)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (16, 24, 26, 34)
    assert len(rows) == 49  # lattice points within a circle of radius 4


def test_windows_draw_what_whole_images_would():
    """Discs of many sizes, at edges and corners, over each other and over a goal, against drawing every pixel."""
    config = BallsConfig(balls=3, height=30, width=47, radius=(1.0, 9.0), task="goal", goal_radius=11.0)
    random = np.random.default_rng(2)
    radius = random.uniform(1, 9, (40, 3))
    centre = random.uniform(0, 1, (40, 3, 2)) * (np.array([47, 30]) - 2 * radius[..., None]) + radius[..., None]
    goal = random.uniform(0, 1, (40, 2)) * np.array([47, 30])  # may stick out of the frame
    shown = draw(config, centre, radius, goal)
    columns, rows = np.meshgrid(np.arange(47) + 0.5, np.arange(30) + 0.5)
    for n in range(40):
        image = np.tile(np.array(config.background, float)[:, None, None], (1, 30, 47))
        discs = [(goal[n], 11.0, config.goal_colour)]
        discs += [(centre[n, k], radius[n, k], config.colours[k]) for k in range(3)]
        for (x, y), r, colour in discs:
            t = np.clip((r - np.hypot(columns - x, rows - y)) / 1.5 + 0.5, 0, 1)
            alpha = t * t * (3 - 2 * t)
            image += alpha * (np.array(colour, float)[:, None, None] - image)
        assert np.abs(shown[n] - image).max() <= 2  # each layer rounds once


def test_the_occluder_hides_and_does_not_touch():
    plain, hidden = BallsConfig(), BallsConfig(occluder=(24.0, 0.0, 40.5, 64.0), occluder_colour=(7, 8, 9))
    x, v = np.array([[[10.0, 32.0]]]), np.array([[[2.0, 0.0]]])
    worlds = Balls(plain, 1), Balls(hidden, 1)
    open_view, view = (w.place(x, v) for w in worlds)
    seen = []
    for _ in range(25):
        open_view, view = (w.step() for w in worlds)
        np.testing.assert_array_equal(view.truth["position"], open_view.truth["position"])
        picture = view.obs["camera"][0]
        assert (picture[:, :, 24:40] == np.array([7, 8, 9])[:, None, None]).all()
        np.testing.assert_array_equal(picture[:, :, :24], open_view.obs["camera"][0][:, :, :24])
        np.testing.assert_array_equal(picture[:, :, 41:], open_view.obs["camera"][0][:, :, 41:])
        half = (np.array([7, 8, 9])[:, None] + open_view.obs["camera"][0][:, :, 40].astype(float)) / 2
        assert np.abs(picture[:, :, 40] - half).max() <= 0.51
        seen.append(bool((picture[0] > 100).any()))
    assert seen[0]
    assert seen[-1]
    assert not all(seen)


def test_colours_and_grey():
    colours = ((200, 0, 0), (0, 200, 0))
    config = BallsConfig(balls=3, colours=colours, background=(1, 2, 3), height=32, width=60)
    centre = np.array([[[10.0, 16], [30, 16], [50, 16]]])
    picture = draw(config, centre)[0]
    assert [tuple(picture[:, 16, x]) for x in (10, 30, 50)] == [(200, 0, 0), (0, 200, 0), (200, 0, 0)]
    assert tuple(picture[:, 0, 0]) == (1, 2, 3)
    grey = BallsConfig(balls=3, colours=colours, background=(1, 2, 3), height=32, width=60, channels=1)
    assert draw(grey, centre)[0, 0, 16, 30] == round(0.587 * 200)


def test_the_goal_is_drawn_beneath():
    config = BallsConfig(task="goal", goal_colour=(0, 0, 250))
    goal = np.array([[30.0, 30.0]])
    far, near = (draw(config, np.array([c, c]), None, goal)[0] for c in (50.0, 30.0))
    assert tuple(far[:, 30, 30]) == (0, 0, 250)
    assert tuple(near[:, 30, 30]) == config.colours[0]
    assert tuple(near[:, 30, 36]) == (0, 0, 250)


def test_a_disc_nearly_as_large_as_the_frame():
    config = BallsConfig(height=9, width=9, radius=4.4, **BLACK)
    assert draw(config, np.array([4.5, 4.5]))[0, 0, 4, 4] == 255
    assert abs(centroids(draw(config, np.array([4.5, 4.5])), 0) - 4.5).max() < 0.02
