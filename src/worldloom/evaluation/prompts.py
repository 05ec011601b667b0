"""Is what a prompt says what its video shows? Number, size, colour, gravity and speed of balls, found again blind.

Of a clip nothing is known but the colour of its box and what the words mean: no true positions, no number, no prompt.
Its objects are found by the tracker, their gravity from their free flights, and the speed they started with from their
energy, which bounces and collisions do not change. The same code measures true videos of the same prompts: what it
makes of those is the floor, beyond which no model can be seen to obey its prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from worldloom.contract import WorldloomError
from worldloom.evaluation.blobs import TrackerConfig, find_blobs
from worldloom.evaluation.figures import by_horizon
from worldloom.evaluation.flights import Law, Paths
from worldloom.evaluation.probes.permanence import PATIENCE, fates
from worldloom.evaluation.schema import Figure
from worldloom.evaluation.statistics import share_interval
from worldloom.evaluation.tracker import Objects, Scene, detect
from worldloom.evaluation.tracking import Tracks, track_clip
from worldloom.worlds.balls.captioned import Captions, CaptionsConfig
from worldloom.worlds.balls.captions import ATTRIBUTES, COLOURS, Meaning, read

LEAST_FRAMES = 8
"""Frames of the shortest clip whose gravity can be told."""
FAINT = 40.0
"""Difference from the box, of 441, below which a clip shows nothing."""
NAMED = 80.0
"""Distance in colour, of 441, from a named one beyond which a colour has no name."""
AGREED = 0.8
"""Share of a clip's balls and frames that must show one value for the clip to show it."""
EARLY = 12
"""Steps from which the speed at the start is told ..."""
UNBENT = 0.8
"""... and the quantile of their energies that is taken for one of a step without impacts."""
ROUND = 1.3
"""Ratio of the variances along the two axes up to which a blob is taken for a single disc."""

NOTHING = -1
"""Where a clip shows no value of an attribute."""


@dataclass(frozen=True)
class Shown:
    """What n clips show."""

    value: dict[str, np.ndarray]
    """Attribute to (n,) int: the place of the found value in :data:`~worldloom.worlds.balls.captions.ATTRIBUTES`, or
    :data:`NOTHING`."""
    measured: dict[str, np.ndarray]
    """The same before it was named, (n,): ``count``, ``size`` (radius, px), ``gravity`` (px/frame²), ``speed`` (at the
    start, px/frame); NaN where it could not be measured."""
    steady: np.ndarray
    """(n, T) bool: the frame holds as many balls as most frames of its clip."""
    stays: np.ndarray
    """(n,) bool: no ball vanishes, appears or merges with another, for three frames or more."""

    def hits(self, meanings: Sequence[Meaning], name: str) -> np.ndarray:
        """(n,) float, for an attribute: 1 where the clip shows what is said, 0 where not, NaN where nothing is said."""
        said = np.array([m.index(name) for m in meanings])
        return np.where(said < 0, np.nan, self.value[name] == said)


def look(frames: np.ndarray, world: CaptionsConfig | None = None) -> Shown:
    """What clips (n, T, 3, H, W) uint8 of captioned balls show, each found from its own frames alone.

    world: what sizes, gravities and speeds its words stand for; the box is the frame, whatever the world's. Raises
    :class:`WorldloomError` for clips of fewer than :data:`LEAST_FRAMES` frames.
    """
    if frames.ndim != 5 or frames.shape[2] != 3 or frames.dtype != np.uint8:
        raise WorldloomError(f"Clips are (n, T, 3, H, W) uint8, found {frames.dtype} {frames.shape}.")
    if frames.shape[1] < LEAST_FRAMES:
        raise WorldloomError(
            f"Gravity shows in {LEAST_FRAMES} frames at least; these clips have {frames.shape[1]}: dream longer ones."
        )
    world = _fitted(world, frames)
    found = [_Clip(clip, world) for clip in frames]
    measured = {name: np.array([getattr(one, name) for one in found]) for name in ("count", "size", "gravity", "speed")}
    value = {
        "count": np.array([one.named_count for one in found]),
        "size": _nearest(np.log(measured["size"]), np.log(world.radii)),
        "colour": np.array([one.colour for one in found]),
        "gravity": _between(measured["gravity"], world.gravities),
        "speed": _nearest(np.log(measured["speed"]), np.log(world.speeds)),
    }
    steady = np.stack([one.steady for one in found]) if found else np.zeros(frames.shape[:2], bool)
    return Shown(value, measured, steady, np.array([one.stays for one in found], bool))


