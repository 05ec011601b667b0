"""Where the objects of a frame are: found by their difference from the background, to a few hundredths of a pixel.

A still background is assumed. An object that is not found is NaN with a reason; nothing is ever filled in from
earlier frames or from the truth. Positions are in pixels, x to the right and y down, and the centre of the first
pixel lies at (0.5, 0.5), so that an image of width W spans 0 to W.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from worldloom.contract import WorldloomError
from worldloom.evaluation import discs
from worldloom.evaluation.blobs import Blobs, Scene, TrackerConfig, background, find_blobs, opacity

FOUND, MISSING = 0, 1
"""Reason codes of :func:`match`: the object was found; no detection was left for it."""
SMUDGES = 8
"""Smudges that are listed of a frame."""
SHOWING = 0.15
"""Of a blob in several colours, a colour counts that fills this share of the mass of an object that has it."""


class UnseenError(WorldloomError):
    """True frames show the tracker no object to learn from."""


@dataclass(frozen=True)
class Objects:
    """What was found in F frames; lists of different length are padded with NaN to the longest, M."""

    position: np.ndarray
    """(F, M, 2) x and y, px."""
    mass: np.ndarray
    """(F, M) px of full contrast: of its own contrast where its colour is a true object's."""
    count: np.ndarray
    """(F,) number of objects."""
    smudges: np.ndarray
    """(F,) number of blobs too faint, too small or too large to be objects."""
    colour: np.ndarray
    """(F, M, C) mean colour of the inner pixels, 0 to 255; NaN where none is its own."""
    axes: np.ndarray
    """(F, M, 2) px, standard deviations of the mass along the longer and the shorter axis."""
    parts: np.ndarray
    """(F, M) 1 for a blob of its own; n for one of n discs that a blob was parted into (its axes are those of a disc);
    0 for a blob that looks like several objects and could not be parted; -1 is padding."""
    smudge: np.ndarray
    """(F, S, 3) x, y and mass of the frame's heaviest smudges, at most 8."""


def calibrate(
    frames: np.ndarray,
    count: int,
    ground: np.ndarray,
    config: TrackerConfig | None = None,
    position: np.ndarray | None = None,
) -> Scene:
    """Learn contrast and masses of ``count`` objects from true frames (F, C, H, W), a clip's prompt for example; from
    their true positions (F, K, 2), where given, also which has which mass and colour, unless they touch in all frames.
    """
    config = config or TrackerConfig()
    difference = np.sqrt(np.square(frames.astype(np.float32) - ground).sum(1))
    contrast = float(np.median(difference[difference >= difference.max() / 2]))
    if contrast < 8:
        raise UnseenError(
            f"The tracker sees no objects: the true frames differ from their background by {contrast:.1f} of 255 at "
            "most. Objects that never move can't be tracked; give clips in which they do."
        )
    plain = Scene(ground, contrast, np.zeros(0))
    known = None if position is None else _know(find_blobs(frames, plain, config), plain, position)
    if known is not None:
        return known
    every = replace(config, min_share=0.05)  # of the largest: true frames hold small objects, but no smudges
    first = detect(frames, plain, every)
    whole = first.count == count
    if whole.any():
        masses = np.median(np.sort(first.mass[whole][:, :count], axis=1), axis=0)
    else:  # objects touch in every frame: share what is there
        total = np.median(np.nansum(first.mass, axis=1))
        masses = np.full(count, total / count)
    return Scene(ground, contrast, masses)


def calibrate_each(
    clips: Sequence[np.ndarray], grounds: Sequence[np.ndarray], position: Sequence[np.ndarray]
) -> list[Scene]:
    """:func:`calibrate` of n starts, each by its own true frames (F, C, H, W), background and positions (F, K, 2).

    Objects that a start never shows, as they are behind an occluder in all of its frames, are taken to look like those
    of the other starts. Raises :class:`UnseenError` where no start shows any.
    """
    found: list[Scene | None] = []
    why: UnseenError | None = None
    for clip, ground, where in zip(clips, grounds, position, strict=True):
        try:
            found.append(calibrate(clip, where.shape[1], ground, position=where))
        except UnseenError as error:
            found, why = [*found, None], error
    known = [scene for scene in found if scene is not None]
    if why is not None and not known:
        raise why
    masses = np.median(np.stack([scene.masses for scene in known]), axis=0)
    contrast = float(np.median([scene.contrast for scene in known]))
    return [
        Scene(ground, contrast, masses) if scene is None else scene
        for scene, ground in zip(found, grounds, strict=True)
    ]


