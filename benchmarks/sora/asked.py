"""What a video shows of what was asked: by guidance and steps, by order of denoising, by length and size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.sora.dreams import Asked, difference, share
from worldloom.evaluation.prompts import Shown, look, prompt_figures
from worldloom.worlds.balls.captions import Meaning

FRAMES, STEPS, PROMPT = 16, 8, 4
WEIGHTS = (1.0, 1.5, 2.0, 3.0)
OTHER_STEPS = (4, 16)
NEXT_STEPS = (1, 2, 4, 8)
"""Steps a frame of next-frame generation; the last takes as many passes as joint denoising in :data:`STEPS`."""
LONG, LONG_STEPS = 48, (1, 4, 8)
LENGTHS = (8, 16, 32, 64)
SIZES = ((48, 48), (64, 96), (96, 64))


def figures(asked: Asked, frames: np.ndarray, meanings: Sequence[Meaning]) -> dict[str, Any]:
    """Prompt fidelity by attribute, as JSON."""
    size = (int(frames.shape[-2]), int(frames.shape[-1]))
    found = prompt_figures(
        frames, meanings, asked.world, seed=asked.seed, floor=asked.floor(meanings, frames.shape[1], size)
    )
    return {
        name.removeprefix("prompt/"): {
            "value": f.value, "interval": f.interval, "n": f.n, "floor": f.floor,
            "baselines": f.baselines if name != "prompt/stays" else {},
        }
        for name, f in found.items()
    }  # fmt: skip


def fidelity(asked: Asked, n: int) -> dict[str, Any]:
    """From a text alone: by weight of guidance, by steps; and from a text and a picture."""
    meanings = asked.meanings(n)
    true = asked.play(meanings, FRAMES)

    def row(**how: Any) -> dict[str, Any]:
        before = asked.passes
        frames = asked.dream(true.texts, frames=FRAMES, **how)
        return {"figures": figures(asked, frames, meanings), "passes": (asked.passes - before) / n}

    weights = {f"{w:g}": row(table="joint", steps=STEPS, guidance=None if w == 1 else {"text": w}) for w in WEIGHTS}
    steps = {str(s): row(table="joint", steps=s) for s in OTHER_STEPS}
    picture = row(table="joint", steps=STEPS, first=true.frames[:, :1])
    return {"n": n, "weights": weights, "steps": {**steps, str(STEPS): weights["1"]}, "picture": picture}


class Kept:
    """How well balls stay in n videos, clip by clip."""

    def __init__(self, shown: Shown, meanings: Sequence[Meaning], known: int) -> None:
        said = np.array([m.index("count") for m in meanings])
        self.stays = shown.stays.astype(float)
        self.steady = shown.steady[:, known:].mean(1)
        self.count = (shown.value["count"] == said).astype(float)


def persistence(asked: Asked, n: int) -> dict[str, Any]:
    """Joint denoising against next frames, by one model: at equal passes, and each at its best."""
    out: dict[str, Any] = {}
    for frames, steps, many in ((FRAMES, NEXT_STEPS, n), (LONG, LONG_STEPS, max(2, n // 2))):
        meanings = asked.meanings(many, 1)
        true = asked.play(meanings, frames)
        ways: dict[str, dict[str, Any]] = {"joint": {"table": "joint", "steps": STEPS}}
        if frames > FRAMES:
            ways["joint, all at once"] = {**ways["joint"], "chunk": frames}
        ways |= {f"next, {s}": {"table": "autoregressive", "steps": s, "chunk": frames} for s in steps}
        for start, known in (("text", 0), ("clip", PROMPT)):
            first = true.frames[:, :known] if known else None
            kept, passes = {}, {}
            for name, how in ways.items():
                before = asked.passes
                made = asked.dream(true.texts, first=first, frames=frames, **how)
                passes[name] = (asked.passes - before) / many
                kept[name] = Kept(look(made, asked.world), meanings, known)
                print(f"  {frames} frames from a {start}, {name}: stays {kept[name].stays.mean():.2f}", flush=True)
            kept["true"] = Kept(asked.floor(meanings, frames), meanings, known)
            out[f"{frames} from {start}"] = compared(kept, passes, asked.seed)
    return out


def compared(kept: Mapping[str, Kept], passes: Mapping[str, float], seed: int) -> dict[str, Any]:
    """The ways side by side, and joint minus next-frame, prompt by prompt: at as many passes, and at the best of each
    (chosen on these very clips, for both)."""
    rows = {
        name: {part: share(getattr(one, part), seed) for part in ("stays", "steady", "count")}
        | {"passes": passes.get(name), "n": len(one.stays)}
        for name, one in kept.items()
    }

    def best(kind: str) -> str:
        return max((name for name in passes if name.startswith(kind)), key=lambda name: float(kept[name].stays.mean()))

    pairs = {"equal passes": ("joint", f"next, {STEPS}"), "best": (best("joint"), best("next"))}
    against = {
        what: {
            "ways": list(pair),
            **{
                part: difference(getattr(kept[pair[0]], part), getattr(kept[pair[1]], part), seed)
                for part in ("stays", "steady", "count")
            },
        }
        for what, pair in pairs.items()
    }
    return {"rows": rows, "joint minus next": against}


def shapes(asked: Asked, n: int) -> dict[str, Any]:
    """Other lengths and sizes than trained on."""
    meanings = asked.meanings(n, 2)
    texts = asked.play(meanings, 1).texts
    lengths: dict[str, Any] = {}
    for frames in LENGTHS:
        ways: dict[str, dict[str, Any]] = {"in windows": {}}
        if frames > FRAMES:
            ways["all at once"] = {"chunk": frames}
        for name, how in ways.items():
            made = asked.dream(texts, frames=frames, table="joint", steps=STEPS, **how)
            lengths[f"{frames}, {name}" if frames > FRAMES else str(frames)] = figures(asked, made, meanings)
    sizes = {}
    for size in ((asked.world.height, asked.world.width), *SIZES):
        made = asked.dream(texts, frames=FRAMES, table="joint", steps=STEPS, size=size)
        sizes[f"{size[0]}x{size[1]}"] = figures(asked, made, meanings)
    return {"n": n, "lengths": lengths, "sizes": sizes}
