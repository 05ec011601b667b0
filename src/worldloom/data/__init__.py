"""Collecting, episodes on disk, and windows for training.

``collect.collect`` and ``prefetch.prefetch`` are imported from their own modules, whose names they bear.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worldloom.data.episode import DataError, Episode
    from worldloom.data.mixing.mixture import Mixture
    from worldloom.data.store import Dataset, DatasetWriter
    from worldloom.data.windows import Windows

_HOME = {
    "DataError": "episode",
    "Dataset": "store",
    "DatasetWriter": "store",
    "Episode": "episode",
    "Mixture": "mixing.mixture",
    "Windows": "windows",
}

__all__ = ["DataError", "Dataset", "DatasetWriter", "Episode", "Mixture", "Windows"]


def __getattr__(name: str) -> Any:
    """Names are found when first used, so that importing the package costs nothing."""
    if name in _HOME:
        return getattr(importlib.import_module(f"worldloom.data.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
