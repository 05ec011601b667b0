"""`python -m benchmarks tokenizer`: what the continuous tokenizer loses of two balls, and what its parts are for.

Every setting is trained anew, on the same clips for the same number of steps. Writes docs/results/tokenizer.json and
.md, and docs/media/tokenizer.png; the rows are those of docs/experiments.md. `python -m benchmarks.tokenizer --only
NAME` trains one setting, and keeps the others' figures as they stand.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.__main__ import RESULTS
from worldloom.evaluation.exact import ExactWorld
from worldloom.evaluation.metrics import psnr
from worldloom.evaluation.statistics import bootstrap, share_interval
from worldloom.evaluation.tracker import background, calibrate, detect, match_clip
from worldloom.files import read_json, write_atomic, write_json
from worldloom.tokenizers import Continuous, ContinuousConfig, reconstruction_loss
from worldloom.worlds.balls import BallsConfig

SEED = 0
WORLD = BallsConfig(balls=2)
TRAIN, TEST, FRAMES = 192, 24, 33
BATCH, LENGTH, LR, WARMUP = 4, 5, 2e-3, 50
STEPS, SHORT = 800, 300
DISTURBED = 0.2
FILE = RESULTS / "tokenizer.json"

ABSOLUTE = "short, absolute errors"
"""Both terms of the loss by absolute errors in place of squares."""

SETTINGS: dict[str, tuple[int, ContinuousConfig]] = {
    "time 1": (STEPS, ContinuousConfig()),
    "time 2": (STEPS, ContinuousConfig(time=1, temporal=True)),
    "short": (SHORT, ContinuousConfig()),
    "short, no motion term": (SHORT, ContinuousConfig(motion=0.0)),
    ABSOLUTE: (SHORT, ContinuousConfig()),
    "short, no noise": (SHORT, ContinuousConfig(noise=0.0)),
    "short, space 4": (SHORT, ContinuousConfig(halvings=0)),
}
ABOUT = """\
Written by `python -m benchmarks tokenizer`. Two balls of radius 4 in 64×64, RGB, exact truth; {train} training clips of
{frames} frames, {batch} × {length} frames a step, AdamW, learning rate {lr}, seed {seed}, on a CPU in float32; {test}
other clips, whole. Space: pixels of a side to one of the latents', which have 8 channels. *Position* is the distance
from the truth of each ball that the tracker finds within a radius, median and 90th percentile; *lost* are the others.
*Disturbed*: decoded from latents with Gaussian noise of {disturbed} of their standard deviation, as a model that
predicts latents would disturb them. In parentheses 95 % intervals over clips. *CPU* is the training's processor time.
"""


def clips(world: ExactWorld, count: int, seed: int) -> tuple[Tensor, np.ndarray]:
    """Frames (n, T, 3, 64, 64) uint8, and where the balls are, (n, T, K, 2) px."""
    held = world.fresh(count, 1, FRAMES - 1, seed)
    return held.segment.obs["camera"], held.truth["position"]


def absolute_loss(made: Tensor, video: Tensor, motion: float) -> Tensor:
    """As ``reconstruction_loss``, without the squares."""
    error, change = made - video, (video[:, 1:] - video[:, :-1]).abs().mean()
    return error.abs().mean() + motion * (error[:, 1:] - error[:, :-1]).abs().mean() / change


def train(config: ContinuousConfig, steps: int, frames: Tensor, absolute: bool = False) -> tuple[Continuous, float]:
    """A tokenizer, and the processor time of its training, s."""
    torch.manual_seed(SEED)
    model = Continuous(frames.shape[2], config)
    draw = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(model.parameters(), LR, betas=(0.9, 0.99))
    begin = time.process_time()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LR * min(1.0, (step + 1) / WARMUP) * (1 - step / steps)
        row = torch.randint(len(frames), (BATCH, 1), generator=draw)
        at = torch.randint(FRAMES - LENGTH + 1, (BATCH, 1), generator=draw) + torch.arange(LENGTH)
        video = frames[row, at].float() / 127.5 - 1
        made, _ = model(video, draw)
        total, parts = reconstruction_loss(made, video, config.motion)
        if absolute:
            total = absolute_loss(made, video, config.motion)
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 250 == 249:
            print(f"step {step + 1}: mse {parts['mse']:.5f}, motion {parts['motion']:.4f}", flush=True)
    return model.eval(), time.process_time() - begin


def judge(made: Tensor, frames: Tensor, position: np.ndarray) -> dict[str, Any]:
    """PSNR, dB, and the balls' position error, px, each with its interval."""
    count, radius = position.shape[2], float(WORLD.radii[0])
    ground = background(frames.numpy())
    off = []
    for clip, true, where in zip(made.numpy(), frames.numpy(), position, strict=True):
        found, _ = match_clip(detect(clip, calibrate(true, count, ground, position=where)), where)
        off.append(np.sqrt(np.square(found - where).sum(-1)).reshape(-1))
    away = np.stack(off)
    lost = ~(away < radius)
    seen = np.where(lost, np.nan, away)
    groups = np.repeat(np.arange(len(away)), away.shape[1])
    kept = seen.reshape(-1)[~lost.reshape(-1)]
    likeness = psnr(made, frames, 60.0).mean(1).numpy()
    out: dict[str, Any] = {"n": away.size, "psnr": float(likeness.mean()), "lost": float(lost.mean())}
    out["psnr_interval"] = [float(x) for x in bootstrap(likeness, seed=SEED)]
    out["lost_interval"] = list(share_interval(lost.reshape(-1).astype(float), groups, seed=SEED))
    out["position"] = out["position_90"] = out["position_interval"] = None
    if len(kept):
        out["position"], out["position_90"] = float(np.median(kept)), float(np.quantile(kept, 0.9))
        there = groups[~lost.reshape(-1)]
        out["position_interval"] = [float(x) for x in bootstrap(kept, there, "median", seed=SEED)]
    return out


