"""Whether actions stand beside the frames they led to, found by what the frames themselves tell of each action.

For a shift s, ask how much the motion from frame t-1 to frame t tells about the entry t+s of the column of actions,
*beyond* what the frames before and all neighbouring entries tell already. An entry that comes after its effect can't
be told from it, and one before is told by its leftovers; so going from late entries to early ones, the first that the
motion tells is the one that led to it. That is s = 0 where the column is right. docs/inspect.md has the reasoning,
the figures and what it can't tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from worldloom.contract import Control, Spec
from worldloom.data.episode import Episode
from worldloom.data.inspecting.motion import describe_motion, principal

SHIFTS = (-2, -1, 0, 1, 2)
_REACH = 3  # entries of the column to either side that count as neighbours
_PIECE = 100  # longest run of frames that counts as one observation in the statistics
_FEWEST_ROWS, _FEWEST_PIECES, _FOLDS = 300, 10, 5
_KEPT = (6, 16, 48)  # how many features of the motion survive screening: what predicts best, held out, counts


@dataclass(frozen=True)
class ShiftConfig:
    """How misaligned actions are looked for."""

    frames: int = 4000
    """At most this many frames are looked at, in pieces spread over the episodes."""
    share: float = 0.01
    """The least part of an entry's unknown variance that motion must tell to count."""
    relative: float = 0.25
    """The same, of what it tells about the entry it tells most of."""
    certainty: float = 4.0
    """Standard errors (over pieces of episodes) by which it must be above zero."""
    seed: int = 0
    """Of the choice of pieces, of folds and of features."""


@dataclass(frozen=True)
class Finding:
    """What the motion says about the column of actions."""

    verdict: Literal["aligned", "shifted", "unclear"]
    """``unclear``: too few frames, or the motion tells nothing of the actions."""
    shift: int
    """Entry t + shift of the column is the one that led to frame t; 0 unless shifted."""
    told: dict[int, float]
    """Shift to the part of the entry's otherwise unknown variance that the motion tells (held out; at most 1)."""
    certainty: dict[int, float]
    """Shift to that part in standard errors."""
    frames: int
    """How many motions were looked at."""
    why: str
    """One sentence."""
    example: tuple[int, int] | None = None
    """(number among the episodes given, frame) where an action changes clearly, for the user to look at."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        out = asdict(self)
        for name in ("told", "certainty"):
            out[name] = {str(k): round(float(v), 5) for k, v in out[name].items()}
        return out


def find_shift(spec: Spec, episodes: Sequence[Episode], config: ShiftConfig | None = None) -> Finding:
    """Look for a column of actions that is shifted against the frames, by up to two frames either way."""
    config = config or ShiftConfig()
    control = spec.action
    if control is None or control.kind not in ("discrete", "continuous") or control.per != "frame":
        return _unclear("there are no actions, frame by frame, to compare with the motion")
    rng = np.random.default_rng(config.seed)
    pieces = _choose(episodes, config.frames, rng)
    rows = sum(stop - start - 2 * _REACH - 1 for _, start, stop in pieces)
    if rows < _FEWEST_ROWS or len(pieces) < _FEWEST_PIECES:
        return _unclear(
            f"{rows} frames in {len(pieces)} runs of an episode are too few; it takes {_FEWEST_ROWS} in at least "
            f"{_FEWEST_PIECES} runs",
            rows,
        )
    column = _columns(control, [episodes[e].control["action"][a:b] for e, a, b in pieces])
    if column is None:
        return _unclear("the actions hardly vary", rows)
    motion = describe_motion(
        spec, [{n: episodes[e].obs[n][a:b] for n in spec.shown} for e, a, b in pieces], config.seed
    )
    table = _table(motion.steps, motion.states, column)
    if table is None:
        return _unclear("nothing moves", rows)
    told, certainty = {}, {}
    fold = (rng.permutation(len(pieces)) % _FOLDS)[table.piece]
    for shift in SHIFTS:
        told[shift], certainty[shift] = _told(table, fold, shift)
    found = _decide(told, certainty, config)
    if found is None:
        return Finding("unclear", 0, told, certainty, rows, "the motion tells too little of the actions")
    if found == 0:
        return Finding("aligned", 0, told, certainty, rows, "the motion to a frame tells its own action first")
    which = f"{abs(found)} {'rows' if abs(found) > 1 else 'row'} {'later' if found > 0 else 'earlier'}"
    why = f"the motion to a frame tells nothing of the frame's own action, but of the one that stands {which}"
    return Finding("shifted", found, told, certainty, rows, why, _example(episodes, pieces, control))


def _unclear(why: str, rows: int = 0) -> Finding:
    return Finding("unclear", 0, {}, {}, rows, why)


def _decide(told: dict[int, float], certainty: dict[int, float], config: ShiftConfig) -> int | None:
    """The latest entry that the motion tells clearly; None where it tells none, or where those after it up to the
    frame's own, though not told clearly, are not told clearly less either."""
    most = max(told.values())
    clear = [
        shift
        for shift in SHIFTS
        if told[shift] >= max(config.share, config.relative * most) and certainty[shift] >= config.certainty
    ]
    if not clear:
        return None
    latest = max(clear)
    doubtful = any(told[shift] > config.relative * told[latest] for shift in range(latest + 1, 1))
    return None if doubtful else latest


