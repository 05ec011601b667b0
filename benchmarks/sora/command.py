"""`python -m benchmarks sora RUN [--n N]`: what prompts can be asked of a run of the recipe sora.

Writes docs/results/sora.json, sora.md, docs/media/sora_*.png and docs/prompts.md. Parts that stand in the JSON,
measured on the same weights in the same way, are not measured again; `--page` writes the pages from it alone.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.__main__ import RESULTS
from benchmarks.sora import asked as ask
from benchmarks.sora import given, sheets
from benchmarks.sora.dreams import Asked, open_asked
from benchmarks.sora.page import page, results
from worldloom.files import read_json, tensors_hash, write_atomic, write_json

Part = Callable[[Asked, int], dict[str, Any]]
PARTS: dict[str, tuple[Part, float]] = {
    "fidelity": (ask.fidelity, 1.0),
    "persistence": (ask.persistence, 1.0),
    "shapes": (ask.shapes, 3 / 8),
    "extension": (given.extension, 1 / 2),
    "picture": (given.picture, 1 / 2),
    "infilling": (given.infilling, 1 / 2),
}
"""What is measured, and on which share of n prompts."""


def about(run: Path, asked: Asked, n: int) -> dict[str, Any]:
    """What a figure depends on, but for the machine."""
    summary = read_json(run / "summary.json", sealed=True) if (run / "summary.json").exists() else {}
    config = read_json(run / "config.json", sealed=True)
    return {
        "weights": tensors_hash(asked.model.state_dict(), {})[:12],
        "parameters": sum(p.numel() for p in asked.model.parameters()),
        "steps": summary.get("steps"), "train_seconds": summary.get("train_seconds"),
        "training_seed": config["train"]["seed"], "batch": config["train"]["batch"],
        "n": n, "seed": asked.seed,
    }  # fmt: skip


def measure(run: Path, n: int, seed: int, only: Sequence[str], file: Path, media: Path) -> None:
    """Measure what is missing; the file is written after every part."""
    asked = open_asked(run, seed)
    setting = about(run, asked, n)
    result: dict[str, Any] = {}
    if file.exists():
        found = read_json(file)
        if found.get("setting") == setting:
            result = found
    machine = (
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    result |= {"setting": setting, "machine": machine, "parts": result.get("parts", {})}
    for name in only:
        part, of = PARTS[name]
        if name in result["parts"]:
            continue
        print(f"{name} ...", flush=True)
        seconds, passes = asked.seconds, asked.passes
        row = part(asked, max(2, round(n * of)))
        result["parts"][name] = row | {"seconds": asked.seconds - seconds, "passes": asked.passes - passes}
        write_json(file, result)
        print(f"{name}: {row['seconds'] if 'seconds' in row else asked.seconds - seconds:.0f} s dreaming", flush=True)
    if "pictures" not in result:
        for name, picture in sheets.draw(asked).items():
            write_atomic(media / f"{name}.png", picture)
        result["pictures"] = True
        write_json(file, result)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks sora", description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", help="a run of the recipe sora")
    parser.add_argument("--n", type=int, default=128, help="prompts of the largest parts")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="some of the parts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--page", action="store_true", help="the pages from the JSON, nothing measured")
    parser.add_argument("--docs", type=Path, default=RESULTS.parent, help="where to write")
    flags = parser.parse_args(arguments)
    torch.set_num_threads(flags.threads)
    file = flags.docs / "results" / "sora.json"
    media = flags.docs / "media"
    if not flags.page:
        if flags.run is None:
            parser.error("give the folder of a run, as `worldloom train sora --out runs/sora` writes it")
        for folder in (file.parent, media):
            folder.mkdir(parents=True, exist_ok=True)
        measure(flags.run, flags.n, flags.seed, flags.only, file, media)
    found = read_json(file)
    write_atomic(file.with_suffix(".md"), results(found).encode())
    write_atomic(flags.docs / "prompts.md", page(found).encode())


if __name__ == "__main__":
    main()
