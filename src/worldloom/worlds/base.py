"""What every world offers: N of it side by side, explicit resets, ground truth where it has any."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from worldloom.contract import Control, Spec


@dataclass(frozen=True)
class Frames:
    """One frame of each of N worlds. All arrays are (N, ...) and belong to the receiver (they are never reused)."""

    obs: dict[str, np.ndarray]
    """Sensor name to (N, *sensor.shape), in the sensor's resting dtype."""
    terminal: np.ndarray
    """(N,) bool: the world truly ended with this frame."""
    truncated: np.ndarray
    """(N,) bool: a time limit ended the episode with this frame."""
    reward: np.ndarray | None = None
    """(N,) float32 for arriving at this frame; None where the world has no reward."""
    truth: dict[str, np.ndarray] = field(default_factory=dict)
    """Exact state behind the frame, name to (N, ...); empty where the world does not tell."""
    given: dict[str, np.ndarray] = field(default_factory=dict)
    """Controls other than the action, which the world sets itself, such as a caption: name to (N, *control.shape), with
    every frame; of those given once for an episode, always what it began with."""

    @property
    def ended(self) -> np.ndarray:
        """(N,) bool: the episode ended here, for whatever reason."""
        return self.terminal | self.truncated


@runtime_checkable
class World(Protocol):
    """N worlds stepped together. They never reset themselves: a recorded transition is never invented."""

    spec: Spec
    num: int

    def reset(self, seed: int | None = None, mask: np.ndarray | None = None) -> Frames:
        """Begin new episodes, in the worlds marked by ``mask`` (N,) bool or in all; the others' last frame is repeated.

        With ``seed``, world i starts as if it were seeded by (seed, i), whatever N is.
        """
        ...

    def step(self, action: np.ndarray) -> Frames:
        """Act and return the frames this led to. Stepping a world that has ended is an error until it is reset."""
        ...

    def close(self) -> None:
        """Free processes and windows."""
        ...


def sample_action(control: Control, num: int, rng: np.random.Generator) -> np.ndarray:
    """(num, ...) uniform random actions over the choices or within the bounds (unbounded: standard normal)."""
    if control.kind == "discrete":
        return rng.integers(0, control.n, num)
    low = np.array(control.low or [-np.inf] * control.shape[0])
    high = np.array(control.high or [np.inf] * control.shape[0])
    bounded = np.isfinite(low) & np.isfinite(high)
    draw = rng.uniform(np.where(bounded, low, 0), np.where(bounded, high, 1), (num, *control.shape))
    return np.where(bounded, draw, rng.standard_normal((num, *control.shape))).astype(np.float32)
