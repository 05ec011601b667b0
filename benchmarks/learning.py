"""Steps of training at the lab's size and batch: the diffusion family's against the lab's own, in turn."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

from worldloom.contract import Segment, Spec, WorldModel
from worldloom.models import build
from worldloom.models.diffusion import BackboneConfig, DiffusionConfig
from worldloom.recipes import find
from worldloom.recipes.run import open_world
from worldloom.training.config import TrainConfig
from worldloom.training.devices import pick_precision
from worldloom.training.ema import Ema
from worldloom.training.malloc import tune_malloc
from worldloom.training.optim import make_optimizer
from worldloom.training.update import Updater

BATCH = 32
SIZES = {
    "patch 4": BackboneConfig(size="M"),
    "patch 8, as the lab's": BackboneConfig(size="S", fold=8, deep_width=248, deep_blocks=5),
}
"""Of the lab's number of parameters, within 5 %."""


def windows(spec: Spec, length: int) -> Segment:
    """Random frames and actions."""
    generator = torch.Generator().manual_seed(0)
    flags = torch.zeros(BATCH, length, dtype=torch.bool)
    obs = {
        n: torch.randint(0, 256, (BATCH, length, *s.shape), generator=generator, dtype=torch.uint8)
        for n, s in spec.shown.items()
    }
    control = {n: torch.rand(BATCH, length, *c.shape, generator=generator) * 2 - 1 for n, c in spec.given.items()}
    return Segment(obs, control, flags, ~flags)


class Learner:
    """A model, its windows and the trainer's own step on them."""

    def __init__(self, model: WorldModel, config: TrainConfig, length: int, precision: str) -> None:
        self.model, self.segment, self.done = model, windows(model.spec, length), 0
        optimizer = make_optimizer(model, config)
        self.updater = Updater(model, optimizer, Ema(model, config.ema), config, model.device, precision)

    @property
    def parameters(self) -> int:
        """How many."""
        return sum(p.numel() for p in self.model.parameters())

    def step(self) -> float:
        """Seconds of one."""
        began = time.perf_counter()
        self.updater.step(self.segment, self.done, 1000)
        self.done += 1
        return time.perf_counter() - began


def run(n: int = 5) -> list[dict[str, Any]]:
    tune_malloc()  # as the trainer does
    recipe = find("lab")
    spec = open_world(recipe).spec
    automatic = pick_precision("auto", torch.device("cpu"))
    lab = build("lab", spec, recipe.model)
    learners = {"the lab, float32, as its recipe": (Learner(lab, recipe.train, 4, "float32"), BATCH)}
    if automatic != "float32":
        learners[f"the lab, {automatic}"] = (
            Learner(build("lab", spec, recipe.model), recipe.train, 4, automatic),
            BATCH,
        )
    for name, backbone in SIZES.items():
        for targets in (1, 4):
            config = DiffusionConfig(history=6, prompt=3, targets=targets, steps=1, backbone=backbone)
            model = build("diffusion", spec, config)
            train = TrainConfig(steps=1000, batch=BATCH, lr=1e-3)
            what = f"ours, {name}, {automatic}, {targets} target{'s' if targets > 1 else ''} a window"
            learners[what] = (Learner(model, train, config.history + targets, automatic), BATCH * targets)
    taken: dict[str, list[float]] = {name: [] for name in learners}
    for turn in range(n + 1):
        for name, (one, _) in learners.items():
            seconds = one.step()
            if turn:  # the first warms up
                taken[name].append(seconds)
    base = next(iter(learners))
    rows = []
    for name, (one, targets) in learners.items():
        rate = targets / statistics.median(taken[name])
        note = f"{one.parameters:,} parameters, {BATCH} windows a step"
        rows.append({"what": name, "value": rate, "unit": "targets/s", "n": n, "note": note})
    for name, (_, targets) in list(learners.items())[1:]:
        ratio = statistics.median(targets * a / (BATCH * b) for a, b in zip(taken[base], taken[name], strict=True))
        rows.append({"what": f"{name} / the lab", "value": ratio, "unit": "×", "n": n, "note": "median of pairs"})
    return rows