def _know(blobs: Blobs, plain: Scene, position: np.ndarray) -> Scene | None:
    """The scene with each object's mass and colour: those of the blobs whose centre is its own to half a pixel, as the
    centre of two that touch, or of one partly hidden, is not. None where there is no such blob of any."""
    count = position.shape[1]
    sizes, colours = np.full(count, np.nan), np.full((count, len(plain.background)), np.nan)
    strength = np.sqrt(np.square(blobs.colour - blobs.ground).sum(1))
    for k in range(count):
        away = np.abs(blobs.position - position[blobs.frame, k]).max(1)
        mine = (away < 0.5) & (blobs.mass > 1)
        if mine.any():
            colours[k] = np.median(blobs.colour[mine], axis=0)
            sizes[k] = np.median(blobs.mass[mine] * plain.contrast / strength[mine])
    known = np.isfinite(sizes)
    if not known.any():
        return None
    sizes[~known] = np.median(sizes[known])
    return Scene(plain.background, plain.contrast, np.sort(sizes), colours, sizes)


def detect(frames: np.ndarray, scene: Scene, config: TrackerConfig | None = None) -> Objects:
    """Find the objects of each frame (F, C, H, W) uint8.

    Connected components of the difference from the background, and their centroids weighted by each pixel's share of
    the object's colour, which on antialiased discs is ten times finer than a hard threshold. Long blobs of multiple
    mass, and blobs in several of the objects' colours, are parted by :mod:`~worldloom.evaluation.discs`.
    """
    config = config or TrackerConfig()
    blobs = find_blobs(frames, scene, config)
    if len(scene.masses):
        smallest = np.full(len(frames), scene.masses[0])
        largest, together = scene.masses[-1], scene.masses.sum()
    else:  # while calibrating: compare with the largest blob of the same frame
        smallest = np.zeros(len(frames))
        np.maximum.at(smallest, blobs.frame, blobs.mass)
        largest = together = np.inf
    least = config.min_share * smallest[blobs.frame]
    solid = (blobs.mass >= least) & (blobs.mass <= config.max_share * together)
    crowded = np.bincount(blobs.frame[solid], minlength=len(frames)) > config.crowd
    solid &= ~crowded[blobs.frame]
    f, row, column = blobs.pixel
    shade = frames[f, :, row, column].astype(np.float64)
    several: dict[int, list[discs.Guess]] = {}
    if len(scene.masses):
        several = _several(blobs, shade, scene, config, np.flatnonzero(solid), smallest)
    rows: list[np.ndarray] = []
    smudges = [np.array([blobs.frame[b], *blobs.position[b], blobs.mass[b]]) for b in np.flatnonzero(~solid).tolist()]
    for b in np.flatnonzero(solid).tolist():
        parts = [_row(blobs.position[b], blobs.mass[b], blobs.axes[b], 1, blobs.colour[b])]
        if b in several:
            parts = _parted(blobs, shade, scene, b, several[b], float(least[b])) or [parts[0]]
            parts[0][5] = len(parts) if len(parts) > 1 else 0
        for one in parts:
            if one[2] <= config.max_share * largest:
                rows.append(np.concatenate([[blobs.frame[b]], one]))
            else:
                smudges.append(np.concatenate([[blobs.frame[b]], one[:3]]))
    return _pack(rows, smudges, blobs.dissolved, frames.shape[1])


def _row(position: np.ndarray, mass: float, axes: np.ndarray, parts: int, colour: np.ndarray) -> np.ndarray:
    return np.concatenate([position, [mass], axes, [parts], colour])


