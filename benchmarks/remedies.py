"""`python -m benchmarks remedies RUN`: one trained model, dreamed from with every remedy against drift.

Dreams of --frames frames from --starts starts that no dataset holds; the exact world says what should have followed.
Writes docs/results/remedies.json and .md, docs/media/drift.png and docs/drift.md, which tells how RUN is trained.
Stopped, it goes on where it was; `--page` writes page and picture from the JSON alone.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.__main__ import RESULTS
from benchmarks.exercises.drift import unrelated
from benchmarks.exercises.runs import describe
from benchmarks.remedies_page import figures, page, picture
from benchmarks.trust import open_run
from worldloom.contract import WorldModel
from worldloom.evaluation.dreamers import ModelDreamer
from worldloom.evaluation.figures import PSNR_CAP
from worldloom.evaluation.heldout import HeldOut
from worldloom.evaluation.objects import Followed, follow_frames
from worldloom.evaluation.probes import Dreams, gather
from worldloom.evaluation.statistics import bootstrap, share_interval
from worldloom.evaluation.tracking import FADED, LOST, Tracks
from worldloom.files import read_json, tensors_hash, write_atomic, write_json
from worldloom.imagination.prompts import WINDOW
from worldloom.imagination.remedies import Remedy
from worldloom.imagination.settings import otherwise

PROMPT, FRAMES, STARTS, BATCH = 8, 1000, 32, 16
HORIZONS = (50, 200, 1000)
SPAN = 50
"""Frames up to a horizon over which is measured what does not saturate."""
ROUNDS, TIMED = 3, 2
"""Of the timing: rounds in which all ways take turns, and chunks of frames dreamed in each."""
FILL_STEPS = 4
"""Denoising steps of each frame with keyframes."""
CLEAR = 2.0
"""px from an object from which on a pixel belongs to the background."""


@dataclass(frozen=True)
class Way:
    """One row of the table."""

    name: str
    remedy: Remedy


def ways(model: WorldModel) -> list[Way]:
    """What can be tried on a model, without remedy first: what it was trained for decides."""
    config = model.config
    retrieve = int(getattr(config, "retrieve", 0))
    off: dict[str, Any] = {"retrieve": 0} if retrieve else {}
    learnt = float(getattr(config, "context_noise", 0.0))
    noises = [round(learnt * share, 4) for share in (0.25, 0.5, 1.0)] if learnt else []
    found = [Way("plain", Remedy(settings=off))]
    for every in (50, 10):
        found.append(Way(f"one true frame every {every}", Remedy(anchor=every, settings=off)))
        found.append(Way(f"the true history every {every}", Remedy(anchor=every, history=True, settings=off)))
    if retrieve:
        found.append(Way("explicit memory", Remedy()))
    found += [Way(f"context noise {noise:g}", Remedy(settings={**off, "told_noise": noise})) for noise in noises]
    if "fill" in model.capabilities and int(getattr(config, "ahead", 0)):
        for n in (4, 8):
            found.append(Way(f"keyframes every {n}, then fill", Remedy(keyframes=n, steps=FILL_STEPS, settings=off)))
    if noises:
        told = {"told_noise": noises[1]}
        if retrieve:
            found.append(Way(f"explicit memory and context noise {noises[1]:g}", Remedy(settings=told)))
        both = Remedy(anchor=50, history=True, settings=told)
        with_memory = " explicit memory and" if retrieve else ""
        found.append(Way(f"the true history every 50,{with_memory} context noise {noises[1]:g}", both))
    return found


# ------------------------------------------------------------------------------------ dreaming


def dream(model: WorldModel, held: HeldOut, remedy: Remedy, frames: int, seed: int) -> np.ndarray:
    """(n, frames, C, H, W) uint8, :data:`BATCH` dreams side by side."""
    sensor = next(iter(model.spec.images))
    parts = []
    for number, begin in enumerate(range(0, len(held.episodes), BATCH)):
        some = held.rows(slice(begin, begin + BATCH))
        control = {n: x[:, :frames] for n, x in some.control.items() if n in model.spec.given}
        truth = some.segment.time(slice(held.prompt, held.prompt + frames)) if remedy.shows_truth else None
        prompt = some.segment.time(slice(0, held.prompt))
        made = remedy.dream(model, prompt, control, frames, seed=seed + 1_000_003 * number, truth=truth)
        parts.append(made[sensor].cpu())
    return torch.cat(parts).numpy()


def carried(model: WorldModel, remedy: Remedy) -> tuple[int, int]:
    """Bytes that one dream holds from frame to frame, or from chunk to chunk, and how many frames are made at once."""
    if remedy.keyframes:
        chunk = remedy.chunk or int(getattr(model, "window", WINDOW))
        overlap = max(1, chunk // 4) if remedy.overlap is None else remedy.overlap
        return overlap * int(np.prod(next(iter(model.spec.images.values())).shape)), chunk
    with torch.inference_mode():
        state = otherwise(model, **remedy.settings).start(1, 0)
    return sum(x.nbytes for x in state.tensors.values()), 1


def costs(model: WorldModel, held: HeldOut, found: Sequence[Way]) -> dict[str, dict[str, Any]]:
    """Milliseconds a frame of one dream alone, medians of rounds in which all take turns, and what each holds."""
    frames = min(TIMED * int(getattr(model, "window", WINDOW)), held.horizon)
    one = held.rows(slice(0, 1))
    taken: dict[str, list[float]] = {way.name: [] for way in found}
    for turn in range(ROUNDS + 1):
        for way in found:
            began = time.perf_counter()
            dream(model, one, way.remedy, frames, 0)
            if turn:  # the first warms up
                taken[way.name].append(1e3 * (time.perf_counter() - began) / frames)
    plain = np.array(taken[found[0].name])
    out = {}
    for way in found:
        held_bytes, at_once = carried(model, way.remedy)
        out[way.name] = {
            "ms_a_frame": float(np.median(taken[way.name])),
            "times_plain": float(np.median(np.array(taken[way.name]) / plain)),
            "bytes": held_bytes,
            "frames_at_once": at_once,
            "rounds": ROUNDS,
            "frames": frames,
        }
    return out


# ----------------------------------------------------------------------------------- measuring


def summed(values: np.ndarray, seed: int, statistic: Any = "mean") -> list[float | None]:
    """[value, low, high] over starts (n, ...), whole starts drawn anew."""
    groups = np.repeat(np.arange(len(values)), values[0].size)
    flat = values.reshape(-1)
    known = np.isfinite(flat)
    if not known.any():
        return [None, None, None]
    take = np.median if statistic == "median" else np.mean
    low, high = bootstrap(flat[known], groups[known], statistic, seed=seed)
    return [float(take(flat[known])), *(float(x) if np.isfinite(x) else None for x in (low, high))]


def shared(values: np.ndarray, seed: int) -> list[float | None]:
    """The same of shares (n,), where none or all count."""
    return [float(values.mean()), *(float(x) for x in share_interval(values, seed=seed))]


def errors(tracks: list[Tracks], known: np.ndarray, most: float) -> np.ndarray:
    """(n, T, K) px from the true positions; a lost object counts as the frame's diagonal."""
    found = np.stack([one.position[:, : known.shape[2]] for one in tracks])
    distance = np.sqrt(np.square(found - known).sum(-1))
    return np.where(np.isfinite(distance), np.minimum(distance, most), most)


