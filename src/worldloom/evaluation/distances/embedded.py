"""A small network that watches moving things, trained on our own simulators; its weights lie beside this file.

``python -m benchmarks.extractor`` trains it anew: from clips of discs in many configurations, colours and sizes it
learns to tell speeds, gravity, numbers, sizes and impacts, and which of a few edits a clip has suffered.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldloom.files import load_tensors, tensors_hash

WEIGHTS = Path(__file__).with_name("embedded.safetensors")
FEATURES = 64
CHUNK = 16
"""Clips that pass through the network at a time: fixed, so that features can be had again to the last digit."""


class ClipNet(nn.Module):
    """Clips (B, T, 3, H, W), floats in [0, 1], to features (B, 64). Any T >= 2 and any size from 16 px on.

    Each frame enters as its difference from the clip's mean and from the frame before, in units of the largest of the
    former: what stands still and the colours' contrast are left out. What is found is averaged and maximised over
    places, and summed up over time by mean, spread and maximum.
    """

    def __init__(self) -> None:
        super().__init__()
        layers = [
            nn.Conv3d(6, 16, (1, 5, 5), (1, 2, 2), (0, 2, 2), bias=False),
            nn.Conv3d(16, 32, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False),
            nn.Conv3d(32, 48, 3, 2, 1, bias=False),
            nn.Conv3d(48, 64, 3, 1, 1, bias=False),
        ]
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList([nn.BatchNorm3d(layer.out_channels) for layer in layers])
        self.middle = nn.BatchNorm1d(2 * 3 * 64)
        self.out = nn.Linear(2 * 3 * 64, FEATURES)

    def forward(self, clips: Tensor) -> Tensor:
        """(B, T, 3, H, W) to (B, 64)."""
        moving = clips - clips.mean(1, keepdim=True)
        moving = moving / (moving.abs().amax((1, 2, 3, 4), keepdim=True) + 0.02)
        x = torch.cat([moving[:, 1:], moving[:, 1:] - moving[:, :-1]], 2).transpose(1, 2)  # (B, 6, T - 1, H, W)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.relu(norm(layer(x)))
        over = torch.cat([x.mean((-1, -2)), x.amax((-1, -2))], 1)  # (B, 128, T')
        summed = torch.cat([over.mean(-1), over.std(-1, correction=0), over.amax(-1)], 1)
        found: Tensor = self.out(self.middle(summed))
        return found


@cache
def trained() -> tuple[ClipNet, str]:
    """The network as it ships, in evaluation mode, and the hash of its weights. Read once."""
    tensors, meta = load_tensors(WEIGHTS)
    net = ClipNet().eval().requires_grad_(False)
    net.load_state_dict({name: x.float() if x.is_floating_point() else x for name, x in tensors.items()})
    return net, tensors_hash(tensors, meta)


__all__ = ["CHUNK", "FEATURES", "WEIGHTS", "ClipNet", "trained"]
