"""A run made small: weights in half the bytes, a few starts with their truth, and how its data can be had again."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldloom.contract import WorldloomError
from worldloom.data import Dataset
from worldloom.evaluation.datasets import Collected, collect_again
from worldloom.evaluation.heldout import draw
from worldloom.files import read_json, write_atomic, write_json
from worldloom.imagination.starts import STARTS_FILE, save_starts
from worldloom.models.saved import MODEL_FILE, STORED, describe_model, load_model, read_model, save_model
from worldloom.recipes.base import CollectConfig
from worldloom.shipped import FOLDER, MANIFEST

KINDS = {"float16": torch.float16, "bfloat16": torch.bfloat16}
"""Numbers of two bytes that weights can be stored in."""
STARTS, PROMPT, FRAMES = 8, 4, 12
"""Starts that travel along: true frames before a dream, and true frames after them."""
TRUTH = ("position", "velocity", "radius")
"""What the exact world must know to go on from a start."""
AGAIN = 51_200
"""Frames that `worldloom evaluate` collects again where a shipped model has no data: 0.6 GB of 64x64."""
MOST = 12_000_000
"""Bytes of all shipped models together."""


def rounded(weights: dict[str, Tensor], kind: torch.dtype) -> dict[str, Tensor]:
    """Floats in ``kind``; all else as it is. Raises where one is too large for it."""
    found = {name: x.to(kind) if x.is_floating_point() else x for name, x in weights.items()}
    wild = [name for name, x in found.items() if not bool(x.isfinite().all())]
    if wild:
        raise WorldloomError(f"These weights do not fit into {kind}: {wild}. Choose another --precision.")
    return found


def pack(run: Path, into: Path, dataset: Dataset, collected: CollectConfig, kind: str) -> None:
    """Write a run into the folder ``into`` as it will ship, but for its trust.json.

    dataset: the run's own, all of it; collected: how the recipe collects it, which is checked.
    """
    model = load_model(run)
    step = read_model(run)[2].get("step")
    weights = rounded(model.state_dict(), KINDS[kind])
    save_model(into / MODEL_FILE, model, weights, step=step, **{STORED: kind})
    held = draw(dataset, STARTS, PROMPT, FRAMES, FRAMES, seed=0)
    save_starts(into / STARTS_FILE, held.segment, {n: held.truth[n] for n in TRUTH if n in held.truth})
    config = read_json(run / "config.json", sealed=True)
    config["model"] = describe_model(model)
    config["versions"].pop("platform", None)  # of the machine's kernel, which nothing depends on
    how = Collected(
        min(len(dataset), max(1, AGAIN // collected.length)), collected.length, collected.num, collected.seed,
        collected.policy,
    )  # fmt: skip
    config["data"] = {"path": "data", "world": dataset.info["world"], "collect": asdict(how)}
    config["data"]["fingerprint"] = _again(config, dataset)
    write_json(into / "config.json", config, sealed=True)
    write_json(into / "summary.json", read_json(run / "summary.json", sealed=True), sealed=True)


def _again(config: dict[str, Any], dataset: Dataset) -> str:
    """The fingerprint of the data that can be had again, which are the beginning of those trained on."""
    with tempfile.TemporaryDirectory() as folder:
        collect_again(Path(folder), config)
        again = Dataset(Path(folder) / "data")
        for number in (0, len(again) - 1):
            here, there = (x.episode(number) for x in (again, dataset))
            if not all(np.array_equal(here.truth[n], there.truth[n]) for n in TRUTH):
                raise WorldloomError(
                    f"Episode {number} of {dataset.path} is not what its recipe collects: {config['data']}. Train it "
                    "by its recipe."
                )
        return again.fingerprint


def ship(packed: Path, name: str, folder: Path = FOLDER) -> dict[str, int]:
    """Put a packed run among the shipped models, in the place of the one of its name; returns each file's bytes."""
    files = {file.name: file.read_bytes() for file in sorted(packed.iterdir()) if file.is_file()}
    old = read_json(folder / MANIFEST, sealed=True)["models"] if (folder / MANIFEST).exists() else {}
    others = {n: files_of for n, files_of in old.items() if n != name}
    total = sum(map(len, files.values()))
    total += sum((folder / n / file).stat().st_size for n, files_of in others.items() for file in files_of)
    if total > MOST:
        raise WorldloomError(f"The shipped models would take {total:,} bytes, more than {MOST:,}.")
    for stray in (folder / name).glob("*"):
        if stray.name not in files:
            stray.unlink()
    for file, data in files.items():
        write_atomic(folder / name / file, data)
    hashes = {file: hashlib.sha256(data).hexdigest() for file, data in files.items()}
    write_json(folder / MANIFEST, {"models": dict(sorted({**others, name: hashes}.items()))}, sealed=True)
    return {file: len(data) for file, data in files.items()}
