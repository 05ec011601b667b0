"""What a training run is told, and which of it may change when the run is taken up again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from worldloom.configs import ConfigError


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. Give ``steps`` or ``minutes``; everything else has a default."""

    steps: int | None = None
    """Number of optimiser steps."""
    minutes: float | None = None
    """Time for the whole training. A few steps are timed first; they fix a number of steps, which is stored."""
    batch: int = 16
    """Sequences per optimiser step."""
    accumulate: int = 1
    """Pieces that a batch is cut into to save memory; the gradient is that of the whole batch."""
    length: int | None = None
    """Frames per training window. None: what the model asks for (its attribute ``window``), or 16."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """``muon``: hidden matrices and kernels move by their momentum made orthogonal, all else by AdamW."""
    lr: float = 3e-4
    """Peak learning rate. Muon's steps are scaled to be as large as AdamW's, so that one rate serves both."""
    betas: tuple[float, float] = (0.9, 0.99)
    """AdamW's decay rates of the first and second moment."""
    weight_decay: float = 0.01
    """Weight decay; biases, norms and other parameters of one dimension have none."""
    warmup: int = 100
    """Steps in which the learning rate rises linearly; at most a tenth of all steps."""
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    final_lr: float = 0.0
    """Learning rate at the last step, as a fraction of ``lr``; unused for a constant rate."""
    clip: float | None = 1.0
    """Largest norm of the whole gradient; None: not clipped."""
    ema: float = 0.999
    """Decay of the averaged weights, which are the model that is saved; it warms up. 0: no averaging."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Arithmetic of the forward pass. ``auto``: bf16 where the processor computes with it natively."""
    compile: bool = False
    """Compile the model's hot parts (its attribute ``compile_parts``) by torch.compile, which needs a C++ compiler on a
    CPU and a minute at the start."""
    seed: int = 0
    """Seed of the batches and of the model's draws."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train. ``auto``: CUDA, else Apple's GPU, else the CPU."""
    threads: int | None = None
    """CPU threads; None: PyTorch's own choice."""
    prefetch: int = 2
    """Batches prepared ahead by a thread; 0: none."""
    nonfinite: Literal["stop", "skip"] = "stop"
    """What to do when the loss or the gradient is NaN or infinite: stop, or leave the batch out."""
    max_skips: int = 10
    """With ``skip``: batches in a row that may be left out before the training stops after all."""
    checkpoint_minutes: float | None = 5.0
    """Minutes between checkpoints; None: only by ``checkpoint_every`` and at the end."""
    checkpoint_every: int | None = None
    """Steps between checkpoints, beside those by the clock."""
    keep: int = 2
    """Newest checkpoints that are kept."""
    save_errors: Literal["stop", "continue"] = "stop"
    """When a checkpoint, a picture or a line of the log can't be written (a full disk): stop, or say so and go on; it
    is tried again at the next one. The last checkpoint must succeed."""
    log_every: int = 50
    """Steps between lines of the log; each holds the means over those steps."""
    validate_every: int | None = None
    """Steps between validations on held-out episodes; None: ten in the run, 0: none."""
    validate_batches: int = 4
    """Batches of a validation, always the same ones with the same draws."""
    sample_every: int | None = None
    """Steps between filmstrips (real above dreamed); None: five in the run, 0: none."""
    sample_frames: int = 16
    """Frames of a filmstrip that are dreamed."""
    prompt: int = 4
    """Real frames that a filmstrip's dream begins with."""
    tracker: Literal["none", "tensorboard", "wandb", "trackio"] = "none"
    """Where figures go beside log.jsonl. Needs the extra ``worldloom[track]``."""

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ConfigError("Give either steps or minutes, and not both.")
        positive = ["steps", "minutes", "batch", "accumulate", "length", "lr", "clip", "threads", "keep", "log_every"]
        positive += ["checkpoint_minutes", "checkpoint_every", "max_skips", "prompt", "sample_frames"]
        positive += ["validate_batches"]
        for name in positive:
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"{name} must be a positive number, found {value}.")
        for name in ("weight_decay", "warmup", "prefetch", "validate_every", "sample_every", "final_lr"):
            value = getattr(self, name)
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise ConfigError(f"{name} must not be negative, found {value}.")
        for name, value in (("ema", self.ema), ("betas[0]", self.betas[0]), ("betas[1]", self.betas[1])):
            if not 0 <= value < 1:
                raise ConfigError(f"{name} must be at least 0 and below 1, found {value}.")
        if self.accumulate > self.batch:
            raise ConfigError(f"A batch of {self.batch} can't be cut into {self.accumulate} pieces.")


FREE = frozenset({
    "checkpoint_every", "checkpoint_minutes", "compile", "device", "keep", "max_skips", "nonfinite", "prefetch",
    "prompt", "sample_every", "sample_frames", "save_errors", "threads", "tracker", "validate_batches",
    "validate_every",
})  # fmt: skip
"""Fields that may change when a run is taken up again: they do not decide which weights come out (``compile``,
``device`` and ``threads`` only in the last digits)."""


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """One line ``name: old -> new`` for every leaf in which two JSON values differ, by dotted name."""
    if isinstance(old, dict) and isinstance(new, dict):
        lines: list[str] = []
        for name in sorted(old.keys() | new.keys()):
            inner = f"{where}.{name}" if where else name
            lines += differences(old.get(name), new.get(name), inner)
        return lines
    if isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)) and len(old) == len(new):
        same = all(not differences(a, b) for a, b in zip(old, new, strict=True))
    else:
        same = old == new
    return [] if same else [f"{where}: {_short(old)} -> {_short(new)}"]


def _short(value: Any, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


__all__ = ["FREE", "TrainConfig", "differences"]