# ----------------------------------------------------------------------------------------- the table


@dataclass(frozen=True)
class _Table:
    """One row for each motion looked at."""

    now: np.ndarray
    """(N, K): the motion from frame t-1 to frame t, as far as what came before does not tell it; unit variance."""
    before: np.ndarray
    """(N, P): motion and frames up to t-1."""
    column: np.ndarray
    """(N, 2·_REACH+1, A): entries t-_REACH to t+_REACH of the column."""
    piece: np.ndarray
    """(N,) number of the piece."""


def _choose(episodes: Sequence[Episode], frames: int, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """(episode, start, stop) of pieces of at most _PIECE frames, about ``frames`` in all, spread over what there is."""
    shortest = 2 * _REACH + 4
    pieces = [
        (number, start, min(start + _PIECE, episode.length))
        for number, episode in enumerate(episodes)
        for start in range(0, episode.length, _PIECE)
        if min(start + _PIECE, episode.length) - start >= shortest
    ]
    total = 0
    kept: list[tuple[int, int, int]] = []
    for i in rng.permutation(len(pieces)).tolist():
        total += pieces[i][2] - pieces[i][1]
        if total > frames and kept:
            break
        kept.append(pieces[i])
    return sorted(kept)


def _columns(control: Control, actions: list[np.ndarray]) -> list[np.ndarray] | None:
    """Each piece's actions (T, A) as centred numbers; choices one-hot, rare ones and constant entries left out."""
    if control.kind == "discrete":
        numbers = [np.eye(control.n + 1)[np.clip(a, 0, control.n)][:, : control.n] for a in actions]
    else:
        numbers = [np.nan_to_num(a.astype(np.float64), posinf=0, neginf=0) for a in actions]
    every = np.concatenate(numbers)
    mean, spread = every.mean(0), every.std(0)
    varied = spread > (0.1 if control.kind == "discrete" else 1e-6)  # 0.1: a choice taken in 1 % of the frames
    if not varied.any():
        return None
    scale = np.ones_like(spread) if control.kind == "discrete" else np.maximum(spread, 1e-6)
    return [((x - mean) / scale)[:, varied] for x in numbers]


def _table(steps: list[np.ndarray], states: list[np.ndarray], column: list[np.ndarray]) -> _Table | None:
    now, before, state, entries, piece = [], [], [], [], []
    for number, (m, s, c) in enumerate(zip(steps, states, column, strict=True)):
        t = np.arange(_REACH + 1, len(c) - _REACH)
        # m[t-1] is the motion to frame t; what changed in the motion itself is what a push does to a thing that flies
        now.append(np.concatenate([m[t - 1], m[t - 1] - m[t - 2]], 1))
        before.append(np.concatenate([m[t - 2], m[t - 2] - m[t - 3]], 1))
        state.append(s[t - 1])
        entries.append(np.stack([c[t + k] for k in range(-_REACH, _REACH + 1)], 1))
        piece.append(np.full(len(t), number))
    x = np.concatenate(now)
    moving = x.std(0) > 1e-7
    if not moving.any():
        return None
    x = _squashed(x[:, moving])
    past = principal(_squashed(np.concatenate(before)[:, moving]), 64)
    known = np.concatenate([past, _standard(np.concatenate(state))], 1).astype(np.float64)
    x = x - _ridge(known, x, known, 0.01)
    spread = x.std(0)
    x = (x / np.maximum(spread, 1e-6))[:, spread > 1e-3]
    return _Table(x.astype(np.float32), known, np.concatenate(entries), np.concatenate(piece))


def _standard(x: np.ndarray) -> np.ndarray:
    return np.clip((x - x.mean(0)) / (x.std(0) + 1e-8), -5, 5).astype(np.float32)


def _squashed(x: np.ndarray) -> np.ndarray:
    """(N, 2K): the columns in units of their usual size with large values flattened, so that a bounce or a cut does not
    drown the pushes, and the columns themselves."""
    size = np.abs(x[:: max(1, len(x) // 1000)])
    size[size <= 1e-3 * x.std(0) + 1e-9] = np.nan
    known = ~np.isnan(size).all(0)
    usual = np.ones(x.shape[1])
    usual[known] = np.nanmedian(size[:, known], 0)
    return np.concatenate([_standard(np.tanh(x / (1.5 * usual))), _standard(x)], 1)


# ------------------------------------------------------------------------------------- the statistic


def _told(table: _Table, fold: np.ndarray, shift: int) -> tuple[float, float]:
    """The part of entry t+shift's otherwise unknown variance that the motion to t tells, and it in standard errors."""
    from scipy.special import chdtri  # the inverse of chi-squared's tail; scipy.stats takes long to import

    here = _REACH + shift
    others = np.delete(table.column, here, 1).reshape(len(table.column), -1)
    known = np.concatenate([table.before, others], 1)
    target = table.column[:, here]
    # Neighbouring entries are hardly shrunk: what they tell must not be left for the motion to tell.
    strength = np.concatenate([np.full(table.before.shape[1], 0.1), np.full(others.shape[1], 1e-3)])
    unknown = target.copy()
    for f in range(_FOLDS):
        train = fold != f
        unknown[~train] -= _ridge(known[train], target[train], known[~train], strength)
    unit = unknown / (unknown.std(0) + 1e-9)
    guesses = {kept: np.zeros_like(unknown) for kept in _KEPT}
    for f in range(_FOLDS):
        train = fold != f
        n = int(train.sum())
        score = (((table.now[train].T @ unit[train].astype(np.float32)) / n) ** 2).sum(1) * n
        best = np.argsort(-score)[: max(_KEPT)]
        best = best[score[best] > chdtri(unknown.shape[1], 0.05 / len(score))]
        if not len(best):
            continue
        # What the neighbouring entries do to the motion is no news either.
        inputs = table.now[:, best] - _ridge(others[train], table.now[train][:, best], others, 1e-3)
        for kept, guess in guesses.items():
            some = inputs[:, :kept]
            guess[~train] = _ridge(some[train], unknown[train], some[~train], 0.02)
    before = np.bincount(table.piece, (unknown**2).sum(1))
    afters = [np.bincount(table.piece, ((unknown - guess) ** 2).sum(1)) for guess in guesses.values()]
    after = min(afters, key=np.sum)
    gain = (before - after)[before > 0]
    error = gain.std(ddof=1) / np.sqrt(len(gain))
    return float(1 - after.sum() / max(before.sum(), 1e-12)), float(gain.mean() / (error + 1e-9))


def _ridge(x: np.ndarray, y: np.ndarray, at: np.ndarray, strength: float | np.ndarray) -> np.ndarray:
    """Ridge regression of y on x with an intercept, evaluated ``at``. ``strength`` (of each column, or of all) is
    relative to the columns' variance."""
    middle, level = x.mean(0), y.mean(0)
    x = x - middle
    gram = (x.T @ x).astype(np.float64)
    gram[np.diag_indices_from(gram)] += strength * np.diag(gram) + 1e-9 * len(x)
    return (at - middle) @ np.linalg.solve(gram, (x.T @ (y - level)).astype(np.float64)) + level


def _example(
    episodes: Sequence[Episode], pieces: list[tuple[int, int, int]], control: Control
) -> tuple[int, int] | None:
    """Where an action changes after standing still for longest: there a delay is easiest to see."""
    best: tuple[int, int, int] | None = None
    for number, start, stop in pieces:
        action = episodes[number].control["action"][start:stop].reshape(stop - start, -1)
        changed = np.flatnonzero((action[1:] != action[:-1]).any(1)) + 1
        changed = changed[(changed > 1) & (changed < len(action) - 2)]
        for a, b in zip(np.concatenate([[1], changed[:-1]]), changed, strict=True) if len(changed) else ():
            if best is None or b - a > best[0]:
                best = (int(b - a), number, start + int(b))
    return None if best is None else (best[1], best[2])
