"""An inverse-dynamics model: which action led from frames to the next, learnt from real frames in seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from worldloom.contract import Control, WorldloomError
from worldloom.files import tensors_hash

FRAMES = 3
"""Frames it sees, the last of them the one that the action led to: a push changes a velocity, which takes three."""
SIDE = 42
"""Frames are averaged down until no side is longer."""
BATCH, RATE = 32, 8e-3
STEPS = 300
"""Of training: counted, not timed, so that the same data give the same model."""
LEAST = 200
"""Real examples below which nothing is learnt."""
RARE = 20
"""A discrete action with fewer real examples is not asked for."""


class InverseError(WorldloomError):
    """Too few real examples to learn inverse dynamics from, or frames of another shape."""


class InverseNet(nn.Module):
    """Actions from three frames: where things are, and how that changes.

    Each frame's feature maps become points by a spatial softmax (Levine, Finn, Darrell and Abbeel 2016, section 5.1:
    expected coordinates, which are sub-pixel); the last points, their last step and its change are what a push shows
    in. Beside them the mean of convolutions over all three frames, for actions that move the whole picture.
    """

    def __init__(self, channels: int, height: int, width: int, outputs: int, points: int = 8, maps: int = 16) -> None:
        super().__init__()
        self.points = nn.Sequential(
            nn.Conv2d(channels, points, 5, padding=2), nn.ReLU(), nn.Conv2d(points, points, 3, padding=1)
        )
        self.motion = nn.Sequential(
            nn.Conv2d(FRAMES * channels, maps, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(maps, maps, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Linear(6 * points + maps, 128), nn.ReLU(), nn.Linear(128, outputs))
        self.register_buffer("across", torch.linspace(-1, 1, width))
        self.register_buffer("down", torch.linspace(-1, 1, height))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, 3, C, H, W), centred. Returns (B, outputs)."""
        b, t, c, h, w = x.shape
        # channels last: twice as fast on a CPU
        maps = self.points(x.reshape(b * t, c, h, w).contiguous(memory_format=torch.channels_last))
        weight = (3 * maps).flatten(2).softmax(-1).view(maps.shape)
        at = torch.stack([weight.sum(2) @ self.across, weight.sum(3) @ self.down], -1).view(b, t, -1)
        step = at.diff(dim=1)
        change = step.diff(dim=1)
        whole = x.reshape(b, t * c, h, w).contiguous(memory_format=torch.channels_last)
        motion = self.motion(whole).mean((2, 3))
        return self.head(torch.cat([at[:, -1], 10 * step[:, -1], 10 * change[:, -1], motion], 1))


@dataclass(frozen=True)
class InverseModel:
    """A trained one."""

    net: InverseNet
    """The network."""
    control: Control
    """The action it tells."""
    classes: np.ndarray
    """(K,) discrete actions it tells apart, ascending; empty for a continuous control."""
    mean: Tensor
    """(C, h, w) mean frame, taken off."""
    scale: float
    """Spread of the frames, divided by."""
    centre: np.ndarray
    """(D,) mean of a continuous action."""
    spread: np.ndarray
    """(D,) its standard deviation."""

    @property
    def sha256(self) -> str:
        """Hash of all that decides what it says."""
        state = {f"net.{k}": v for k, v in self.net.state_dict().items()} | {"mean": self.mean}
        said = {"classes": self.classes.tolist(), "scale": self.scale}
        return tensors_hash(state, said | {"centre": self.centre.tolist(), "spread": self.spread.tolist()})

    def __call__(self, frames: np.ndarray | Tensor) -> np.ndarray:
        """frames: (N, 3, C, H, W) uint8, the last led to by the action. Returns (N,) int64, or (N, D) float64."""
        small = shrink(frames)
        if small.shape[2:] != self.mean.shape:
            raise InverseError(
                f"The inverse-dynamics model saw frames that shrink to {tuple(self.mean.shape)}, found "
                f"{tuple(small.shape[2:])}."
            )
        with torch.no_grad():
            parts = [self.net(_centred(part, self.mean, self.scale)) for part in small.split(256)]
        found = torch.cat(parts).cpu().double().numpy()
        if self.control.kind == "discrete":
            told: np.ndarray = self.classes[found.argmax(1)]
            return told
        whole: np.ndarray = found * self.spread + self.centre
        return whole


