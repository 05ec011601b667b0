"""`python -m benchmarks tracker`: the tracker's own error, beside a centroid of thresholded pixels.

Writes docs/results/tracker.json and .md, and docs/media/tracker.png.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from benchmarks.__main__ import RESULTS
from worldloom.evaluation.exact import ExactWorld
from worldloom.evaluation.statistics import bootstrap, share_interval
from worldloom.evaluation.tracking import Scene, Tracks, background, calibrate, track_clip
from worldloom.files import write_atomic, write_json
from worldloom.worlds.balls import BallsConfig
from worldloom.worlds.balls.render import Renderer

SEED = 0
CLIPS, FRAMES, PROMPT = 8, 40, 4
PAIRS = 32
ONE_COLOUR = ((255, 178, 84),)
NOISES = (0.0, 0.03, 0.1)
ABOUT = """\
Written by `python -m benchmarks tracker`. Frames of the world [`balls`](../worlds.md), true to the last digit, with
Gaussian noise of the standard deviation given (1 is the full range of 0 to 255), seed {seed}; what is measured is in
[probes/tracker.md](../probes/tracker.md). RMSE is per axis; *threshold* is the centroid of the pixels that differ from
the background by more than half the contrast, the way PhyWorld measures, matched with the truth frame by frame (so that
it cannot swap). In parentheses 95 % intervals, by drawing whole clips anew.
"""


class Clips:
    """What was found in one setting's clips, with sums a clip."""

    def __init__(self, rows: dict[str, list[np.ndarray]] | None = None) -> None:
        self.rows = rows or {}

    def add(self, name: str, values: Any) -> None:
        self.rows.setdefault(name, []).append(np.asarray(values, np.float64).reshape(-1))

    def mean(self, name: str, root: bool = False, share: bool = False) -> dict[str, Any]:
        """The mean over all values, with its interval; with ``root``, of the squares; ``share``: values of 0 or 1."""
        parts = self.rows[name]
        values = np.concatenate(parts)
        groups = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
        good = np.isfinite(values)
        values, groups = values[good] ** (2 if root else 1), groups[good]
        if not len(values):
            return {"value": None, "interval": None, "n": 0}
        if share:
            low, high = share_interval(values, groups, seed=SEED)
        else:
            low, high = (float(x) for x in bootstrap(values, groups, "mean", seed=SEED))
        out = np.array([values.mean(), low, high])
        out = np.sqrt(np.maximum(out, 0)) if root else out
        return {"value": float(out[0]), "interval": [float(out[1]), float(out[2])], "n": len(values)}


