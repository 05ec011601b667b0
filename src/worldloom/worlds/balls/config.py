"""What a world of balls is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from worldloom.contract import WorldloomError

PUSHES = ("stay", "left", "right", "up", "down")
"""Names of the discrete actions, in order."""
ACTIONS = ("none", "discrete", "continuous", "continuous_all")
TASKS = ("none", "goal")


class BallsError(WorldloomError):
    """A world of balls was asked for something impossible."""


@dataclass(frozen=True)
class BallsConfig:
    """Discs in a box that fills the frame. Lengths in pixels, time in frames, x to the right, y down."""

    height: int = 64
    """Height of the frame and of the box."""
    width: int = 64
    """Width of the frame and of the box."""
    channels: Literal[1, 3] = 3
    """3 for RGB, 1 for grey (the luma of the colours)."""
    balls: int = 1
    """Number of discs. Each has a mass proportional to its radius squared."""
    radius: float | tuple[float, float] = 4.0
    """Radius of every disc, or (low, high): drawn anew for each disc of each episode."""
    speed: float = 3.0
    """Starting velocities are uniform in [-speed, speed]², px/frame."""
    gravity: tuple[float, float] = (0.0, 0.0)
    """Constant acceleration (x, y) of all discs, px/frame²; y points down."""
    action: Literal["none", "discrete", "continuous", "continuous_all"] = "none"
    """``discrete``: stay, left, right, up, down; ``continuous``: a push (x, y) in [-1, 1]² of one disc;
    ``continuous_all``: such a push for every disc."""
    push: float = 1.0
    """Change of velocity by a push of 1, px/frame. It acts at once, before the frame it leads to."""
    pushed: int = 0
    """Index of the disc that ``discrete`` and ``continuous`` push."""
    task: Literal["none", "goal"] = "none"
    """``goal``: reward 1 and a terminal frame when the pushed disc's centre lies on the goal disc; otherwise 0."""
    goal_radius: float = 8.0
    """Radius of the goal disc, drawn beneath the balls."""
    time_limit: int | None = None
    """Frames after the first one at which an episode is truncated; None for no limit."""
    colours: tuple[tuple[int, int, int], ...] = (
        (255, 178, 84),
        (96, 196, 255),
        (255, 104, 128),
        (140, 232, 130),
        (206, 150, 255),
        (250, 240, 120),
    )
    """RGB of the discs, used in turn."""
    background: tuple[int, int, int] = (14, 16, 24)
    """RGB of the box."""
    goal_colour: tuple[int, int, int] = (40, 110, 80)
    """RGB of the goal disc."""
    occluder: tuple[float, float, float, float] | None = None
    """Rectangle (left, top, right, bottom) in px that hides what is behind it; it does not touch the discs."""
    occluder_colour: tuple[int, int, int] = (92, 96, 110)
    """RGB of the occluder."""
    antialias: bool = True
    """Shade each pixel by how much of it a disc covers. Without it, a pixel whose centre is inside is full."""
    fps: float = 15.0
    """Frames per second for playback."""

    @property
    def radii(self) -> tuple[float, float]:
        """Smallest and largest radius."""
        return self.radius if isinstance(self.radius, tuple) else (self.radius, self.radius)

    def __post_init__(self) -> None:
        low, high = self.radii
        numbers = [low, high, *self.gravity, self.speed, self.push, self.goal_radius, *(self.occluder or ())]
        checks = [
            (all(math.isfinite(x) for x in numbers), f"all its numbers to be finite; found {numbers}"),
            (self.height >= 1 and self.width >= 1, f"a frame of at least 1x1, found {self.height}x{self.width}"),
            (self.channels in (1, 3), f"1 or 3 channels, found {self.channels}"),
            (self.balls >= 1, f"at least one ball, found {self.balls}"),
            (0.5 <= low <= high, f"a radius of at least 0.5 px (low <= high), found {self.radius}"),
            (
                2 * high < min(self.height, self.width),
                f"a frame larger than its discs ({2 * high:g} px across), found {self.height}x{self.width}",
            ),
            (self.speed >= 0, f"speed >= 0, found {self.speed}"),
            (0 <= self.pushed < self.balls, f"pushed to be one of its {self.balls} balls, found {self.pushed}"),
            (self.goal_radius > 0, f"goal_radius > 0, found {self.goal_radius}"),
            (self.time_limit is None or self.time_limit >= 1, f"time_limit >= 1 or None, found {self.time_limit}"),
            (0 < self.fps < math.inf, f"fps > 0, found {self.fps}"),
            (len(self.colours) > 0, "at least one colour"),
            (self.action in ACTIONS, f"action to be one of {list(ACTIONS)}, found {self.action!r}"),
            (self.task in TASKS, f"task to be one of {list(TASKS)}, found {self.task!r}"),
            (
                all(0 <= c <= 255 for rgb in self._all_colours() for c in rgb),
                f"colours of 0 to 255, found {self._all_colours()}",
            ),
            (
                self.occluder is None or (self.occluder[0] < self.occluder[2] and self.occluder[1] < self.occluder[3]),
                f"an occluder (left, top, right, bottom) with left < right and top < bottom, found {self.occluder}",
            ),
        ]
        for fine, wanted in checks:
            if not fine:
                raise BallsError(f"A world of balls needs {wanted}.")

    def _all_colours(self) -> list[tuple[int, int, int]]:
        return [*self.colours, self.background, self.goal_colour, self.occluder_colour]
