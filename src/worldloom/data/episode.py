"""One episode, as it is collected, stored, imported and exported."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from worldloom.contract import Spec, WorldloomError


class DataError(WorldloomError):
    """Data that are missing, damaged, or do not fit together."""


@dataclass
class Episode:
    """T frames of one world. ``action[t]`` led to frame t, so ``action[0]`` is null."""

    obs: dict[str, np.ndarray]
    """Sensor name to (T, *shape), in the sensor's resting dtype (images uint8 CHW)."""
    control: dict[str, np.ndarray] = field(default_factory=dict)
    """Control name to (T, *shape): int64 or float32. Empty for plain video."""
    reward: np.ndarray | None = None
    """(T,) float32; None where unknown."""
    terminal: bool | None = None
    """Whether the last frame truly ended the world (False: time limit or cut); None where unknown."""
    truth: dict[str, np.ndarray] = field(default_factory=dict)
    """Exact state, name to (T, ...); empty where unknown."""
    info: dict[str, Any] = field(default_factory=dict)
    """JSON-able remarks: seed, source file, policy."""

    @property
    def length(self) -> int:
        """T."""
        return len(next(iter(self.obs.values())))

    def check(self, spec: Spec) -> None:
        """Raise :class:`DataError` unless every array fits ``spec`` and all have the same length T >= 1."""
        for name, sensor in spec.shown.items():
            if name not in self.obs:
                raise DataError(f"An episode lacks the sensor {name!r}; it has {sorted(self.obs)}.")
            dtype = np.uint8 if sensor.kind == "image" else np.float32
            found = self.obs[name]
            if found.shape[1:] != sensor.shape or found.dtype != dtype:
                raise DataError(
                    f"Sensor {name!r} must be {np.dtype(dtype)} (T, {', '.join(map(str, sensor.shape))}), "
                    f"found {found.dtype} {found.shape}."
                )
        for name, control in spec.given.items():
            if name not in self.control:
                raise DataError(f"An episode lacks the control {name!r}; it has {sorted(self.control) or 'none'}.")
            value = self.control[name]
            lead = 1 if control.per == "frame" else 0
            if value.shape[lead:] != control.shape:
                raise DataError(f"Control {name!r} must end in shape {control.shape}, found {value.shape}.")
        lengths = {n: len(x) for n, x in self.obs.items()} | {f"truth {n}": len(x) for n, x in self.truth.items()}
        lengths |= {n: len(x) for n, x in self.control.items() if spec.given[n].per == "frame"}
        if self.reward is not None:
            lengths["reward"] = len(self.reward)
        if len(set(lengths.values())) != 1 or self.length < 1:
            raise DataError(f"All arrays of an episode have one length of at least 1, found {lengths}.")
