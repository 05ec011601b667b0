import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worldloom.contract import ContractError
from worldloom.evaluation.metrics import psnr, ssim


def images(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def slow_ssim(a: np.ndarray, b: np.ndarray, size: int = 11, sigma: float = 1.5) -> float:
    """Equation 13 of Wang et al. (2004) with loops over channels and window positions; a, b: (C, H, W) in [0, 1]."""
    at = np.arange(size) - (size - 1) / 2
    window = np.exp(-(at[:, None] ** 2 + at**2) / (2 * sigma**2))
    window /= window.sum()
    scores = []
    for x, y in zip(a, b, strict=True):
        for i in range(x.shape[0] - size + 1):
            for j in range(x.shape[1] - size + 1):
                p, q = x[i : i + size, j : j + size], y[i : i + size, j : j + size]
                mp, mq = (window * p).sum(), (window * q).sum()
                vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
                cov = (window * (p - mp) * (q - mq)).sum()
                c1, c2 = 0.01**2, 0.03**2
                scores.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return float(np.mean(scores))


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_psnr_is_its_definition(channels, height, width, seed):
    a, b = images(2, 3, channels, height, width, seed=seed), images(2, 3, channels, height, width, seed=seed + 1)
    found = psnr(a, b)
    assert found.shape == (2, 3)
    x, y = a.double().numpy() / 255, b.double().numpy() / 255
    with np.errstate(divide="ignore"):
        expected = -10 * np.log10(((x - y) ** 2).mean((2, 3, 4)))
    assert np.allclose(found.numpy(), expected, atol=1e-3)


def test_psnr_of_equal_frames_is_infinite_or_the_cap():
    a = images(2, 3, 8, 8)
    assert psnr(a, a).tolist() == [math.inf, math.inf]
    assert psnr(a, a, cap=60.0).tolist() == [60, 60]


def test_one_grey_level_off_is_48_decibels():
    a = torch.full((3, 8, 8), 100, dtype=torch.uint8)
    assert psnr(a, a + 1).item() == pytest.approx(20 * math.log10(255), abs=1e-3)


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 11, 11), (3, 14, 17), (2, 20, 12)])
def test_ssim_is_the_slow_one(channels, height, width):
    a = images(channels, height, width, seed=3)
    b = ((a.float() + images(channels, height, width, seed=4).float()) / 2).to(torch.uint8)
    expected = slow_ssim(a.double().numpy() / 255, b.double().numpy() / 255)
    assert ssim(a, b).item() == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize(("height", "width", "window"), [(10, 30, 9), (7, 7, 7), (4, 12, 3), (1, 5, 1)])
def test_ssim_of_small_images_takes_the_largest_odd_window_that_fits(height, width, window):
    a, b = images(2, height, width, seed=5), images(2, height, width, seed=6)
    expected = slow_ssim(a.double().numpy() / 255, b.double().numpy() / 255, window)
    assert ssim(a, b).item() == pytest.approx(expected, abs=2e-5)


def test_ssim_is_one_for_equal_and_batched_frame_by_frame():
    a, b = images(3, 300, 1, 12, 12, seed=7), images(3, 300, 1, 12, 12, seed=8)  # more than one chunk
    assert torch.allclose(ssim(a, a), torch.ones(3, 300), atol=1e-5)
    found = ssim(a, b)
    assert found.shape == (3, 300)
    assert found[2, 299].item() == pytest.approx(ssim(a[2, 299], b[2, 299]).item(), abs=1e-6)


def test_bytes_and_floats_agree():
    a, b = images(3, 16, 16), images(3, 16, 16, seed=1)
    for metric in (psnr, ssim):
        assert metric(a, b).item() == pytest.approx(metric(a.float() / 255, b.float() / 255).item(), abs=1e-4)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_different_shapes_are_an_error(metric):
    with pytest.raises((ContractError, TypeError)):
        metric(images(3, 8, 8), images(3, 8, 9))
