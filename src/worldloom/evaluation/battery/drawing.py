"""Frames of balls whose colour, size and shape change from frame to frame."""

from __future__ import annotations

import dataclasses

import numpy as np

from worldloom.worlds.balls import BallsConfig
from worldloom.worlds.balls.render import EDGE, Renderer

AT_ONCE = 4096
"""Frames drawn in one go."""


def draw(
    config: BallsConfig,
    position: np.ndarray,
    radius: np.ndarray,
    colour: np.ndarray,
    goal: np.ndarray | None,
    wide: np.ndarray,
) -> np.ndarray:
    """(m, T, C, H, W) uint8.

    position: (m, T, K, 2). radius: (m, T, K), negative for a ball that is not there. colour: (m, T, K) index among the
    config's colours. goal: (m, 2). wide: (m, T) factor of the width; the height is divided by it.
    """
    m, frames, k = radius.shape
    x, r, hue = position.reshape(-1, k, 2), radius.reshape(-1, k), colour.reshape(-1, k)
    goals = None if goal is None else np.repeat(goal, frames, 0)
    factor = wide.reshape(-1)
    out = np.empty((len(x), config.channels, config.height, config.width), np.uint8)
    for hues in np.unique(hue, axis=0):
        own = tuple(config.colours[c % len(config.colours)] for c in hues)
        low = min(0.5, float(config.radii[0]))
        painted = dataclasses.replace(config, balls=k, colours=own, radius=(low, max(float(r.max()), low)))
        renderer = Renderer(painted)
        rows = np.flatnonzero((hue == hues).all(1))
        for begin in range(0, len(rows), AT_ONCE):
            part = rows[begin : begin + AT_ONCE]
            there = None if goals is None else goals[part]
            if (factor[part] == 1).all():
                out[part] = renderer.draw(x[part], r[part], there)
            else:
                out[part] = _ellipses(renderer, x[part], r[part], there, factor[part])
    return out.reshape(m, frames, *out.shape[1:])


def _ellipses(
    renderer: Renderer, x: np.ndarray, r: np.ndarray, goal: np.ndarray | None, wide: np.ndarray
) -> np.ndarray:
    """The same for ellipses of unchanged area."""
    config = renderer.config
    frames = renderer.draw(x, np.full_like(r, -1.0), goal).astype(np.float32)
    across = (np.arange(config.width) + 0.5)[None] - x[:, :, :1]  # (n, K, W)
    down = (np.arange(config.height) + 0.5)[None] - x[:, :, 1:]
    for k, paint in enumerate(renderer.colours):
        distance = np.hypot((across[:, k] / wide[:, None])[:, None, :], (down[:, k] * wide[:, None])[:, :, None])
        t = np.clip((r[:, k, None, None] - distance) / EDGE + 0.5, 0, 1).astype(np.float32)
        cover = (t * t * (3 - 2 * t))[:, None]
        frames += cover * (paint[None, :, None, None] - frames)
    if renderer.cover is not None:  # drawn once more, on top
        (rows, columns), alpha = renderer.cover
        behind = frames[:, :, rows, columns]
        behind += alpha * (renderer.occluder_colour[:, None, None] - behind)
    return (frames + 0.5).astype(np.uint8)


__all__ = ["draw"]
