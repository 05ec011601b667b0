"""A dream as a video, beside the true world where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from worldloom.contract import Segment, Spec, WorldloomError, WorldModel, check_covers
from worldloom.data import Dataset, Windows
from worldloom.evaluation.datasets import open_data
from worldloom.evaluation.exact import ExactWorld, find_exact
from worldloom.files import read_json, sweep
from worldloom.imagination.rollout import imagine
from worldloom.imagination.starts import load_starts_and_truth
from worldloom.imagination.video import contact_sheet, side_by_side, write_image, write_video
from worldloom.models.saved import load_model
from worldloom.shipped import resolve, shipped_name
from worldloom.training.devices import pick_device
from worldloom.worlds import sample_action

GREY = 96  # shown where a recording has ended and no simulator goes on


def imagine_video(
    run: Path,
    out: Path,
    frames: int = 200,
    start: int = 0,
    prompt: int = 4,
    actions: Literal["recorded", "random", "rest"] = "recorded",
    data: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    kind: type[WorldModel] | None = None,
) -> Iterator[str]:
    """Dream ``frames`` frames after a held-out start and write ``out`` (.mp4, .gif, or .png for a contact sheet).

    The truth beside it is the recording for as long as it goes, and the exact simulator after that, which is told the
    same actions. ``kind``: the class of a model of your own. Yields lines that say what was done.
    """
    for name, value in (("frames", frames), ("prompt", prompt)):
        if value < 1:
            raise WorldloomError(f"--{name} must be at least 1, found {value}.")
    if start < 0:
        raise WorldloomError(f"--start must be 0 or more, found {start}.")
    run = resolve(run)
    model = load_model(run, pick_device(device), kind=kind)
    if not model.spec.images:
        raise WorldloomError(f"The model in {run} dreams {sorted(model.spec.shown)} and no picture to show.")
    sensor = next(iter(model.spec.images))
    config = read_json(run / "config.json", sealed=True) if (run / "config.json").exists() else {}
    dataset, truth = None, dict[str, np.ndarray]()
    try:
        dataset, _, remarks = open_data(run, config, data)
        yield from remarks
    except WorldloomError as error:
        if data is not None:
            raise
        if shipped_name(run) is None:
            yield f"Starting from the run's own starts: {error}"

    if dataset is not None:
        check_covers(dataset.spec, model.spec, f"the dataset {dataset.path}")
    if dataset is None:
        segment, known = load_starts_and_truth(run)
        if start >= segment.batch:
            raise WorldloomError(f"The run holds {segment.batch} starts: give --start 0 to {segment.batch - 1}.")
        segment = segment.rows(slice(start, start + 1))
        truth = {name: x[start] for name, x in known.items()}
    else:
        segment, truth = _held_out(dataset, start, prompt, frames)
    prompt = min(prompt, segment.length - 1)
    given = _actions(model.spec, segment, prompt, frames, actions, seed)
    recorded = segment.length - prompt if actions == "recorded" or model.spec.action is None else 0
    real = segment.obs[sensor][0].numpy()[: prompt + recorded]
    info = config.get("data", {}) if dataset is None else dataset.info
    real, whose = _continue(real, truth, find_exact(info), sensor, prompt, frames, given)
    dream = imagine(model, segment.time(slice(0, prompt)), given, frames, seed=seed)
    dreamed = dream.obs[sensor][0].cpu().numpy()
    both = side_by_side(real, dreamed, (whose, "dream"), prompt=prompt)
    sweep(out.parent, out.name)
    if out.suffix.lower() == ".png":
        write_image(out, contact_sheet(both[:: max(1, len(both) // 24)]))
    else:
        write_video(out, both, model.spec.fps, scale=1)
    yield f"{out}: {prompt} true frames, then {frames} dreamed ones; beside them: {whose}."


def _held_out(dataset: Dataset, start: int, prompt: int, frames: int) -> tuple[Segment, dict[str, np.ndarray]]:
    """One held-out start (1, T, ...) with as much of its recording as is wanted, and the truth behind it."""
    windows = Windows(dataset, "test")
    lengths = dataset.lengths[windows.episodes]
    horizon = min(frames, max(1, int(np.median(lengths)) - prompt))
    found = windows.starts(start + 1, prompt, horizon)
    if start >= len(found):
        raise WorldloomError(f"{dataset.path} offers {len(found)} held-out starts: give --start 0 to {len(found) - 1}.")
    episode, begin = found[start]
    length = min(prompt + frames, int(dataset.lengths[episode]) - begin)
    truth = dataset.episode(episode, begin, begin + length).truth
    return windows.segment([(episode, begin)], length), truth


def _actions(spec: Spec, segment: Segment, prompt: int, frames: int, source: str, seed: int) -> Tensor | None:
    """(1, frames, ...) actions, or None for plain video."""
    control = spec.action
    if control is None:
        return None
    if source == "rest":
        rest = control.rest(1, frames)
        if rest is None:
            raise WorldloomError(
                f"--actions rest: which action does nothing is not known; among {list(control.names) or control.n} "
                "none is called stay, noop or alike. Take --actions recorded or random."
            )
        return rest
    rng = np.random.default_rng(seed)
    drawn = torch.from_numpy(np.stack([sample_action(control, 1, rng) for _ in range(frames)], 1)).to(control.dtype)
    if source == "recorded" and segment.action is not None:
        known = segment.action[:, prompt : prompt + frames]
        drawn[:, : known.shape[1]] = known
    return drawn


def _continue(
    real: np.ndarray,
    truth: dict[str, np.ndarray],
    world: ExactWorld | None,
    sensor: str,
    prompt: int,
    frames: int,
    given: Tensor | None,
) -> tuple[np.ndarray, str]:
    """The true frames (prompt + frames, C, H, W), and what they are: recording, simulation, or grey after its end."""
    missing = prompt + frames - len(real)
    if missing <= 0:
        return real[: prompt + frames], "recording"
    if world is not None and {"position", "velocity", "radius"} <= truth.keys():
        from worldloom.worlds.balls import Balls

        config = replace(world.config, time_limit=None)
        if config.task == "none":
            balls = Balls(config, 1)
            at = len(real) - 1
            balls.place(truth["position"][at][None], truth["velocity"][at][None], truth["radius"][at][None])
            more = []
            for t in range(at + 1 - prompt, frames):
                action = np.zeros((1, 0), np.float32) if given is None else given[:, t].numpy()
                more.append(balls.step(action).obs[sensor][0])
            return np.concatenate([real, np.stack(more)]), "true world"
    grey = np.full((missing, *real.shape[1:]), GREY, np.uint8)
    return np.concatenate([real, grey]), "recording, then grey"