@torch.inference_mode()
def measure(model: Continuous, frames: Tensor, position: np.ndarray) -> tuple[dict[str, Any], Tensor]:
    """Figures, and the reconstructed frames."""
    latents = model.encode(frames.float() / 127.5 - 1)
    disturbed = latents + DISTURBED * torch.randn(latents.shape, generator=torch.Generator().manual_seed(SEED))
    made = [(127.5 * (model.decode(z) + 1)).round().clamp(0, 255).to(torch.uint8) for z in (latents, disturbed)]
    found = {"reconstructed": judge(made[0], frames, position), "disturbed": judge(made[1], frames, position)}
    spread = latents.var((0, 1, 3, 4)).sqrt()
    return found | {"latent_std": [float(spread.min()), float(spread.max())]}, made[0]


def page(found: dict[str, Any]) -> str:
    """The figures as Markdown."""
    setting = {"train": TRAIN, "test": TEST, "frames": FRAMES, "batch": BATCH, "length": LENGTH, "lr": LR}
    lines = ["# The continuous tokenizer", "", ABOUT.format(**setting, seed=SEED, disturbed=DISTURBED)]
    lines += [
        "| setting | time, space | steps | parameters | CPU, s | PSNR, dB | position, px: median, 90 % | lost, % | "
        "disturbed: PSNR | position, median |",
        "|" + "---|" * 10,
    ]
    for name, row in found["rows"].items():
        a, b = row["reconstructed"], row["disturbed"]
        lines.append(
            f"| {name} | {row['factor_time']}, {row['factor_space']} | {row['steps']} | {row['parameters']:,} | "
            f"{row['cpu_s']:.0f} | {_text(a, 'psnr', '.1f')} | {_text(a, 'position', '.3f')}, "
            f"{_number(a['position_90'], '.2f')} | {_text(a, 'lost', '.2f', 100.0)} | {b['psnr']:.1f} | "
            f"{_number(b['position'], '.3f')} |"
        )
    t = found["truth"]
    lines += ["", f"The tracker on the true frames: {_text(t, 'position', '.3f')} px, lost {100 * t['lost']:.2f} %"]
    lines[-1] += f" of {t['n']} balls × frames."
    lines += ["", "![Truth above, reconstructions below](../media/tokenizer.png)", ""]
    lines += ["*Every fourth frame of a test clip: the truth, then the first two settings.*"]
    return "\n".join(lines) + "\n"


def _number(value: float | None, form: str) -> str:
    return "none found" if value is None else f"{value:{form}}"


def _text(of: dict[str, Any], name: str, form: str, scale: float = 1.0) -> str:
    if of[name] is None:
        return "none found"
    low, high = of[f"{name}_interval"]
    return f"{scale * of[name]:{form}} ({scale * low:{form}}, {scale * high:{form}})"


def sheet(strips: list[Tensor]) -> np.ndarray:
    """(H, W, 3) uint8: one row a strip (T, 3, H, W), twice as large."""
    rows = []
    for strip in strips:
        cells = [np.pad(x, ((0, 2), (0, 2), (0, 0)), constant_values=255) for x in strip.permute(0, 2, 3, 1).numpy()]
        rows.append(np.concatenate(cells, 1))
    return np.concatenate(rows, 0).repeat(2, 0).repeat(2, 1)


def run(only: list[str] | None = None) -> list[dict[str, Any]]:
    """Train, measure, write the page, and give the rows that the command prints."""
    world = ExactWorld(WORLD)
    frames, _ = clips(world, TRAIN, SEED)
    held, position = clips(world, TEST, SEED + 1)
    same = {"seed": SEED, "train": TRAIN, "test": TEST, "frames": FRAMES, "disturbed": DISTURBED}
    old = read_json(FILE) if only and FILE.exists() else {}
    rows: dict[str, Any] = dict(old.get("rows", {}))
    floor, strips = judge(held, held, position), [held[0, ::4]]
    for name, (steps, config) in SETTINGS.items():
        if only and name not in only:
            continue
        print(name, flush=True)
        model, seconds = train(config, steps, frames, name == ABSOLUTE)
        found, made = measure(model, held, position)
        strips.append(made[0, ::4])
        rows[name] = {
            "config": asdict(config), "factor_time": model.factor_time, "factor_space": model.factor_space,
            "steps": steps, "parameters": sum(p.numel() for p in model.parameters()), "cpu_s": round(seconds, 1),
        } | found  # fmt: skip
        whole = same | {"truth": floor, "rows": {n: rows[n] for n in SETTINGS if n in rows}}
        write_json(FILE, whole)
        write_atomic(RESULTS / "tokenizer.md", page(whole).encode())
    if not only:
        Image.fromarray(sheet(strips[:3])).save(RESULTS.parent / "media" / "tokenizer.png")
    out = []
    for name in only or SETTINGS:
        a = rows[name]["reconstructed"]
        out.append({"what": f"{name}: PSNR", "value": a["psnr"], "unit": "dB", "n": TEST})
        if a["position"] is not None:
            out.append({"what": f"{name}: position error", "value": a["position"], "unit": "px", "n": a["n"]})
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(SETTINGS), help="settings to train")
    for line in run(parser.parse_args().only):
        print(line)
