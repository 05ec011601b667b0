"""Pictures of any size and kind become one size, uint8, channels first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from worldloom.configs import ConfigError
from worldloom.data import DataError
from worldloom.data.sources import ImportConfig
from worldloom.data.sources.pictures import as_uint8, choose_size, fit

RNG = np.random.default_rng(0)


def _smooth(high: int, wide: int) -> np.ndarray:
    y, x = np.mgrid[:high, :wide]
    return np.stack([255 * x / wide, 255 * y / high, 128 + 100 * np.sin(x / 9)], -1).astype(np.uint8)[None]


@pytest.mark.parametrize(("source", "size"), [((256, 256), (64, 64)), ((50, 100), (64, 128)), ((97, 61), (48, 32))])
def test_resizing_is_what_pillow_does(source: tuple[int, int], size: tuple[int, int]) -> None:
    frames = _smooth(*source)
    out = fit(source, size, ImportConfig(fit="stretch"), "x").pictures(frames)
    expected = np.asarray(Image.fromarray(frames[0]).resize(size[::-1], Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert out.shape == (1, 3, *size)
    assert out.dtype == np.uint8
    assert np.abs(out[0].astype(int) - expected).max() <= 2


def test_cropping_keeps_the_middle_and_padding_keeps_all() -> None:
    frames = np.zeros((2, 40, 80, 3), np.uint8)
    frames[:, :, 20:60] = 200  # the middle square
    crop = fit((40, 80), (40, 40), ImportConfig(size=(40, 40), fit="crop"), "x").pictures(frames)
    assert (crop == 200).all()
    padded = fit((40, 80), (40, 40), ImportConfig(size=(40, 40), fit="pad"), "x").pictures(frames)
    assert (padded[:, :, :10] == 0).all()
    assert (padded[:, :, 30:] == 0).all()
    assert padded[:, :, 15, 20].min() == 200
    assert padded[:, :, 15, 3].max() == 0


@given(high=st.integers(1, 90), wide=st.integers(1, 90), how=st.sampled_from(["crop", "pad", "stretch"]))
@settings(max_examples=60, deadline=None)
def test_every_shape_fits_once_it_is_said_how(high: int, wide: int, how: str) -> None:
    frames = RNG.integers(0, 256, (1, high, wide, 1), np.uint8)
    out = fit((high, wide), (24, 16), ImportConfig(size=(24, 16), fit=how), "x").pictures(frames)  # type: ignore[arg-type]
    assert out.shape == (1, 1, 24, 16)
    assert out.max() <= frames.max()
    if how != "pad":
        assert out.min() >= frames.min()


def test_another_shape_is_refused_until_it_is_said_how() -> None:
    with pytest.raises(DataError, match=r"clip: pictures of 160×90.*--fit crop"):
        fit((90, 160), (64, 64), ImportConfig(size=(64, 64)), "clip")
    assert fit((90, 160), (36, 64), ImportConfig(size=(36, 64)), "clip").plain


@given(high=st.integers(8, 2000), wide=st.integers(8, 2000))
@settings(max_examples=80, deadline=None)
def test_the_size_that_is_chosen_fits_without_a_word(high: int, wide: int) -> None:
    config = ImportConfig()
    size = choose_size({(high, wide)}, config)
    assert all(n % 8 == 0 and n >= 8 for n in size)
    if max(high, wide) > 128 and max(high, wide) < 4 * min(high, wide):
        assert min(size) == 64
    fit((high, wide), size, config, "x")


def test_known_sizes() -> None:
    assert choose_size({(256, 256)}, ImportConfig()) == (64, 64)
    assert choose_size({(1080, 1920)}, ImportConfig()) == (64, 112)
    assert choose_size({(96, 128)}, ImportConfig()) == (96, 128)
    assert choose_size({(84, 84)}, ImportConfig()) == (80, 80)
    assert choose_size({(480, 640), (240, 320)}, ImportConfig(size=(60, 80))) == (60, 80)


def test_absurd_sizes_are_refused() -> None:
    with pytest.raises(DataError, match="at most 8192"):
        fit((10**6, 10**6), (64, 64), ImportConfig(), "x")
    with pytest.raises(ConfigError, match="size must be two numbers"):
        ImportConfig(size=(0, 64))


@pytest.mark.parametrize(
    ("make", "done"),
    [
        (lambda x: x, None),
        (lambda x: np.moveaxis(x, -1, 1), "channels moved last"),
        (lambda x: (x / 255).astype(np.float32), r"floats in \[0, 1\]"),
        (lambda x: x.astype(np.float64), r"floats in \[0, 255\]"),
        (lambda x: x.astype(np.uint16) * 257, "uint16"),
        (lambda x: np.concatenate([x, x[..., :1]], -1), "alpha"),
    ],
)
def test_every_usual_kind_of_picture_is_the_same_picture(make, done) -> None:  # type: ignore[no-untyped-def]
    import re

    frames = RNG.integers(0, 256, (2, 9, 7, 3), np.uint8)
    frames[0, 0, 0] = 255
    out, said = as_uint8(make(frames), "x")
    assert np.array_equal(out, frames)
    assert (said is None) if done is None else re.search(done, said)


@pytest.mark.parametrize(
    "bad",
    [np.zeros((2, 5, 5, 2), np.uint8), np.full((1, 4, 4, 3), np.nan), np.full((1, 4, 4, 3), -1.0),
     np.zeros((1, 4, 4, 3), np.int32), np.zeros((0, 4, 4, 3), np.uint8)],
)  # fmt: skip
def test_what_is_no_picture_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"^clip: pictures"):
        as_uint8(bad, "clip")
