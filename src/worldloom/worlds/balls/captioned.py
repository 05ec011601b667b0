"""Balls with a caption: every episode has its own number, size, colour, gravity and speed, and is given a text that
says some of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worldloom.contract import Sensor, Spec
from worldloom.nn.words import to_tokens
from worldloom.worlds.balls.captions import COLOURS, COUNTS, Meaning, caption, draw_meaning, text_control
from worldloom.worlds.balls.config import BallsConfig, BallsError
from worldloom.worlds.balls.dynamics import advance
from worldloom.worlds.balls.render import Renderer
from worldloom.worlds.balls.starts import draw_start
from worldloom.worlds.base import Frames

ABSENT = -2.0
"""px, a radius at which a disc shades no pixel."""


@dataclass(frozen=True)
class CaptionsConfig:
    """What a world of captioned balls draws its episodes from. Lengths in pixels, time in frames, y down.

    Sizes, speeds and gravities do not grow with the frame: the same words mean the same pixels at every size of it.
    """

    height: int = 64
    """Height of the frame and of the box."""
    width: int = 64
    """Width of the frame and of the box."""
    counts: tuple[int, ...] = (1, 2, 3, 4)
    """Numbers of balls that are drawn, of 1 to 4."""
    colours: tuple[str, ...] = tuple(COLOURS)
    """Colours that are drawn."""
    radii: tuple[float, float, float] = (3.0, 5.0, 8.0)
    """Radius of small, medium and large balls. All balls of an episode are alike."""
    gravities: tuple[float, float, float] = (0.0, 0.06, 0.24)
    """Acceleration downwards of no, weak and strong gravity, px/frame²."""
    speeds: tuple[float, float, float] = (0.8, 2.0, 4.0)
    """Speed at which slow, moderate and fast balls start, px/frame, in any direction."""
    spread: float = 0.1
    """Each ball's speed is uniform within this share of its word's."""
    leave_out: float = 0.15
    """Chance of each attribute to be left out of the caption, so that a model learns to be told only a part."""
    background: tuple[int, int, int] = (14, 16, 24)
    """RGB of the box."""
    fps: float = 15.0
    """Frames per second for playback."""

    def __post_init__(self) -> None:
        numbers = (*self.radii, *self.gravities, *self.speeds)
        checks = [
            (all(math.isfinite(x) for x in numbers), f"all its numbers to be finite; found {numbers}"),
            (
                len(self.counts) > 0 and all(1 <= n <= len(COUNTS) for n in self.counts),
                f"counts of 1 to {len(COUNTS)} balls, found {self.counts}",
            ),
            (
                len(self.colours) > 0 and all(name in COLOURS for name in self.colours),
                f"colours among {', '.join(COLOURS)}, found {self.colours}",
            ),
            (0.5 <= self.radii[0] < self.radii[1] < self.radii[2], f"radii that rise from 0.5 px, found {self.radii}"),
            (
                2 * self.radii[2] < min(self.height, self.width),
                f"a frame larger than its largest ball ({2 * self.radii[2]:g} px across), found "
                f"{self.height}x{self.width}",
            ),
            (
                self.gravities[0] == 0 and 0 < self.gravities[1] < self.gravities[2],
                f"gravities that rise from 0, found {self.gravities}",
            ),
            (0 < self.speeds[0] < self.speeds[1] < self.speeds[2], f"speeds that rise, found {self.speeds}"),
            (0 <= self.spread < 1, f"a spread in [0, 1), found {self.spread}"),
            (0 <= self.leave_out <= 1, f"leave_out in [0, 1], found {self.leave_out}"),
            (all(0 <= c <= 255 for c in self.background), f"colours of 0 to 255, found {self.background}"),
            (0 < self.fps < math.inf, f"fps > 0, found {self.fps}"),
        ]
        for fine, wanted in checks:
            if not fine:
                raise BallsError(f"A world of captioned balls needs {wanted}.")

    def scene(self, count: int, radius: float) -> BallsConfig:
        """The discs of an episode."""
        return BallsConfig(
            height=self.height,
            width=self.width,
            balls=count,
            radius=radius,
            speed=0.0,
            background=self.background,
            fps=self.fps,
        )


class Captions:
    """A :class:`~worldloom.worlds.base.World` of elastic discs in a box, exact as
    :class:`~worldloom.worlds.balls.Balls` is, each episode with a caption.

    It shows ``camera`` (3, H, W), takes no action, and tells the control ``text`` (L,), which it draws itself, in
    ``Frames.given``. Truth with each frame, for up to K balls, NaN for those that an episode does not have:
    ``position`` and ``velocity`` (N, K, 2) float64, ``radius`` (N, K), and 0 for them in ``wall_hits`` (N, K, 2) and
    ``ball_hits`` (N, K, K) int32; and what was drawn, whether the caption says it or not, (N,) int32: ``count``, and
    the place of its word for ``size``, ``colour``, ``gravity`` and ``speed`` (see
    :data:`~worldloom.worlds.balls.captions.ATTRIBUTES`).
    """

    def __init__(self, config: CaptionsConfig | None = None, num: int = 1, seed: int = 0) -> None:
        if num < 1:
            raise BallsError(f"A world needs num >= 1, found {num}.")
        self.config = config = config or CaptionsConfig()
        self.num = num
        shape = (3, config.height, config.width)
        self.spec = Spec({"camera": Sensor("image", shape)}, {"text": text_control()}, config.fps)
        self.captions: list[str] = [""] * num
        """What is written over each episode."""
        self.meanings: list[Meaning] = [Meaning()] * num
        """What was drawn for each."""
        k = max(config.counts)
        self._renderer = Renderer(config.scene(k, config.radii[2]))
        self._box = (float(config.width), float(config.height))
        self._random = [np.random.default_rng((seed, i)) for i in range(num)]
        self._x, self._v = np.full((num, k, 2), np.nan), np.full((num, k, 2), np.nan)
        self._r = np.full((num, k), np.nan)
        self._colour = np.zeros((num, 3), np.float32)
        self._text = np.zeros((num, *self.spec.given["text"].shape), np.int64)
        self._walls, self._pairs = np.zeros((num, k, 2), np.int32), np.zeros((num, k, k), np.int32)
        self._begun = False

    def reset(self, seed: int | None = None, mask: np.ndarray | None = None) -> Frames:
        """Draw new episodes for all worlds, or for those marked by ``mask`` (N,) bool.

        With ``seed`` world i starts as if seeded by (seed, i); without, each goes on with its own draws.
        """
        mask = np.ones(self.num, bool) if mask is None else np.asarray(mask, bool)
        if mask.shape != (self.num,):
            raise BallsError(f"The mask of a reset has shape ({self.num},), found {mask.shape}.")
        if not (self._begun or mask.all()):
            raise BallsError("The first reset begins all worlds: call reset() without a mask.")
        for i in np.flatnonzero(mask).tolist():
            if seed is not None:
                self._random[i] = np.random.default_rng((seed, i))
            random = self._random[i]
            meaning = draw_meaning(random, self.config.counts, self.config.colours)
            self._place(i, meaning, caption(meaning, random, self.config.leave_out))
        self._begun = True
        return self._look()

    def show(self, meanings: Sequence[Meaning], seed: int = 0) -> Frames:
        """Begin an episode of each of N meanings: true videos of what prompts say. What they leave open is drawn."""
        if len(meanings) != self.num:
            raise BallsError(f"show() needs a meaning for each of {self.num} worlds, found {len(meanings)}.")
        for i, wanted in enumerate(meanings):
            random = self._random[i] = np.random.default_rng((seed, i))
            drawn = draw_meaning(random, self.config.counts, self.config.colours)
            meaning = Meaning(**{**drawn.said, **wanted.said})
            if COUNTS.index(meaning.count or "") >= self._r.shape[1]:
                raise BallsError(f"These worlds have up to {self._r.shape[1]} balls, asked for {meaning.count}.")
            self._place(i, meaning, caption(wanted))
        self._begun = True
        return self._look()

    def step(self, action: np.ndarray | None = None) -> Frames:
        """Move on by one frame and look. There are no actions: give None (or zeros)."""
        if not self._begun:
            raise BallsError("Call reset() before step().")
        if action is not None and np.any(action):
            raise BallsError("Captioned balls take no actions: give step() None.")
        present = np.isfinite(self._r).sum(1)
        pull = np.array([m.index("gravity") for m in self.meanings])
        self._walls[:], self._pairs[:] = 0, 0
        for count, g in sorted(set(zip(present.tolist(), pull.tolist(), strict=True))):
            rows = np.flatnonzero((present == count) & (pull == g))
            x, v, walls, pairs = advance(
                self._x[rows, :count],
                self._v[rows, :count],
                self._r[rows, :count],
                self._box,
                (0.0, self.config.gravities[g]),
            )
            self._x[rows, :count], self._v[rows, :count] = x, v
            self._walls[rows, :count], self._pairs[rows[:, None], np.arange(count), :count] = walls, pairs
        return self._look()

    def close(self) -> None:
        """Nothing to free."""

    def _place(self, i: int, meaning: Meaning, text: str) -> None:
        """Begin world i."""
        config, random = self.config, self._random[i]
        count, radius = meaning.index("count") + 1, config.radii[meaning.index("size")]
        position, _, radii, _ = draw_start(config.scene(count, radius), random)
        speed = config.speeds[meaning.index("speed")] * random.uniform(1 - config.spread, 1 + config.spread, count)
        angle = random.uniform(0, 2 * np.pi, count)
        for array, value in ((self._x, position), (self._r, radii)):
            array[i], array[i, :count] = np.nan, value
        self._v[i], self._v[i, :count] = np.nan, speed[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        self._walls[i], self._pairs[i] = 0, 0
        self._colour[i] = COLOURS[meaning.colour or ""]
        self._text[i] = to_tokens(text, self.spec.given["text"]).numpy()
        self.captions[i], self.meanings[i] = text, meaning

    def _look(self) -> Frames:
        """Draw the state of now. Nothing handed out is written to again."""
        there = np.isfinite(self._r)
        truth = {"position": self._x.copy(), "velocity": self._v.copy(), "radius": self._r.copy()}
        truth |= {"wall_hits": self._walls.copy(), "ball_hits": self._pairs.copy()}
        truth["count"] = there.sum(1).astype(np.int32)
        for name in ("size", "colour", "gravity", "speed"):
            truth[name] = np.array([m.index(name) for m in self.meanings], np.int32)
        where = np.where(there[..., None], self._x, 0.0)
        camera = self._renderer.draw(where, np.where(there, self._r, ABSENT), colour=self._colour)
        never = np.zeros(self.num, bool)
        return Frames({"camera": camera}, never, never.copy(), None, truth, {"text": self._text.copy()})


__all__ = ["Captions", "CaptionsConfig"]
