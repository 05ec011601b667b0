"""What a model's hash depends on, and what it does not."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

import worldloom
from worldloom.contract import Sensor, Spec
from worldloom.models.diffusion import DiffusionConfig
from worldloom.models.saved import _chosen, model_hash

SPEC = Spec({"camera": Sensor("image", (3, 16, 16))}, {}, fps=15.0)


def made(**changed: Any) -> Any:
    return worldloom.build("diffusion", SPEC, dataclasses.replace(DiffusionConfig.debug(), **changed)).eval()


def test_weights_and_settings_decide_the_hash() -> None:
    model, other = made(), made()
    other.load_state_dict(model.state_dict())
    assert model_hash(model) == model_hash(other)
    resteered = made(steps=model.config.steps + 1)
    resteered.load_state_dict(model.state_dict())
    assert model_hash(resteered) != model_hash(model)
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1e-3
    assert model_hash(model) != model_hash(other)


@dataclasses.dataclass(frozen=True)
class Inner:
    width: int = 4
    extra: str = "none"


@dataclasses.dataclass(frozen=True)
class Outer:
    depth: int
    inner: Inner = dataclasses.field(default_factory=lambda: Inner(width=8))
    sizes: tuple[int, ...] = (1, 2)


def test_only_what_was_chosen_counts() -> None:
    """A field that is added with a default changes no hash; one that leaves its default does."""
    assert _chosen(Outer(3)) == {"depth": 3}
    assert _chosen(Outer(3, Inner(), (1, 3))) == {"depth": 3, "inner": {}, "sizes": (1, 3)}
    assert _chosen(Outer(3, Inner(8, "some"))) == {"depth": 3, "inner": {"width": 8, "extra": "some"}}
