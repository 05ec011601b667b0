"""One function that runs every sampling table, and guidance.

It knows neither networks nor states: it is handed an estimator of clean frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldloom.models.diffusion.flow import euler
from worldloom.nn.tables import moves

Estimate: TypeAlias = Callable[[list[Tensor], Tensor, list[int], list[float]], Tensor]
"""(T frames (B, C, H, W), their times (B, T), n indices of frames, how far the step goes that each will take by it) to
clean estimates of those frames (B, n, C, H, W). A frame that has moved is another tensor, one that has not the same."""
Method: TypeAlias = Literal["euler", "heun"]


def walk(
    x: Float[Tensor, "b t c h w"],
    table: Float[Tensor, "rows t"],
    estimate: Estimate,
    known: Bool[Tensor, "b t"] | None = None,
    method: Method = "euler",
) -> Float[Tensor, "b t c h w"]:
    """Carry frames from row 0 of a sampling table to its last, where all are clean.

    x: noise where a frame begins at 0. Frames marked ``known`` are clean from the start and stay as they are. Frames
    that do not move in a step are seen as they stand. ``heun`` corrects each step by the slope at its end (Karras et
    al. 2022, algorithm 1), but for the step that arrives at 1: two estimates a step.
    """
    frames = list(x.unbind(1))
    known_everywhere = [False] * x.shape[1] if known is None else known.all(0).tolist()

    def times(row: Tensor) -> Tensor:
        row = row.to(x.device).expand(x.shape[0], -1)
        return row if known is None else torch.where(known, 1.0, row)

    for now, then, moving in moves(table):
        chosen = [i for i in moving.nonzero().flatten().tolist() if not known_everywhere[i]]
        if not chosen:
            continue
        before = [frames[i] for i in chosen]
        span = [(float(now[i]), float(then[i])) for i in chosen]
        # A shortcut is a step of its own: slopes that are to be averaged are those of the path itself.
        reach = [0.0 if method == "heun" else end - start for start, end in span]
        clean = estimate(frames, times(now), chosen, reach)
        after = [euler(b, c, *s) for b, c, s in zip(before, clean.unbind(1), span, strict=True)]
        _put(frames, chosen, after, known)
        again = [i for i, (_, end) in zip(chosen, span, strict=True) if end < 1] if method == "heun" else []
        if again:
            ahead = estimate(frames, times(then), again, [0.0] * len(again))
            second = dict(zip(again, ahead.unbind(1), strict=True))
            corrected = []
            for i, b, c, (start, end) in zip(chosen, before, clean.unbind(1), span, strict=True):
                if i in second:
                    slope = (c - b) / (1 - start) + (second[i] - frames[i]) / (1 - end)
                    corrected.append(b + slope * ((end - start) / 2))
            _put(frames, again, corrected, known)
    return torch.stack(frames, 1)


def _put(frames: list[Tensor], where: list[int], new: list[Tensor], known: Tensor | None) -> None:
    """Replace some frames, but in rows where they are known."""
    for i, x in zip(where, new, strict=True):
        frames[i] = x if known is None else torch.where(known[:, i, None, None, None], frames[i], x)


def guided(guidance: Mapping[str, float], estimate: Callable[[str | None], Tensor]) -> Tensor:
    """Classifier-free guidance: x + sum over conditions of (w - 1) (x - x without the condition) (Ho & Salimans 2022).

    ``estimate(None)`` sees everything, ``estimate(name)`` all but one condition. Guiding an estimate of x is guiding
    the velocity or the noise: at one level each is a linear map of the others. ``history`` is a condition like any
    other, hidden whole or in part (Song et al. 2025, "History-guided video diffusion").
    """
    full = estimate(None)
    out = full
    for name, weight in guidance.items():
        if weight != 1.0:
            out = out + (weight - 1.0) * (full - estimate(name))
    return out