def _several(
    blobs: Blobs, shade: np.ndarray, scene: Scene, config: TrackerConfig, tried: np.ndarray, smallest: np.ndarray
) -> dict[int, list[discs.Guess]]:
    """Which of the blobs ``tried`` look like several discs, and which these may be. shade: (P, C) of the pixels."""
    out: dict[int, list[discs.Guess]] = {}
    kinds = _kinds(scene, config.colour_step)
    if len(kinds) > 1:
        colours = np.stack([c for c, _ in kinds])
        away = np.sqrt(np.square(shade[:, None] - colours).sum(-1))
        kind = np.where(away.min(1) < config.colour_step, away.argmin(1), -1)
        index = np.repeat(np.arange(len(blobs.frame)), np.diff(blobs.begin))
        sure = blobs.inner & (kind >= 0)
        count = np.bincount(index[sure] * len(kinds) + kind[sure], minlength=len(blobs.frame) * len(kinds))
        least = np.array([max(3.0, SHOWING * float(masses.min())) for _, masses in kinds])
        present = count.reshape(-1, len(kinds)) >= least
        for b in tried[present[tried].sum(1) > 1].tolist():
            span = slice(blobs.begin[b], blobs.begin[b + 1])
            there = [(kind[span] == k, kinds[k][1]) for k in np.flatnonzero(present[b])]
            out[b] = discs.by_colour(blobs.at(b), shade[span], there)
    heavy = blobs.mass[tried] >= config.split_mass * smallest[blobs.frame[tried]]
    for b in tried[heavy & (blobs.ratio[tried] >= config.split_ratio)].tolist():
        if b not in out:
            weight = np.clip(blobs.weight[blobs.begin[b] : blobs.begin[b + 1]], 0, None)
            out[b] = discs.by_shape(blobs.at(b), weight, scene.masses, blobs.colour[b])
    # A frame with more of them than there are objects has come apart into patches, which no discs explain.
    often = np.bincount(blobs.frame[list(out)], minlength=1) > max(2, len(scene.masses))
    return {b: [] if often[blobs.frame[b]] else guesses for b, guesses in out.items()}


def _kinds(scene: Scene, step: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Colours that tell the true objects apart, each with the masses of the objects that have it."""
    out: list[tuple[np.ndarray, list[float]]] = []
    if scene.colours is None or scene.sizes is None:
        return []
    for colour, size in zip(scene.colours, scene.sizes, strict=True):
        if not np.isfinite(colour).all():
            continue
        for known, sizes in out:
            if float(np.sqrt(np.square(known - colour).sum())) < step:
                sizes.append(float(size))
                break
        else:
            out.append((colour, [float(size)]))
    return [(c, np.array(m)) for c, m in out]


def _parted(
    blobs: Blobs, shade: np.ndarray, scene: Scene, b: int, guesses: list[discs.Guess], least: float
) -> list[np.ndarray]:
    """Rows of the discs that a blob is parted into; none where it can't be."""
    span = slice(blobs.begin[b], blobs.begin[b + 1])
    _, row, column = (x[span] for x in blobs.pixel)
    ground = scene.background[:, row, column].T.astype(np.float64)
    found = discs.part(blobs.at(b), shade[span], ground, guesses, least)
    if found is None:
        return []
    behind = np.tile(ground.mean(0), (len(found.disc), 1))
    masses = np.pi * np.square(found.disc[:, 2]) * opacity(found.guess.colour, behind, scene)
    rows = []
    for k, (x, y, r) in enumerate(found.disc):
        own = found.shown[k] > 0.9
        colour = shade[span][own].mean(0) if own.any() else np.full(shade.shape[1], np.nan)
        rows.append(_row(np.array([x, y]), float(masses[k]), np.full(2, r / 2), len(found.disc), colour))
    return rows


def _pack(rows: list[np.ndarray], smudges: list[np.ndarray], dissolved: np.ndarray, channels: int) -> Objects:
    """rows: frame, then :func:`_row`; smudges: frame, x, y, mass."""
    frames = len(dissolved)
    table = np.array(rows).reshape(len(rows), 7 + channels)
    which = table[:, 0].astype(int)
    count = np.bincount(which, minlength=frames)
    out = np.full((frames, max(1, int(count.max(initial=0))), 6 + channels), np.nan)
    out[:, :, 5] = -1
    order = np.argsort(which, kind="stable")
    slot = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
    out[which[order], slot] = table[order, 1:]
    faint = np.full((frames, SMUDGES, 3), np.nan)
    spots = np.array(smudges, np.float64).reshape(-1, 4)
    number = np.bincount(spots[:, 0].astype(int), minlength=frames)
    spots = spots[np.lexsort((-spots[:, 3], spots[:, 0]))]  # by frame, the heaviest first
    place = np.arange(len(spots)) - np.repeat(np.cumsum(number) - number, number)
    kept = place < SMUDGES
    faint[spots[kept, 0].astype(int), place[kept]] = spots[kept, 1:]
    return Objects(
        out[..., :2],
        out[..., 2],
        count,
        number + dissolved,
        out[..., 6:],
        out[..., 3:5],
        out[..., 5].astype(int),
        faint,
    )


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


__all__ = [
    "FOUND",
    "MISSING",
    "Objects",
    "Scene",
    "TrackerConfig",
    "UnseenError",
    "background",
    "calibrate",
    "calibrate_each",
    "detect",
    "match",
    "match_clip",
]
