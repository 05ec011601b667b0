"""The sets on which the misalignment finder is developed and, apart from those, measured.

Each is a list of episodes with the actions where they belong. Worlds come from the library and from Gymnasium; the
drives are pictures panned over a random landscape by a steering wheel, with a camera's noise and an H.264 encoder's.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from worldloom.contract import Control, Sensor, Spec
from worldloom.data import Episode
from worldloom.data.collect import collect
from worldloom.worlds import Frames, make_world


@dataclass(frozen=True)
class Set:
    """How one set is made."""

    name: str
    about: str
    make: Callable[[int], tuple[Spec, list[Episode]]]
    """Takes a seed."""
    late: bool = False
    """Whether the world itself answers late, so that no finder can tell it from a shifted column."""


def _played(
    world: str, policy: Any, options: dict[str, Any], episodes: int, length: int, num: int, seed: int
) -> tuple[Spec, list[Episode]]:
    made = make_world(world, num, **options)
    try:
        with tempfile.TemporaryDirectory() as folder:
            data = collect(made, Path(folder) / "data", episodes, length, seed=seed, policy=policy)
            return data.spec, [data.episode(i) for i in range(len(data))]
    finally:
        made.close()


def played(
    name: str,
    about: str,
    world: str,
    policy: Any = "random",
    episodes: int = 40,
    length: int = 100,
    num: int = 8,
    late: bool = False,
    **options: Any,
) -> Set:
    return Set(name, about, partial(_played, world, policy, options, episodes, length, num), late)


def balance(noise: float) -> Callable[[Frames, np.random.Generator], np.ndarray]:
    """A hand at CartPole: pushes to where the pole falls, except where chance decides."""

    def act(frames: Frames, rng: np.random.Generator) -> np.ndarray:
        x = next(v for v in frames.obs.values() if v.ndim == 2)
        wise = (x[:, 2] + 0.5 * x[:, 3] + 0.02 * x[:, 0] + 0.05 * x[:, 1] > 0).astype(np.int64)
        return np.where(rng.random(len(wise)) < noise, rng.integers(0, 2, len(wise)), wise)

    return act


# ------------------------------------------------------------------------------------------ drives


def _landscape(rng: np.random.Generator, high: int, wide: int) -> np.ndarray:
    """(high, wide, 3) uint8: smooth hills of colour and some posts."""
    import torch
    from torch.nn import functional as F

    out = np.zeros((3, high, wide), np.float32)
    for scale, weight in ((4, 0.3), (12, 0.5), (32, 0.7)):
        coarse = torch.from_numpy(rng.standard_normal((1, 3, high // scale + 2, wide // scale + 2)).astype(np.float32))
        out += weight * F.interpolate(coarse, (high, wide), mode="bilinear")[0].numpy()
    picture = np.clip(110 + 60 * out, 0, 255).astype(np.uint8)
    for _ in range(wide // 40):
        left, colour = rng.integers(0, wide - 4), rng.integers(0, 256, 3)
        picture[:, high // 3 :, left : left + 3] = colour[:, None, None]
    return picture.transpose(1, 2, 0)


def _drive(smooth: float, pull: float, noise: float, codec: bool, episodes: int, length: int, seed: int) -> Any:
    """Steering (one number in [-1, 1]) turns a camera by up to 4 px a frame over a landscape.

    smooth: how much of the last steering remains. pull: how strongly the driver steers back to the landscape's middle,
    which makes the actions an answer to what is seen. noise: of the camera, grey levels.
    """
    rng = np.random.default_rng(seed)
    spec = Spec(
        {"camera": Sensor("image", (3, 64, 64))}, {"action": Control("continuous", (1,), low=(-1.0,), high=(1.0,))}
    )
    out = []
    for _ in range(episodes):
        wide = 400
        land = _landscape(rng, 64, wide)
        place, wheel, frames, actions = wide / 2 - 32.0, 0.0, [], []
        for t in range(length):
            if t:
                wish = rng.normal(0, 0.7) - pull * (place - wide / 2 + 32) / 60
                wheel = float(np.clip(smooth * wheel + (1 - smooth) * 2 * wish, -1, 1))
                place = float(np.clip(place + 4 * wheel, 1, wide - 66))
            left, part = int(place), place % 1
            view = (1 - part) * land[:, left : left + 64] + part * land[:, left + 1 : left + 65]
            frames.append(np.clip(view + rng.normal(0, noise, view.shape), 0, 255).astype(np.uint8))
            actions.append([wheel])
        pictures = _encoded(np.stack(frames)) if codec else np.stack(frames)
        action = np.array(actions, np.float32)
        action[0] = 0
        out.append(Episode({"camera": pictures.transpose(0, 3, 1, 2).copy()}, {"action": action}))
    return spec, out


def _encoded(frames: np.ndarray) -> np.ndarray:
    """What H.264 leaves of the frames (MPEG-4 where PyAV has no H.264)."""
    import av

    file = io.BytesIO()
    name = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream(name, rate=15)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def drive(name: str, about: str, smooth: float, pull: float, noise: float, codec: bool) -> Set:
    return Set(name, about, partial(_drive, smooth, pull, noise, codec, 40, 100))


_ATARI: dict[str, Any] = {"frame_skip": 4}

DEVELOPMENT = (
    played("balls-push", "one ball, discrete pushes, random", "balls", action="discrete"),
    played("balls-heavy", "three balls, gravity, a continuous push, sticky", "balls", "sticky", action="continuous",
           balls=3, gravity=(0.0, 0.1)),
    played("pong", "ALE/Pong, sticky", "ALE/Pong-v5", "sticky", **_ATARI),
    played("freeway", "ALE/Freeway, random", "ALE/Freeway-v5", **_ATARI),
    played("mspacman", "ALE/MsPacman, random", "ALE/MsPacman-v5", episodes=16, length=250, **_ATARI),
    played("cartpole-pixels", "CartPole, pictures alone, random", "CartPole-v1", episodes=150, late=True,
           sensors=("camera",)),
    played("cartpole-expert", "CartPole, numbers, a policy without chance", "CartPole-v1", balance(0.0), pixels="no"),
    played("empty-room", "MiniGrid-Empty-8x8, random", "MiniGrid-Empty-8x8-v0", sensors=("camera",)),
    played("doom-basic", "VizdoomBasic, random", "VizdoomBasic-v1", num=2, sensors=("screen",), frame_skip=4),
    played("mountain", "MountainCar, pictures, sticky", "MountainCar-v0", "sticky", sensors=("camera",)),
    drive("drive", "a smooth driver who looks ahead", 0.8, 1.0, 3.0, False),
)  # fmt: skip
"""Features, rule and thresholds were chosen on these."""

REPORTED = (
    played("balls-two", "two balls, gravity, discrete pushes, sticky", "balls", "sticky", action="discrete", balls=2,
           gravity=(0.0, 0.15)),
    played("balls-steer", "one ball, a continuous push, random", "balls", action="continuous"),
    played("balls-all", "two balls, both pushed, random", "balls", action="continuous_all", balls=2),
    played("breakout", "ALE/Breakout as the recipe collects it, sticky", "ALE/Breakout-v5", "sticky", frame_skip=4,
           crop=(32, 14, 8, 8), shrink="max", env_options={"frameskip": 1}),
    played("invaders", "ALE/SpaceInvaders, sticky", "ALE/SpaceInvaders-v5", "sticky", **_ATARI),
    played("seaquest", "ALE/Seaquest, random", "ALE/Seaquest-v5", **_ATARI),
    played("boxing", "ALE/Boxing, random", "ALE/Boxing-v5", **_ATARI),
    played("cartpole-hand", "CartPole, pictures and numbers, a hand that errs at times", "CartPole-v1", balance(0.3)),
    played("cartpole-vector", "CartPole, numbers, random", "CartPole-v1", episodes=150, pixels="no"),
    played("pendulum", "Pendulum, pictures, continuous, random", "Pendulum-v1", sensors=("camera",)),
    played("acrobot", "Acrobot, pictures, sticky", "Acrobot-v1", "sticky", sensors=("camera",)),
    played("four-rooms", "MiniGrid-FourRooms, random", "MiniGrid-FourRooms-v0", sensors=("camera",)),
    played("doom-health", "VizdoomHealthGathering, sticky", "VizdoomHealthGathering-v1", "sticky", num=2,
           sensors=("screen",), frame_skip=4),
    drive("drive-video", "a nervous driver, through H.264", 0.5, 2.0, 6.0, True),
)  # fmt: skip
"""Nothing was chosen on these, but for one thing: in the first measurement acrobot, aligned, was called shifted,
because its own action was told (3.0 %) almost but not quite surely. Since then a shift is claimed only where the
frame's own action is told clearly less; that can turn a verdict into 'unclear', never the other way."""

FRESH = (
    played("asterix", "ALE/Asterix, random", "ALE/Asterix-v5", **_ATARI),
    played("tennis", "ALE/Tennis, sticky", "ALE/Tennis-v5", "sticky", **_ATARI),
    played("door-key", "MiniGrid-DoorKey-8x8, random", "MiniGrid-DoorKey-8x8-v0", sensors=("camera",)),
    played("doom-cover", "VizdoomTakeCover, random", "VizdoomTakeCover-v1", num=2, sensors=("screen",), frame_skip=4),
    played("balls-grey", "three balls without colour, discrete pushes, random", "balls", action="discrete", balls=3,
           channels=1),
    drive("drive-calm", "a very smooth driver, through H.264", 0.9, 0.5, 2.0, True),
)  # fmt: skip
"""Added after that change, and measured once."""
