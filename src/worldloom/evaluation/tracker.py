"""Where the objects of a frame are: found by their difference from the background, to a few hundredths of a pixel.

A still background is assumed. An object that is not found is NaN with a reason; nothing is ever filled in from
earlier frames or from the truth. Positions are in pixels, x to the right and y down, and the centre of the first
pixel lies at (0.5, 0.5), so that an image of width W spans 0 to W.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations, permutations

import numpy as np

from worldloom.contract import WorldloomError

FOUND, MISSING = 0, 1
"""Reason codes of :func:`match`: the object was found; no detection was left for it."""


@dataclass(frozen=True)
class TrackerConfig:
    """What counts as an object. All shares refer to the true objects measured by :func:`calibrate`."""

    threshold: float = 0.15
    """A pixel belongs to an object where its difference from the background exceeds this share of the contrast."""
    edge: float = 0.03
    """A pixel beside such a one still counts in mass and centroid above this share: the antialiased rim."""
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


@dataclass(frozen=True)
class Scene:
    """What is known of a scene before its objects are looked for."""

    background: np.ndarray
    """(C, H, W) float32, 0 to 255."""
    contrast: float
    """Distance in colour between an object's middle and the background, 0 to 441."""
    masses: np.ndarray
    """(K,) masses of the true objects, ascending, in pixels of full contrast (an opaque disc: π r²)."""


@dataclass(frozen=True)
class Objects:
    """What was found in F frames; lists of different length are padded with NaN to the longest, M."""

    position: np.ndarray
    """(F, M, 2) x and y, px."""
    mass: np.ndarray
    """(F, M) px of full contrast."""
    count: np.ndarray
    """(F,) number of objects."""
    smudges: np.ndarray
    """(F,) number of blobs too faint, too small or too large to be objects."""
    colour: np.ndarray
    """(F, M, C) mean colour of the inner pixels, 0 to 255."""
    axes: np.ndarray
    """(F, M, 2) px, standard deviations of the mass along the longer and the shorter axis."""


def background(frames: np.ndarray, limit: int = 512) -> np.ndarray:
    """(C, H, W) float32: each pixel's median over (at most ``limit`` of) the frames (..., C, H, W).

    Right where every pixel is uncovered in more than half of the frames: give many clips together.
    """
    flat = frames.reshape(-1, *frames.shape[-3:])
    if len(flat) == 0:
        raise WorldloomError("The tracker needs at least one frame to see the background.")
    chosen = np.linspace(0, len(flat) - 1, min(limit, len(flat))).round().astype(int)
    return np.median(flat[chosen], axis=0).astype(np.float32)


