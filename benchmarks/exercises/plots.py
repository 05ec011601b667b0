"""The pictures of the exercises' page, from what exercises.json holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.exercises.laws import Fit
from benchmarks.exercises.runs import RUNS
from benchmarks.exercises.starts import EVENT
from benchmarks.pictures import _png, _pyplot

SHADES = {"one": "#2a6fbb", "two": "#e0a030", "large": "#8a4fbf"}
KINDS = {"free": "#1f9d63", "wall": "#2a6fbb", "contact": "#e0a030", "wall and ball": "#c0392b"}
LAWS = {"linear": ":", "h^1.5": "--", "saturating": "-.", "saturating h^1.5": "-"}


def _plain(axis: Any) -> None:
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color="#e6e9ee", linewidth=0.6)
    axis.set_axisbelow(True)


def _ticker() -> Any:
    from matplotlib import ticker

    return ticker


def losses(runs: Mapping[str, Any]) -> bytes:
    """Held-out loss by step: as it is, and by ball."""
    figure, axes = _pyplot().subplots(1, 2, figsize=(8.5, 3.2), layout="constrained", sharey=True)
    for name, run in runs.items():
        steps, values = np.array(run["loss"]).T
        for axis, share in zip(axes, (1, run["world"]["balls"]), strict=True):
            axis.plot(steps, values / share, "o-", color=SHADES[name], markersize=3, label=RUNS[name])
    for axis, title in zip(axes, ("Held-out loss", "The same for each ball"), strict=True):
        axis.set(xscale="log", yscale="log")
        for side in (axis.xaxis, axis.yaxis):
            side.set_minor_formatter(_ticker().LogFormatter(labelOnlyBase=False, minor_thresholds=(1, 0.4)))
        axis.tick_params(which="minor", labelsize=6)
        axis.set_xlabel("optimiser steps", fontsize=8)
        axis.set_title(title, fontsize=8)
        _plain(axis)
    axes[0].legend(frameon=False, fontsize=7)
    return _png(figure)


def meetings(events: Mapping[str, Any]) -> bytes:
    """Median position error by frame, by what happens in the frame of the event."""
    figure, axes = _pyplot().subplots(
        1, len(events), figsize=(3.4 * len(events), 3.2), layout="constrained", sharey=True, squeeze=False
    )
    for axis, (name, rows) in zip(axes[0], events.items(), strict=True):
        for kind, row in rows.items():
            h = np.arange(1, len(row["by_frame"]) + 1)
            axis.plot(h, row["by_frame"], color=KINDS[kind], label=f"{kind} (n = {row['starts']})")
        axis.axvspan(EVENT - 0.5, EVENT + 0.5, color="#a9b2bf", alpha=0.35, linewidth=0)
        axis.set(yscale="log")
        axis.set_xlabel("frames dreamed", fontsize=8)
        axis.set_title(RUNS[name], fontsize=8)
        axis.legend(frameon=False, fontsize=7)
        _plain(axis)
    axes[0][0].set_ylabel("median position error, px", fontsize=8)
    return _png(figure)


def growth(drift: Mapping[str, Any], textbook: float) -> bytes:
    """Mean error against the horizon on log-log axes, with the laws as they fit the whole range."""
    figure, axes = _pyplot().subplots(
        1, len(drift), figsize=(4.6 * len(drift), 3.9), layout="constrained", sharey=True, squeeze=False
    )
    for axis, (name, found) in zip(axes[0], drift.items(), strict=True):
        mean = np.array(found["by_frame"])
        h = np.arange(1, len(mean) + 1)
        axis.fill_between(h, *np.array(found["by_frame_interval"]), color=SHADES[name], alpha=0.25, linewidth=0)
        axis.plot(h, mean, color=SHADES[name], linewidth=2, label="mean error, with its interval")
        whole = found["laws"][-1]
        for law, style in LAWS.items():
            row = whole["laws"][law]
            line = Fit(law, row["scale"][0], row["inner"][0] if "inner" in row else None).at(h)
            axis.plot(h, line, style, color="#4a5261", linewidth=1.2, label=row["formula"])
        axis.plot(h, textbook * h, color="#c0392b", linewidth=0.8, label=f"{textbook:g} px a frame")
        axis.axhline(found["unrelated_px"], color="#1f9d63", linewidth=1, label="two unrelated dreams")
        axis.set(xscale="log", yscale="log", ylim=(mean.min() / 2, 3 * max(mean.max(), found["unrelated_px"])))
        axis.set_xlabel("frames dreamed", fontsize=8)
        axis.set_title(f"{RUNS[name]}, n = {found['starts']}", fontsize=8)
        _plain(axis)
    axes[0][0].set_ylabel("position error, px", fontsize=8)
    axes[0][0].legend(frameon=False, fontsize=7, loc="upper left")
    return _png(figure)
