"""Small contact sheets for the page: a row each video, given frames framed."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from benchmarks.sora.asked import FRAMES, PROMPT, STEPS
from benchmarks.sora.dreams import Asked

JOINT = {"table": "joint", "steps": STEPS}
TEXTS = (
    "three small red balls, strong gravity, fast",
    "two large blue balls, no gravity, slow",
    "four medium green balls, weak gravity, fast",
    "one large yellow ball, strong gravity, moderate",
)
GIVEN = (250, 200, 60)
GAP, LINE = 2, 14


def rows(videos: Sequence[tuple[str, np.ndarray, Sequence[int]]], every: int = 2) -> bytes:
    """PNG of videos (T, 3, H, W), each under its title; the frames that were given are framed in yellow."""
    from PIL import Image, ImageDraw, ImageFont

    pictures = []
    for title, video, given in videos:
        shown = [t for t in range(len(video)) if t % every == 0 or t == len(video) - 1]
        height, width = video.shape[-2:]
        row = np.full((height + LINE + 2 * GAP, len(shown) * (width + 2 * GAP), 3), 255, np.uint8)
        for i, t in enumerate(shown):
            left = i * (width + 2 * GAP)
            if t in given:
                row[LINE:, left : left + width + 2 * GAP] = GIVEN
            row[LINE + GAP : LINE + GAP + height, left + GAP : left + GAP + width] = video[t].transpose(1, 2, 0)
        image = Image.fromarray(row)
        ImageDraw.Draw(image).text((3, 1), title, fill=(20, 20, 20), font=ImageFont.load_default())
        pictures.append(np.asarray(image))
    wide = max(p.shape[1] for p in pictures)
    whole = np.concatenate([np.pad(p, ((0, 4), (0, wide - p.shape[1]), (0, 0)), constant_values=255) for p in pictures])
    out = io.BytesIO()
    Image.fromarray(whole).quantize(96).save(out, "PNG", optimize=True)
    return out.getvalue()


def draw(asked: Asked) -> dict[str, bytes]:
    """Name to PNG: from texts, from clips, at other sizes."""
    texts = list(TEXTS)
    videos = asked.dream(texts, frames=FRAMES, **JOINT)
    out = {"sora_text": rows([(t, v, ()) for t, v in zip(texts, videos, strict=True)])}
    true = asked.play(asked.meanings(3, 6), FRAMES)
    both = list(range(2)), list(range(FRAMES - 2, FRAMES))
    ways = [
        ("forward", {"first": true.frames[:1, :PROMPT]}, range(PROMPT), 0),
        ("backward", {"last": true.frames[1:2, -PROMPT:]}, range(FRAMES - PROMPT, FRAMES), 1),
        ("in between", {"first": true.frames[2:3, :2], "last": true.frames[2:3, -2:]}, both[0] + both[1], 2),
    ]
    shown: list[tuple[str, np.ndarray, Sequence[int]]] = []
    for name, given, known, i in ways:
        made = asked.dream(true.texts[i : i + 1], frames=FRAMES, **given, **JOINT)
        shown += [(f"{name}: true", true.frames[i], ()), (f"{name}: dreamed, framed ones given", made[0], known)]
    out["sora_clips"] = rows(shown, 1)
    sizes = [(48, 48), (64, 96), (96, 64)]
    made = [asked.dream(texts[:1], frames=FRAMES, size=size, **JOINT)[0] for size in sizes]
    out["sora_sizes"] = rows([(f"{h}x{w}: {texts[0]}", v, ()) for (h, w), v in zip(sizes, made, strict=True)], 3)
    return out