def _fitted(world: CaptionsConfig | None, frames: np.ndarray) -> CaptionsConfig:
    height, width = frames.shape[-2:]
    return replace(world or CaptionsConfig(), height=int(height), width=int(width))


class _Clip:
    """One clip (T, 3, H, W), looked at."""

    def __init__(self, clip: np.ndarray, world: CaptionsConfig) -> None:
        self.clip, self.world = clip, world
        self.count, self.named_count, self.colour = 0.0, NOTHING, NOTHING
        self.size = self.gravity = self.speed = np.nan
        self.steady, self.stays = np.zeros(len(clip), bool), False
        scene = _calibrate(clip, world)
        if scene is None:
            return
        objects = detect(clip, scene)
        count = int(np.bincount(objects.count).argmax())
        self.count, self.steady = float(count), (objects.count == count) & (count > 0)
        if self.steady.mean() < 0.5:
            return
        if count <= len(ATTRIBUTES["count"]):
            self.named_count = count - 1
        self.size, self.colour = _size(objects), _colour(objects)
        begin = int(np.argmax(objects.count == count))
        tracks = track_clip(clip[begin:], scene, objects.position[begin, :count])
        paths = _paths(tracks, count, self.size, world)
        self.gravity = _gravity(paths)
        self.speed = _speed(tracks.position[:, :count], self.gravity)
        happened = fates([tracks], np.full((1, count, 3), np.nan)).happened
        self.stays = begin < PATIENCE and not any(happened[name].any() for name in ("vanish", "appear", "merge"))


def _calibrate(clip: np.ndarray, world: CaptionsConfig) -> Scene | None:
    """What the clip's balls look like: as many as may be, all of the mass that its single discs have. None where it
    shows nothing."""
    ground = np.broadcast_to(np.array(world.background, np.float32)[:, None, None], clip.shape[1:]).copy()
    difference = np.sqrt(np.square(clip.astype(np.float32) - ground).sum(1))
    contrast = float(np.median(difference[difference >= difference.max() / 2]))
    if contrast < FAINT:
        return None
    palette = np.array(list(COLOURS.values()), np.float64)  # so that a faded ball is light, whatever its colour
    blobs = find_blobs(clip, Scene(ground, contrast, np.zeros(0), palette), TrackerConfig())
    alone = blobs.ratio <= ROUND
    mass = blobs.mass[alone] if alone.any() else blobs.mass
    if not len(mass):
        return None
    # By mass, so that smudges, however many, do not pass for balls.
    most, one = len(ATTRIBUTES["count"]), _median(mass, mass)
    # Balls of any colours may touch, as many of each: they are then parted by colour.
    return Scene(ground, contrast, np.full(most, one), np.repeat(palette, most, 0), np.full(most * len(palette), one))


def _median(values: np.ndarray, weights: np.ndarray) -> float:
    """Weighted median."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order[int(np.searchsorted(total, total[-1] / 2))]])


def _size(objects: Objects) -> float:
    """Radius in px that the balls have, by their masses where they are apart; NaN where they are not alike."""
    radius = np.sqrt(objects.mass[objects.parts == 1] / np.pi)
    if not len(radius):
        return np.nan
    middle = float(np.median(radius))
    return middle if (np.abs(np.log(radius / middle)) < 0.15).mean() >= AGREED else np.nan


def _colour(objects: Objects) -> int:
    """The named colour that the balls have; :data:`NOTHING` where they have several, or none with a name."""
    seen = objects.colour[np.isfinite(objects.colour).all(-1)]
    if not len(seen):
        return NOTHING
    away = np.linalg.norm(seen[:, None] - np.array(list(COLOURS.values())), axis=-1)
    named = np.where(away.min(1) < NAMED, away.argmin(1), len(COLOURS))
    share = np.bincount(named, minlength=len(COLOURS) + 1)[:-1] / len(named)
    return int(share.argmax()) if share.max() >= AGREED else NOTHING


def _paths(tracks: Tracks, count: int, radius: float, world: CaptionsConfig) -> Paths:
    """The balls' free flights, under no law but the box."""
    frames = len(tracks.count)
    if not np.isfinite(radius):  # not alike: by each one's own mass
        mass = np.nanmedian(np.where(np.isfinite(tracks.mass), tracks.mass, 0.0), 0)[:count]
        radii = np.sqrt(np.maximum(mass, 1.0) / np.pi)
    else:
        radii = np.full(count, radius)
    law = Law(
        np.zeros(2),
        np.zeros((1, frames, count, 2)),
        np.zeros((1, frames), bool),
        (float(world.width), float(world.height)),
        None,
    )
    return Paths(0, tracks, radii, law)


