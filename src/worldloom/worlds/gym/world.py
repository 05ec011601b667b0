"""N environments of Gymnasium as a :class:`~worldloom.worlds.base.World`: explicit resets, no invented steps."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from worldloom.contract import ContractError
from worldloom.worlds.base import Frames
from worldloom.worlds.gym.find import EnvSource, label_of
from worldloom.worlds.gym.single import GymConfig, Row
from worldloom.worlds.gym.spaces import check_actions
from worldloom.worlds.gym.workers import Group, Worker, split


class GymWorld:
    """N copies of an environment, stepped together.

    ``env`` is a registered id (``"ALE/Pong-v5"``), ``"module:Class"`` (the user's own ``gymnasium.Env``, found from
    the current folder too), or a callable that makes one. ``options`` are the fields of :class:`GymConfig`
    (``size``, ``frame_skip``, ``crop``, ...), which may also come as ``config``.

    Environments never reset themselves, so that a recorded transition is one that happened. World i of a reset with
    ``seed`` is seeded by (seed, i) whatever N is; a reset without goes on with the environment's own randomness, and
    the very first one takes the ``seed`` given here. With ``workers`` the environments live in that many processes;
    results are the same. ``notes`` says what was left out or changed on the way.

    Raises subclasses of :class:`~worldloom.contract.WorldloomError`: an unknown environment (naming the nearest), a
    missing package, spaces that can't be a Spec, an environment that breaks.
    """

    def __init__(
        self,
        env: EnvSource,
        num: int = 1,
        config: GymConfig | None = None,
        *,
        seed: int = 0,
        workers: int = 0,
        **options: Any,
    ):
        if num < 1 or workers < 0:
            raise ContractError(f"A world needs num >= 1 and workers >= 0, found num={num} and workers={workers}.")
        self.num, self.config = num, _configured(config, options)
        self._label, self._seed = label_of(env), seed
        self._rows: list[Row | None] = [None] * num
        self._seeded: set[int] = set()
        self._lanes: list[Group | Worker] = []
        self._close = weakref.finalize(self, _close_all, self._lanes)
        self._places = split(num, max(workers, 1))
        try:
            for places in self._places:
                self._lanes.append((Worker if workers else Group)(env, self.config, places))
            for lane in self._lanes:
                if isinstance(lane, Worker):
                    lane.ready()
        except BaseException:
            self.close()
            raise
        self.spec, self.notes = self._lanes[0].spec, self._lanes[0].notes
        if any(lane.spec != self.spec for lane in self._lanes):
            self.close()
            raise ContractError(f"{self._label} makes environments that differ from one another.")

    def reset(self, seed: int | None = None, mask: np.ndarray | None = None) -> Frames:
        """Begin new episodes in the worlds that ``mask`` (N,) bool marks, or in all; the others repeat their frame."""
        self._open()
        chosen = np.ones(self.num, dtype=bool) if mask is None else np.asarray(mask)
        if chosen.shape != (self.num,) or chosen.dtype != bool:
            raise ContractError(f"mask must be ({self.num},) bool, found {chosen.shape} {chosen.dtype}.")
        never = [i for i in range(self.num) if self._rows[i] is None and not chosen[i]]
        if never:
            raise ContractError(f"Worlds {never} have no frame to repeat: reset them too.")
        what: dict[int, int | None] = {}
        for i in np.flatnonzero(chosen).tolist():
            fresh = None if i in self._seeded else self._seed
            source = seed if seed is not None else fresh
            what[i] = None if source is None else world_seed(source, i)
        self._exchange("reset", what)
        self._seeded |= set(what)
        return self._frames()

    def step(self, action: np.ndarray) -> Frames:
        """Act (N, ...) and return the frames this led to. A world that has ended must be reset first."""
        self._open()
        if any(row is None for row in self._rows):
            raise ContractError(f"{self._label} has not begun: call reset() before step().")
        over = [i for i, row in enumerate(self._rows) if row is not None and (row.terminal or row.truncated)]
        if over:
            raise ContractError(f"Worlds {over} have ended: reset(mask=frames.ended) begins their next episodes.")
        control = self.spec.given["action"]
        self._exchange("step", dict(enumerate(check_actions(control, action, self.num))))
        return self._frames()

    def close(self) -> None:
        """Free all environments and processes. Calling it twice is harmless."""
        self._close()

    def __enter__(self) -> GymWorld:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        if not self._close.alive:
            raise ContractError(f"This world of {self._label} is closed.")

    def _exchange(self, verb: str, what: dict[int, Any]) -> None:
        """Send each lane its part, then gather; after an error every world must begin anew."""
        rows, self._rows = self._rows, [None] * self.num
        busy, problem = [], None
        for lane, places in zip(self._lanes, self._places, strict=True):
            part = {i: what[i] for i in places if i in what}
            if part:
                lane.send(verb, part)
                busy.append(lane)
        for lane in busy:
            try:
                for i, row in lane.receive().items():
                    rows[i] = row
            except Exception as error:  # the other lanes' answers must be fetched all the same
                problem = problem or error
        if problem is not None:
            raise problem
        self._rows = rows

    def _frames(self) -> Frames:
        rows = [row for row in self._rows if row is not None]
        return Frames(
            obs={name: np.stack([row.obs[name] for row in rows]) for name in self.spec.shown},
            terminal=np.array([row.terminal for row in rows]),
            truncated=np.array([row.truncated for row in rows]),
            reward=np.array([row.reward for row in rows], dtype=np.float32),
        )


def world_seed(seed: int, place: int) -> int:
    """The environment's seed, 31 bits: a hash of (seed, place), so that it does not depend on how many there are."""
    return int(np.random.SeedSequence([seed % 2**64, place]).generate_state(1)[0] >> 1)


def _configured(config: GymConfig | None, options: dict[str, Any]) -> GymConfig:
    from dataclasses import fields, replace
    from difflib import get_close_matches

    known = [f.name for f in fields(GymConfig)]
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"they are {known}."
            raise ContractError(f"GymWorld has no option {name!r}; {hint}")
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    if options.get("env_options", {}) is None:
        options["env_options"] = {}
    return replace(config or GymConfig(), **options)


def _close_all(lanes: Sequence[Group | Worker]) -> None:
    for lane in lanes:
        lane.close()
