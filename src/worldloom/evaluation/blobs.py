"""Blobs: connected components of a frame's difference from its background, with their masses, moments and colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldloom.contract import WorldloomError

SAME_HUE = 0.97
"""Cosine between two differences from the background, from which on one is a paler or stronger form of the other."""


@dataclass(frozen=True)
class TrackerConfig:
    """What counts as an object. All shares refer to the true objects measured by :func:`calibrate`."""

    threshold: float = 0.15
    """A pixel belongs to an object where its difference from the background exceeds this share of the contrast, or,
    in a noisy frame, what one pixel in 10,000 of its background exceeds."""
    haze: float = 0.2
    """A frame half of whose pixels differ from the background by more than this share of the contrast holds no
    objects: it has dissolved, and is one smudge."""
    crowd: int = 32
    """So has a frame with more objects than this."""
    min_share: float = 0.25
    """A blob with less than this share of the smallest true object's mass is a smudge, not an object. A ball that
    faded below it has vanished; a ball torn in two parts above it is two."""
    max_share: float = 2.0
    """A blob with more than this multiple of the largest true object's mass is a smear, not an object: a dream that has
    dissolved into noise is one large blob, and must not pass for a ball."""
    split_mass: float = 1.5
    """A blob is tried as several touching discs from this multiple of the smallest true object's mass on ..."""
    split_ratio: float = 1.5
    """... if its longer axis has at least this multiple of the shorter one's variance (two equal touching discs: 5;
    radii 6 and 2: 1.7; one disc, however blurred: 1). A round blob of nearly double mass therefore stays one object."""
    colour_step: float = 60.0
    """Colours (0 to 441) further apart than this tell objects apart: a blob in two of the true objects' colours is
    tried as several discs whatever its shape."""


@dataclass(frozen=True)
class Scene:
    """What is known of a scene before its objects are looked for."""

    background: np.ndarray
    """(C, H, W) float32, 0 to 255."""
    contrast: float
    """Distance in colour between an object's middle and the background, 0 to 441 in three channels."""
    masses: np.ndarray
    """(K,) masses of the true objects, ascending, in pixels of full contrast (an opaque disc: π r²)."""
    colours: np.ndarray | None = None
    """(K, C) colours of the true objects, 0 to 255, in the truth's order; None where their positions weren't given."""
    sizes: np.ndarray | None = None
    """(K,) the same masses in the truth's order."""


@dataclass(frozen=True)
class Blobs:
    """Connected components of F frames, B of them in all, with their P pixels in the order of the blobs."""

    frame: np.ndarray
    position: np.ndarray
    mass: np.ndarray
    colour: np.ndarray
    ground: np.ndarray
    """(B, C) mean background behind the inner pixels."""
    axes: np.ndarray
    ratio: np.ndarray
    """(B,) of the variances along the two axes."""
    begin: np.ndarray
    """(B + 1,) first pixel of each blob."""
    pixel: tuple[np.ndarray, np.ndarray, np.ndarray]
    """Frame, row and column, (P,) each."""
    weight: np.ndarray
    """(P,) share of the object's own colour."""
    inner: np.ndarray
    """(P,) bool: all its neighbours belong to the blob too."""
    dissolved: np.ndarray
    """(F,) bool."""

    def at(self, blob: int) -> np.ndarray:
        """(P', 2) x and y of the centres of a blob's pixels."""
        span = slice(self.begin[blob], self.begin[blob + 1])
        return np.stack([self.pixel[2][span] + 0.5, self.pixel[1][span] + 0.5], 1)


def background(frames: np.ndarray, limit: int = 512) -> np.ndarray:
    """(C, H, W) float32: each pixel's median over (at most ``limit`` of) the frames (..., C, H, W).

    Right where every pixel is uncovered in more than half of the frames: give many clips together.
    """
    flat = frames.reshape(-1, *frames.shape[-3:])
    if len(flat) == 0:
        raise WorldloomError("The tracker needs at least one frame to see the background.")
    chosen = np.linspace(0, len(flat) - 1, min(limit, len(flat))).round().astype(int)
    return np.median(flat[chosen], axis=0).astype(np.float32)


