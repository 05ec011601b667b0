"""Dreaming with any model of the contract: rollouts, Gymnasium environments, start files, video.

Names are loaded when first used, so that importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worldloom.imagination.env import DreamEnv
    from worldloom.imagination.prompts import prompted
    from worldloom.imagination.remedies import Remedy
    from worldloom.imagination.rollout import Dream, absorb, imagine
    from worldloom.imagination.starts import load_starts, save_starts
    from worldloom.imagination.vector_env import DreamVectorEnv
    from worldloom.imagination.video import filmstrip, read_video, side_by_side, write_image, write_video

_WHERE = {
    "Dream": "rollout",
    "DreamEnv": "env",
    "DreamVectorEnv": "vector_env",
    "Remedy": "remedies",
    "absorb": "rollout",
    "filmstrip": "video",
    "imagine": "rollout",
    "load_starts": "starts",
    "prompted": "prompts",
    "read_video": "video",
    "save_starts": "starts",
    "side_by_side": "video",
    "write_image": "video",
    "write_video": "video",
}

__all__ = [
    "Dream",
    "DreamEnv",
    "DreamVectorEnv",
    "Remedy",
    "absorb",
    "filmstrip",
    "imagine",
    "load_starts",
    "prompted",
    "read_video",
    "save_starts",
    "side_by_side",
    "write_image",
    "write_video",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