def speed_kept(tracks: list[Tracks], known: np.ndarray, span: slice) -> np.ndarray:
    """(n,) root mean square step of the dreamed objects over that of the true ones; NaN where none is seen."""
    out = np.full(len(tracks), np.nan)
    for i, one in enumerate(tracks):
        steps, true = (
            np.square(np.diff(x, axis=0)).sum(-1) for x in (one.position[span, : known.shape[2]], known[i, span])
        )
        seen = np.isfinite(steps)
        if seen.any() and true.mean() > 0:
            out[i] = np.sqrt(steps[seen].mean() / true.mean())
    return out


def background_psnr(frames: np.ndarray, ground: np.ndarray, tracks: list[Tracks], reach: np.ndarray) -> np.ndarray:
    """(n,) dB between frames (n, T, C, H, W) and the background (C, H, W), at pixels with no object in
    ``reach`` (n,) px: what is left behind, or grows there by itself, counts."""
    height, width = frames.shape[-2:]
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    out = np.full(len(frames), PSNR_CAP)
    for i, one in enumerate(tracks):
        bare = np.ones((frames.shape[1], height, width), bool)
        for k in range(one.position.shape[1]):
            at = np.nan_to_num(one.position[:, k], nan=-1e6)
            away = np.square(x - at[:, 0, None, None]) + np.square(y - at[:, 1, None, None])
            bare &= away > reach[i] ** 2
        off = np.square(frames[i].astype(np.float32) - ground).mean(1)
        error = float((off * bare).sum() / max(int(bare.sum()), 1))
        out[i] = min(PSNR_CAP, 10 * np.log10(255.0**2 / max(error, 1e-9)))
    return out


def cut(one: Tracks, span: slice) -> Tracks:
    """The same of some frames."""
    return Tracks(*(getattr(one, name)[span] for name in Tracks.__dataclass_fields__))