def _gravity(paths: Paths) -> float:
    """Acceleration downwards, px/frame²: the median over free flights, each weighted by how well it shows it."""
    found, weights = [], []
    for k, flights in enumerate(paths.flights):
        for flight in flights:
            found.append(float(paths.curve(k, flight)[0][1]))
            t = np.arange(len(flight)) - (len(flight) - 1) / 2
            bend = t * t / 2 - (t * t / 2).mean()
            weights.append(float(bend @ bend))  # inverse variance of the leading term, in the tracker's own
    return _median(np.array(found), np.array(weights)) if found else np.nan


def _speed(position: np.ndarray, gravity: float) -> float:
    """Root mean square speed in the first frame, px/frame, by the energy of the balls, (T, K, 2) px, early on.

    Balls of one mass share their energy by collisions and keep its sum. From frame to frame the way in free flight is
    the velocity halfway; one that is bent by an impact is shorter, so that the sum falls below the truth and never
    above it: the steps that show the most are those without impacts.
    """
    way = np.diff(position, axis=0)
    height = (position[1:, :, 1] + position[:-1, :, 1]) / 2 - gravity / 8
    energy = (np.square(way).sum(-1) / 2 - gravity * height).mean(1)  # NaN where one is not seen
    energy = energy[np.isfinite(energy)][:EARLY]
    if not len(energy):
        return np.nan
    start = float(position[0, :, 1].mean())
    return float(np.sqrt(max(2 * (float(np.quantile(energy, UNBENT)) + gravity * start), 1e-6)))


