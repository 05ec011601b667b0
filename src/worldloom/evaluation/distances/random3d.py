"""Features without any training: a convolutional network over space and time with fixed random weights.

One half looks at the frames, the other at the differences between them: random features of frames are blind to the
order of time, those of differences are not. The weights come from raw 64-bit draws of PCG64, whose stream numpy
guarantees, and exact arithmetic: the same bits on every machine. (What convolutions make of them may differ in the
last digits from one machine to another.)
"""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from worldloom.evaluation.distances.extractors import colour

SEED = 20_261_122
WIDTHS = (3, 16, 32, 32)
"""Channels from layer to layer."""
STRIDES = ((1, 2, 2), (2, 2, 2), (2, 2, 2))


def draw_weights(seed: int = SEED) -> list[Tensor]:
    """Six kernels (out, in, 3, 3, 3) float32, three for each half, each filter of length √2 (He et al. 2015)."""
    stream = np.random.PCG64(seed)
    kernels = []
    for _ in range(2):
        for width, more in pairwise(WIDTHS):
            raw = stream.random_raw(more * width * 27)
            values = (raw >> np.uint64(40)).astype(np.float64) / 2**23 - 1  # 24 bits: uniform in [-1, 1), exact
            scale = np.sqrt(3 * 2 / (width * 27))
            kernels.append(torch.from_numpy((values * scale).astype(np.float32)).reshape(more, width, 3, 3, 3))
    return kernels


class Random3D:
    """Clips of at least 2 frames to 128 features: mean and spread over places and times of each of 32 channels of the
    last layer, for frames and for differences."""

    name = "random3d"

    def __init__(self, seed: int = SEED) -> None:
        self.kernels = draw_weights(seed)
        digest = hashlib.sha256(f"{WIDTHS}{STRIDES}".encode())
        for kernel in self.kernels:
            digest.update(kernel.numpy().tobytes())
        self.hash = digest.hexdigest()

    def __call__(self, clips: Tensor) -> Tensor:
        """(B, T, C, H, W) uint8 to (B, 128) float32."""
        x = colour(clips).transpose(1, 2)
        halves = (x - 0.5, x[:, :, 1:] - x[:, :, :-1])
        layers = len(STRIDES)
        found = []
        for k, half in enumerate(halves):
            for kernel, stride in zip(self.kernels[k * layers : (k + 1) * layers], STRIDES, strict=True):
                half = F.relu(F.conv3d(half, kernel, stride=stride, padding=1))
            found += [half.mean((2, 3, 4)), half.std((2, 3, 4), correction=0)]
        return torch.cat(found, 1)


__all__ = ["Random3D", "draw_weights"]
