"""The textbook's data, fact by fact."""

import itertools

import numpy as np
import pytest

from worldloom.contract import WorldloomError
from worldloom.worlds.lab import LabData, draw, lab_path, lab_sample


def test_a_sample_has_the_stated_form():
    sample = lab_sample(17)
    assert sample.context.shape == (3, 3, 64, 64)
    assert sample.target.shape == (3, 64, 64)
    assert sample.action.shape == (4,)
    for array in sample:
        assert array.dtype == np.float32
    frames = np.concatenate([sample.context, sample.target[None]])
    assert set(np.unique(frames)) == {0.0, 1.0}
    np.testing.assert_array_equal(frames[:, 0], frames[:, 1])
    np.testing.assert_array_equal(frames[:, 0], frames[:, 2])


def test_the_index_is_the_seed():
    for a, b in zip(lab_sample(3), lab_sample(3), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (lab_sample(3).action[:2] != lab_sample(4).action[:2]).all()


def test_starts_are_uniform_in_their_ranges():
    paths = [lab_path(i, 1) for i in range(2000)]
    position = np.stack([p[0] for p, _ in paths])
    velocity = np.stack([v for _, v in paths])
    for values, low, high in ((position, 10, 54), (velocity, -3, 3)):
        assert values.min() >= low
        assert values.max() <= high
        spread = np.quantile((values - low) / (high - low), [0.25, 0.5, 0.75], axis=0)
        np.testing.assert_allclose(spread, np.array([[0.25], [0.5], [0.75]]) * np.ones(2), atol=0.05)


def test_motion_adds_turns_and_clips():
    bounces = 0
    for index in range(50):
        path, velocity = lab_path(index, 60)
        for now, then in itertools.pairwise(path):
            expected = now + velocity
            out = (expected < 5) | (expected > 59)
            velocity = np.where(out, -velocity, velocity)
            bounces += int(out.sum())
            np.testing.assert_allclose(then, expected.clip(5, 59), atol=1e-12)
    assert bounces > 50


def test_frames_show_the_path_and_the_action_holds_the_first_velocity():
    turned = 0
    for index in range(200):
        path, velocity = lab_path(index, 4)
        sample = lab_sample(index)
        np.testing.assert_allclose(sample.action, [velocity[0] / 3, velocity[1] / 3, 0, 0], rtol=1e-6)
        frames = [*sample.context, sample.target]
        for (x, y), frame in zip(path, frames, strict=True):
            np.testing.assert_array_equal(frame, draw(x, y))
            rows, columns = np.nonzero(frame[0])
            assert abs(rows.mean() - y) < 0.3
            assert abs(columns.mean() - x) < 0.3
        turned += int((np.abs((path[3] - path[2]) - velocity) > 1e-9).any())
    assert turned > 0


def test_the_disc_is_all_pixels_within_four():
    frame = draw(20.0, 30.0)[0]
    assert frame.sum() == 49
    assert frame[30, 24] == frame[34, 20] == 1
    assert frame[30, 25] == frame[33, 23] == 0


def test_the_data_set():
    data = LabData()
    assert len(data) == 10_000
    np.testing.assert_array_equal(data[5].target, lab_sample(5).target)
    with pytest.raises(IndexError):
        data[10_000]
    assert len(list(LabData(3))) == 3
    with pytest.raises(WorldloomError):
        lab_path(-1, 4)
