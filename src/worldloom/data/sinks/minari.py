"""Episodes as a Minari dataset, written by Minari's own storage class, without loss."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from worldloom.contract import Control, Sensor
from worldloom.data.episode import DataError, Episode
from worldloom.data.sinks.folder import whole_folder
from worldloom.data.sources.arrays.files import need
from worldloom.data.store import Dataset


def export_minari(dataset: Dataset, out: Path, progress: Callable[[int], None]) -> list[str]:
    """Write ``out/data`` in Minari's hdf5 format; ``minari.MinariDataset(out / "data")`` reads it.

    T + 1 frames become T + 1 observations and T actions, rewards, terminations and truncations. Pictures lie as
    (height, width, channels), without JPEG; several sensors make a Dict space; truth goes to ``infos["truth"]``. The
    folder is whole or absent. Raises :class:`DataError` where there are no actions, or the disk refuses.
    """
    control = dataset.spec.action
    if control is None or control.kind not in ("discrete", "continuous") or control.per != "frame":
        raise DataError(f"{dataset.path} is plain video: Minari's datasets need an action a frame. Export it as video.")
    storage_class = need("minari", "Writing Minari's datasets").dataset.minari_storage.MinariStorage
    need("h5py", "Writing Minari's HDF5")
    if "jpeg_encoding" not in inspect.signature(storage_class.new).parameters:
        raise DataError("This Minari would store pictures as JPEG, with loss: pip install 'minari>=0.5.4'.")
    # h5py tells of a full disk by a RuntimeError too; Minari joins a relative path to itself, this one is absolute.
    with whole_folder(out, RuntimeError) as temporary:
        folder = temporary / "data"
        storage = storage_class.new(
            folder,
            observation_space(dataset.spec.shown),
            action_space(control),
            data_format="hdf5",
            jpeg_encoding=False,
        )
        left = _write(dataset, storage, control, progress)
        if not storage.total_episodes:
            raise DataError(f"{dataset.path} has no episode of at least two frames: there is no action to write.")
        name = re.sub(r"[^-\w]", "-", out.resolve().name)
        name = name if re.fullmatch(r"[-\w]+-v\d+", name) else f"{name}-v0"
        storage.update_metadata(
            {
                "dataset_id": name,
                "minari_version": need("minari", "").__version__,
                "description": "Exported by worldloom.",
                "worldloom": {"spec": dataset.spec.to_json()},
            }
        )
    return _notes(dataset, out, name, left)


def observation_space(shown: dict[str, Sensor]) -> Any:
    """The Gymnasium space of the sensors: one Box, or a Dict of them where there are several."""
    from gymnasium import spaces

    def box(sensor: Sensor) -> Any:
        if sensor.kind == "image":
            channels, high, wide = sensor.shape
            return spaces.Box(0, 255, (high, wide, channels), np.uint8)
        return spaces.Box(-np.inf, np.inf, sensor.shape, np.float32)

    if len(shown) == 1:
        return box(next(iter(shown.values())))
    return spaces.Dict({name: box(sensor) for name, sensor in shown.items()})


def action_space(control: Control) -> Any:
    """The Gymnasium space of a discrete or continuous control."""
    from gymnasium import spaces

    if control.kind == "discrete":
        return spaces.Discrete(control.n)
    low = np.array(control.low or (-np.inf,) * control.shape[0], np.float32)
    high = np.array(control.high or (np.inf,) * control.shape[0], np.float32)
    return spaces.Box(low, high, control.shape, np.float32)


def _write(dataset: Dataset, storage: Any, control: Control, progress: Callable[[int], None]) -> dict[str, int]:
    """Append the episodes; returns how many of what had to be left out."""
    left = {"single": 0, "first_rewards": 0}
    for number in range(len(dataset)):
        episode = dataset.episode(number)
        if episode.length < 2:
            left["single"] += 1
        else:
            if episode.reward is not None and episode.reward[0] != 0:
                left["first_rewards"] += 1
            storage.update_episodes([_buffer(episode, number, dataset, control)])
        progress(number + 1)
    return left


def _buffer(episode: Episode, number: int, dataset: Dataset, control: Control) -> Any:
    from minari.data_collector.episode_buffer import EpisodeBuffer

    steps = episode.length - 1
    actions = episode.control["action"][1:]
    if control.kind == "discrete" and (actions == control.n).any():
        frame = 1 + int(np.flatnonzero(actions == control.n)[0])
        raise DataError(
            f"Episode {number} of {dataset.path} has no action at frame {frame}; in Minari all frames but the first "
            "have one. Cut the episode there."
        )
    obs: dict[str, np.ndarray] = {
        name: np.moveaxis(value, 1, -1) if dataset.spec.shown[name].kind == "image" else value
        for name, value in episode.obs.items()
    }
    over = np.arange(1, steps + 1) == steps
    ended = bool(episode.terminal)
    return EpisodeBuffer(
        observations=obs if len(obs) > 1 else next(iter(obs.values())),
        actions=actions,
        rewards=np.zeros(steps, np.float32) if episode.reward is None else episode.reward[1:],
        terminations=over & ended,
        truncations=over & (not ended),
        infos={"truth": dict(episode.truth)} if episode.truth else None,
    )


def _notes(dataset: Dataset, out: Path, name: str, left: dict[str, int]) -> list[str]:
    notes = [f"{out}: read it by minari.MinariDataset({str(out / 'data')!r})."]
    if out.name != name:
        notes.append(f"Its id is {name}; minari.load_dataset finds it in a folder of that name.")
    if dataset.spec.images:
        notes.append("Pictures lie as (height, width, channels), stored without JPEG so that nothing is lost.")
    if not dataset.has_reward:
        notes.append("Rewards are unknown and written as zeros, since Minari has no word for that.")
    elif left["first_rewards"]:
        notes.append(
            f"Left out: the rewards of the first frames of {left['first_rewards']} episodes; no action led there."
        )
    if not dataset.has_terminal:
        notes.append("Whether episodes truly ended is unknown: all are written as truncated.")
    if left["single"]:
        notes.append(f"Left out: {left['single']} episodes of a single frame, which have no action.")
    if any(s.startswith("truth/") for s in dataset.streams):
        notes.append('The exact state is in infos["truth"]; importing it here brings it back.')
    others = sorted(set(dataset.spec.given) - {"action"})
    if others:
        notes.append(f"Left out: the controls {', '.join(others)}; Minari has only actions.")
    notes.append("Left out: remarks about episodes (info).")
    return notes
