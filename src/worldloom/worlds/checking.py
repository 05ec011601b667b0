"""Does a world keep what :class:`~worldloom.worlds.base.World` promises? For a user's own, and for ours.

worldloom.check_world(my_world)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from worldloom.conformance import Check, Report
from worldloom.contract import ContractError, Sensor, Spec
from worldloom.plugins import one_line, place
from worldloom.worlds.base import Frames, World, sample_action


class _Broken(Exception):  # noqa: N818 - it is a verdict, not an error
    """The world breaks this promise."""


def check_world(
    world: Any,
    *,
    make: Callable[[int], World] | None = None,
    seed: int = 0,
    frames: int = 12,
    raise_on_failure: bool = True,
) -> Report:
    """Play ``world`` for a few frames and hold it to its protocol. It is reset on the way and not closed.

    make: makes ``n`` of the same worlds; with it, world i is also held to start alike whatever their number is. seed:
    of resets and random actions. frames: how many are played for each check.

    Raises :class:`ContractError` that lists every broken promise, unless ``raise_on_failure`` is false.
    """
    bench = _Bench(world, make, seed, frames)
    outcomes: list[Check] = []
    for name, check in CHECKS.items():
        try:
            check(bench)
            outcomes.append(Check(name, True, ""))
        except _Broken as broken:
            outcomes.append(Check(name, False, str(broken)))
        except Exception as error:  # whatever a user's world raises is a finding, not a crash of the suite
            outcomes.append(Check(name, False, f"raised {type(error).__name__}: {one_line(error)}{place(error)}"))
        if name == "page" and not outcomes[-1].passed:
            break  # without it, all else would only say the same again
    report = Report(type(world).__name__, tuple(outcomes))
    if raise_on_failure and not report.passed:
        raise ContractError(str(report))
    return report


def _need(condition: Any, message: str) -> None:
    if not bool(condition):
        raise _Broken(message)


class _Bench:
    """A world and how it is played. Every action is a function of the seed, the life's name and the frame."""

    def __init__(self, world: Any, make: Callable[[int], World] | None, seed: int, frames: int):
        self.world, self.make, self.seed, self.frames = world, make, seed, frames

    def action(self, num: int, t: int) -> np.ndarray:
        """(num, ...) random actions, or (num, 0) where the world takes none. Row i does not depend on ``num``."""
        control = self.world.spec.action
        if control is None:
            return np.zeros((num, 0), np.float32)
        return np.concatenate([sample_action(control, 1, np.random.default_rng([self.seed, t, i])) for i in range(num)])

    def play(self, world: World, seed: int, frames: int) -> list[Frames]:
        """The frames of a life from ``reset(seed)``; worlds that end are reset by the seed ``seed + t``."""
        out = [world.reset(seed)]
        for t in range(frames):
            _need(isinstance(out[-1], Frames), f"reset and step must return worldloom.Frames, found {type(out[-1])}.")
            ended = _ended(out[-1])
            if ended.any():
                out.append(world.reset(seed + t, ended))
            else:
                out.append(world.step(self.action(world.num, t)))
        return out


def _ended(frames: Frames) -> np.ndarray:
    return np.asarray(frames.terminal) | np.asarray(frames.truncated)


def _page(bench: _Bench) -> None:
    """The parts are there, and the spec says what the library can use."""
    world = bench.world
    for name in ("spec", "num", "reset", "step", "close"):
        _need(hasattr(world, name), f"A World has spec, num, reset, step and close; {name!r} is missing.")
    _need(isinstance(world.spec, Spec), f"spec must be a worldloom.Spec, found {type(world.spec).__name__}.")
    _need(
        isinstance(world.num, int) and world.num >= 1, f"num must be a whole number of at least 1, found {world.num}."
    )


def _sensor(sensor: Sensor) -> np.dtype[Any]:
    return np.dtype(np.uint8 if sensor.kind == "image" else np.float32)


