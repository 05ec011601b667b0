"""What attention may recall in a dream: the first frames of the episode, kept, and a ring of the last ones.

Its size never changes, and a frame costs one write. Keys stand in it unturned and are turned by their age when they
are read, so that the ten thousandth frame is as exact as the tenth; an age beyond the ring (that of the first frames)
is read as the oldest in it, which training has met.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from worldloom.contract import State
from worldloom.models.diffusion.backbone import Recall


def empty(batch: int, slots: int, layers: int, cells: int, width: int, device: torch.device) -> dict[str, Tensor]:
    """An empty ring: ``memory`` (B, slots, layers, 2, cells, D), ``at`` (B, slots) the frame of the episode that each
    slot holds, -1 for none, and ``since`` (B,) how many frames the episode has had."""
    return {
        "memory": torch.zeros(batch, slots, layers, 2, cells, width, device=device),
        "at": torch.full((batch, slots), -1, dtype=torch.int64, device=device),
        "since": torch.zeros(batch, dtype=torch.int64, device=device),
    }


def forget(state: State, rows: Bool[Tensor, " b"]) -> dict[str, Tensor]:
    """``at`` and ``since`` with some rows emptied: an episode begins."""
    return {
        "at": torch.where(rows[:, None], -1, state["at"]),
        "since": torch.where(rows, 0, state["since"]),
    }


def write(state: State, keys: list[Tensor], sink: int, donate: bool) -> dict[str, Tensor]:
    """The ring with one more frame; ``keys``: (B, 2, cells, D) for each layer. With ``donate`` it is written into."""
    memory, at, since = state["memory"], state["at"], state["since"]
    if not donate:
        memory, at = memory.clone(), at.clone()
    slots = at.shape[1]
    slot = torch.where(since < slots, since, sink + (since - sink) % (slots - sink))
    rows = torch.arange(len(since), device=since.device)
    memory[rows, slot] = torch.stack(keys, 1).to(memory.dtype)
    at[rows, slot] = since
    return {"memory": memory, "at": at, "since": since + 1}


def recall(state: State, sink: int, skip_newest: bool = False, blind: bool = False) -> Recall:
    """What the frame after the newest may recall; ``skip_newest``: what the newest itself could; ``blind``: nothing."""
    at = state["at"]
    now = state["since"] - int(skip_newest)
    behind = now[:, None] - at
    allowed = (at >= 0) & (behind > 0) & (not blind)
    span = at.shape[1] - sink
    behind = behind.clamp(0, span).to(torch.float32)
    return Recall(list(state["memory"].unbind(2)), behind[:, None], allowed[:, None])


def recall_clip(
    keys: Sequence[list[Tensor]],
    targets: Sequence[int],
    reach: Bool[Tensor, "b n t"],
    starts: Bool[Tensor, "b t"],
    slots: int,
    sink: int,
) -> Recall:
    """What n target frames of a clip may recall of it: what a ring of so many slots would hold of its frames.

    keys: by frame, by layer, (B, 2, cells, D). reach: which frames each target may see at all. starts: (B, T), frames
    that begin an episode, and the one at which the clip begins.
    """
    span, t = slots - sink, reach.shape[2]
    frame = torch.arange(t, device=reach.device)
    begun = torch.cummax(torch.where(starts, frame, -1), 1).values.clamp_min(0)
    kept = (frame - begun < sink)[:, None]  # (B, 1, T)
    behind = (torch.tensor(list(targets), device=reach.device)[:, None] - frame)[None]  # (1, n, T)
    allowed = reach & ((behind.abs() <= span) | kept)
    columns = allowed.flatten(0, 1).any(0).nonzero().flatten().tolist() if len(keys) > 2 * slots else list(range(t))
    if not columns:
        columns = [0]
    stacked = [torch.stack([keys[j][layer] for j in columns], 1) for layer in range(len(keys[0]))]
    behind = behind.clamp(-span, span).to(torch.float32).expand(len(reach), -1, -1)
    return Recall(stacked, behind[..., columns], allowed[..., columns])


def nbytes(state: State) -> int:
    """Bytes of a state, all rows."""
    return sum(x.numel() * x.element_size() for x in state.tensors.values())


__all__ = ["empty", "forget", "nbytes", "recall", "recall_clip", "write"]
