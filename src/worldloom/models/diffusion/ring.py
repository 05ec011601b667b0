"""What attention may recall in a dream: the first frames of the episode, kept, and a ring of the last ones.

Its size never changes, and a frame costs one write. Keys stand in it unturned and are turned by their age when they
are read, so that the ten thousandth frame is as exact as the tenth; an age beyond the ring (that of the first frames)
is read as the oldest in it, which training has met.

Beside it there may be an *archive* of many more frames, from which a frame recalls those that look most like the newest
one (as Context-as-Memory and WorldMem do by pose): explicit memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from worldloom.contract import State
from worldloom.models.diffusion.backbone import Recall


def empty(
    batch: int, slots: int, layers: int, cells: int, width: int, device: torch.device, archive: int = 0
) -> dict[str, Tensor]:
    """An empty ring: ``memory`` (B, slots, layers, 2, cells, D), ``at`` (B, slots) the frame of the episode that each
    slot holds, -1 for none, and ``since`` (B,) how many frames the episode has had. With an archive the same of its
    slots, as ``archive`` and ``archive_at``, and what each is known by, ``archive_mark`` (B, archive, D)."""
    out = {"since": torch.zeros(batch, dtype=torch.int64, device=device)}
    for name, at, count in (("memory", "at", slots), ("archive", "archive_at", archive)):
        if count:
            out[name] = torch.zeros(batch, count, layers, 2, cells, width, device=device)
            out[at] = torch.full((batch, count), -1, dtype=torch.int64, device=device)
    if archive:
        out["archive_mark"] = torch.zeros(batch, archive, width, device=device)
    return out


def forget(state: State, rows: Bool[Tensor, " b"]) -> dict[str, Tensor]:
    """``since``, ``at`` and ``archive_at`` with some rows emptied: an episode begins."""
    names = [name for name in ("at", "archive_at") if name in state.tensors]
    return {"since": torch.where(rows, 0, state["since"])} | {
        name: torch.where(rows[:, None], -1, state[name]) for name in names
    }


def write(state: State, keys: list[Tensor], sink: int, donate: bool) -> dict[str, Tensor]:
    """The ring with one more frame; ``keys``: (B, 2, cells, D) for each layer. With ``donate`` it is written into."""
    since, new = state["since"], torch.stack(keys, 1)
    rows = torch.arange(len(since), device=since.device)
    out = {"since": since + 1}
    for name, where, stay in (("memory", "at", sink), ("archive", "archive_at", 0)):
        if name not in state.tensors:
            continue
        held, at = state[name], state[where]
        if not donate:
            held, at = held.clone(), at.clone()
        slots = at.shape[1]
        slot = torch.where(since < slots, since, stay + (since - stay) % (slots - stay))
        held[rows, slot] = new.to(held.dtype)
        at[rows, slot] = since
        out |= {name: held, where: at}
        if name == "archive":
            marks = state["archive_mark"] if donate else state["archive_mark"].clone()
            marks[rows, slot] = mark(new[:, None, 0])[:, 0].to(marks.dtype)
            out["archive_mark"] = marks
    return out


def recall(state: State, sink: int, skip_newest: bool = False, blind: bool = False, retrieve: int = 0) -> Recall:
    """What the frame after the newest may recall; ``skip_newest``: what the newest itself could; ``blind``: nothing.

    retrieve: frames of the archive, the most alike to the last frame that may be recalled.
    """
    at = state["at"]
    now = state["since"] - int(skip_newest)
    behind = now[:, None] - at
    allowed = (at >= 0) & (behind > 0) & (not blind)
    span = at.shape[1] - sink
    memory = state["memory"]
    if retrieve:
        far, archive = now[:, None] - state["archive_at"], state["archive"]
        marks = state["archive_mark"]
        newest = (far == 1)[..., None]
        alike = likeness((marks * newest).sum(1, keepdim=True), marks)[:, 0]
        kept = (state["archive_at"] < sink) & (state["archive_at"] >= 0)
        open_to = (state["archive_at"] >= 0) & (far > span) & ~kept & (not blind)
        best = alike.masked_fill(~open_to, -torch.inf).topk(min(retrieve, far.shape[1]), 1).indices
        rows = torch.arange(len(best), device=best.device)[:, None]
        memory = torch.cat([memory, archive[rows, best]], 1)
        behind = torch.cat([behind, far[rows, best]], 1)
        allowed = torch.cat([allowed, open_to[rows, best]], 1)
    behind = behind.clamp(0, span).to(torch.float32)
    return Recall(list(memory.unbind(2)), behind[:, None], allowed[:, None])


def mark(keys: Float[Tensor, "b m 2 cells d"]) -> Float[Tensor, "b m d"]:
    """What a remembered frame is known by: the mean of its values over the grid, in the first layer."""
    return keys[:, :, 1].mean(2)


def likeness(a: Float[Tensor, "b n d"], b: Float[Tensor, "b m d"]) -> Float[Tensor, "b n m"]:
    """Cosines between marks."""
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).mT


def recall_clip(
    keys: Sequence[list[Tensor]],
    targets: Sequence[int],
    reach: Bool[Tensor, "b n t"],
    first: Bool[Tensor, "b t"],
    slots: int,
    sink: int,
    retrieve: int = 0,
    archive: int = 0,
) -> Recall:
    """What n target frames of a clip may recall of it: what a ring of so many slots would hold of its frames.

    keys: by frame, by layer, (B, 2, cells, D). reach: which frames each target may see at all. first: (B, T), frames
    that begin an episode; so does, as far as the clip knows, its own first.
    """
    span, t = slots - sink, reach.shape[2]
    frame = torch.arange(t, device=reach.device)
    begun = torch.cummax(torch.where(first, frame, -1), 1).values.clamp_min(0)
    kept = (frame - begun < sink)[:, None]  # (B, 1, T)
    index = torch.tensor(list(targets), device=reach.device)
    behind = (index[:, None] - frame)[None]  # (1, n, T)
    near = (behind.abs() <= span) | kept
    allowed = reach & near
    if retrieve:
        marks = mark(torch.stack([k[0] for k in keys], 1)).detach()
        before = (index - 1).clamp_min(0)
        asked = marks[:, before] * torch.gather(reach, 2, before[None, :, None].expand(len(reach), -1, 1))
        open_to = reach & ~near & (behind > 0) & (behind <= archive)
        alike = likeness(asked, marks).masked_fill(~open_to, -torch.inf)
        best = alike.topk(min(retrieve, t), -1).indices
        allowed = allowed | (torch.zeros_like(reach).scatter(2, best, True) & open_to)
    columns = allowed.flatten(0, 1).any(0).nonzero().flatten().tolist() if len(keys) > 2 * slots else list(range(t))
    if not columns:
        columns = [0]
    stacked = [torch.stack([keys[j][layer] for j in columns], 1) for layer in range(len(keys[0]))]
    behind = behind.clamp(-span, span).to(torch.float32).expand(len(reach), -1, -1)
    return Recall(stacked, behind[..., columns], allowed[..., columns])


__all__ = ["empty", "forget", "recall", "recall_clip", "write"]