def _check_frames(world: World, frames: Any, how: str) -> None:
    _need(isinstance(frames, Frames), f"{how} must return worldloom.Frames, found {type(frames).__name__}.")
    n, spec = world.num, world.spec
    _need(
        set(frames.obs) == set(spec.shown),
        f"{how} must show the sensors of the spec, {sorted(spec.shown)}, found {sorted(frames.obs)}.",
    )
    wanted = {f"obs[{k!r}]": (frames.obs[k], (n, *s.shape), _sensor(s)) for k, s in spec.shown.items()}
    wanted |= {k: (getattr(frames, k), (n,), np.dtype(bool)) for k in ("terminal", "truncated")}
    if frames.reward is not None:
        wanted["reward"] = (frames.reward, (n,), np.dtype(np.float32))
    for name, (value, shape, dtype) in wanted.items():
        _need(isinstance(value, np.ndarray), f"{name} after {how} must be a numpy array, found {type(value).__name__}.")
        _need(
            value.shape == shape and value.dtype == dtype,
            f"{name} after {how} must be {dtype} {shape}, found {value.dtype} {value.shape}.",
        )
        _need(np.isfinite(value).all(), f"{name} after {how} holds NaN or infinite values.")
    _check_given(frames, spec, n, how)
    for name, value in frames.truth.items():
        _need(
            isinstance(value, np.ndarray) and value.ndim >= 1 and len(value) == n and value.dtype.kind in "fiub",
            f"truth[{name!r}] after {how} must be a numpy array of numbers with one row a world, ({n}, ...), found "
            f"{getattr(value, 'dtype', type(value).__name__)} {getattr(value, 'shape', '')}.",
        )


def _check_given(frames: Frames, spec: Spec, n: int, how: str) -> None:
    """The controls that no policy chooses are told by the world itself."""
    own = set(spec.given) - {"action"}
    _need(
        set(frames.given) == own,
        f"A policy chooses the action alone: {how} must tell the other controls of the spec, {sorted(own)}, in "
        f"Frames.given, found {sorted(frames.given)}.",
    )
    for name in sorted(own):
        value = frames.given[name]
        _need(isinstance(value, np.ndarray), f"given[{name!r}] after {how} must be a numpy array, found {type(value)}.")
        try:
            spec.given[name].check(torch.from_numpy(value.copy()), (n,), name)
        except (ContractError, TypeError) as error:
            raise _Broken(f"given[{name!r}] after {how}: {error}") from error


def _truth(frames: Frames) -> dict[str, Any]:
    return {name: (x.shape, x.dtype) for name, x in frames.truth.items()}


def _frames(bench: _Bench) -> None:
    """Shapes and dtypes after reset and step; the same truth and, if any, rewards at every frame."""
    life = bench.play(bench.world, bench.seed, bench.frames)
    for t, frames in enumerate(life):
        _check_frames(bench.world, frames, "reset" if t == 0 else "step")
        _need(
            _truth(frames) == _truth(life[0]),
            f"The truth must have the same names, shapes and dtypes at every frame: found {_truth(life[0])} at first "
            f"and {_truth(frames)} after {t} frames.",
        )


def _same(a: Frames, b: Frames, row: int | slice = slice(None)) -> str:
    """The name of the first part that differs in the rows; empty where none does."""
    parts = {**{f"obs[{k!r}]": (x, b.obs[k]) for k, x in a.obs.items()}}
    parts |= {f"truth[{k!r}]": (x, b.truth[k]) for k, x in a.truth.items() if k in b.truth}
    parts |= {f"given[{k!r}]": (x, b.given[k]) for k, x in a.given.items() if k in b.given}
    parts |= {"terminal": (a.terminal, b.terminal), "truncated": (a.truncated, b.truncated)}
    if a.reward is not None and b.reward is not None:
        parts["reward"] = (a.reward, b.reward)
    return next(
        (n for n, (x, y) in parts.items() if not np.array_equal(x[row], y[row], equal_nan=x.dtype.kind == "f")), ""
    )