def noisy(frames: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Frames with Gaussian noise; noise: its standard deviation, 1 the full range."""
    if not noise:
        return frames
    return np.clip(frames + rng.normal(0, noise * 255, frames.shape), 0, 255).round().astype(np.uint8)


def threshold(frames: np.ndarray, scene: Scene, known: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres (F, K, 2) and radii (F, K) of the K largest components above half the contrast, matched with the truth
    ``known`` (F, K, 2), and how many there are (F,), single pixels left out."""
    away = np.sqrt(np.square(frames.astype(np.float32) - scene.background).sum(1)) > scene.contrast / 2
    centres = np.full((len(frames), known.shape[1], 2), np.nan)
    radii, counts = np.full(known.shape[:2], np.nan), np.zeros(len(frames))
    for t, mask in enumerate(away):
        labels, number = ndimage.label(mask, np.ones((3, 3)))
        size = np.bincount(labels.ravel(), minlength=number + 1)[1:]
        counts[t] = (size > 1).sum()
        largest = np.argsort(-size, kind="stable")[: known.shape[1]]
        at = np.array(ndimage.center_of_mass(mask, labels, largest + 1)).reshape(-1, 2)[:, ::-1] + 0.5
        centres[t, : len(at)], radii[t, : len(at)] = at, np.sqrt(size[largest] / np.pi)
    joined = np.concatenate([centres, radii[..., None]], 2)
    for t, (found, true) in enumerate(zip(joined, known, strict=True)):
        order = nearest(found[:, :2], true)
        joined[t] = np.where(order[:, None] >= 0, found[order], np.nan)
    return joined[..., :2], joined[..., 2], counts


def nearest(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Which of ``found`` each of ``true`` is, -1 for none."""
    distance = np.sqrt(np.square(true[:, None] - found[None]).sum(-1))
    rows, columns = linear_sum_assignment(np.nan_to_num(distance, nan=1e6))
    out = np.full(len(true), -1)
    out[rows] = np.where(np.isfinite(distance[rows, columns]), columns, -1)
    return out


def swaps(tracks: Tracks, true: np.ndarray, radius: float) -> int:
    """How often a track goes on as another ball: the nearest to it, within its radius, is another than before."""
    count = 0
    for k in range(true.shape[1]):
        away = np.sqrt(np.square(true - tracks.position[:, k, None]).sum(-1))
        near = np.where(np.nan_to_num(away.min(1), nan=np.inf) < radius, away.argmin(1), -1)
        seen = near[near >= 0]
        count += int((np.diff(seen) != 0).sum())
    return count


def moving(size: int, radius: float, noise: float, balls: int, same: bool) -> dict[str, Any]:
    """Balls that fly and collide: one row."""
    config = BallsConfig(height=size, width=size, radius=radius, balls=balls, speed=3.0)
    world = ExactWorld(config).changed(colours=ONE_COLOUR if same else config.colours)
    held = world.fresh(CLIPS, PROMPT, FRAMES, SEED)
    rng = np.random.default_rng((SEED, size, int(radius), int(1e3 * noise), balls))
    frames, position = noisy(held.segment.obs["camera"].numpy(), noise, rng), held.truth["position"]
    ground, clips = background(frames), Clips()
    for clip, where in zip(frames, position, strict=True):
        scene = calibrate(clip, balls, ground, position=where)
        true, begin = where[PROMPT:], where[PROMPT - 1]
        tracks = track_clip(clip[PROMPT:], scene, begin, begin - where[PROMPT - 2])
        note(clips, tracks, threshold(clip[PROMPT:], scene, true), true, radius)
    return {"size": size, "radius": radius, "noise": noise, "balls": balls, "one colour": same} | summary(clips)


def note(clips: Clips, tracks: Tracks, plain: tuple[np.ndarray, ...], true: np.ndarray, radius: float) -> None:
    """Add a clip's errors."""
    count = true.shape[1]
    error = tracks.position[:, :count] - true
    off = np.sqrt(np.square(error).sum(-1))
    kept = off < radius  # beyond, it follows something else: that is no error of its position, but a swap or a loss
    clips.add("rmse", np.where(kept[..., None], error, np.nan))
    clips.add("radius bias", np.sqrt(tracks.mass[:, :count] / np.pi) - radius)
    clips.add("lost", ~kept)
    clips.add("count", tracks.count == count)
    clips.add("swaps", 1000 * swaps(tracks, true, radius) / off.size)
    clips.add("born", tracks.position.shape[1] - count)
    centre, size, number = plain
    away = np.sqrt(np.square(centre - true).sum(-1))
    near = away < radius
    clips.add("threshold rmse", np.where(near[..., None], centre - true, np.nan))
    clips.add("threshold radius bias", np.where(near, size - radius, np.nan))
    clips.add("threshold lost", ~near)
    clips.add("threshold count", number == count)


def summary(clips: Clips) -> dict[str, Any]:
    """Every quantity of a setting."""
    shares = ("lost", "count", "threshold lost", "threshold count", "swapped")
    return {name: clips.mean(name, name.endswith("rmse"), name in shares) for name in clips.rows}


def by_area(config: BallsConfig, position: np.ndarray, radius: float) -> np.ndarray:
    """(F, 3, 64, 64) discs at (F, K, 2), each pixel shaded by the share of it that they cover (of 8 x 8 points)."""
    fine = (np.arange(512) + 0.5) / 8
    picture = np.tile(np.array(config.background, np.float32)[None, :, None, None], (len(position), 1, 64, 64))
    for frame, where in zip(picture, position, strict=True):
        for k, (x, y) in enumerate(where):
            inside = (fine - x) ** 2 + (fine[:, None] - y) ** 2 < radius**2
            cover = inside.reshape(64, 8, 64, 8).mean((1, 3), dtype=np.float32)
            colour = np.array(config.colours[k % len(config.colours)], np.float32)
            frame += cover * (colour[:, None, None] - frame)
    return picture.round().astype(np.uint8)


def passing(radius: float, overlap: float, noise: float, same: bool, drawn: str = "world") -> dict[str, Any]:
    """Two balls that pass each other, measured in the frame in which they overlap by this share of their diameter.

    drawn: ``world``; ``area``, by another renderer, whose edge the fit of discs does not know; ``blurred``, the world's
    frames after a Gaussian of 0.7 px, as dreams blur.
    """
    config = BallsConfig(balls=2, radius=radius, colours=ONE_COLOUR if same else BallsConfig().colours)
    renderer = Renderer(config)
    rng = np.random.default_rng((SEED, int(radius), int(100 * overlap), int(1e3 * noise)))
    ground = np.broadcast_to(renderer.background[:, None, None], renderer.shape).astype(np.float32)
    size, middle, clips = np.full((21, 2), radius), 10, Clips()
    t = np.arange(21)[:, None, None] - middle
    for _ in range(PAIRS):
        angle, way = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 1.6)
        out, along = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        half = radius * (1 - overlap) * np.array([-1.0, 1.0])[:, None]
        speed = way * np.array([1.0, -1.0])[:, None]
        where = 32 + rng.uniform(-0.5, 0.5, 2) + half * out + t * speed * along
        picture = by_area(config, where, radius) if drawn == "area" else renderer.draw(where, size)
        if drawn == "blurred":
            picture = ndimage.gaussian_filter(picture.astype(np.float32), (0, 0, 0.7, 0.7)).round().astype(np.uint8)
        frames = noisy(picture, noise, rng)
        scene = calibrate(frames[[0, -1]], 2, ground, position=where[[0, -1]])
        tracks = track_clip(frames, scene, where[0] - (where[1] - where[0]), where[1] - where[0])
        plain = threshold(frames, scene, where)
        one = Tracks(**{name: x[middle : middle + 1] for name, x in vars(tracks).items()})
        note(clips, one, tuple(x[middle : middle + 1] for x in plain), where[middle : middle + 1], radius)
        clips.rows["swaps"].pop()
        clips.add("swapped", swaps(tracks, where, radius) > 0)
    row = {"size": 64, "radius": radius, "noise": noise, "overlap": overlap, "one colour": same, "drawn": drawn}
    return row | summary(Clips({k: v for k, v in clips.rows.items() if v}))


def falling(frames: int, noise: float) -> dict[str, Any]:
    """Gravity from a parabola: quadratic fits to one ball's path, relative error."""
    gravity, clips, rng = 0.15, Clips(), np.random.default_rng((SEED, frames, int(1e3 * noise)))
    renderer, t = Renderer(BallsConfig()), np.arange(frames)
    ground = np.broadcast_to(renderer.background[:, None, None], renderer.shape).astype(np.float32)
    for _ in range(PAIRS):
        x, y = rng.uniform(6, 10) + rng.uniform(1, 2) * t, rng.uniform(20, 30) - 1.2 * t + gravity / 2 * t**2
        where = np.stack([x, y], 1)[:, None]
        clip = noisy(renderer.draw(where, np.full((frames, 1), 4.0)), noise, rng)
        scene = calibrate(clip, 1, ground, position=where)
        found = track_clip(clip, scene, where[0] - (where[1] - where[0]), where[1] - where[0]).position[:, 0, 1]
        clips.add("error", 2 * np.polyfit(t, found, 2)[0] / gravity - 1)
    return {"frames": frames, "noise": noise, "rms error": clips.mean("error", root=True), "bias": clips.mean("error")}


def _text(of: dict[str, Any] | None, form: str = ".4f", scale: float = 1.0) -> str:
    if of is None or of["value"] is None:
        return "none found"
    low, high = (scale * x for x in of["interval"])
    return f"{scale * of['value']:{form}} ({low:{form}}, {high:{form}})"


def _table(rows: list[dict[str, Any]], heads: list[str], columns: list[Callable[[dict[str, Any]], str]]) -> list[str]:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return [*lines, *("| " + " | ".join(c(row) for c in columns) + " |" for row in rows), ""]


def page(found: dict[str, list[dict[str, Any]]]) -> str:
    """The tables as Markdown."""

    def share(name: str) -> Callable[[dict[str, Any]], str]:
        return lambda r: _text(r[name], ".1f", 100.0)

    rmse: list[Callable[[dict[str, Any]], str]] = [
        lambda r: _text(r["rmse"]),
        lambda r: _text(r["threshold rmse"], ".3f"),
        lambda r: _text(r["radius bias"], "+.3f"),
        lambda r: _text(r["threshold radius bias"], "+.3f"),
    ]
    heads = ["RMSE, px", "threshold", "bias of radius, px", "threshold"]
    rest = [share("lost"), share("threshold lost"), share("count"), share("threshold count")]
    more = ["lost, %", "threshold", "right number, %", "threshold"]

    def kind(r: dict[str, Any]) -> str:
        return "one" if r["one colour"] else "several"

    lines = ["# The tracker's own error", "", ABOUT.format(seed=SEED)]
    first = found["one ball"][0]["lost"]["n"]
    lines += ["## One ball, by frame, radius and noise", "", f"{CLIPS} clips, {first} frames a row.", ""]
    of: list[Callable[[dict[str, Any]], str]] = [lambda r: f"{r['size']}", lambda r: f"{r['radius']:g}"]
    of += [lambda r: f"{r['noise']:g}"]
    lines += _table(found["one ball"], ["frame, px", "radius, px", "noise", *heads, *more], [*of, *rmse, *rest])
    lines += ["## Several balls that collide, 64 px, radius 4", ""]
    lines += [f"{CLIPS} clips of {FRAMES} frames a row. Swaps: in a thousand balls × frames.", ""]
    of = [lambda r: f"{r['balls']}", kind, lambda r: f"{r['noise']:g}"]
    lines += _table(
        found["several balls"],
        ["balls", "colours", "noise", *heads[:2], *more, "swaps", "born"],
        [*of, *rmse[:2], *rest, lambda r: _text(r["swaps"], ".2f"), lambda r: _text(r["born"], ".2f")],
    )
    lines += ["## Two balls that pass each other, in the frame of the overlap", ""]
    lines += [f"{PAIRS} passes a row. Overlap: share of the diameter. Swapped: passes after which they are. The fit of"]
    lines += [
        "discs knows the world's own antialiased edge; `area` is drawn by another renderer, each pixel by the share"
    ]
    lines += ["covered, and `blurred` is the world's frame after a Gaussian of 0.7 px, as dreams blur.", ""]
    of = [lambda r: f"{100 * r['overlap']:g} %", lambda r: r["drawn"], lambda r: f"{r['radius']:g}", kind]
    of += [lambda r: f"{r['noise']:g}"]
    lines += _table(
        found["overlap"],
        ["overlap", "drawn", "radius, px", "colours", "noise", *heads[:2], *more, "swapped, %"],
        [*of, *rmse[:2], *rest, share("swapped")],
    )
    lines += ["## Gravity from a parabola, 64 px, radius 4", ""]
    lines += [f"{PAIRS} paths a row, gravity 0.15 px/frame², a quadratic fit to all frames.", ""]
    lines += _table(
        found["gravity"],
        ["frames", "noise", "RMS error, %", "bias, %"],
        [
            lambda r: f"{r['frames']}",
            lambda r: f"{r['noise']:g}",
            lambda r: _text(r["rms error"], ".3f", 100.0),
            lambda r: _text(r["bias"], "+.3f", 100.0),
        ],
    )
    return "\n".join(lines).rstrip() + "\n"


def picture() -> np.ndarray:
    """(H, W, 3) uint8: two balls of one colour pass each other; crosses where the tracker sees them, by track."""
    config = BallsConfig(balls=2, radius=5.0, height=32, width=48, colours=ONE_COLOUR)
    renderer, scale = Renderer(config), 5
    where = np.array([[9.0, 13.4], [39.0, 18.6]]) + np.arange(16)[:, None, None] * np.array([[2.0, 0], [-2.0, 0]])
    frames = renderer.draw(where, np.full((16, 2), 5.0))
    ground = np.broadcast_to(renderer.background[:, None, None], renderer.shape).astype(np.float32)
    scene = calibrate(frames[[0, -1]], 2, ground, position=where[[0, -1]])
    seen = track_clip(frames, scene, where[0] - (where[1] - where[0]), where[1] - where[0])
    strips = []
    for t in range(3, 13, 2):
        large = frames[t].transpose(1, 2, 0).repeat(scale, 0).repeat(scale, 1)
        for at, colour in zip(seen.position[t], ((220, 20, 60), (30, 60, 220)), strict=True):
            if np.isfinite(at).all():
                x, y = (scale * at).round().astype(int)
                large[y - 6 : y + 7, x - 1 : x + 2] = large[y - 1 : y + 2, x - 6 : x + 7] = colour
        strips.append(np.pad(large, ((0, 0), (0, scale), (0, 0)), constant_values=255))
    return np.concatenate(strips, 1)[:, :-scale]


def run() -> list[dict[str, Any]]:
    """Measure, write the page, and give the rows that the command prints."""
    start = time.process_time()
    radii = {32: (3.0, 4.0, 6.0), 64: (3.0, 4.0, 6.0, 8.0), 128: (3.0, 4.0, 6.0, 8.0)}
    found = {
        "one ball": [moving(s, r, z, 1, False) for s, rs in radii.items() for r in rs for z in NOISES],
        "several balls": [moving(64, 4.0, z, k, c) for k in (2, 4, 8) for c in (False, True) for z in NOISES],
        "overlap": [
            passing(r, o, z, c, drawn)
            for drawn, rs, noises in (
                ("world", (4.0, 6.0), NOISES),
                ("area", (4.0,), (0.0,)),
                ("blurred", (4.0,), (0.0,)),
            )
            for o in (0.0, 0.25, 0.5)
            for r in rs
            for c in (False, True)
            for z in noises
        ],
        "gravity": [falling(f, z) for f in (17, 20) for z in NOISES],
    }
    write_json(RESULTS / "tracker.json", {"seed": SEED, "clips": CLIPS, "frames": FRAMES, "pairs": PAIRS} | found)
    write_atomic(RESULTS / "tracker.md", page(found).encode())
    Image.fromarray(picture()).save(RESULTS.parent / "media" / "tracker.png")
    main = next(r for r in found["one ball"] if (r["size"], r["radius"], r["noise"]) == (64, 4.0, 0.0))
    fall = next(r for r in found["gravity"] if (r["frames"], r["noise"]) == (20, 0.0))
    n = main["rmse"]["n"]
    return [
        {"what": "RMSE, 64 px, radius 4", "value": main["rmse"]["value"], "unit": "px", "n": n},
        {"what": "threshold, the same", "value": main["threshold rmse"]["value"], "unit": "px", "n": n},
        {"what": "gravity, 20 frames", "value": 100 * fall["rms error"]["value"], "unit": "%", "n": PAIRS},
        {"what": "processor time", "value": time.process_time() - start, "unit": "s", "n": 1},
    ]


if __name__ == "__main__":
    for row in run():
        print(f"{row['what']:<30} {row['value']:>10.4f} {row['unit']}")
