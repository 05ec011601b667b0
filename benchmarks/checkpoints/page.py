"""The page of the shipped models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def page(models: Mapping[str, Mapping[str, Any]]) -> str:
    """All models as tables."""
    total = sum(sum(m["bytes"].values()) for m in models.values())
    lines = [
        "# The models that come with the package",
        "",
        f"Written by `python -m benchmarks checkpoints`. Together {total / 1e6:.1f} MB. Every figure was measured on "
        "the weights as they are stored, on episodes that training never saw; intervals of 95 % over episodes.",
    ]
    for name, model in models.items():
        train = model["train"]
        lines += [
            "",
            f"## {name}",
            "",
            f"{model['parameters']:,} parameters, {model['steps']:,} steps of {train['batch']} windows by "
            f"{train.get('optimizer', 'adamw')} in {model['train_seconds'] / 60:.0f} minutes on {model['device']} "
            f"({model['precision']}), training seed {train['seed']}. Stored in {model['stored']}, "
            f"{sum(model['bytes'].values()) / 1e6:.2f} MB with starts and trust; weights {model['weights']}. Measured "
            f"from {model['starts']} starts, seed {model['seed']}, on {model['machine']}.",
            "",
            "| what | value | interval | n | floor or ceiling | asked for | reached |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in model["rows"]:
            bound = row["floor"] if row["floor"] is not None else row["ceiling"]
            goal, reached = row["goal"], row["reached"]
            lines.append(
                f"| {row['what']} | {_number(row['value'])} | {_span(row['interval'])} | {row['n']} {row['n_of']} | "
                f"{_number(bound)} | {_number(goal)} | {'' if reached is None else 'yes' if reached else '**no**'} |"
            )
        frames = model["rounding"][0]["frames"]
        lines += [
            "",
            "What storing the weights in fewer bytes does: median position error in px of the same dreams, and median "
            f"of how much more it is than with weights as trained ({model['rounding'][0]['n']} starts × balls).",
            "",
            "| stored in | " + " | ".join(f"{h} frames | more" for h in frames) + " |",
            "|---|" + "---|---|" * len(frames),
        ]
        for row in model["rounding"]:
            cells = [
                f"{_number(x)} ({_span(i)}) | {_number(more)} ({_span(j)})"
                for x, i, more, j in zip(
                    row["median_px"], row["interval"], row["more_px"], row["more_interval"], strict=True
                )
            ]
            lines.append(f"| {row['stored']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _number(x: float | None) -> str:
    return "" if x is None else f"{x:.3g}"


def _span(pair: Any) -> str:
    return "" if pair is None else f"{pair[0]:.3g} to {pair[1]:.3g}"
