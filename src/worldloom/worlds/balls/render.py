"""Drawing discs: only the window around each is touched."""

from __future__ import annotations

import math

import numpy as np

from worldloom.worlds.balls.config import BallsConfig

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""
EDGE = 1.5
"""Width in px of an antialiased edge. The centre of light of a disc of radius 4 then strays by 0.006 px at most (0.011
at a wall, where the frame cuts the edge off); with a straight ramp of width 1, by 0.022."""


class Renderer:
    """Frames (N, C, H, W) uint8 of discs over a background, under an occluder.

    A pixel's centre is at (column + 0.5, row + 0.5). A disc shades a pixel whose centre is at distance ``s`` from its
    own by t²(3 - 2t), t = clip((r - s) / EDGE + 1/2, 0, 1): close to the covered share, and of all ramps tried the one
    whose centre of light strays least from the disc's centre.
    """

    def __init__(self, config: BallsConfig) -> None:
        self.config = config
        self.shape = (config.channels, config.height, config.width)
        self.background = self._paint(config.background)
        self.colours = [self._paint(config.colours[k % len(config.colours)]) for k in range(config.balls)]
        self.goal_colour = self._paint(config.goal_colour)
        self.occluder_colour = self._paint(config.occluder_colour)
        self.blank = np.broadcast_to(self.background[:, None, None], self.shape).round().astype(np.uint8)
        self.cover = None if config.occluder is None else self._cover(config.occluder)

    def draw(
        self,
        position: np.ndarray,
        radius: np.ndarray,
        goal: np.ndarray | None = None,
        colour: np.ndarray | None = None,
    ) -> np.ndarray:
        """(N, C, H, W) uint8 of discs at ``position`` (N, K, 2) with ``radius`` (N, K), over a goal at (N, 2).

        colour: (N, C), one for all discs of a frame instead of the configured ones.
        """
        frames = np.empty((len(position), *self.shape), np.uint8)
        frames[:] = self.blank
        plain = goal is None
        if goal is not None:
            wide = np.full(len(goal), self.config.goal_radius)
            self._disc(frames, goal, wide, self.config.goal_radius, self.goal_colour, plain=True)
        for k, own in enumerate(self.colours):
            paint = own if colour is None else colour
            # The first disc lies on the bare background, which spares reading the frame back.
            self._disc(frames, position[:, k], radius[:, k], self.config.radii[1], paint, plain=plain and k == 0)
        if self.cover is not None:
            area, alpha = self.cover
            behind = frames[:, :, area[0], area[1]]
            blended = behind + alpha * (self.occluder_colour[:, None, None] - behind)
            frames[:, :, area[0], area[1]] = (blended + 0.5).astype(np.uint8)
        return frames

    def _disc(
        self,
        frames: np.ndarray,
        centre: np.ndarray,
        radius: np.ndarray,
        largest: float,
        colour: np.ndarray,
        plain: bool,
    ) -> None:
        """Draw one disc in every frame.

        centre: (N, 2); radius: (N,), none above ``largest``; colour: (C,) or (N, C).
        """
        n, _, height, width = frames.shape
        reach = largest + EDGE / 2 - 0.5
        side = math.ceil(2 * reach) + 1
        tall, wide = min(side, height), min(side, width)
        corner = np.floor(centre - reach).astype(np.intp)
        left = np.clip(corner[:, 0], 0, width - wide)
        top = np.clip(corner[:, 1], 0, height - tall)
        dx = (np.arange(wide) + 0.5) + (left - centre[:, 0])[:, None]
        dy = (np.arange(tall) + 0.5) + (top - centre[:, 1])[:, None]
        dx, dy = (dx * dx).astype(np.float32), (dy * dy).astype(np.float32)
        edge = radius.astype(np.float32)[:, None, None]
        alpha = np.sqrt(dy[:, :, None] + dx[:, None, :])
        if self.config.antialias:
            np.subtract(edge + np.float32(EDGE / 2), alpha, out=alpha)
            alpha *= np.float32(1 / EDGE)
            np.clip(alpha, 0.0, 1.0, out=alpha)
            alpha *= alpha * (np.float32(3) - np.float32(2) * alpha)
        else:
            alpha = (alpha <= edge).astype(np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(frames, (tall, wide), (2, 3), writeable=True)
        rows = np.arange(n)
        paint = colour.reshape(-1, len(self.background), 1, 1)
        if plain:
            under: np.ndarray = self.background[None, :, None, None]
        else:
            under = windows[rows, :, top, left].astype(np.float32)
        patch = alpha[:, None] * (paint - under)
        patch += under
        patch += np.float32(0.5)
        windows[rows, :, top, left] = patch.astype(np.uint8)

    def _paint(self, rgb: tuple[int, int, int]) -> np.ndarray:
        """(C,) float32 of a colour."""
        if self.config.channels == 3:
            return np.array(rgb, np.float32)
        return np.array([sum(w * c for w, c in zip(LUMA, rgb, strict=True))], np.float32)

    def _cover(self, box: tuple[float, float, float, float]) -> tuple[tuple[slice, slice], np.ndarray]:
        """The occluder's rows and columns, and the share (h, w) float32 of each pixel that it hides."""
        shares, spans = [], []
        for low, high, size in ((box[1], box[3], self.config.height), (box[0], box[2], self.config.width)):
            pixel = np.arange(size)
            share = np.clip(np.minimum(pixel + 1, high) - np.maximum(pixel, low), 0.0, 1.0)
            inside = np.flatnonzero(share)
            span = slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0)
            shares.append(share[span])
            spans.append(span)
        return (spans[0], spans[1]), np.outer(*shares).astype(np.float32)
