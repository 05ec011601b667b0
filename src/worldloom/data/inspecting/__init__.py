"""What a dataset, or a source not yet imported, holds, and what is wrong with it. docs/inspect.md is its page."""

from __future__ import annotations

from worldloom.data.inspecting.inspection import InspectConfig, Inspection, inspect_data, inspect_episodes
from worldloom.data.inspecting.shift import Finding, ShiftConfig, find_shift
from worldloom.data.sources.base import Problem

__all__ = [
    "Finding",
    "InspectConfig",
    "Inspection",
    "Problem",
    "ShiftConfig",
    "find_shift",
    "inspect_data",
    "inspect_episodes",
]
