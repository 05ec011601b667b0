"""Dreams whose frames are spoilt after the fact, or that know nothing of motion: what no simulator makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from worldloom.contract import Spec
from worldloom.evaluation.battery.truth import BatteryError
from worldloom.evaluation.dreamers import Dreamer, Mode, extend
from worldloom.evaluation.exact import ExactWorld
from worldloom.evaluation.heldout import HeldOut
from worldloom.worlds.balls.world import spec_of

BLOCK = 8
"""Frames that are shuffled among themselves."""
COLLAPSE = (12, 20)
"""Frames of the dream (from, to) in which it dissolves."""

Change = Callable[[np.ndarray, list[np.random.Generator]], np.ndarray]
"""(frames (B, T, C, H, W) uint8, one generator a row) to frames of that shape. Frame t must not depend on T."""


@dataclass
class Altered:
    """Another dreamer's frames, changed."""

    inner: Dreamer
    """Whose dreams."""
    change: Change
    """What becomes of them."""
    block: int = 1
    """The change takes whole blocks of so many frames."""
    spec: Spec = field(init=False)
    """What it shows and is given."""

    def __post_init__(self) -> None:
        self.spec = self.inner.spec

    def dream(
        self,
        held: HeldOut,
        control: Mapping[str, Tensor],
        frames: int,
        *,
        seed: int,
        sensors: Sequence[str],
        mode: Mode = "free",
        every: int = 1,
        say: Callable[[str], None] = lambda _: None,
    ) -> dict[str, Tensor]:
        """See :class:`~worldloom.evaluation.dreamers.Dreamer`."""
        more = -(-frames // self.block) * self.block
        more = min(more, held.horizon) if mode == "teacher" else more  # where the truth ends, so does its last block
        found = self.inner.dream(
            held, extend(control, more), more, seed=seed, sensors=sensors, mode=mode, every=every, say=say
        )
        out = {}
        for name, x in found.items():
            random = [np.random.default_rng((abs(seed), i, 29)) for i in range(len(x))]
            out[name] = torch.from_numpy(np.ascontiguousarray(self.change(x.numpy(), random)[:, :frames]))
        return out


def blur(frames: np.ndarray, random: list[np.random.Generator]) -> np.ndarray:
    """Every frame, by a Gaussian of 1 px."""
    from scipy import ndimage

    spread: np.ndarray = ndimage.gaussian_filter(frames.astype(np.float32), (0, 0, 0, 1, 1))
    return (spread + 0.5).astype(np.uint8)


def noise(frames: np.ndarray, random: list[np.random.Generator]) -> np.ndarray:
    """White noise of 5 % of full scale on every pixel."""
    out = np.empty_like(frames)
    for row, clip in enumerate(frames):
        drawn = random[row].standard_normal(clip.shape, np.float32) * np.float32(0.05 * 255)
        out[row] = np.clip(clip + drawn + 0.5, 0, 255).astype(np.uint8)
    return out


def shuffle(frames: np.ndarray, random: list[np.random.Generator]) -> np.ndarray:
    """Every eight frames in another order. Each frame alone is right."""
    length = frames.shape[1]
    out = np.empty_like(frames)
    for row, clip in enumerate(frames):
        for begin in range(0, length, BLOCK):
            end = min(begin + BLOCK, length)
            out[row, begin:end] = clip[begin + random[row].permutation(end - begin)]
    return out


def collapse(frames: np.ndarray, random: list[np.random.Generator]) -> np.ndarray:
    """Eight frames in the middle dissolve (a Gaussian of 6 px); those after them are right again."""
    from scipy import ndimage

    out = frames.copy()
    part = frames[:, slice(*COLLAPSE)].astype(np.float32)
    out[:, slice(*COLLAPSE)] = (ndimage.gaussian_filter(part, (0, 0, 0, 6, 6)) + 0.5).astype(np.uint8)
    return out


class CopyLast:
    """Repeats the last true frame it has seen."""

    def __init__(self, world: ExactWorld) -> None:
        self.spec = spec_of(world.config)

    def dream(
        self,
        held: HeldOut,
        control: Mapping[str, Tensor],
        frames: int,
        *,
        seed: int,
        sensors: Sequence[str],
        mode: Mode = "free",
        every: int = 1,
        say: Callable[[str], None] = lambda _: None,
    ) -> dict[str, Tensor]:
        """See :class:`~worldloom.evaluation.dreamers.Dreamer`."""
        last = held.prompt - 1 + (np.arange(frames) // every * every if mode == "teacher" else np.zeros(frames, int))
        if last.max() >= held.segment.length:
            raise BatteryError(f"The truth leads {held.horizon} frames here, asked for {frames}.")
        return {name: held.segment.obs[name][:, torch.from_numpy(last)] for name in sensors}


class Nearest:
    """A memory that plays back: finds the training frames most like the last ones and shows what followed there.

    What a model that has learnt by heart does (case-based generalisation: Kang et al. 2025, PhyWorld). Distance is the
    mean square over the pixels of all prompt frames. Where the remembered episode ends, it looks for the nearest to its
    own last frames and goes on from there.
    """

    def __init__(self, world: ExactWorld, memory: np.ndarray, least: int = 12) -> None:
        """memory: (E, L, C, H, W) uint8 training episodes. least: frames that must follow a remembered moment."""
        self.spec, self.memory, self.least = spec_of(world.config), memory, least
        self._past = _pixels(memory)  # (E, L, D)
        self._norm = np.square(self._past).sum(-1)

    @classmethod
    def fresh(cls, world: ExactWorld, episodes: int = 128, frames: int = 48, seed: int = 101) -> Nearest:
        """With episodes of its own from the world, that no held-out start comes from but those drawn by this seed."""
        return cls(world, world.fresh(episodes, 1, frames - 1, seed).segment.obs["camera"].numpy())

    def dream(
        self,
        held: HeldOut,
        control: Mapping[str, Tensor],
        frames: int,
        *,
        seed: int,
        sensors: Sequence[str],
        mode: Mode = "free",
        every: int = 1,
        say: Callable[[str], None] = lambda _: None,
    ) -> dict[str, Tensor]:
        """See :class:`~worldloom.evaluation.dreamers.Dreamer`."""
        if list(sensors) != ["camera"]:
            raise BatteryError(f"This memory holds 'camera', asked for {list(sensors)}.")
        true = held.segment.obs["camera"].numpy()
        length = frames if mode == "free" else min(every, frames)
        if held.prompt + self.least > self.memory.shape[1]:
            raise BatteryError(
                f"The memory's episodes have {self.memory.shape[1]} frames; a prompt of {held.prompt} and "
                f"{self.least} frames after it do not fit in."
            )
        parts = []
        for begin in range(0, frames, length):
            shown = true[:, begin : begin + held.prompt]
            out = np.empty((len(true), 0, *true.shape[2:]), np.uint8)
            while out.shape[1] < length:
                out = self._on(out, shown)
                shown = out[:, -held.prompt :]
            parts.append(out[:, :length])
        return {"camera": torch.from_numpy(np.concatenate(parts, 1)[:, :frames].copy())}

    def _on(self, out: np.ndarray, shown: np.ndarray) -> np.ndarray:
        """``out`` with ``least`` frames more."""
        rows, prompt = shown.shape[:2]
        episodes, length = self.memory.shape[:2]
        offsets = length - prompt - self.least + 1
        now = _pixels(shown).reshape(rows * prompt, -1)
        product = (self._past.reshape(episodes * length, -1) @ now.T).reshape(episodes, length, rows, prompt)
        each = self._norm[:, :, None, None] - 2 * product  # |a - b|² of frames, less |b|², which all have in common
        distance = sum(each[:, t : t + offsets, :, t] for t in range(prompt))
        best = np.moveaxis(np.asarray(distance), -1, 0).reshape(rows, -1).argmin(1)
        episode, offset = best // offsets, best % offsets
        index = offset[:, None] + prompt + np.arange(self.least)
        return np.concatenate([out, self.memory[episode[:, None], index]], 1)


def _pixels(frames: np.ndarray) -> np.ndarray:
    """(N, L, pixels) float32 at a quarter of the resolution: as telling, and a sixteenth of the work."""
    height, width = frames.shape[-2] // 4 * 4, frames.shape[-1] // 4 * 4
    wide = frames[..., :height, :width].astype(np.uint16)
    flat = sum(wide[..., i::4, :] for i in range(4))
    small = sum(np.asarray(flat)[..., i::4] for i in range(4))
    return np.asarray(small).reshape(*frames.shape[:2], -1).astype(np.float32) / 16


__all__ = ["Altered", "Change", "CopyLast", "Nearest", "blur", "collapse", "noise", "shuffle"]
