"""The table of remedies for cost: what is timed is what it says, and the words follow the figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from benchmarks.speed import (
    SETTINGS,
    Setting,
    dreamed,
    frame_times,
    long_dream,
    possible,
    quality,
    random_model,
    recompute,
    state_bytes,
    work,
)
from benchmarks.speed_page import figures, page
from torch import nn

from worldloom.evaluation.exact import ExactWorld
from worldloom.models.diffusion import Diffusion, DiffusionConfig
from worldloom.worlds.balls import BallsConfig


@pytest.fixture(scope="module")
def model() -> Diffusion:
    return random_model(replace(DiffusionConfig.debug(), steps=2), 16)


def test_each_setting_is_what_it_is_called(model: Diffusion) -> None:
    eager = [one for one in SETTINGS if not one.compiled and one.precision != "int8"]
    made, left = possible(model, [*eager, Setting("no such", {"speed": 3})])
    assert made["as trained"] is model
    assert list(left) == ["no such"]
    assert (made["2 Heun steps"].config.steps, made["2 Heun steps"].config.method) == (2, "heun")
    assert made["4 Euler steps"].config.steps == 4
    assert made["bf16"].net.noisy.weight.dtype == torch.bfloat16  # type: ignore[union-attr]
    assert model.net.noisy.weight.dtype == torch.float32


def test_all_take_turns_and_ratios_are_against_the_first(model: Diffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    held = ExactWorld(BallsConfig(height=16, width=16, radius=2.0)).fresh(3, 2, 4, 0)
    order: list[int] = []
    step = Diffusion.step

    def counted(self: Diffusion, *a: Any, **k: Any) -> Any:
        order.append(self.config.steps)
        return step(self, *a, **k)

    monkeypatch.setattr(Diffusion, "step", counted)
    made, _ = possible(model, [Setting("as trained"), Setting("1", {"steps": 1})])
    found = frame_times(made, held, 5, rounds=2, frames=1)
    assert order == [2, 1] * 3
    assert found["as trained"]["times_plain"] == [1.0, 1.0, 1.0]
    assert found["1"]["frames_per_second"] == pytest.approx(5e3 / found["1"]["ms"])


def test_quality_is_measured_against_the_truth() -> None:
    world = ExactWorld(BallsConfig())
    held = world.fresh(4, 3, 10, 0)
    real = held.segment.obs["camera"][:, 3:]
    good = quality(real, held, 0)
    assert good["error_px"]["10"][0] < 0.2
    assert good["count_right"][0] == 1.0
    still = quality(held.segment.obs["camera"][:, 2:3].expand_as(real).contiguous(), held, 0)
    assert still["error_px"]["10"][0] > 1.0
    big = random_model(DiffusionConfig.debug(), 64)
    assert dreamed(big, held, 0).shape == real.shape


def test_multiplications_are_counted_by_kind_of_layer(model: Diffusion) -> None:
    counted = work(model)
    blocks = model.net.deep[0].conv1
    assert isinstance(blocks, nn.Conv2d)
    assert counted["Conv2d"] > 2 * 2 * 2 * blocks.weight.numel()  # two passes, two of them, on a grid of 2×2
    assert counted["Linear"] > 0
    once = work(random_model(replace(DiffusionConfig.debug(), steps=1), 16))
    assert once["Conv2d"] < counted["Conv2d"] < 2 * once["Conv2d"]


def test_the_ring_gives_what_memory_made_anew_gives_and_a_long_dream_stays_as_large(model: Diffusion) -> None:
    found = recompute(model, 1, 1)
    assert found["apart"] <= 1
    long = long_dream(model, 24, 4)
    state = model.start(1)
    assert long["state_bytes"] == [state_bytes(state)] * 2
    assert state_bytes(model.start(3)) == state_bytes(state)


def row(ms: float, error: float) -> dict[str, Any]:
    timed = {
        "ms": ms,
        "frames_per_second": 1e3 / ms,
        "times_plain": [ms / 10, ms / 10, ms / 10],
        "rounds": 3,
        "frames": 4,
    }
    return {
        "batch_1": timed, "batch_16": timed, "state_bytes": 2048, "growth_bytes": 3 << 20,
        "quality": {"error_px": {h: [error] * 3 for h in ("1", "10", "50")}, "count_right": [1.0] * 3, "n": 4},
    }  # fmt: skip


def test_the_words_follow_the_figures() -> None:
    result: dict[str, Any] = {
        "machine": "a machine", "run": "demo", "parameters": 10, "starts": 4, "seed": 0, "prompt": 8, "horizon": 50,
        "default": {"steps": 1, "method": "euler"}, "left_out": {"compiled": "There is no compiler."},
        "multiplications": {"Linear": 1, "Conv2d": 99},
        "rows": {"as trained": row(10, 1.0), "1 Euler step": row(10, 1.5), "4 Euler steps": row(40, 1.0),
                 "bf16": row(5, 1.25), "int8 linear layers": row(12, 1.0)},
        "ring": {"memory": 16, "ring_ms": 1.0, "anew_ms": 3.0, "anew_over_ring": [3.0, 2.0, 4.0], "apart": 0,
                 "rounds": 3, "frames": 4},
        "long": {"frames": 10_000, "part": 100, "first_ms": 1.0, "last_ms": 1.02, "last_over_first": 1.02,
                 "young_ms": 1.0, "old_ms": 1.0, "old_over_young": 1.0, "state_bytes": [1 << 20, 1 << 20],
                 "peak_growth_bytes": 0, "parameters": 10, "memory": 16},
    }  # fmt: skip
    text = page(result)
    assert "One step is 4.0 × as fast as four; its error is 1.50 × at 1" in text
    assert "2.00 × as fast alone" in text
    assert "goes from 1.00 to 1.25 px" in text
    assert "1.00% are in linear layers, and a frame takes 1.20 × as long" in text
    assert "3.0 × as long" in text
    assert "Not measured: compiled. There is no compiler." in text
    assert "## Long steps" not in text
    clips = {"1 step a clip": {"ms": 2.0, "times_plain": 0.5, **row(1, 2.0)["quality"]}}
    result["shortcut"] = {"frames": 8, "prompt": 8, "rounds": 3, "rows": clips}
    assert "| 1 step a clip | 2.00 | 0.50 | 2.00 (2.00–2.00)" in page(result)
    assert "| 1 step a clip |" in figures(result)
