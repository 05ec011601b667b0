"""Let a policy live in a world and keep what truly happened.

Worlds are reset by hand, one by one, where they ended: every stored (frame t-1, action t, frame t) took place, and the
frame after a reset begins a new episode with the null action.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from worldloom.contract import Control
from worldloom.data.episode import DataError, Episode
from worldloom.data.store import Dataset, DatasetWriter
from worldloom.worlds.base import Frames, World, sample_action

Policy: TypeAlias = Callable[[Frames, np.random.Generator], np.ndarray]
STICKY = 0.75  # probability with which the sticky policy repeats its last action


def collect(
    world: World,
    out: str | Path,
    episodes: int,
    length: int,
    seed: int = 0,
    policy: str | Policy | None = None,
    progress: Callable[[int, int], None] | None = None,
    info: Mapping[str, Any] | None = None,
) -> Dataset:
    """Fill the dataset ``out`` up to ``episodes`` episodes of at most ``length`` frames, and open it.

    policy: ``random`` (the default: uniform actions), ``sticky`` (repeats its last action with probability 0.75, which
    wanders farther), or a function of (:class:`Frames`, generator) that returns (N, ...) actions. progress: called with
    (episodes stored, episodes wanted). info: remarks on the dataset, such as ``{"world": {...}}``.

    Episode e lives in world e mod N, in its round e div N, and is seeded by (seed, N, round): rerunning continues
    where it stopped, with seeds not used before. With ``random`` and ``sticky`` an episode is a pure function of
    (seed, N, e) and ``length``, so a collection that was stopped and continued equals one that was not; a function may
    remember, so it need not.
    Controls other than the action are those that the world tells in ``Frames.given``: of one given once, what it tells
    with the episode's first frame.

    An episode cut at ``length`` frames or by the world's time limit has ``terminal`` false.
    """
    if episodes < 1 or length < 1:
        raise DataError(f"Collecting needs at least one episode of one frame, found {episodes} of {length}.")
    spec = world.spec
    if isinstance(policy, str) and policy not in ("random", "sticky"):
        raise DataError(f"There is no policy {policy!r}: choose 'random', 'sticky', or give a function.")
    with DatasetWriter(out, spec, info) as writer:
        found, now = writer.info.get("world"), json.loads(json.dumps((info or {}).get("world")))
        if found is not None and now is not None and found != now:
            raise DataError(f"{out} was collected from another world: {found}, not {now}. Choose a new folder.")
        if len(writer) < episodes:
            _Collector(world, writer, episodes, length, seed, policy or "random", progress).run()
    return Dataset(out)


class _Collector:
    """N slots, one per world; slot i collects the episodes i, i + N, i + 2N, ..., which are written in order."""

    def __init__(
        self,
        world: World,
        writer: DatasetWriter,
        episodes: int,
        length: int,
        seed: int,
        policy: str | Policy,
        progress: Callable[[int, int], None] | None,
    ):
        self.world, self.writer, self.wanted, self.length, self.seed = world, writer, episodes, length, seed
        self.policy, self.progress, self.num = policy, progress, world.num
        done = len(writer)
        self.number = np.array([done + (i - done) % self.num for i in range(self.num)])  # episode each slot is at
        self.history: list[list[Frames]] = [[] for _ in range(self.num)]
        self.actions: list[list[np.ndarray]] = [[] for _ in range(self.num)]
        self.plans: list[np.ndarray | None] = [None] * self.num
        self.finished: dict[int, Episode] = {}
        self.base = _hash31(seed, self.num)
        self.rng = np.random.default_rng([self.base, done])
        self.rewarded = False

    def run(self) -> None:
        """Collect until enough is written."""
        frames = self._begin(np.ones(self.num, bool), None)
        while True:
            ended = frames.ended | np.array([len(h) >= self.length for h in self.history])
            for slot in np.flatnonzero(ended).tolist():
                self._finish(slot)
            self._write()
            if len(self.writer) >= self.wanted:
                return
            if ended.any():
                frames = self._begin(ended, frames)
                continue  # a world may end where it begins
            action = self._act(frames)
            frames = self.world.step(action)
            self.rewarded = self.rewarded or frames.reward is not None
            for slot in range(self.num):
                self.history[slot].append(frames)
                self.actions[slot].append(action[slot])

    def _begin(self, mask: np.ndarray, frames: Frames | None) -> Frames:
        """New episodes in the marked worlds, one reset for all that are in the same round."""
        for round_ in np.unique(self.number[mask] // self.num).tolist():
            chosen = mask & (self.number // self.num == round_)
            # The first reset must be of all worlds; those of a later round are then reset once more.
            frames = self.world.reset(self._seed(round_), None if frames is None else chosen)
            for slot in np.flatnonzero(chosen).tolist():
                self.history[slot] = [_row(frames, slot)]
                self.actions[slot] = []
                self.plans[slot] = self._plan(int(self.number[slot]))
        assert frames is not None  # mask is never empty
        untold = sorted(set(self.world.spec.given) - {"action"} - set(frames.given))
        if untold:
            raise DataError(
                f"Can't collect from a world that is given {untold}: a policy chooses only 'action', and the world "
                "does not tell them in Frames.given."
            )
        return frames

    def _seed(self, round_: int) -> int:
        return (self.base + round_) % 2**31

    def _plan(self, number: int) -> np.ndarray | None:
        """All actions of an episode, where they do not depend on what is seen."""
        control = self.world.spec.action
        if control is None or callable(self.policy):
            return None
        rng = np.random.default_rng([self.base, number, 1])
        plan = sample_action(control, self.length, rng)
        if self.policy == "sticky":
            fresh = rng.random(self.length) >= STICKY
            fresh[0] = True
            plan = plan[np.maximum.accumulate(np.where(fresh, np.arange(self.length), 0))]
        return plan

    def _act(self, frames: Frames) -> np.ndarray:
        """(N, ...) the coming actions."""
        control = self.world.spec.action
        if control is None:
            return np.zeros((self.num, 0), np.float32)
        if not callable(self.policy):
            plans = zip(self.plans, self.actions, strict=True)
            return np.stack([plan[len(taken)] for plan, taken in plans if plan is not None])
        action = np.array(self.policy(frames, self.rng))  # a copy: the policy may use its array again
        return _checked(control, action, self.num)

    def _finish(self, slot: int) -> None:
        """Turn a slot's history into an episode, and move the slot on to its next one."""
        history, number = self.history[slot], int(self.number[slot])
        self.number[slot] = number + self.num
        if number >= self.wanted:
            return
        # The first entry is a copy of the slot's row; the others are all worlds' frames.
        at = [0] + [slot] * (len(history) - 1)
        obs = {n: np.stack([h.obs[n][i] for h, i in zip(history, at, strict=True)]) for n in self.world.spec.shown}
        truth = {n: np.stack([h.truth[n][i] for h, i in zip(history, at, strict=True)]) for n in history[0].truth}
        reward = None
        if self.rewarded or history[0].reward is not None:
            got = [0.0 if h.reward is None else float(h.reward[i]) for h, i in zip(history, at, strict=True)]
            reward = np.array([0.0, *got[1:]], np.float32)  # nothing was earned by being put there
        control = {}
        if self.world.spec.action is not None:
            null = self.world.spec.action.null().numpy()
            control["action"] = np.stack([null, *self.actions[slot]]).astype(null.dtype)
        for name in set(self.world.spec.given) - {"action"}:
            told = np.stack([h.given[name][i] for h, i in zip(history, at, strict=True)])
            control[name] = told[0] if name in self.world.spec.once else told
        policy = self.policy if isinstance(self.policy, str) else getattr(self.policy, "__name__", "function")
        remarks = {"seed": self._seed(number // self.num), "world": slot, "policy": policy}
        terminal = bool(history[-1].terminal[at[-1]])
        self.finished[number] = Episode(obs, control, reward, terminal, truth, remarks)

    def _write(self) -> None:
        """Write the finished episodes whose turn it is."""
        while len(self.writer) in self.finished:
            self.writer.add(self.finished.pop(len(self.writer)))
            if self.progress is not None:
                self.progress(len(self.writer), self.wanted)


def _row(frames: Frames, slot: int) -> Frames:
    """One world's frame, copied, so that the frames of the others are not kept with it."""
    return Frames(
        {n: x[slot : slot + 1].copy() for n, x in frames.obs.items()},
        frames.terminal[slot : slot + 1].copy(),
        frames.truncated[slot : slot + 1].copy(),
        None if frames.reward is None else frames.reward[slot : slot + 1].copy(),
        {n: x[slot : slot + 1].copy() for n, x in frames.truth.items()},
        {n: x[slot : slot + 1].copy() for n, x in frames.given.items()},
    )


def _checked(control: Control, action: np.ndarray, num: int) -> np.ndarray:
    """A policy's actions in the control's dtype; an error of the contract where they do not fit, null ones included."""
    whole = control.kind == "discrete"
    fits = action.dtype.kind in ("iu" if whole else "fiu")
    if not fits or action.shape != (num, *control.shape):
        raise DataError(
            f"The policy must return {'integers' if whole else 'numbers'} of shape {(num, *control.shape)}, "
            f"found {action.dtype} {action.shape}."
        )
    action = action.astype(np.int64 if whole else np.float32)
    control.check(torch.from_numpy(action), (num,), "action")
    if whole and action.max() >= control.n:
        raise DataError(f"The policy chose action {action.max()}; the choices are 0 to {control.n - 1}.")
    return action


def _hash31(*values: int) -> int:
    """A number below 2**31 from whole numbers, the same on every machine."""
    return int.from_bytes(hashlib.sha256(repr(values).encode()).digest()[:4], "little") >> 1
