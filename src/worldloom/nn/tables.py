"""Sampling tables: what a video sampler does, as plain data.

A table is a float32 tensor (S + 1, T): the time of each of T frames before the first step and after each of S steps.
Time 0 is noise, 1 is clean. Row 0 is where sampling starts; a frame's times never fall; the last row is all 1. A frame
that stands at 1 from row 0 on is never denoised: it is given.

    table = pyramid(frames=16, steps=4, lag=2)
    for now, then, moving in moves(table): ...      # denoise the frames that move from now to then, (T,) each

The four tables here differ in one thing, the step at which each frame begins (:func:`staggered`); any other table that
:func:`check_table` lets pass is as good. One level per frame: diffusion forcing (Chen et al. 2024, §3), whose
scheduling matrix is this table upside down, with levels of noise for times.
"""

from __future__ import annotations

import difflib
import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldloom.contract import ContractError


def times(steps: int, shift: float = 1.0) -> Float[Tensor, " steps_1"]:
    """(steps + 1,) times of one frame, from exactly 0 (noise) to exactly 1 (clean).

    With ``shift`` 1 they are evenly spaced; above 1 more of them lie near noise, below 1 near the clean frame. It is
    the timestep shift of Stable Diffusion 3 (Esser et al. 2024, eq. 23), σ' = shift σ / (1 + (shift - 1) σ), written
    for σ = 1 - t: t' = t / (shift - (shift - 1) t). The papers' figures for it can be used as they are.
    """
    _whole(steps=steps)
    if not (isinstance(shift, (int, float)) and 0 < shift < math.inf):
        raise ContractError(f"shift must be a positive number (1: evenly spaced times), found {shift!r}.")
    even = [i / steps for i in range(steps + 1)]
    return torch.tensor([t / (shift - (shift - 1) * t) for t in even[:-1]] + [1.0], dtype=torch.float32)


def staggered(starts: Sequence[int], steps: int, shift: float = 1.0) -> Float[Tensor, "rows frames"]:
    """The table in which frame j begins at step ``starts[j]`` and is clean ``steps`` steps later."""
    _whole(frames=len(starts))
    _whole(0, **{f"starts[{j}]": start for j, start in enumerate(starts)})
    levels = times(steps, shift)
    done = torch.arange(max(starts) + steps + 1)[:, None] - torch.tensor(list(starts))
    return levels[done.clamp(0, steps)]


def joint(frames: int, steps: int, shift: float = 1.0) -> Float[Tensor, "rows frames"]:
    """All frames together, ``steps`` steps in all: Sora, Video Diffusion Models (Ho et al. 2022)."""
    return pyramid(frames, steps, 0, shift)


def autoregressive(frames: int, steps: int, shift: float = 1.0) -> Float[Tensor, "rows frames"]:
    """One frame after the other, ``frames * steps`` steps: GameNGen, DIAMOND, Oasis, the lab. What ``step`` does."""
    return pyramid(frames, steps, steps, shift)


def pyramid(frames: int, steps: int, lag: int = 1, shift: float = 1.0) -> Float[Tensor, "rows frames"]:
    """Each frame begins ``lag`` steps after the one before it: ``steps + lag * (frames - 1)`` steps.

    A frame is finished every ``lag`` steps while up to ``steps / lag`` are under way: streaming, as in Rolling
    Diffusion (Ruhe et al. 2024) and diffusion forcing. A lag of 0 is :func:`joint`, one of ``steps``
    :func:`autoregressive`.
    """
    _whole(frames=frames, steps=steps)
    _whole(0, lag=lag)
    return staggered([lag * j for j in range(frames)], steps, shift)


def keyframes(frames: int, steps: int, every: int, shift: float = 1.0) -> Float[Tensor, "rows frames"]:
    """Frames 0, ``every``, 2 ``every``, ... and the last together, then all between them together: ``2 * steps`` steps
    (``steps`` where none lie between). Hierarchical generation: Video LDM (Blattmann et al. 2023), NUWA-XL.
    """
    _whole(frames=frames, steps=steps, every=every)
    return staggered([0 if j % every == 0 or j == frames - 1 else steps for j in range(frames)], steps, shift)


TABLES: dict[str, Callable[..., Tensor]] = {
    "joint": joint,
    "autoregressive": autoregressive,
    "pyramid": pyramid,
    "keyframes": keyframes,
}
"""The tables by name."""


