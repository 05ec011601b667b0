"""What the arrays of a file are, by their names and shapes: pictures, vectors, actions, rewards, flags.

Layouts known by the words that projects use for them:

* one episode a file: ``obs, action, reward, done`` (Ha & Schmidhuber, arXiv:1803.10122, ``extract.py``); ``image,
  action, reward, is_first, is_last, is_terminal, discount`` (DreamerV2's episodes, DreamerV3's chunks);
* rows of many episodes: ``observations, actions, rewards, terminals, timeouts`` (D4RL, arXiv:2004.07219); ``data/*``
  with ``meta/episode_ends`` (diffusion policy, arXiv:2303.04137); ``pixels, action, ep_len, ep_offset``
  (stable-worldmodel);
* a group an episode: ``data/demo_0/obs/*, next_obs/*, actions, rewards, dones`` (robomimic), ``episode_0/*``;
* stacked (episodes, time, ...); ``frame_i_x``, ``frame_i_y`` (Pearce & Zhu, arXiv:2104.04258, which DIAMOND reads).
"""

from __future__ import annotations

from math import prod
from typing import Any, Literal

import numpy as np

from worldloom.data.episode import DataError
from worldloom.data.sources.arrays.files import ArrayFile, Leaf
from worldloom.data.sources.base import ImportConfig
from worldloom.data.sources.names import natural

PICTURES = {"image", "images", "img", "imgs", "frame", "frames", "rgb", "pixels", "video", "screen"}
SENSORS = PICTURES | {"obs", "observation", "observations", "state", "states", "proprio", "vector", "features"}
SENSORS |= {"frame_i_x"}
GROUPS = {"obs", "observation", "observations"}
FOLLOWING = {"next_obs", "next_observation", "next_observations"}
ASIDE = {"info", "infos", "meta", "metadata", "mask", "masks"}
ACTIONS = ("action", "actions", "act", "acts", "frame_i_y")
REWARDS = ("reward", "rewards", "rew")
TERMINALS = ("terminal", "terminals", "terminated", "terminations", "is_terminal")
DONES = ("done", "dones", "restart")
TIMEOUTS = ("timeout", "timeouts", "truncated", "truncations")
FIRSTS, LASTS, DISCOUNTS = ("is_first",), ("is_last",), ("discount",)
NUMBERS = ("episode", "episode_index", "episode_id", "episode_ids", "ep_idx")
TABLES = ("episode_ends", "ep_len", "ep_offset")
TIMED = (*REWARDS, *TERMINALS, *DONES, *TIMEOUTS, *FIRSTS, *LASTS, *DISCOUNTS, *NUMBERS)
SMALLEST = 16
"""Shorter side of an array that is taken for pictures though its name does not say so."""
WIDEST = 2**16
"""Entries of a vector at most."""


def channels(shape: tuple[int, ...]) -> tuple[int, tuple[int, int]] | None:
    """(channels, (height, width)) of a frame (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels; None otherwise."""
    if len(shape) == 2:
        return 1, (shape[0], shape[1])
    if len(shape) == 3 and shape[-1] in (1, 3, 4):
        return shape[-1], (shape[0], shape[1])
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return shape[0], (shape[1], shape[2])
    return None


def size_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """(height, width) of a frame that is a picture."""
    found = channels(shape)
    if found is None:
        raise DataError(f"Pictures must be (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels, found {shape}.")
    return found[1]


def kind_of(name: str, frame: tuple[int, ...], dtype: np.dtype[Any]) -> Literal["image", "vector"] | None:
    """What frames of this shape are; None for neither."""
    found = channels(frame)
    named = name.lower() in PICTURES | {"x"} or any(p in name.lower() for p in ("image", "rgb", "pixel"))
    sized = found is not None and min(found[1]) >= SMALLEST and (len(frame) == 3 or dtype.kind in "bu")
    if found is not None and (named or sized):
        return "image"
    return "vector" if len(frame) <= 2 and 1 <= prod(frame) <= WIDEST else None


def last(name: str) -> str:
    """The array's own name, without its groups."""
    return name.rsplit("/", 1)[-1].lower()


def root_of(name: str) -> str:
    """The group of the recording that an array belongs to: above groups of observations, infos and the like."""
    parts = name.split("/")
    inner = next((k for k, p in enumerate(parts[:-1]) if p.lower() in GROUPS | FOLLOWING | ASIDE), len(parts) - 1)
    return "/".join(parts[:inner])


