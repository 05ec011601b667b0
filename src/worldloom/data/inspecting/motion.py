"""What moved between two frames, as numbers: what the misalignment finder looks at.

Three descriptions of pictures, because no one of them serves all worlds: *flow* (difference times gradient, which is
what a moving edge leaves; good for cameras that pan and things that slide), *places* (where each colour of what is not
background lies; good for few things on a still background, however far they jump), and *patches* (which of some learned
kinds of local change occurred; good for things that turn or appear). Vectors are taken as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from worldloom.contract import Spec

SIDE = 64
"""Larger pictures are shrunk until their longer side has this many pixels."""
_GRID, _BANDS, _COLOURS, _WORDS, _PATCHES = 4, 8, 6, 128, 32
_VISIBLE = 0.08  # differences from the background below this share of full brightness are noise
_CHANGED = 0.04  # the same from one frame to the next, for choosing where to cut patches
_REACH = 3  # a patch has 2·3+1 pixels a side
_STATES = 24


@dataclass(frozen=True)
class Motion:
    """Of pieces of consecutive frames."""

    steps: list[np.ndarray]
    """One (T-1, K) a piece: row t-1 describes what changed from frame t-1 to frame t."""
    states: list[np.ndarray]
    """One (T, D) a piece: what each frame itself looks like, coarsely."""


def describe_motion(spec: Spec, pieces: list[dict[str, np.ndarray]], seed: int = 0) -> Motion:
    """Motion in ``pieces``, each a dictionary of sensor name to (T, *shape).

    Range images count as pictures. Deterministic given ``seed``.
    """
    rng = np.random.default_rng(seed)
    ends = np.cumsum([len(next(iter(p.values()))) for p in pieces])
    cuts = ends - np.arange(1, len(pieces) + 1)
    steps: list[np.ndarray] = []
    states: list[np.ndarray] = []
    for name, sensor in spec.shown.items():
        if sensor.kind == "vector":
            vectors = [np.nan_to_num(p[name].astype(np.float32)) for p in pieces]
            steps.append(np.concatenate([np.diff(x, axis=0) for x in vectors]))
            states.append(np.concatenate(vectors))
            continue
        pictures = [_small(p[name], sensor.kind == "image") for p in pieces]
        steps.append(np.concatenate([_flow(x) for x in pictures]))
        steps += [x for x in (_patches(pictures, rng), _places(pictures, rng)) if x is not None]
        coarse = [F.adaptive_avg_pool2d(x.mean(1, keepdim=True), 16).flatten(1).numpy() for x in pictures]
        states.append(principal(np.concatenate(coarse), _STATES))
    return Motion(np.split(np.concatenate(steps, 1), cuts[:-1]), np.split(np.concatenate(states, 1), ends[:-1]))


def principal(x: np.ndarray, k: int) -> np.ndarray:
    """(N, K) as its at most ``k`` leading principal components, each of variance one; constant columns are left out."""
    x = x - x.mean(0)
    spread = x.std(0)
    x = x[:, spread > 1e-6 * max(float(spread.max(initial=0)), 1e-6)]
    x = x / x.std(0) if x.shape[1] else x
    if x.shape[1] <= k:
        return x.astype(np.float32)
    # Randomised subspace iteration: the leading few of thousands of columns, without the cube of their number.
    x = x.astype(np.float32)
    basis = np.random.default_rng(0).standard_normal((x.shape[1], k + 16)).astype(np.float32)
    for _ in range(4):
        basis = np.linalg.qr(x.T @ (x @ basis))[0]
    scores = x @ basis
    values, vectors = np.linalg.eigh((scores.T @ scores).astype(np.float64) / len(x))
    return (scores @ vectors[:, ::-1][:, :k] / np.sqrt(np.maximum(values[::-1][:k], 1e-9))).astype(np.float32)


def _small(frames: np.ndarray, image: bool) -> Tensor:
    x = torch.from_numpy(np.ascontiguousarray(frames)).float()
    if image:
        x = x / 255
    else:  # distances: brought to [0, 1]
        x = x.nan_to_num(0.0, 0.0, 0.0)
        x = (x - x.min()) / (x.max() - x.min()).clamp(min=1e-6)
    high, wide = x.shape[-2:]
    scale = min(1.0, SIDE / max(high, wide))
    if scale < 1:
        x = F.interpolate(x, (max(8, round(high * scale)), max(8, round(wide * scale))), mode="area")
    return x


def _flow(x: Tensor) -> np.ndarray:
    """(T-1, K) of (T, C, H, W): by cell of a coarse grid, change times gradient at three scales, and change itself."""
    out = []
    for scale in (1, 2, 4):
        y = F.avg_pool2d(x, scale) if scale > 1 else x
        if min(y.shape[-2:]) < _GRID:
            break
        change, middle = y[1:] - y[:-1], (y[1:] + y[:-1]) / 2
        across = F.pad(middle[..., 2:] - middle[..., :-2], (1, 1))
        down = F.pad(middle[..., 2:, :] - middle[..., :-2, :], (0, 0, 1, 1))
        kinds = [(change * across).mean(1, keepdim=True), (change * down).mean(1, keepdim=True)]
        kinds += [change, change.abs().mean(1, keepdim=True)] if scale == 1 else []
        out += [F.adaptive_avg_pool2d(kind, _GRID).flatten(1) for kind in kinds]
    return torch.cat(out, 1).numpy()


def _patches(pieces: list[Tensor], rng: np.random.Generator) -> np.ndarray | None:
    """(transitions, words): how often each kind of local change occurs. Kinds are k-means of small patches, before and
    after side by side, cut where something changed. None where next to nothing does, or the pictures are tiny."""
    r, reach = _REACH, torch.arange(-_REACH, _REACH + 1)
    cut: list[Tensor] = []
    owner: list[Tensor] = []
    count = 0
    for x in pieces:
        high, wide = x.shape[-2:]
        if min(high, wide) <= 2 * r:
            return None
        change = (x[1:] - x[:-1]).abs().amax(1)
        inner = change[:, r:-r, r:-r].flatten(1)
        # A random choice that favours strong changes; without chance a large object would take all places.
        key = torch.from_numpy(rng.random(inner.shape, dtype=np.float32)) * inner.sqrt() * (inner > _CHANGED)
        top = key.topk(min(_PATCHES, key.shape[1]), 1)
        t, j = torch.nonzero(top.values > 0, as_tuple=True)
        place = top.indices[t, j]
        rows = (place // (wide - 2 * r) + r)[:, None, None] + reach[:, None]
        columns = (place % (wide - 2 * r) + r)[:, None, None] + reach
        when = t[:, None, None]
        cut.append(torch.stack([x[when, :, rows, columns], x[when + 1, :, rows, columns]], 1).flatten(1))
        owner.append(t + count)
        count += len(x) - 1
    found, owners = torch.cat(cut), torch.cat(owner)
    if len(found) < 4 * _WORDS:
        return None
    found = found - found.mean(1, keepdim=True)
    found = found / (found.norm(dim=1, keepdim=True) + 0.5)
    sample = found[torch.from_numpy(rng.permutation(len(found))[:8000])]
    words = sample[:_WORDS].clone()
    for _ in range(6):
        words = _means(sample, _nearest(sample, words), words)
    histogram = torch.zeros(count, _WORDS)
    kinds = torch.cat([_nearest(part, words) for part in found.split(65536)])
    histogram.index_put_((owners, kinds), torch.ones(len(owners)), accumulate=True)
    return histogram.sqrt().numpy()


def _places(pieces: list[Tensor], rng: np.random.Generator) -> np.ndarray | None:
    """(transitions, K): changes of where each colour of the foreground lies, in the whole picture and by strips.

    The background is the median picture. None where nothing differs from it.
    """
    sample = torch.cat([x[rng.integers(0, len(x), 4)] for x in pieces])
    background = sample.median(0).values
    colours = sample.permute(0, 2, 3, 1).reshape(-1, sample.shape[1])
    places = torch.nonzero(_foreground(sample, background).flatten())[:, 0]
    if len(places) < 10 * _COLOURS:
        return None
    seen = colours[places[torch.from_numpy(rng.permutation(len(places))[:20000])]]
    palette = seen[:1]
    while len(palette) < _COLOURS:  # each next one is the farthest from all before: rare colours count
        palette = torch.cat([palette, seen[torch.cdist(seen, palette).min(1).values.argmax()][None]])
    for _ in range(8):
        palette = _means(seen, _nearest(seen, palette), palette)
    high, wide = background.shape[-2:]
    y, x = (torch.arange(high) + 0.5) / high, (torch.arange(wide) + 0.5) / wide
    rows = F.one_hot(torch.arange(high) * _BANDS // high, _BANDS).float()
    columns = F.one_hot(torch.arange(wide) * _BANDS // wide, _BANDS).float()
    out = []
    for piece in pieces:
        weight = _foreground(piece, background)
        kind = _nearest(piece.permute(0, 2, 3, 1).reshape(-1, piece.shape[1]), palette).view(weight.shape)
        v = torch.stack([weight] + [weight * (kind == k) for k in range(_COLOURS)], 1)
        by_row, by_column = v.sum(3), v.sum(2)
        mass, across, down = by_row.sum(2), by_column @ x, by_row @ y
        strip, pile = by_row @ rows, by_column @ columns
        strip_across, pile_down = (v @ x) @ rows, (y @ v) @ columns
        few = 0.3  # px: keeps the centre of what is hardly there from jumping about
        parts = [mass, across / (mass + few), down / (mass + few)]
        parts += [strip, strip_across / (strip + few), pile, pile_down / (pile + few)]
        out.append(np.diff(torch.cat([p.flatten(1) for p in parts], 1).numpy(), axis=0))
    return np.concatenate(out)


def _foreground(x: Tensor, background: Tensor) -> Tensor:
    difference = (x - background).abs().amax(1)
    return torch.where(difference > _VISIBLE, difference, torch.zeros_like(difference))


def _nearest(x: Tensor, centres: Tensor) -> Tensor:
    return (x @ centres.T - (centres * centres).sum(1) / 2).argmax(1)


def _means(x: Tensor, kind: Tensor, centres: Tensor) -> Tensor:
    """The mean of each kind; a centre that nothing is near stays."""
    number = torch.bincount(kind, minlength=len(centres))[:, None]
    total = torch.zeros_like(centres).index_add_(0, kind, x)
    return torch.where(number > 0, total / number.clamp(min=1), centres)