def make(name: str, frames: int, steps: int, **options: Any) -> Float[Tensor, "rows frames"]:
    """The table ``name`` of :data:`TABLES`; ``options`` are its own (``lag``, ``every``, ``shift``)."""
    if name not in TABLES:
        raise ContractError(f"There is no sampling table {name!r}.{_near(name, list(TABLES), 'Tables')}")
    known = list(inspect.signature(TABLES[name]).parameters.values())[2:]
    for option in options:
        if option not in {p.name for p in known}:
            hint = _near(option, [p.name for p in known], "Options")
            raise ContractError(f"The sampling table {name!r} has no option {option!r}.{hint}")
    for missing in (p.name for p in known if p.default is p.empty and p.name not in options):
        raise ContractError(f"The sampling table {name!r} needs a value for {missing!r}.")
    return TABLES[name](frames, steps, **options)


def check_table(table: Tensor, frames: int) -> None:
    """Raise :class:`ContractError` unless ``table`` is a sampling table for so many frames.

    The message names the first entry, in reading order, that is not as it should be.
    """
    if table.ndim != 2 or len(table) < 2 or table.dtype != torch.float32:
        raise ContractError(
            f"A sampling table is float32 (steps + 1, frames) with at least one step, found {_kind(table)} "
            f"{tuple(table.shape)}."
        )
    if table.shape[1] != frames:
        raise ContractError(f"The sampling table has times for {table.shape[1]} frames, but the clip has {frames}.")
    outside = ~((table >= 0) & (table <= 1))  # a NaN too
    falls = torch.zeros_like(outside)
    falls[1:] = table[1:] < table[:-1]
    wrong = (outside | falls).nonzero()
    if len(wrong):
        row, frame = wrong[0].tolist()
        found = f"The sampling table has {_exact(table[row, frame])} for frame {frame} in row {row}"
        if outside[row, frame]:
            raise ContractError(f"{found}: times lie in [0, 1], 0 is noise and 1 is clean.")
        raise ContractError(
            f"{found}, below its {_exact(table[row - 1, frame])} in the row above: times never fall (0 is noise, "
            f"1 is clean)."
        )
    left = (table[-1] < 1).nonzero().flatten()
    if len(left):
        frame = int(left[0])
        raise ContractError(
            f"The sampling table never cleans frame {frame}: its last row must be all 1, found "
            f"{_exact(table[-1, frame])}."
        )


def needs_future(table: Float[Tensor, "rows frames"]) -> bool:
    """Whether some frame moves before every earlier one is clean.

    Such a table denoises frame j before frame j - 1 can be shown, so it must be told of j's action beforehand: it
    belongs to ``fill``, and can't be played by ``step``.
    """
    moving = table[1:] > table[:-1]
    unfinished = (table[:-1] < 1).cumsum(1) - (table[:-1] < 1).long()  # (S, T): earlier frames not yet clean
    return bool((moving & (unfinished > 0)).any())


def needs_later(table: Float[Tensor, "rows frames"]) -> bool:
    """Whether some frame moves while a later one is cleaner: only a model that sees later frames makes use of that."""
    moving, before = table[1:] > table[:-1], table[:-1]
    cleanest = before.flip(1).cummax(1).values.flip(1)  # of the frame itself and later ones
    return bool((moving & (cleanest > before)).any())


def moves(
    table: Float[Tensor, "rows frames"],
) -> Iterator[tuple[Float[Tensor, " frames"], Float[Tensor, " frames"], Bool[Tensor, " frames"]]]:
    """By step: (T,) the times now, (T,) those after it, and (T,) which frames move.

    A step in which no frame moves is left out: it would be a pass of the network for nothing.
    """
    for now, then in itertools.pairwise(table):
        moving = then > now
        if moving.any():
            yield now, then, moving


def _whole(low: int = 1, **numbers: int) -> None:
    for name, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise ContractError(
                f"{name} of a sampling table must be a whole number of at least {low}, found {value!r}."
            )


def _near(name: str, known: list[str], what: str) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f" Did you mean {near[0]!r}?" if near else f" {what}: {sorted(known)}."


def _kind(table: Tensor) -> str:
    return str(table.dtype).removeprefix("torch.")


def _exact(value: Tensor) -> str:
    return str(value.cpu().numpy())  # the shortest text that is this float32: 0.99999994 is not shown as 1