class Members:
    """The arrays of one recording, sorted by what they are. Their lengths are looked at by :meth:`rows`."""

    def __init__(self, file: ArrayFile, root: str, names: list[str], config: ImportConfig):
        self.file, self.root, self.names, self.config = file, root, names, config
        self.where = f"{file.where}: {root}" if root else file.where
        self.local = {n: n[len(root) + 1 :] if root else n for n in names}
        """Array to its name within the recording."""
        self.left: list[str] = []
        """Arrays that could be shown but are not, and why."""
        self.role = {last(n): n for n in names if not self._groups(n) & (ASIDE | FOLLOWING)}
        self.action = self._actions()
        self.reward = self.find(REWARDS)
        self.sensors = self._sensors()

    def _groups(self, name: str) -> set[str]:
        return set(self.local[name].lower().split("/")[:-1])

    def shape(self, array: str) -> tuple[int, ...]:
        """Shape of an array."""
        return self.file.leaves[array].shape

    def find(self, names: tuple[str, ...]) -> str | None:
        """The array that has one of these names."""
        return next((self.role[n] for n in names if n in self.role), None)

    def _actions(self) -> tuple[str, ...]:
        if self.config.actions == "none":
            return ()
        if self.config.columns:
            wanted = [[n for n in self.names if w in (n, self.local[n], last(n))] for w in self.config.columns]
            return tuple(n[0] for n in wanted) if all(wanted) else ()
        plain = self.find(ACTIONS)
        if plain is not None:
            return (plain,)
        return tuple(sorted((n for key, n in self.role.items() if key.startswith("action_")), key=natural))

    def _sensors(self) -> dict[str, str]:
        """Sensor to array: those in a group of observations, else those named so, else all that look like pictures."""
        roles = {*ACTIONS, *TIMED, *TABLES}
        options = [n for n in self.names if n not in self.action and last(n) not in roles]
        options = [n for n in options if not self._groups(n) & (ASIDE | FOLLOWING)]
        chosen = [n for n in options if self._groups(n) & GROUPS]
        chosen = chosen or [n for n in options if last(n) in SENSORS]
        chosen = chosen or [n for n in options if self._pictured(n)]
        short = [last(n) for n in chosen]
        full = [self.local[n].replace("/", ".") for n in chosen]
        names = [s if short.count(s) == 1 else f for s, f in zip(short, full, strict=True)]
        return {"image" if n == "frame_i_x" else n: a for n, a in zip(names, chosen, strict=True)}

    def _pictured(self, array: str) -> bool:
        """Whether an array of any name looks like pictures; whether they are stacked is asked later."""
        leaf = self.file.leaves[array]
        found = channels(leaf.shape[-3:]) if len(leaf.shape) in (4, 5) else None
        grey = len(leaf.shape) == 4 or (len(leaf.shape) == 3 and leaf.dtype == np.uint8)
        return (found is not None and min(found[1]) >= SMALLEST) or (grey and min(leaf.shape[-2:]) >= SMALLEST)

    def stacked(self) -> bool:
        """Whether the first axis counts episodes and the second time. :class:`DataError` where both readings fit."""
        act = self.shape(self.action[0]) if self.action else ()
        flags = [self.role[n] for n in TIMED if n in self.role]
        if any(len(self.shape(n)) == 2 and self.shape(n)[1] > 1 for n in flags):
            return True
        for name, array in self.sensors.items():
            shape = self.shape(array)
            if len(shape) == 5 and channels(shape[2:]) is not None:
                return True
            grey = len(shape) == 4 and channels(shape[1:]) is None
            matches = len(act) >= 2 and act[0] == shape[0] and act[1] > 1 and shape[1:2] in ((act[1],), (act[1] + 1,))
            if matches and len(shape) >= 3 and (len(act) == 3 or grey):
                return True
            if grey and min(shape[2:]) >= SMALLEST:
                a, b, high, wide = shape
                raise DataError(
                    f"{self.where}: is {name} {shape} {a} episodes of {b} grey pictures of {high}×{wide}, {b} episodes "
                    f"of {a}, or {a} pictures of {b} channels? Save it as (episodes, time, {high}, {wide}, 1), or as "
                    "(time, height, width, channels) with 1 or 3 channels."
                )
        return False

    def frames(self, stacked: bool) -> tuple[dict[str, Leaf], frozenset[str]]:
        """Shape and dtype of one frame of each sensor, and which are pictures. Others leave :attr:`sensors`."""
        shapes: dict[str, Leaf] = {}
        pictures: set[str] = set()
        for name, array in list(self.sensors.items()):
            leaf = self.file.leaves[array]
            frame = leaf.shape[2 if stacked else 1 :]
            kind = kind_of(name, frame, leaf.dtype)
            if kind is None:
                self.left.append(f"{self.local[array]} (frames of shape {frame} are neither pictures nor vectors)")
            elif kind == "image" and self.config.cameras and name not in self.config.cameras:
                self.left.append(f"{self.local[array]} (not among --cameras)")
            else:
                shapes[name] = Leaf(frame, leaf.dtype)
                pictures |= {name} if kind == "image" else set()
                continue
            del self.sensors[name]
        if not shapes:
            raise DataError(f"{self.where}: nothing that can be shown; left out: {'; '.join(self.left)}.")
        return shapes, frozenset(pictures)

    def rows(self, stacked: bool) -> tuple[int, int, bool]:
        """(episodes, rows of actions and flags, whether there is one frame more than those).

        One episode where arrays are not stacked. Raises :class:`DataError` where the lengths do not fit.
        """
        axis = 1 if stacked else 0
        shown = {name: self.shape(a) for name, a in self.sensors.items()}
        flags = [self.role[n] for n in TIMED if n in self.role]
        tables = {self.local[a]: self.shape(a) for a in dict.fromkeys((*self.action, *flags))}
        both = {**tables, **shown}
        long = all(len(shape) > axis for shape in both.values())
        episodes = {shape[0] for shape in both.values()} if stacked else {1}
        frames = {shape[axis] for shape in shown.values() if len(shape) > axis}
        rows = {shape[axis] for shape in tables.values() if len(shape) > axis} or frames
        count = next(iter(rows), 0)
        if not (long and len(frames) == len(rows) == len(episodes) == 1 and frames <= {count, count + 1}):
            listed = ", ".join(f"{name} {shape}" for name, shape in both.items())
            raise DataError(
                f"{self.where}: arrays of different lengths: {listed}; expected as many frames as rows of actions, "
                "rewards and flags, or one frame more."
            )
        return episodes.pop(), count, frames == {count + 1}

    def following(self) -> dict[str, str]:
        """Sensor name to the array of the frames that came next; empty unless there is one for every sensor."""
        found = {}
        for name, array in self.sensors.items():
            parts = self.local[array].split("/")
            nexts = {"/".join([*parts[:k], f"next_{p}", *parts[k + 1 :]]) for k, p in enumerate(parts)}
            match = [n for n in self.names if self.local[n] in nexts and self.shape(n) == self.shape(array)]
            if not match:
                return {}
            found[name] = match[0]
        return found
