"""Whole clips at once, by any sampling table."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor

from worldloom.contract import ContractError, Segment, UnsupportedError, row_keys
from worldloom.models.diffusion.clip import Clip, reachable
from worldloom.models.diffusion.flow import as_level
from worldloom.models.diffusion.sampling import guided, walk
from worldloom.nn import noise, tables

if TYPE_CHECKING:
    from worldloom.models.diffusion.model import Diffusion

BLUR = 1
"""Which of a frame's draws blurs it for guidance on history (0: the noise it begins with)."""


def check_fill(
    model: Diffusion, known: Bool[Tensor, "b t"], table: Tensor | None, b: int, length: int
) -> tuple[Tensor, bool]:
    """The table (the model's own for None), and whether frames see later ones by it. Raises :class:`ContractError` for
    what does not fit the clip and :class:`UnsupportedError` for what the model was not trained to see."""
    cfg = model.config
    if tuple(known.shape) != (b, length) or known.dtype != torch.bool:
        raise ContractError(f"known marks frames as ({b}, {length}) bool, found {tuple(known.shape)} {known.dtype}.")
    if table is None:
        name, steps = ("joint", max(8, cfg.steps)) if cfg.joint else ("autoregressive", cfg.steps)
        table = tables.make(name, length, steps, shift=cfg.flow.shift)
    tables.check_table(table, length)
    table = table.cpu()
    begun = ((table[0] > 0) & ~known.all(0).cpu()).nonzero().flatten().tolist()
    if begun:
        raise ContractError(
            f"The table begins frame {begun[0]} at {float(table[0, begun[0]]):g}, and it is not known: there "
            "is nothing but noise to begin with. Start it at 0, or mark it as known."
        )
    table = torch.where(known.all(0).cpu(), 1.0, table)
    future = tables.needs_future(table)
    later = bool((known[:, 1:] & ~known[:, :-1].cummin(1).values).any())
    if later and not cfg.ahead:
        raise UnsupportedError(
            "A known frame lies behind an unknown one, and this model sees only the past: train one with ahead "
            "above 0 (and joint), or mark known frames at the beginning alone."
        )
    if not cfg.ahead and tables.needs_later(table):
        raise UnsupportedError(
            "The table denoises frames after later ones, and this model sees only the past: train one with ahead "
            "above 0 (and joint), or take another table."
        )
    if future and not cfg.joint:
        raise UnsupportedError(
            "The table denoises frames whose past is not yet clean, and this model was trained on clean pasts "
            "alone: train one with joint above 0, or take tables.autoregressive."
        )
    if not cfg.joint and not bool(known[:, 0].all()):
        model.require("unprompted")
    return table, bool(cfg.ahead and (future or later))


def fill(model: Diffusion, segment: Segment, known: Bool[Tensor, "b t"], seed: int, table: Tensor | None) -> Segment:
    """See :meth:`worldloom.models.diffusion.model.Diffusion.fill`."""
    cfg = model.config
    b, length = segment.first.shape
    table, both_ways = check_fill(model, known, table, b, length)
    model.spec.check_obs(segment.obs, b, length)
    once = {n: x for n, x in segment.control.items() if n in model.spec.once}
    model.spec.controls_once(once, b)
    model.spec.controls({n: x for n, x in segment.control.items() if n not in once}, b, length)
    segment = segment.to(model.device)
    known = known.to(model.device)
    truth = model.enter(segment)
    keys = row_keys(b, seed, model.device)
    shape = tuple(truth.shape[2:])
    drawn = [noise.normal(keys, torch.full_like(keys, i), 0, shape) for i in range(length)]
    x = torch.where(known[..., None, None, None], truth, torch.stack(drawn, 1))
    both = torch.full((b,), both_ways, device=model.device)
    reach = reachable(segment.first, segment.valid, both)
    clips = {
        hidden: Clip([], [], model.conditions(segment.control, () if hidden is None else (hidden,)))
        for hidden in (None, *(name for name, weight in cfg.guidance.items() if weight != 1))
    }
    held: dict[str | None, list[Tensor]] = {hidden: [] for hidden in clips}

    @functools.cache
    def blur(i: int) -> Tensor:
        return noise.normal(keys, torch.full_like(keys, i), BLUR, shape)

    def estimate(frames: list[Tensor], times: Tensor, moving: list[int], spans: list[float]) -> Tensor:
        if len(set(spans)) > 1:  # long steps are learnt by frames that go together
            spans = [0.0] * len(spans)
        span = torch.tensor(spans, device=model.device).expand(b, -1).flatten()

        def one(hidden: str | None) -> Tensor:
            clip, old = clips[hidden], held[hidden]
            for i, frame in enumerate(frames):
                if i < len(old) and old[i] is frame:
                    continue
                # What is clean may be told as noisy, as in dreams frame by frame.
                clean = times[:, i] == 1
                blurred = hidden == "history" and cfg.history_level > 0
                told = torch.where(clean, cfg.history_level if blurred else 1 - cfg.told_noise, times[:, i])
                shown = frame * as_level(torch.where(clean, told, 1.0), frame)
                if blurred:
                    shown = shown + as_level((1 - told) * clean, frame) * blur(i)
                model.show(clip, shown, told, i if i < len(old) else None)
            held[hidden] = list(frames)
            seen = reach[:, moving]
            # Hidden is what is finished; frames that are made together go on seeing each other.
            if hidden == "history" and not cfg.history_level:
                seen = seen & (times < 1)[:, None]
            around = model.around(clip, moving, seen, segment.first)
            noisy = torch.stack([frames[i] for i in moving], 1)
            return model.denoise(noisy.flatten(0, 1), times[:, moving].flatten(), around, span)

        return model.tidy(guided(cfg.guidance, one)).unflatten(0, (b, len(moving)))

    x = walk(x, table, estimate, known, cfg.method)
    unit = model.leave(model.crop(x).flatten(0, 1)).unflatten(0, (b, length))
    dreamed = (unit * 255.0).round().to(torch.uint8)
    frames = torch.where(known[..., None, None, None], segment.obs[model.sensor], dreamed)
    return dataclasses.replace(segment, obs={**segment.obs, model.sensor: frames})