def _difference(frames: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """(F, H, W) float32 distance in colour from the background."""
    return np.sqrt(np.square(frames.astype(np.float32) - ground).sum(1))


def calibrate(frames: np.ndarray, count: int, ground: np.ndarray, config: TrackerConfig | None = None) -> Scene:
    """Learn contrast and masses of ``count`` objects from true frames (F, C, H, W), a clip's prompt for example."""
    config = config or TrackerConfig()
    difference = _difference(frames, ground)
    contrast = float(np.median(difference[difference >= difference.max() / 2]))
    if contrast < 8:
        raise WorldloomError(
            f"The tracker sees no objects: the true frames differ from their background by {contrast:.1f} of 255 at "
            "most. Objects that never move can't be tracked; give clips in which they do."
        )
    every = replace(config, min_share=0.05)  # of the largest: true frames hold small objects, but no smudges
    first = detect(frames, Scene(ground, contrast, np.zeros(0)), every)
    whole = first.count == count
    if whole.any():
        masses = np.median(np.sort(first.mass[whole][:, :count], axis=1), axis=0)
    else:  # objects touch in every frame: share what is there
        total = np.median(np.nansum(first.mass, axis=1))
        masses = np.full(count, total / count)
    return Scene(ground, contrast, masses)


def detect(frames: np.ndarray, scene: Scene, config: TrackerConfig | None = None) -> Objects:
    """Find the objects of each frame (F, C, H, W) uint8.

    Connected components of the difference from the background, their masses (sums of difference / contrast) and
    centroids weighted by it, which on antialiased discs is ten times finer than a hard threshold. Long blobs of
    multiple mass are split by a least-squares fit of discs: exact for discs that touch, a best effort for discs that
    overlap.
    """
    from scipy import ndimage

    config = config or TrackerConfig()
    weight = _difference(frames, scene.background) / np.float32(scene.contrast)
    plane = np.zeros((3, 3, 3), dtype=bool)
    plane[1] = True  # neighbours within a frame, never across time
    labels, number = ndimage.label(weight > config.threshold, plane)
    rim = ndimage.maximum_filter(labels, (1, 3, 3))
    labels = np.where((labels == 0) & (weight > config.edge), rim, labels)

    where = np.nonzero(labels)
    index, w = labels[where] - 1, weight[where].astype(np.float64)
    y, x = where[1] + 0.5, where[2] + 0.5

    def total(v: np.ndarray) -> np.ndarray:
        return np.bincount(index, v, number)

    mass = total(w)
    frame = np.zeros(number, dtype=int)
    frame[index] = where[0]
    cx, cy = total(w * x) / mass, total(w * y) / mass
    dx, dy = x - cx[index], y - cy[index]
    xx, yy, xy = total(w * dx * dx) / mass, total(w * dy * dy) / mass, total(w * dx * dy) / mass
    spread = np.sqrt(np.square(xx - yy) / 4 + np.square(xy))
    ratio = ((xx + yy) / 2 + spread) / np.maximum((xx + yy) / 2 - spread, 1e-9)

    if len(scene.masses):
        smallest = np.full(len(frames), scene.masses[0])
        largest, total_mass = scene.masses[-1], scene.masses.sum()
    else:  # while calibrating: compare with the largest blob of the same frame
        smallest = np.zeros(len(frames))
        np.maximum.at(smallest, frame, mass)
        largest = total_mass = np.inf
    solid = (mass >= config.min_share * smallest[frame]) & (mass <= config.max_share * total_mass)
    long = solid & (mass >= config.split_mass * smallest[frame]) & (ratio >= config.split_ratio)

    smudges = np.bincount(frame[~solid], minlength=len(frames))
    middle = (xx + yy) / 2
    axes = np.sqrt(np.maximum(np.stack([middle + spread, middle - spread], 1) - 1 / 12, 0))  # less a pixel's own
    inner = w > 0.8 * np.array(ndimage.maximum(weight, labels, np.arange(1, number + 1))).reshape(-1)[index]
    shown = frames[where[0], :, where[1], where[2]].T * inner
    colour = np.stack([total(c) for c in shown.astype(np.float64)], 1) / np.maximum(total(inner), 1)[:, None]
    rows: list[tuple[int, float, float, float]] = []
    looks: list[np.ndarray] = []
    for i in np.nonzero(solid)[0]:
        parts = [(cx[i], cy[i], mass[i])]
        if long[i] and len(scene.masses):
            inside = index == i
            parts = _split(x[inside], y[inside], w[inside], scene, config.min_share * float(smallest[frame[i]]))
        for px, py, m in parts:
            if m <= config.max_share * largest:
                rows.append((int(frame[i]), px, py, m))
                wide = axes[i] if len(parts) == 1 else np.full(2, np.sqrt(m / np.pi) / 2)
                looks.append(np.concatenate([wide, colour[i]]))
            else:
                smudges[frame[i]] += 1
    return _pack(rows, looks, smudges, frames.shape[1])


def _radii(mass: float, masses: np.ndarray) -> list[tuple[float, ...]]:
    """Guesses at the discs behind one blob: the true objects whose masses add up to its own, in each order along it."""
    known = [masses[list(c)] for k in range(2, min(len(masses), 6) + 1) for c in combinations(range(len(masses)), k)]
    best = min(known, key=lambda c: abs(float(c.sum()) - mass), default=None)
    if best is None or abs(float(best.sum()) - mass) > 0.3 * float(
        best[0]
    ):  # more or other objects than there should be
        count = min(max(2, round(mass / float(np.median(masses)))), 8)
        best = np.full(count, mass / count)
    radii = np.sqrt(best / np.pi)
    if np.ptp(radii) < 0.1 * radii.mean():
        return [tuple(radii)]
    orders = {tuple(o) for o in permutations(radii.tolist())} if len(radii) < 4 else {tuple(radii)}
    return sorted(orders)


def _split(x: np.ndarray, y: np.ndarray, w: np.ndarray, scene: Scene, least: float) -> list[tuple[float, float, float]]:
    """Fit antialiased discs to one blob of pixels; the blob as a whole if one of them comes out too small."""
    from scipy.optimize import least_squares

    at, mass, cover = np.stack([x, y], 1), float(w.sum()), np.clip(w, 0, 1)
    mean = np.average(at, axis=0, weights=w)
    axis = np.linalg.eigh(np.cov((at - mean).T, aweights=w))[1][:, 1]

    def residual(p: np.ndarray) -> np.ndarray:
        disc = p.reshape(-1, 3)
        distance = np.sqrt(np.square(at[:, None] - disc[:, :2]).sum(-1))
        return np.clip(np.clip(disc[:, 2] - distance + 0.5, 0, 1).sum(1), 0, 1) - cover

    fits = []
    for guess in _radii(mass, scene.masses):
        radii = np.array(guess)
        along = np.cumsum(radii) * 2 - radii  # in a row, each touching the next
        along -= np.average(along, weights=radii**2)
        centres = mean + along[:, None] * axis
        for _ in range(10 if len(radii) > 2 else 0):  # groups that are not in a row: k-means
            near = np.square(at[:, None] - centres).sum(-1).argmin(1)
            for k in np.unique(near):
                centres[k] = np.average(at[near == k], axis=0, weights=w[near == k])
        start = np.concatenate([centres, radii[:, None]], 1).ravel()
        fits.append(least_squares(residual, start, max_nfev=40, diff_step=[1e-3] * len(start)))
    disc = min(fits, key=lambda f: f.cost).x.reshape(-1, 3)
    masses = np.pi * np.square(disc[:, 2])
    if masses.min() < least:
        return [(float(mean[0]), float(mean[1]), mass)]
    return [(float(p[0]), float(p[1]), float(m)) for p, m in zip(disc, masses, strict=True)]


def _pack(
    rows: list[tuple[int, float, float, float]], looks: list[np.ndarray], smudges: np.ndarray, channels: int
) -> Objects:
    frames = len(smudges)
    count = np.bincount([r[0] for r in rows], minlength=frames) if rows else np.zeros(frames, dtype=int)
    width = max(1, int(count.max(initial=0)))
    position, mass = np.full((frames, width, 2), np.nan), np.full((frames, width), np.nan)
    look = np.full((frames, width, 2 + channels), np.nan)
    filled = np.zeros(frames, dtype=int)
    for (frame, x, y, m), seen in zip(rows, looks, strict=True):
        look[frame, filled[frame]] = seen
        position[frame, filled[frame]], mass[frame, filled[frame]] = (x, y), m
        filled[frame] += 1
    return Objects(position, mass, count, smudges, look[..., 2:], look[..., :2])


def match(found: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Assign detections to known positions (the truth, or the frame before) so that the sum of distances is least.

    found: (M, 2), rows of NaN are padding. known: (K, 2). Returns the found position of each known object, (K, 2), NaN
    where there is none, and a reason code for each, (K,): :data:`FOUND` or :data:`MISSING`. (Kuhn's Hungarian method.)
    """
    from scipy.optimize import linear_sum_assignment

    out, reason = np.full(known.shape, np.nan), np.full(len(known), MISSING)
    found = found[np.isfinite(found).all(-1)]
    usable = np.nonzero(np.isfinite(known).all(-1))[0]
    if len(found) and len(usable):
        cost = np.sqrt(np.square(known[usable, None] - found[None]).sum(-1))
        rows, columns = linear_sum_assignment(cost)
        out[usable[rows]], reason[usable[rows]] = found[columns], FOUND
    return out, reason


def match_clip(objects: Objects, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """:func:`match` frame by frame: known (F, K, 2); returns (F, K, 2) positions and (F, K) reasons."""
    pairs = [match(found, now) for found, now in zip(objects.position, known, strict=True)]
    return np.stack([p for p, _ in pairs]), np.stack([r for _, r in pairs])


def follow(objects: Objects, first: np.ndarray) -> np.ndarray:
    """Link detections through time from ``first`` (K, 2), each frame to where constant velocity leads: (F, K, 2).

    A lost object stays NaN until a detection is nearest to its last known position.
    """
    out = np.full((len(objects.count), *first.shape), np.nan)
    last, velocity = first.copy(), np.zeros_like(first)
    for t, found in enumerate(objects.position):
        now, reason = match(found, last + velocity)
        seen = reason == FOUND
        out[t] = now
        velocity = np.where(seen[:, None], now - last, 0.0)
        last = np.where(seen[:, None], now, last)
    return out
