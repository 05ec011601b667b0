"""Pictures: channel order, colours, crop, and what shrinking keeps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldloom.contract import ContractError
from worldloom.worlds.gym.pixels import Picture, looks_like_picture, resize


def test_channel_order_is_detected() -> None:
    assert Picture.detect("x", (40, 50)).order == "HW"
    assert Picture.detect("x", (40, 50, 3)).order == "HWC"
    assert Picture.detect("x", (1, 40, 50)).order == "CHW"
    assert Picture.detect("x", (40, 50, 4)).order == "HWC"
    assert Picture.detect("x", (3, 50, 3), order="CHW").order == "CHW"


@pytest.mark.parametrize(
    ("shape", "why"),
    [((3, 40, 3), "first or last"), ((4, 84, 84), "stack of 4"), ((40, 50, 7), "1, 3 or 4"), ((7, 40, 40), "stack")],
)
def test_ambiguous_shapes_are_refused(shape: tuple[int, ...], why: str) -> None:
    with pytest.raises(ContractError, match=why):
        Picture.detect("x", shape)


def test_small_or_unbounded_arrays_are_no_pictures() -> None:
    assert looks_like_picture((64, 64, 3), np.uint8, 0.0, 255.0)
    assert looks_like_picture((3, 64, 64), np.float32, 0.0, 1.0)
    assert looks_like_picture((64, 64), np.uint8, 0.0, 255.0)
    assert not looks_like_picture((7, 7, 3), np.uint8, 0.0, 255.0)
    assert not looks_like_picture((64, 64, 3), np.float32, -np.inf, np.inf)
    assert not looks_like_picture((128,), np.uint8, 0.0, 255.0)


def test_every_layout_gives_the_same_picture() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    expected = rgb.transpose(2, 0, 1)
    alpha = np.concatenate([rgb, np.full((30, 20, 1), 7, np.uint8)], 2)
    for value, order, high in (
        (rgb, "HWC", 255.0),
        (expected, "CHW", 255.0),
        (alpha, "HWC", 255.0),
        (rgb / np.float32(255), "HWC", 1.0),
        (rgb.astype(np.float64), "HWC", 255.0),
    ):
        out = Picture.detect("x", value.shape, order=order, high=high, size=None).read(value)
        assert out.dtype == np.uint8
        assert (out == expected).all()
    grey = Picture.detect("x", (30, 20, 3), size=None, channels=1).read(rgb)
    assert grey.shape == (1, 30, 20)
    assert np.abs(grey[0] - rgb @ [0.299, 0.587, 0.114]).max() <= 0.5001
    assert (Picture.detect("x", (30, 20), size=None).read(rgb[..., 0]) == rgb[None, ..., 0]).all()
    with pytest.raises(ContractError, match="declared with shape"):
        Picture.detect("x", (30, 20, 3)).read(rgb[:-1])


def test_crop_is_top_bottom_left_right() -> None:
    x = np.arange(20 * 30, dtype=np.uint32).reshape(20, 30).astype(np.uint8)
    out = Picture.detect("x", (20, 30), size=None, channels=1, crop=(1, 2, 3, 4)).read(x)
    assert (out[0] == x[1:18, 3:26]).all()
    with pytest.raises(ContractError, match="leaves nothing"):
        Picture.detect("x", (20, 30), crop=(10, 10, 0, 0))


def _slow_area(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Enlarge so that every new pixel holds whole ones, then take plain means."""
    big = x.repeat(size[0], 0).repeat(size[1], 1)
    return big.reshape(size[0], x.shape[0], size[1], x.shape[1], -1).mean((1, 3))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.integers(1, 20), st.integers(1, 20), st.floats(1, 4), st.sampled_from([1, 3]))
def test_shrinking_by_area_and_max(seed: int, h: int, w: int, factor: float, channels: int) -> None:
    old = (int(h * factor), int(w * factor))
    x = np.random.default_rng(seed).integers(0, 256, (*old, channels), dtype=np.uint8)
    area, brightest = resize(x, (h, w)), resize(x, (h, w), "max")
    assert area.shape == brightest.shape == (h, w, channels)
    assert np.abs(area - _slow_area(x, (h, w))).max() <= 0.51
    for i in range(h):
        for j in range(w):
            block = x[i * old[0] // h : -(-(i + 1) * old[0] // h), j * old[1] // w : -(-(j + 1) * old[1] // w)]
            assert (brightest[i, j] == block.max((0, 1))).all()


def test_a_small_thing_keeps_its_brightness_under_max_and_its_sum_under_area() -> None:
    for left in range(40):
        x = np.zeros((210, 160, 3), np.uint8)
        x[100 + left : 104 + left, 50 + left : 52 + left] = 200  # Breakout's ball
        assert resize(x, (64, 64), "max").max() == 200
        total = resize(x, (64, 64)).astype(float).sum() * (210 * 160) / (64 * 64)
        assert total == pytest.approx(x.astype(float).sum(), rel=0.05)
