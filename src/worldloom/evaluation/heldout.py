"""Starts from episodes that training never saw, with the truth that follows them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from worldloom.contract import Segment, WorldloomError
from worldloom.data.mixing.adapt import View
from worldloom.data.store import Dataset
from worldloom.data.windows import Windows

HORIZON = 50
"""Frames compared with the truth, unless the caller says otherwise ..."""
LEAST = 20
"""... or so many different starts would not be left; then fewer, down to this."""


@dataclass(frozen=True)
class HeldOut:
    """B starts with their true continuations."""

    segment: Segment
    """(B, prompt + horizon, ...), every frame valid. Its controls, and those below, hold the actions of a world of ours
    also where the model is not given them: what the true frames show is not understood without what was done."""
    truth: dict[str, np.ndarray]
    """Exact state behind the frames, name to (B, prompt + horizon, ...); empty where the data do not tell."""
    control: dict[str, Tensor]
    """Per-frame controls of the dreamed frames, (B, length, ...). Past an episode's end the recorded ones are
    repeated from the first dreamed frame on."""
    episodes: np.ndarray
    """(B,) number of the episode."""
    prompt: int
    """True frames before each dream."""
    notes: tuple[str, ...]
    """What had to be less than was asked for."""

    @property
    def horizon(self) -> int:
        """Frames of truth after the prompt."""
        return self.segment.length - self.prompt

    def rows(self, index: np.ndarray | slice) -> HeldOut:
        """Some of the starts."""
        at = index if isinstance(index, slice) else torch.from_numpy(np.asarray(index))
        return HeldOut(
            self.segment.rows(at),
            {name: x[index] for name, x in self.truth.items()},
            {name: x[at] for name, x in self.control.items()},
            self.episodes[index],
            self.prompt,
            self.notes,
        )


def draw(
    dataset: Dataset, starts: int, prompt: int, horizon: int | None, length: int, seed: int, split: str = "test"
) -> HeldOut:
    """Draw ``starts`` different starts, spread over the episodes of the split: a pure function of its arguments.

    ``horizon`` is cut to what at least half of the episodes can offer, and ``starts`` to the number there is, with a
    note. None is :data:`HORIZON`, or less where that leaves too few different starts, but not below :data:`LEAST`.
    ``length``: how many frames will be dreamed at least (see :attr:`HeldOut.control`).
    """
    windows = Windows(dataset, split)
    notes = []
    half = int(np.median(dataset.lengths[windows.episodes]))
    if half < prompt + 1:
        raise WorldloomError(
            f"Half of the {len(windows.episodes)} held-out episodes of {dataset.path} have {half} frames or fewer; a "
            f"prompt of {prompt} frames leaves nothing to dream. Collect longer episodes, or give a shorter prompt."
        )
    wanted = horizon or HORIZON
    reach = min(wanted, half - prompt)
    if horizon is None:
        lengths = dataset.lengths[windows.episodes]
        while reach > LEAST and np.maximum(lengths - (prompt + reach) + 1, 0).sum() < starts:
            reach -= 1
    if reach < wanted:
        notes.append(f"The horizon is {reach} frames, not {wanted}: held-out episodes are too short or too few.")
    horizon = reach
    chosen = windows.starts(starts, prompt, horizon, seed)
    if len(chosen) < starts:
        notes.append(f"Starts: {len(chosen)} instead of {starts}; the held-out episodes offer no more different ones.")
    need = prompt + horizon
    clips = [dataset.episode(number, begin, begin + need) for number, begin in chosen]
    names = set.intersection(*(set(clip.truth) for clip in clips))
    alike = [n for n in sorted(names) if len({clip.truth[n].shape for clip in clips}) == 1]
    truth = {name: np.stack([clip.truth[name] for clip in clips]) for name in alike}
    where = truth.get("position")
    if where is not None and (where.ndim != 4 or where.shape[-1] != 2 or not np.isfinite(where).all()):
        del truth["position"]
        notes.append(
            "The truth 'position' is not used: it must be finite, (frames, objects, 2) in px, found "
            f"{where.shape[1:]}{'' if np.isfinite(where).all() else ' with NaN or infinite values'}."
        )
    segment, control = windows.segment(chosen, need), _controls(windows, chosen, prompt, max(length, horizon))
    if (done := _unread(dataset, split)) is not None:
        segment = replace(segment, control={**segment.control, "action": done.segment(chosen, need).control["action"]})
        control["action"] = _controls(done, chosen, prompt, max(length, horizon))["action"]
    return HeldOut(
        segment,
        truth,
        control,
        np.array([number for number, _ in chosen]),
        prompt,
        tuple(notes),
    )


def _unread(dataset: Dataset, split: str) -> Windows | None:
    """Windows on the dataset as it was collected, where it is read without the actions of a world of ours. (Were it
    read otherwise in size or rate, nothing would be known of its world any more.)"""
    if not isinstance(dataset, View) or "world" not in dataset.info or "action" in dataset.spec.given:
        return None
    return Windows(dataset.source, split) if "action" in dataset.source.spec.given else None


def _controls(windows: Windows, chosen: list[tuple[int, int]], prompt: int, length: int) -> dict[str, Tensor]:
    """The controls of ``length`` dreamed frames, those that were recorded repeated as often as needed."""
    spec = windows.dataset.spec
    longest = max(int(windows.dataset.lengths[number]) - begin for number, begin in chosen)
    future = windows.segment(chosen, min(prompt + length, longest)).time(slice(prompt, None))
    recorded = future.valid.sum(1, keepdim=True)  # padding comes last
    index = torch.arange(length)[None] % recorded
    rows = torch.arange(len(chosen))[:, None]
    return {name: future.control[name][rows, index] for name, kind in spec.given.items() if kind.per == "frame"}
