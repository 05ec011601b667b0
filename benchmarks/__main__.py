"""`python -m benchmarks [NAME ...]`: run them and write docs/results/benchmarks.json and .md.

`python -m benchmarks tracker` is apart: no speed but errors, with a page of its own. So are `python -m benchmarks
exercises`, `ablation` and `checkpoints`, which train what they measure, and `python -m benchmarks sora RUN`,
`remedies RUN` and `speed RUN`; these have options of their own.
"""

from __future__ import annotations

import importlib
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from worldloom.files import write_atomic, write_json

NAMES = ("startup", "balls", "data", "importing", "dream", "learning")
RESULTS = Path(__file__).parent.parent / "docs" / "results"


def page(rows: dict[str, list[dict[str, Any]]], machine: str) -> str:
    lines = [
        "# Speed",
        "",
        f"Written by `make bench` on {machine}. Medians of n runs; ratios were taken side by side.",
        "",
    ]
    for name, part in rows.items():
        lines += [f"## {name}", "", "| what | value | unit | n | note |", "|---|---|---|---|---|"]
        for row in part:
            value = f"{row['value']:,.3g}" if row["value"] < 1000 else f"{row['value']:,.0f}"
            lines.append(f"| {row['what']} | {value} | {row['unit']} | {row['n']} | {row.get('note', '')} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    if sys.argv[1:2] in (["exercises"], ["sora"], ["checkpoints"]):
        importlib.import_module(f"benchmarks.{sys.argv[1]}.command").main(sys.argv[2:])
        return
    if sys.argv[1:2] in (["remedies"], ["ablation"], ["speed"]):
        importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])
        return
    torch.set_num_threads(2)
    names = sys.argv[1:] or list(NAMES)
    rows = {}
    for name in names:
        rows[name] = importlib.import_module(f"benchmarks.{name}").run()
        for row in rows[name]:
            print(f"{name}: {row['what']}: {row['value']:,.4g} {row['unit']} (n = {row['n']}) {row.get('note', '')}")
    machine = (
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    if names == list(NAMES):
        write_json(RESULTS / "benchmarks.json", {"machine": machine, "rows": rows})
        write_atomic(RESULTS / "benchmarks.md", page(rows, machine).encode())


if __name__ == "__main__":
    main()