def shrink(frames: np.ndarray | Tensor) -> Tensor:
    """(N, 3, C, H, W) uint8 to (N, 3, C, h, w) uint8 with h, w <= :data:`SIDE`, by averaging whole blocks of pixels:
    what lies past the last whole block is left out."""
    x = torch.from_numpy(np.array(frames)) if isinstance(frames, np.ndarray) else frames
    if x.ndim != 5 or x.shape[1] != FRAMES or x.dtype != torch.uint8:
        raise InverseError(f"Inverse dynamics needs frames (N, {FRAMES}, C, H, W) uint8, found {tuple(x.shape)}.")
    block = math.ceil(max(x.shape[-2:]) / SIDE)
    if block == 1:
        return x
    flat = [
        nn.functional.avg_pool2d(part.flatten(0, 1).float(), block).round().to(torch.uint8) for part in x.split(512)
    ]
    return torch.cat(flat).view(*x.shape[:3], *flat[0].shape[-2:])


def fit_inverse(
    frames: np.ndarray | Tensor, actions: np.ndarray, control: Control, seed: int, steps: int | None = None
) -> InverseModel:
    """Learn which action led from frames to the next: frames (N, 3, C, H, W) uint8 of real clips (or shrunk ones),
    actions (N, ...) that led to the last of each. Discrete actions are drawn equally often, however rare. steps: of
    training, :data:`STEPS` unless given.

    The same arguments give the same model, to the last bit on the same machine with the same threads. Raises
    :class:`InverseError` where there are too few examples.
    """
    small, steps = shrink(frames), STEPS if steps is None else steps
    discrete = control.kind == "discrete"
    chosen = torch.Generator().manual_seed(seed)
    groups: list[Tensor] = []
    classes = np.zeros(0, np.int64)
    if discrete:
        labels, counts = np.unique(actions, return_counts=True)
        classes = labels[(counts >= RARE) & (labels < control.n)].astype(np.int64)
        groups = [torch.from_numpy(np.flatnonzero(actions == label)) for label in classes]
    if len(small) < LEAST or (discrete and len(classes) < 2):
        raise InverseError(
            f"Inverse dynamics needs at least {LEAST} real examples"
            + (f" and two actions with {RARE} or more each" if discrete else "")
            + f", found {len(small)}"
            + (f" with {len(classes)} such actions." if discrete else ".")
        )
    mean = small.float().mean((0, 1))
    scale = float((small.float() - mean).std().clamp_min(1.0))
    flat = np.zeros((0,)) if discrete else np.asarray(actions, np.float64).reshape(len(small), -1)
    centre, spread = (np.zeros(0), np.zeros(0)) if discrete else (flat.mean(0), np.maximum(flat.std(0), 1e-6))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        channels, height, width = mean.shape[0], mean.shape[1], mean.shape[2]
        net = InverseNet(channels, height, width, len(classes) if discrete else spread.size)
    for weight in net.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    wanted = torch.from_numpy(np.searchsorted(classes, actions) if discrete else ((flat - centre) / spread))
    wanted = wanted if discrete else wanted.float()
    optimiser = torch.optim.Adam(net.parameters(), RATE)
    for step in range(steps):
        rows = _drawn(groups, len(small), chosen)
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, 2 * (1 - step / steps))
        said = net(_centred(small[rows], mean, scale))
        loss = nn.functional.cross_entropy(said, wanted[rows]) if discrete else (said - wanted[rows]).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
    return InverseModel(net.eval(), control, classes, mean, scale, centre, spread)


def _drawn(groups: Sequence[Tensor], count: int, chosen: torch.Generator) -> Tensor:
    """(BATCH,) examples: as many of each group, or any where there are none."""
    if not groups:
        return torch.randint(0, count, (BATCH,), generator=chosen)
    kinds = torch.randint(0, len(groups), (BATCH,), generator=chosen)
    places = torch.rand(BATCH, generator=chosen, dtype=torch.float64)
    return torch.stack([groups[k][int(p * len(groups[k]))] for k, p in zip(kinds.tolist(), places, strict=True)])


def _centred(x: Tensor, mean: Tensor, scale: float) -> Tensor:
    return (x.float() - mean) / scale


__all__ = ["FRAMES", "InverseError", "InverseModel", "InverseNet", "fit_inverse", "shrink"]
