"""`python -m benchmarks.extractor`: train the embedded feature extractor anew, from nothing but our simulator.

Writes src/worldloom/evaluation/distances/embedded.safetensors and docs/results/extractor.json. The network learns to
tell what moves and how (speeds, gravity, numbers, sizes, impacts), and which of a few edits a clip has suffered.
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.__main__ import RESULTS
from worldloom.evaluation.distances.embedded import FEATURES, WEIGHTS, ClipNet
from worldloom.files import save_tensors, write_json
from worldloom.worlds.balls import BallsConfig
from worldloom.worlds.balls.dynamics import advance
from worldloom.worlds.balls.render import Renderer
from worldloom.worlds.balls.starts import draw_start

EDITS = ("shuffle", "freeze", "vanish", "ghosts", "blur", "noise")
"""What is done to some clips, to be told by the network. Of the corruptions that benchmarks.distances measures,
teleports, shrinking, another speed and another gravity are not among them: they test what was not trained for."""
QUANTITIES = ("speed", "spread", "gravity_x", "gravity_y", "balls", "radius", "walls", "contacts")
BATCH = 32


@dataclasses.dataclass(frozen=True)
class Batch:
    clips: torch.Tensor
    """(B, T, 3, H, W) uint8."""
    quantities: torch.Tensor
    """(B, 8) float32, each about of size one."""
    edits: torch.Tensor
    """(B, 6) 0 or 1."""


def some_world(random: np.random.Generator, size: int) -> BallsConfig:
    """A configuration: number, radii, speed, pull and colours are drawn."""
    balls = int(random.integers(1, 6))
    small = float(random.uniform(2.5, 5.0))
    large = small + float(random.choice([0.0, random.uniform(0.0, 3.0)]))
    gravity = random.uniform(-0.2, 0.2, 2) * random.choice([0.0, 1.0]) if random.random() < 0.7 else np.array([0, 0.1])
    colours = tuple(tuple(int(c) for c in rgb) for rgb in random.integers(0, 256, (6, 3)))
    ground = tuple(int(c) for c in random.integers(0, 256, 3) * random.choice([0.15, 0.5, 1.0]))
    return BallsConfig(
        height=size,
        width=size,
        balls=balls,
        radius=(small, large),
        speed=float(random.uniform(0.5, 4.0)),
        gravity=(float(gravity[0]), float(gravity[1])),
        colours=colours,
        background=(ground[0], ground[1], ground[2]),
    )


def move(x: np.ndarray, v: np.ndarray, r: np.ndarray, config: BallsConfig, frames: int, ghosts: bool) -> dict[str, Any]:
    """Positions and velocities (N, T, K, 2) from a start, and impacts (N,); ghosts pass through each other."""
    n, k = r.shape
    box = (float(config.width), float(config.height))
    if ghosts:  # every disc in a box of its own
        x, v, r = x.reshape(-1, 1, 2), v.reshape(-1, 1, 2), r.reshape(-1, 1)
    xs, vs, walls, contacts = [x], [v], np.zeros(len(x)), np.zeros(len(x))
    for _ in range(frames - 1):
        x, v, wall, ball = advance(x, v, r, box, config.gravity)
        walls, contacts = walls + wall.sum((1, 2)), contacts + ball.sum((1, 2)) / 2
        xs.append(x)
        vs.append(v)
    shape = (n, k, frames, 2)
    if ghosts:
        moved = [np.stack(a, 1)[:, :, 0].reshape(shape).transpose(0, 2, 1, 3) for a in (xs, vs)]
    else:
        moved = [np.stack(a, 1) for a in (xs, vs)]
    return {"x": moved[0], "v": moved[1], "walls": walls.reshape(n, -1).sum(1), "contacts": contacts}


def make(random: np.random.Generator, worlds: int = 8) -> Batch:
    """Clips of several worlds, some of them edited."""
    size, frames = int(random.choice([48, 64, 64, 80])), int(random.choice([10, 16, 16]))
    parts = [some_clips(random, size, frames, BATCH // worlds) for _ in range(worlds)]
    return Batch(*(torch.cat([getattr(p, f.name) for p in parts]) for f in dataclasses.fields(Batch)))


def some_clips(random: np.random.Generator, size: int, frames: int, rows: int) -> Batch:
    """Clips of one world."""
    config = some_world(random, size)
    x, v, r, _ = (np.stack(part) for part in zip(*(draw_start(config, random) for _ in range(rows)), strict=True))
    true = move(x, v, r, config, frames, ghosts=False)
    edits = np.zeros((rows, len(EDITS)), np.float32)
    place = true["x"].copy()
    for i in range(rows):
        kind = int(random.integers(0, 2 * len(EDITS)))
        name = EDITS[kind] if kind < len(EDITS) else ""
        if true["contacts"][i] > 0 and random.random() < 0.4:
            name = "ghosts"
        if name == "ghosts":
            one = slice(i, i + 1)
            place[i] = move(x[one], v[one], r[one], config, frames, ghosts=True)["x"][0]
            name = name if true["contacts"][i] else ""
        elif name == "vanish":
            place[i, int(random.integers(1, frames - 1)) :, int(random.integers(0, config.balls))] = np.nan
        elif name == "freeze":
            at = int(random.integers(0, frames - 3))
            place[i, at:] = place[i, at]
        elif name == "shuffle":
            place[i] = place[i][random.permutation(frames)]
        if name:
            edits[i, EDITS.index(name)] = 1
    clips = spoil(draw(config, place, r), edits, random)
    speed = np.linalg.norm(true["v"], axis=-1)
    pull = np.broadcast_to(np.array(config.gravity) * 10, (rows, 2))
    columns = [
        np.log(speed.mean((1, 2)) + 0.2), speed.std((1, 2)), pull[:, 0], pull[:, 1],
        np.full(rows, config.balls / 2), r.mean(1) / 2, np.log1p(true["walls"]), np.log1p(true["contacts"]),
    ]  # fmt: skip
    wanted = np.stack(columns, 1).astype(np.float32)
    return Batch(torch.from_numpy(clips), torch.from_numpy(wanted), torch.from_numpy(edits))


def draw(config: BallsConfig, place: np.ndarray, r: np.ndarray) -> np.ndarray:
    """(N, T, 3, H, W) uint8; a disc at NaN is not drawn."""
    n, t, k, _ = place.shape
    gone = ~np.isfinite(place).all(-1)
    radius = np.where(gone, 1e-3, np.broadcast_to(r[:, None], (n, t, k)))
    centre = np.where(gone[..., None], -10.0, place)
    frames = Renderer(config).draw(centre.reshape(n * t, k, 2), radius.reshape(n * t, k))
    return frames.reshape(n, t, *frames.shape[1:])


def spoil(clips: np.ndarray, edits: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Blur and noise where they are among the edits; greys for some batches."""
    out = torch.from_numpy(clips).float()
    for i in np.flatnonzero(edits[:, EDITS.index("blur")]):
        part = F.pad(out[i], (1, 1, 1, 1), mode="replicate")
        out[i] = torch.lerp(out[i], F.avg_pool2d(part, 3, 1), float(random.uniform(0.3, 1.0)))
    for i in np.flatnonzero(edits[:, EDITS.index("noise")]):
        sigma = 255 * random.uniform(0.01, 0.08)
        out[i] += torch.from_numpy(random.normal(0, sigma, out[i].shape).astype(np.float32))
    if random.random() < 0.2:
        out = out.mean(2, keepdim=True).expand_as(out)
    return out.round().clamp(0, 255).to(torch.uint8).numpy()