def _nearest(found: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(n,) place of the nearest; :data:`NOTHING` for NaN."""
    away = np.abs(found[:, None] - known)
    return np.where(np.isfinite(found), np.nan_to_num(away, nan=np.inf).argmin(1), NOTHING)


def _between(found: np.ndarray, known: tuple[float, ...]) -> np.ndarray:
    """As :func:`_nearest`, parted at the geometric mean of neighbours, where one is 0 at half of the other."""
    parts = [b / 2 if a == 0 else float(np.sqrt(a * b)) for a, b in pairwise(known)]
    return np.where(np.isfinite(found), np.searchsorted(parts, np.nan_to_num(found)), NOTHING)


def true_clips(
    meanings: Sequence[Meaning], frames: int, world: CaptionsConfig | None = None, seed: int = 0
) -> np.ndarray:
    """True videos (n, frames, 3, H, W) uint8 of what prompts say; what they leave open is drawn."""
    played = Captions(world, len(meanings))
    seen = [played.show(meanings, seed).obs["camera"]]
    seen += [played.step().obs["camera"] for _ in range(frames - 1)]
    return np.stack(seen, 1)


def prompt_figures(
    frames: np.ndarray,
    prompts: Sequence[str | Meaning],
    world: CaptionsConfig | None = None,
    *,
    seed: int = 0,
    floor: Shown | None = None,
) -> dict[str, Figure]:
    """How faithful clips (n, T, 3, H, W) uint8 are to the prompts they were dreamed from, by name.

    ``prompt/count`` and so on for each attribute that any prompt tells: the share of the clips that are told it which
    show it. ``prompt/all``: of all clips, those that show everything they are told. ``prompt/stays``: those whose balls
    stay, whatever their number, with the curve of frames that hold as many as the rest of their clip.

    world: what the words stand for. floor: what true videos of the same prompts show, played anew unless given. Clips
    of one meaning are drawn together for the intervals. Baselines: ``chance``, a blind guess among the words; and
    ``other_prompts``, the same clips held against each other's prompts, which is what a model gets that reads none.
    """
    if len(frames) != len(prompts) or not len(prompts):
        raise WorldloomError(f"Give a prompt for each clip, and one at least; found {len(prompts)} for {len(frames)}.")
    world = _fitted(world, frames)
    meanings = [read(one) if isinstance(one, str) else one for one in prompts]
    shown = look(frames, world)
    true = look(true_clips(meanings, frames.shape[1], world, seed), world) if floor is None else floor
    groups = np.unique([" ".join(map(str, m.said.items())) for m in meanings], return_inverse=True)[1].reshape(-1)
    choices = {name: len(words) for name, words in ATTRIBUTES.items()}
    choices |= {"count": len(world.counts), "colour": len(world.colours)}

    def share(hits: np.ndarray, floors: np.ndarray, baselines: dict[str, float], title: str, meaning: str) -> Figure:
        told = np.isfinite(hits)
        ends = share_interval(hits[told], groups[told], seed=seed)
        return Figure(
            value=float(hits[told].mean()), interval=ends if np.isfinite(ends).all() else None, n=int(told.sum()),
            n_of="clips that are told it", seed=seed, title=title, unit="", statistic="share", better="higher",
            meaning=meaning, floor=float(np.nanmean(floors)), baselines=dict(baselines),
            blind_to="Anything but balls, and how well they move beyond what is asked.",
        )  # fmt: skip

    out: dict[str, Figure] = {}
    hits = {name: shown.hits(meanings, name) for name in ATTRIBUTES}
    floors = {name: true.hits(meanings, name) for name in ATTRIBUTES}
    others = _against_others(shown, meanings)
    for name, words in ATTRIBUTES.items():
        if np.isfinite(hits[name]).any():
            baselines = {"chance": 1 / choices[name]}
            if np.isfinite(others[name]).any():
                baselines["other_prompts"] = float(np.nanmean(others[name]))
            out[f"prompt/{name}"] = share(
                hits[name], floors[name], baselines, f"Prompted {name}",
                f"Share of the clips whose prompt tells the {name} ({', '.join(words)}) that show it.",
            )  # fmt: skip
    if out:
        told = [name for name in ATTRIBUTES if np.isfinite(hits[name]).any()]

        def every(values: dict[str, np.ndarray]) -> np.ndarray:
            table = np.stack([values[name] for name in told])
            return np.where(np.isfinite(table).any(0), np.where(np.isfinite(table), table, 1.0).min(0), np.nan)

        guess = np.prod(
            [np.where(np.isfinite(hits[name]), 1 / choices[name], 1.0) for name in told], axis=0, dtype=float
        )
        out["prompt/all"] = share(
            every(hits), every(floors), {"chance": float(guess[np.isfinite(every(hits))].mean())},
            "All that is prompted", "Share of the clips that show everything their prompt tells.",
        )  # fmt: skip
    curve = by_horizon(
        shown.steady.astype(float), groups, seed, "mean",
        true.steady.astype(float) if true.steady.shape == shown.steady.shape else None, shares=True,
        title="Balls stay", unit="", better="higher", n_of="clips",
        meaning="Share of the clips in which no ball vanishes, appears or merges with another for three frames or "
        "more; the curve: frames with as many balls as most of their clip.",
        blind_to="Whether their number is the one that was asked for.",
    )  # fmt: skip
    ends = share_interval(shown.stays.astype(float), groups, seed=seed)
    out["prompt/stays"] = replace(
        curve, value=float(shown.stays.mean()), interval=ends if np.isfinite(ends).all() else None,
        floor=float(true.stays.mean()), statistic="share",
    )  # fmt: skip
    return out


def _against_others(shown: Shown, meanings: Sequence[Meaning]) -> dict[str, np.ndarray]:
    """Attribute to (n,): the share of the other clips that show what this one is told; NaN where it is told nothing."""
    out, n = {}, len(meanings)
    for name in ATTRIBUTES:
        said = np.array([m.index(name) for m in meanings])
        same = shown.value[name][None] == said[:, None]
        same &= ~np.eye(n, dtype=bool)
        out[name] = np.where((said < 0) | (n < 2), np.nan, same.sum(1) / max(n - 1, 1))
    return out


__all__ = ["LEAST_FRAMES", "NOTHING", "Shown", "look", "prompt_figures", "true_clips"]
