"""Which features of a LeRobot dataset become sensors, which the action."""

from __future__ import annotations

from typing import Any

import numpy as np

from worldloom.contract import ContractError, Control
from worldloom.data.episode import DataError
from worldloom.data.sources.base import ImportConfig
from worldloom.data.sources.lerobot.layout import OURS, Feature, Info
from worldloom.data.sources.pairing import infer_control


def choose_cameras(info: Info, config: ImportConfig) -> dict[str, Feature]:
    """The cameras to keep, by the last part of their key or, where several end alike, by all of it.

    ``config.cameras`` may name them either way. Raises :class:`DataError` for one that is not there.
    """
    found = [f for f in info.features.values() if f.picture]
    names = _names(found)
    unknown = set(config.cameras) - set(names) - {f.key for f in found}
    if unknown:
        has = ", ".join(names) or "none"
        raise DataError(f"{info.root} has no camera {', '.join(sorted(unknown))}; it has {has}.")
    return {n: f for n, f in names.items() if not config.cameras or {n, f.key} & set(config.cameras)}


def choose_vectors(info: Info, cameras: dict[str, Feature]) -> dict[str, Feature]:
    """The vectors of floats that are observed, by names that differ from those of ``cameras``."""
    below = [f for key, f in info.features.items() if key.startswith("observation.")]
    names = _names([f for f in below if f.numbers and f.dtype.startswith("float")])
    return {f.key if n in cameras else n: f for n, f in names.items()}


def choose_actions(info: Info, config: ImportConfig) -> list[Feature]:
    """The columns that are the action, next to each other: ``config.columns``, else ``action``, else those whose names
    begin so. Raises :class:`DataError` for a column that is not there or holds no numbers."""
    features = info.features
    if config.actions == "none":
        return []
    if config.columns:
        unknown = [c for c in config.columns if c not in features or not features[c].numbers]
        if unknown:
            known = ", ".join(key for key, f in features.items() if f.numbers)
            raise DataError(f"{info.root} has no column {', '.join(unknown)} of numbers; it has {known}.")
        return [features[c] for c in config.columns]
    if "action" in features and features["action"].numbers:
        return [features["action"]]
    return [f for key, f in features.items() if key.startswith("action") and f.numbers]


def control_of(info: Info, actions: list[Feature], parts: list[np.ndarray], config: ImportConfig) -> Control:
    """The control that the actions are: exactly the one that was exported, where this library wrote the dataset.

    parts: of each episode all values that occur, where the action is one number, else any row.
    """
    kind: Any = config.actions
    if kind == "auto" and len(actions) == 1:
        try:
            ours = _exported(actions[0], parts)
        except (ContractError, TypeError, ValueError) as error:
            raise DataError(
                f"{info.path}: what it says of the action's kind does not fit: {error}. Say it by --actions."
            ) from error
        if ours is not None:
            return ours
    return infer_control(parts, tuple(n for f in actions for n in f.labels), kind, str(info.root))


def _names(features: list[Feature]) -> dict[str, Feature]:
    short = [f.key.rpartition(".")[2] for f in features]
    return {s if s and short.count(s) == 1 else f.key: f for s, f in zip(short, features, strict=True)}


def _exported(feature: Feature, parts: list[np.ndarray]) -> Control | None:
    """The control that :func:`worldloom.data.sinks.lerobot.export.export_lerobot` wrote into the feature, if it did."""
    said = {k.removeprefix(OURS): v for k, v in feature.info.items() if k.startswith(OURS)}
    kind, n = said.get("kind"), said.get("choices")
    if kind == "discrete" and isinstance(n, int) and feature.shape == (1,):
        seen = np.concatenate(parts)
        if not 0 < n < 2**31 or seen.min() < 0 or seen.max() > n or (seen != np.round(seen)).any():
            raise ContractError(f"it names {n} choices, but the values go from {seen.min()} to {seen.max()}")
        return Control("discrete", n=n, names=tuple(map(str, said.get("names") or ())))
    if kind == "continuous":
        low, high = (tuple(map(float, said.get(side) or ())) for side in ("low", "high"))
        return Control("continuous", feature.shape, names=feature.labels, low=low, high=high)
    return None