def train(steps: int, seed: int) -> tuple[ClipNet, dict[str, Any]]:
    torch.manual_seed(seed)
    random = np.random.default_rng((20261122, seed))
    net, heads = ClipNet(), nn.Linear(FEATURES, len(QUANTITIES) + len(EDITS))
    optimiser = torch.optim.AdamW([*net.parameters(), *heads.parameters()], lr=4e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps, pct_start=0.1)
    began, last = time.process_time(), time.time()
    for step in range(steps):
        batch = make(random)
        out = heads(net(batch.clips.float() / 255))
        split = len(QUANTITIES)
        loss = F.smooth_l1_loss(out[:, :split], batch.quantities, beta=0.2) + F.binary_cross_entropy_with_logits(
            out[:, split:], batch.edits
        )
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if time.time() - last > 20:
            last = time.time()
            print(
                f"step {step}: {explained(out, batch)}, loss {float(loss):.3f}, {time.process_time() - began:.0f} s",
                flush=True,
            )
    seconds = time.process_time() - began
    return net, {"train_seconds_of_cpu": round(seconds, 1), "steps": steps, "batch": BATCH} | judge(net, heads)


def explained(out: torch.Tensor, batch: Batch) -> str:
    """R² of this batch's quantities."""
    rest = (out[:, : len(QUANTITIES)].detach() - batch.quantities).square().mean(0) / batch.quantities.var(0)
    return " ".join(f"{n} {1 - float(x):.2f}" for n, x in zip(QUANTITIES, rest, strict=True))


@torch.inference_mode()
def judge(net: ClipNet, heads: nn.Linear, batches: int = 24) -> dict[str, Any]:
    """What it tells of clips that it was not trained on: R² of quantities, area under the curve of edits."""
    net.eval()
    random = np.random.default_rng(99)
    made = [make(random) for _ in range(batches)]
    out = torch.cat([heads(net(b.clips.float() / 255)) for b in made]).double().numpy()
    wanted = torch.cat([b.quantities for b in made]).double().numpy()
    edits = torch.cat([b.edits for b in made]).numpy()
    split = len(QUANTITIES)
    r2 = 1 - np.square(out[:, :split] - wanted).mean(0) / wanted.var(0)
    clean = edits.sum(1) == 0
    auc = [float((out[edits[:, j] > 0, split + j][:, None] > out[clean, split + j]).mean()) for j in range(len(EDITS))]
    return {
        "clips_judged": len(out),
        "r2": {n: round(float(x), 3) for n, x in zip(QUANTITIES, r2, strict=True)},
        "auc": {n: round(x, 3) for n, x in zip(EDITS, auc, strict=True)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    net, found = train(given.steps, given.seed)
    tensors = {n: x.half() if x.is_floating_point() else x for n, x in net.state_dict().items()}
    meta = {"about": "ClipNet of worldloom.evaluation.distances.embedded", "steps": given.steps, "seed": given.seed}
    sha256 = save_tensors(given.out, tensors, meta)
    found |= {"seed": given.seed, "parameters": sum(p.numel() for p in net.parameters())}
    found |= {"sha256": sha256, "bytes": given.out.stat().st_size}
    found |= {"machine": platform.machine(), "torch": torch.__version__}
    print(found)
    if given.out == WEIGHTS:
        write_json(RESULTS / "extractor.json", found)


if __name__ == "__main__":
    main()