def _seeds(bench: _Bench) -> None:
    """The same seed and actions give the same life."""
    one, two = (bench.play(bench.world, bench.seed, bench.frames) for _ in range(2))
    for t, (a, b) in enumerate(zip(one, two, strict=True)):
        different = _same(a, b)
        where = "after reset(seed)" if t == 0 else f"{t} frames after it"
        _need(
            not different,
            f"reset(seed={bench.seed}) and the same actions must give the same frames, but {different} differs {where}"
            ". Draw from np.random.default_rng([seed, i]) for world i, and keep nothing from before.",
        )


def _number(bench: _Bench) -> None:
    """World i of reset(seed) starts the same whatever the number of worlds is."""
    if bench.make is None:
        return
    few, many = bench.make(1), bench.make(3)
    try:
        lives = [bench.play(world, bench.seed, min(bench.frames, 4)) for world in (few, many)]
    finally:
        few.close()
        many.close()
    for t, (a, b) in enumerate(zip(*lives, strict=True)):
        if _ended(b)[1:].any():
            return  # the first of many waits while another begins anew
        different = _same(a, b, slice(0, 1))
        _need(
            not different,
            f"World 0 of reset(seed={bench.seed}) must be the same alone and beside others, but {different} differs "
            f"after {t} frames. Draw from np.random.default_rng([seed, i]) for world i.",
        )


def _mask(bench: _Bench) -> None:
    """reset(mask) begins anew in the marked worlds, and repeats the last frame of the others."""
    world = bench.world
    if world.num < 2:
        return
    life = bench.play(world, bench.seed, 3)
    mask = np.zeros(world.num, bool)
    mask[0] = True
    frames = world.reset(bench.seed + 1, mask.copy())
    _check_frames(world, frames, "reset(mask)")
    for i in range(1, world.num):
        for name in world.spec.shown:
            _need(
                np.array_equal(frames.obs[name][i], life[-1].obs[name][i]),
                f"reset(seed, mask) must leave the worlds that mask does not mark where they are, and show their last "
                f"frame again; obs[{name!r}] of world {i} changed.",
            )
    fresh = world.reset(bench.seed + 1)
    different = _same(frames, fresh, slice(0, 1))
    _need(
        different in ("", "reward"),
        f"reset(seed, mask) must start a marked world as reset(seed) does, but {different} differs.",
    )


def _memory(bench: _Bench) -> None:
    """Frames belong to whoever received them: later steps do not change them. Actions are not written into."""
    world = bench.world
    first = world.reset(bench.seed)
    kept = {**first.obs, **{f"truth {n}": x for n, x in first.truth.items()}}
    kept |= {f"given {n}": x for n, x in first.given.items()}
    before = {name: x.copy() for name, x in kept.items()}
    if not _ended(first).any():
        action = bench.action(world.num, 0)
        given = action.copy()
        world.step(action)
        _need(np.array_equal(action, given), "step wrote into the actions it was given.")
    world.reset(bench.seed + 1)
    changed = sorted(n for n, x in kept.items() if not np.array_equal(x, before[n], equal_nan=x.dtype.kind == "f"))
    _need(
        not changed, f"A later frame changed {changed} of an earlier one: return copies, not the arrays you go on with."
    )


def _null(bench: _Bench) -> None:
    """The null action of a continuous control, zeros, is an action like any other."""
    control = bench.world.spec.action
    if control is None or control.kind != "continuous":
        return
    if not _ended(bench.world.reset(bench.seed)).any():
        _check_frames(bench.world, bench.world.step(np.zeros((bench.world.num, *control.shape), np.float32)), "step")


CHECKS: dict[str, Callable[[_Bench], None]] = {
    "page": _page,
    "frames": _frames,
    "seeds": _seeds,
    "number": _number,
    "mask": _mask,
    "memory": _memory,
    "null_action": _null,
}
"""Every check by name, in the order in which they are made."""


__all__ = ["CHECKS", "check_world"]