def find_blobs(frames: np.ndarray, scene: Scene, config: TrackerConfig) -> Blobs:
    """Connected components of the difference from the background, their masses and moments."""
    from scipy import ndimage

    difference = frames.astype(np.float32) - scene.background
    strength = np.sqrt(np.square(difference).sum(1))
    strength /= np.float32(scene.contrast)
    haze = np.median(strength.reshape(len(frames), -1), axis=1) if len(frames) else np.zeros(0)
    dissolved = haze > config.haze
    threshold = np.maximum(config.threshold, haze * _tail(frames.shape[1])).astype(np.float32)
    above = (strength > threshold[:, None, None]) & ~dissolved[:, None, None]
    plane = np.zeros((3, 3, 3), dtype=bool)
    plane[1] = True  # neighbours within a frame, never across time
    labels, number = ndimage.label(above, plane)
    grown = _spread(labels, np.maximum)  # with the antialiased rim
    core = _spread(above, np.logical_and)

    where = np.nonzero(grown)
    label = grown[where] - 1
    order = np.argsort(label, kind="stable")
    where = (where[0][order], where[1][order], where[2][order])
    index = label[order]
    f, row, column = where
    shade, apart = frames[f, :, row, column].astype(np.float64), difference[f, :, row, column].astype(np.float64)
    behind = shade - apart

    def total(v: np.ndarray) -> np.ndarray:
        return np.bincount(index, v, number)

    inner = core[where]
    hollow = total(inner) == 0  # nothing but rim: its brightest pixels then
    if hollow.any():
        bright = strength[where]
        peak = np.zeros(number, np.float32)
        np.maximum.at(peak, index, bright)
        inner = inner | (hollow[index] & (bright >= 0.8 * peak[index]))
    some = total(inner)[:, None]
    colour = np.stack([total(c * inner) for c in shade.T], 1) / some
    ground = np.stack([total(c * inner) for c in behind.T], 1) / some
    own = colour[index] - behind
    size = np.square(own).sum(1)
    full = np.square(colour - ground).sum(1)
    # Where the background has nearly the object's own colour there is nothing to see.
    plainly = size > 0.1 * full[index]
    weight = np.where(plainly, (apart * own).sum(1) / np.where(plainly, size, 1), 0.0)
    weight = np.clip(weight, -1.0, 2.0)

    summed = np.maximum(total(weight), 1e-6)
    x, y = column + 0.5, row + 0.5
    cx, cy = total(weight * x) / summed, total(weight * y) / summed
    dx, dy = x - cx[index], y - cy[index]
    xx, yy, xy = (total(weight * m) / summed for m in (dx * dx, dy * dy, dx * dy))
    middle, spread = (xx + yy) / 2, np.sqrt(np.square(xx - yy) / 4 + np.square(xy))
    axes = np.sqrt(np.maximum(np.stack([middle + spread, middle - spread], 1) - 1 / 12, 0))  # less a pixel's own
    frame = np.zeros(number, int)
    frame[index] = f
    return Blobs(
        frame,
        np.stack([cx, cy], 1),
        summed * opacity(colour, ground, scene),
        colour,
        ground,
        axes,
        (middle + spread) / np.maximum(middle - spread, 1e-9),
        np.searchsorted(index, np.arange(number + 1)),
        where,
        weight,
        inner,
        dissolved,
    )


def _tail(channels: int) -> float:
    """How many times its median the norm of Gaussian noise exceeds once in 10,000 (Wilson & Hilferty 1931)."""
    a = 2 / (9 * channels)
    return float(((1 - a + 3.72 * a**0.5) / (1 - a)) ** 1.5)


def _spread(x: np.ndarray, join: np.ufunc) -> np.ndarray:
    """Join each pixel (F, H, W) with its eight neighbours; outside the frame there are none."""
    for axis in (1, 2):
        out = x.copy()
        a = [slice(None)] * 3
        b = [slice(None)] * 3
        a[axis], b[axis] = slice(1, None), slice(None, -1)
        join(out[tuple(a)], x[tuple(b)], out=out[tuple(a)])
        join(out[tuple(b)], x[tuple(a)], out=out[tuple(b)])
        x = out
    return x


def opacity(colour: np.ndarray, ground: np.ndarray, scene: Scene) -> np.ndarray:
    """(B,) how opaque blobs are: their contrast against that of the true object of the same hue, or of the scene."""
    own = colour - ground
    strength = np.sqrt(np.square(own).sum(1))
    out = strength / scene.contrast
    if scene.colours is None or not len(own):
        return np.asarray(out)
    known = scene.colours[np.isfinite(scene.colours).all(1)]
    there = known - ground[:, None]  # (B, K, C)
    norm = np.maximum(np.sqrt(np.square(there).sum(-1)), 1e-9)
    alike = (own[:, None] * there).sum(-1) / (norm * np.maximum(strength, 1e-9)[:, None])
    # Of several such objects, grey ones for example, the one whose colour is nearest.
    away = np.where(alike > SAME_HUE, np.square(own[:, None] - there).sum(-1), np.inf)
    if len(known):
        rows, best = np.arange(len(own)), away.argmin(1)
        out = np.where(np.isfinite(away[rows, best]), strength / norm[rows, best], out)
    return np.asarray(out)


__all__ = ["Blobs", "Scene", "TrackerConfig", "background", "find_blobs", "opacity"]
