"""Remedies against drift: ways to lead a long dream, for any model.

    Remedy(anchor=10).dream(model, prompt, actions, truth=truth)        # shown a true frame after every ten
    Remedy(keyframes=8).dream(model, prompt, actions)                   # keyframes first, then what lies between
    Remedy(settings={"told_noise": 0.1}).dream(model, prompt, actions)  # a past that is trusted less

What each buys and costs: docs/drift.md, measured by `python -m benchmarks remedies RUN`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from worldloom.contract import ContractError, Controls, Segment, WorldModel
from worldloom.imagination.prompts import STEPS, WINDOW, prompted
from worldloom.imagination.rollout import check_segment, imagine
from worldloom.imagination.settings import otherwise
from worldloom.nn import tables


def keyframed(
    model: WorldModel,
    prompt: Segment,
    actions: Controls = None,
    frames: int | None = None,
    *,
    every: int = 8,
    steps: int = STEPS,
    chunk: int | None = None,
    overlap: int | None = None,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Keyframes, then what lies between them: sensor name to (B, T, C, H, W) uint8, the frames after the prompt.

    Errors add up from keyframe to keyframe, fewer times than from frame to frame. A dream is made in chunks, within
    each of which every ``every``-th frame and the last are dreamed together, then all others together; the last frames
    of a chunk are known in the next.

    prompt: (B, P, ...) true frames of one episode. actions: as :func:`~worldloom.imagination.imagine` takes them; all
    must be known beforehand. frames: T, by default as many as there are actions.
    steps: denoising steps of each frame.
    chunk: frames that are dreamed together, by default as many as the model was trained on; overlap: how many of them
    are known from before at least, by default a quarter.

    Raises :class:`UnsupportedError` for a model that can't ``fill``, or was not trained to see later frames.
    """
    model.require("fill")
    given = {"action": actions} if isinstance(actions, Tensor) else dict(actions or {})
    prompt = check_segment(model.spec, prompt, "prompt")
    if not bool(prompt.valid.all()) or bool(prompt.first[:, 1:].any()):
        raise ContractError(
            "Keyframes go on from a prompt of one episode without gaps: give frames that are all valid, none but the "
            "first of them an episode's first."
        )
    once = {name for name, kind in model.spec.given.items() if kind.per == "once"}
    lengths = [x.shape[1] for name, x in given.items() if name not in once]
    length = min(lengths, default=0) if frames is None else frames
    if length < 1 or any(n < length for n in lengths):
        raise ContractError(
            f"How long shall the dream be? Give `frames`, and controls for as many: found {frames} and {lengths}."
        )
    control = {n: x for n, x in prompt.control.items() if n in once}
    for name, past in prompt.control.items():
        if name not in once:
            if name not in given:
                raise ContractError(f"This model needs {name!r} for every frame: give `actions` with it.")
            control[name] = torch.cat([past.cpu(), given[name][:, :length].cpu().to(past.dtype)], 1)
    whole = prompt.length + length
    chunk = min(whole, int(getattr(model, "window", WINDOW)) if chunk is None else chunk)
    made = prompted(
        model,
        first=prompt.obs[next(iter(model.spec.images))],
        frames=whole,
        table=tables.keyframes(chunk, steps, every, float(getattr(model, "shift", 1.0))),
        control=control,
        chunk=chunk,
        overlap=max(1, chunk // 4) if overlap is None else overlap,
        seed=seed,
        batch=prompt.batch,
    )
    return {name: x[:, prompt.length :] for name, x in made.obs.items()}


@dataclass(frozen=True)
class Remedy:
    """How a long dream is led. With nothing set, frame by frame on its own frames."""

    anchor: int = 0
    """Dreamed frames after each of which the truth is shown (re-anchoring); 0: never. What is dreamed before it is
    returned as it is."""
    history: bool = False
    """Whether an anchor is the whole true history, from which also motion is read; otherwise one true frame among
    dreamed ones."""
    keyframes: int = 0
    """Distance of keyframes that are dreamed before what lies between them (see :func:`keyframed`); 0: none."""
    chunk: int | None = None
    """Frames that are dreamed together with keyframes; None: as many as the model was trained on."""
    overlap: int | None = None
    """How many of them are known from before at least; None: a quarter."""
    steps: int | None = None
    """Denoising steps of each frame with keyframes; None: :data:`~worldloom.imagination.prompts.STEPS`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the model to change (see :func:`otherwise`): ``told_noise`` for a past that is trusted less,
    ``retrieve`` 0 for a dream without explicit memory."""

    def __post_init__(self) -> None:
        if self.anchor < 0 or self.keyframes < 0:
            raise ContractError(f"anchor and keyframes are at least 0, found {self.anchor} and {self.keyframes}.")
        if self.anchor and self.keyframes:
            raise ContractError(
                "Re-anchoring shows a dream the truth frame by frame, and keyframes are dreamed ahead of it: choose "
                f"one, found anchor {self.anchor} and keyframes {self.keyframes}."
            )
        if self.history and not self.anchor:
            raise ContractError("history says what an anchor shows: set anchor too, or leave it out.")
        unused = [n for n in ("chunk", "overlap", "steps") if getattr(self, n) is not None]
        if unused and not self.keyframes:
            raise ContractError(f"{', '.join(unused)} is of dreams with keyframes: set keyframes too, or leave it out.")

    @property
    def shows_truth(self) -> bool:
        """Whether it can't be had without the true continuation."""
        return self.anchor > 0

    def dream(
        self,
        model: WorldModel,
        prompt: Segment,
        actions: Controls = None,
        frames: int | None = None,
        *,
        seed: int = 0,
        truth: Segment | None = None,
    ) -> dict[str, Tensor]:
        """Dream on from a prompt: sensor name to (B, T, *shape), what :func:`~worldloom.imagination.imagine` or
        :func:`keyframed` dreams. ``truth``: the prompt's true continuation, which anchors are taken from."""
        model = otherwise(model, **self.settings)
        if self.keyframes:
            return keyframed(
                model, prompt, actions, frames, every=self.keyframes, steps=self.steps or STEPS, chunk=self.chunk,
                overlap=self.overlap, seed=seed,
            )  # fmt: skip
        made = imagine(
            model,
            prompt,
            actions,
            frames,
            seed=seed,
            mode="teacher" if self.anchor and self.history else "free",
            observe_every=self.anchor,
            truth=truth if self.anchor else None,
        )
        return made.obs


__all__ = ["Remedy", "keyframed"]