def measured(dreams: Dreams, frames: np.ndarray, found: list[Tracks], followed: Followed, seed: int) -> dict[str, Any]:
    """All figures of dreams ``frames`` (n, T, C, H, W) whose objects were ``found``."""
    known = dreams.truth["position"].astype(np.float64)
    most, objects = float(np.hypot(*frames.shape[-2:])), known.shape[2]
    error = errors(found, known, most)
    ground, reach = followed.scenes[0].background, followed.radius.max(1) + CLEAR
    at: dict[str, Any] = {}
    for h in (h for h in HORIZONS if h <= frames.shape[1]):
        span = slice(h - min(SPAN, h), h)
        some = [cut(one, span) for one in found]
        gone = np.stack([np.isin(one.reason[:, :objects], (LOST, FADED)).mean() for one in some])
        count = np.stack([one.count for one in some])
        at[str(h)] = {
            "error_px": summed(error[:, h - 1], seed, "median"),
            "span_px": [float(x) for x in error[:, span].mean((1, 2))],
            "count_right": shared((count == objects).mean(1), seed),
            "lost": shared(gone, seed),
            "ghosts": shared((count > objects).mean(1), seed),
            "speed_kept": summed(speed_kept(found, known, span), seed, "median"),
            "background_db": summed(background_psnr(frames[:, span], ground, some, reach), seed),
        }
    return {"at": at, "by_frame": by_frame(error)}


def by_frame(error: np.ndarray, points: int = 40) -> dict[str, float]:
    """Median of (n, T, K) px by horizon, for a picture: each stands for the frames since the one before it, so that no
    phase of re-anchoring is picked out."""
    shown = np.unique(np.geomspace(1, error.shape[1], points).round().astype(int))
    before = [0, *shown[:-1].tolist()]
    return {str(h): float(np.median(error[:, a:h])) for a, h in zip(before, shown.tolist(), strict=True)}


def nearer(row: Mapping[str, Any], plain: Mapping[str, Any], seed: int) -> dict[str, list[float | None]]:
    """By horizon: px by which a way is nearer to the truth than without remedy, start by start, over the span."""
    out = {}
    for h, one in row["at"].items():
        out[h] = summed(np.array(plain["at"][h]["span_px"]) - np.array(one["span_px"]), seed)
    return out


def measure(run: Path, starts: int, frames: int, seed: int, file: Path) -> dict[str, Any]:
    """All rows; each is written into ``file`` as soon as it is there, and not measured again for the same weights in
    the same way."""
    context = open_run(run)
    model, world = context["model"], context["world"]
    if world is None:
        raise SystemExit(f"{run} was not trained on a world of ours: nothing says what should follow in 1,000 frames.")
    key = [tensors_hash(model.state_dict(), {}), starts, frames, seed, PROMPT]
    old = read_json(file) if file.exists() else {}
    old = old if old.get("made_of") == key else {}
    held = world.fresh(starts, PROMPT, frames, seed)
    sensor = next(iter(model.spec.images))
    real = held.segment.obs[sensor][:, PROMPT:]
    dreams = replace(gather(ModelDreamer(model), held, {sensor: real}, seed), **context)
    truth = follow_frames(dreams, real[:, :1].numpy())
    tried = ways(model)
    result: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads",
        "made_of": key, "seed": seed, "starts": starts, "frames": frames, "prompt": PROMPT, "span": SPAN,
        "run": describe(run), "unrelated_px": unrelated(dreams.truth["position"]),
        "truth": measured(dreams, real.numpy(), truth.real, truth, seed), "rows": {},
    }  # fmt: skip
    result["run"]["train"] = read_json(run / "config.json", sealed=True)["train"]
    for way in tried:
        row = old.get("rows", {}).get(way.name)
        if row is None:
            began = time.monotonic()
            made = dream(model, held, way.remedy, frames, seed)
            found = follow_frames(dreams, made)
            row = measured(dreams, made, found.dreamed, found, seed)
            print(f"{way.name}: measured in {time.monotonic() - began:.0f} s", flush=True)
        result["rows"][way.name] = row
        row["shows_truth"], row["keyframes"] = way.remedy.shows_truth, way.remedy.keyframes
        row["nearer_px"] = nearer(row, result["rows"]["plain"], seed)
        write_json(file, result)
    for name, cost in costs(model, held, tried).items():
        result["rows"][name]["cost"] = cost
    write_json(file, result)
    return result


def write(result: Mapping[str, Any], docs: Path) -> None:
    """Picture and page."""
    (docs / "media").mkdir(parents=True, exist_ok=True)
    write_atomic(docs / "media" / "drift.png", picture(result))
    write_atomic(docs / "drift.md", page(result).encode())
    write_atomic(docs / "results" / "remedies.md", figures(result).encode())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks remedies", description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", help="a run trained for all remedies (docs/drift.md says how)")
    parser.add_argument("--starts", type=int, default=STARTS)
    parser.add_argument("--frames", type=int, default=FRAMES, help="of each dream")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--page", action="store_true", help="page and picture from the JSON, nothing measured")
    parser.add_argument("--docs", type=Path, default=RESULTS.parent, help="where to write")
    given = parser.parse_args(arguments)
    if given.run is None and not given.page:
        parser.error("give the folder of a run, or --page")
    torch.set_num_threads(given.threads)
    file = given.docs / "results" / "remedies.json"
    if not given.page:
        file.parent.mkdir(parents=True, exist_ok=True)
        measure(given.run, given.starts, given.frames, given.seed, file)
    write(read_json(file), given.docs)


if __name__ == "__main__":
    main()
