"""One Gymnasium environment behind a :class:`~worldloom.contract.Spec`: frames in, actions out, ends kept apart."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np

from worldloom.contract import ContractError, Spec
from worldloom.worlds.gym.find import EnvError, EnvSource, explained, label_of, open_env
from worldloom.worlds.gym.pixels import Order, Picture, looks_like_picture
from worldloom.worlds.gym.spaces import Reader, Vector, control_of, is_numeric, leaves, pick, sensor_of

OWN_SKIP = {"ALE/": "frameskip", "Vizdoom": "frame_skip"}
"""Environments that can repeat an action themselves, faster than we could, and the option that says how often."""
CONSOLE_FPS = {"ALE/": 60.0, "Vizdoom": 35.0}
"""Their true frames per second; the environments' own metadata do not follow their frame skip."""


@dataclass(frozen=True)
class GymConfig:
    """How an environment is shown and driven."""

    size: tuple[int, int] | None = (64, 64)
    """(height, width) of all images; None keeps the environment's."""
    frame_skip: int | None = None
    """Environment steps for one step of the world: rewards are summed, the last frame is shown, an end stops it. None
    leaves the environment as it is (Atari's v5 ids then repeat an action 4 times by themselves)."""
    channels: Literal[1, 3] = 3
    """3 for RGB, 1 for brightness."""
    pixels: Literal["auto", "require", "no"] = "auto"
    """Where the observation holds no picture: ``auto`` renders one as ``camera`` if it can, ``require`` is an error if
    it can't, ``no`` shows vectors only."""
    sensors: tuple[str, ...] | None = None
    """Names of the sensors to keep; None keeps all."""
    crop: tuple[int, int, int, int] | None = None
    """Pixels to cut away at (top, bottom, left, right) before resizing."""
    shrink: Literal["area", "max"] = "area"
    """How pixels are joined when images shrink: their mean, or the brightest."""
    pool: bool = False
    """Show the brighter of the last two raw frames, pixel by pixel: against the flicker of Atari's sprites. Needs a
    ``frame_skip`` of at least 2."""
    max_steps: int | None = None
    """Time limit in steps of the world, beside the environment's own; it truncates."""
    channel_order: Order = "auto"
    """Where the channels of the observation's pictures are, if the shape leaves it open."""
    fps: float | None = None
    """Frames per second of the world; None takes the environment's, divided by ``frame_skip``."""
    env_options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments for the environment itself."""

    def __post_init__(self) -> None:
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise ContractError(f"size must be (height, width), both at least 1, or None, found {self.size}.")
        if self.crop is not None and (len(self.crop) != 4 or min(self.crop) < 0):
            raise ContractError(f"crop must be (top, bottom, left, right), none negative, found {self.crop}.")
        for name in ("frame_skip", "max_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ContractError(f"{name} must be at least 1, found {value}.")
        for name, choices in (
            ("channels", (1, 3)),
            ("pixels", ("auto", "require", "no")),
            ("shrink", ("area", "max")),
            ("channel_order", ("auto", "HWC", "CHW")),
        ):
            if getattr(self, name) not in choices:
                raise ContractError(f"{name} must be one of {list(choices)}, found {getattr(self, name)!r}.")
        if self.pool and (self.frame_skip or 1) < 2:
            raise ContractError(
                "pool shows the brighter of the last two raw frames: it needs a frame_skip of at least 2."
            )


@dataclass
class Row:
    """One frame of one world."""

    obs: dict[str, np.ndarray]
    """Sensor name to an array of the sensor's shape."""
    reward: float = 0.0
    """For arriving at the frame."""
    terminal: bool = False
    """The world truly ended."""
    truncated: bool = False
    """A time limit ended the episode."""


class Single:
    """One environment, made from its name or a callable. Not a World itself: :class:`GymWorld` lines up several."""

    def __init__(self, env: EnvSource, config: GymConfig):
        self.config, self.label = config, label_of(env)
        self.notes: list[str] = []
        options = dict(config.env_options)
        console = next((start for start in OWN_SKIP if isinstance(env, str) and env.startswith(start)), "")
        self._skip = config.frame_skip or 1
        if console and config.frame_skip is not None and OWN_SKIP[console] not in options:
            options[OWN_SKIP[console]] = 1 if config.pool else config.frame_skip
            self._skip = config.frame_skip if config.pool else 1
        self.env = open_env(env, options, render=False)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        inner: Any = self.env.unwrapped
        self._doom = type(inner).__module__.startswith("vizdoom.")
        if self._doom:  # it writes its settings into the current folder otherwise
            self._folder = tempfile.TemporaryDirectory(prefix="worldloom-vizdoom-", ignore_cleanup_errors=True)
            inner.game.set_doom_config_path(str(Path(self._folder.name) / "vizdoom.ini"))
            self.notes.append("ViZDoom shows nothing at an episode's last step: the frame before is repeated there.")
        try:
            self._readers = self._observation_readers()
            self._camera = self._find_camera(env, options)
            self.spec = self._make_spec(console)
        except BaseException:
            self.close()
            raise
        self._age = 0
        self._last: Any = None

    # ------------------------------------------------------------------------------ the spec

    def _observation_readers(self) -> dict[str, tuple[tuple[str | int, ...], Reader]]:
        readers: dict[str, tuple[tuple[str | int, ...], Reader]] = {}
        for path, space in leaves(self.env.observation_space):
            name = ".".join(map(str, path))
            if not is_numeric(space):
                self.notes.append(f"Left out {name or 'the observation'!r}: {type(space).__name__} is not numbers.")
                continue
            low, high = (float(space.low.min()), float(space.high.max())) if hasattr(space, "low") else (0.0, 0.0)
            order = self.config.channel_order
            if isinstance(space, gym.spaces.Box) and looks_like_picture(space.shape, space.dtype, low, high, order):
                if self.config.pixels == "no":
                    self.notes.append(f"Left out the picture {name or 'camera'!r}: pixels='no'.")
                    continue
                name = name or "camera"
                readers[name] = path, self._picture(name, space.shape, 1.0 if high == 1 else 255.0, order)
                continue
            vector = Vector(name or "vector", space)
            if vector.sensor.shape[0] == 0:
                self.notes.append(f"Left out {name!r}: it is empty.")
                continue
            if len(space.shape) > 1 and not isinstance(space, gym.spaces.MultiDiscrete):
                self.notes.append(f"{vector.name!r} of shape {space.shape} is no picture: it is flattened to a vector.")
            readers[vector.name] = path, vector
        return readers

    def _picture(self, name: str, shape: tuple[int, ...], high: float, order: Order) -> Picture:
        c = self.config
        return Picture.detect(
            name, shape, high=high, order=order, size=c.size, channels=c.channels, crop=c.crop, shrink=c.shrink
        )

    def _find_camera(self, env: EnvSource, options: dict[str, Any]) -> tuple[str, Picture] | None:
        """Arrange to render where the observation holds no picture; the camera's name and reader."""
        c = self.config
        has = any(isinstance(reader, Picture) for _, reader in self._readers.values())
        wanted = c.sensors is None or not set(c.sensors) <= set(self._readers)
        if has or c.pixels == "no" or not (wanted or c.pixels == "require"):
            return None
        modes = (getattr(self.env, "metadata", None) or {}).get("render_modes") or []
        why = f"its observation is {self.env.observation_space} and its render modes are {list(modes) or 'none'}"
        if self.env.render_mode != "rgb_array" and "rgb_array" in modes:
            self.env.close()
            self.env = open_env(env, options, render=True)
        if self.env.render_mode != "rgb_array":
            if "rgb_array" in modes:
                why = "it was made without render_mode='rgb_array' and takes no such argument"
            if c.pixels == "require" or not self._readers:
                raise EnvError(f"{self.label} shows no pixels: {why}. Choose another environment or pixels='no'.")
            self.notes.append(f"No pixels: {why}.")
            return None
        with explained(self.label, "be rendered"):
            self.env.reset(seed=0)
            shape = self._render().shape
        name = "render" if "camera" in self._readers else "camera"
        return name, self._picture(name, shape, 255.0, "HWC")

    def _make_spec(self, console: str) -> Spec:
        c = self.config
        shown = {name: sensor_of(reader) for name, (_, reader) in self._readers.items()}
        if self._camera is not None:
            shown[self._camera[0]] = sensor_of(self._camera[1])
        shown = dict(sorted(shown.items(), key=lambda item: item[1].kind != "image"))  # pictures first
        if c.sensors is not None:
            unknown = sorted(set(c.sensors) - set(shown))
            if unknown or not c.sensors:
                raise ContractError(f"{self.label} has no sensors {unknown}; choose from {sorted(shown)}.")
            shown = {name: shown[name] for name in c.sensors}
            self._readers = {name: x for name, x in self._readers.items() if name in shown}
            self._camera = self._camera if self._camera and self._camera[0] in shown else None
        if not shown:
            raise EnvError(f"{self.label} shows nothing that a model can see: {self.env.observation_space}.")
        with explained(self.label, "name its actions"):
            names = action_names(self.env)
        control, self._decode = control_of(self.env.action_space, names)
        fps = c.fps
        if fps is None:
            fps = float((getattr(self.env, "metadata", None) or {}).get("render_fps") or 0) or 15.0
            if console:
                inner: Any = self.env.unwrapped
                own = inner._frameskip if console == "ALE/" else inner.frame_skip
                fps = CONSOLE_FPS[console] / float(np.mean(own))  # v5 ids may draw it from a range
            fps = fps / self._skip
        return Spec(shown, {"action": control}, fps)

    # --------------------------------------------------------------------------- the episode

    def reset(self, seed: int | None) -> Row:
        """Begin an episode; with ``seed`` the environment's randomness begins anew too."""
        with explained(self.label, "be reset"):
            litter = Path("_vizdoom").absolute()
            clean = self._doom and not litter.exists()
            obs, _ = self.env.reset(seed=seed)
            if clean and litter.is_dir():  # its engine makes this folder wherever it starts, and leaves it empty
                with suppress(OSError):
                    litter.rmdir()
            self._age, self._last = 0, None
            return Row(self._read(obs, obs))

    def step(self, action: np.ndarray | np.integer[Any]) -> Row:
        """Act for ``frame_skip`` steps of the environment or up to the end."""
        total, obs, before = 0.0, None, None
        with explained(self.label, "be stepped"):
            for k in range(self._skip):
                if k and (self.config.pool or self._doom):
                    before = _copy(obs)
                result = self.env.step(self._decode(action))
                if len(result) != 5:
                    raise EnvError(
                        f"{self.label}.step returned {len(result)} values, expected (obs, reward, terminated, "
                        "truncated, info). It looks like one for the old 'gym' package; port it to 'gymnasium'."
                    )
                obs, reward, terminal, truncated, _ = result
                total += float(reward)
                if terminal or truncated:
                    break
            if self._doom and terminal and truncated:  # it says both at its time limit
                terminal = False
            if self._doom and (terminal or truncated) and self.env.unwrapped.state is None:  # type: ignore[attr-defined]
                obs = self._last if before is None else before
                before = None
            self._age += 1
            limit = self.config.max_steps is not None and self._age >= self.config.max_steps and not terminal
            row = Row(
                self._read(obs, obs if before is None else before), total, bool(terminal), bool(truncated) or limit
            )
        return row

    def close(self) -> None:
        """Free the environment and its temporary files."""
        self.env.close()
        if self._folder is not None:
            self._folder.cleanup()

    def _read(self, obs: Any, before: Any) -> dict[str, np.ndarray]:
        out: dict[str, np.ndarray] = {}
        for name, (path, reader) in self._readers.items():
            value = pick(obs, path)
            if self.config.pool and isinstance(reader, Picture):
                value = np.maximum(value, pick(before, path))
            out[name] = reader.read(value)
        if self._camera is not None:
            out[self._camera[0]] = self._camera[1].read(self._render())
        if self._doom:
            self._last = _copy(obs)
        return out

    def _render(self) -> np.ndarray:
        frame = self.env.render()
        if not isinstance(frame, np.ndarray):
            raise EnvError(f"{self.label}.render() returned {type(frame).__name__}, expected a (H, W, 3) uint8 array.")
        return frame


def _copy(obs: Any) -> Any:
    """A deep copy of a nested observation's arrays: environments may write the next frame into the same buffer."""
    if isinstance(obs, dict):
        return {k: _copy(v) for k, v in obs.items()}
    if isinstance(obs, tuple):
        return tuple(_copy(v) for v in obs)
    return np.array(obs) if isinstance(obs, np.ndarray) else obs


def action_names(env: gym.Env[Any, Any]) -> tuple[str, ...]:
    """Names of an environment's actions where it tells them: Atari's, MiniGrid's, ViZDoom's buttons, or
    ``metadata["action_names"]`` of a user's own. Otherwise empty."""
    inner: Any = env.unwrapped
    told = (getattr(env, "metadata", None) or {}).get("action_names")
    if told:
        return tuple(map(str, told))
    if hasattr(inner, "get_action_meanings") and isinstance(env.action_space, gym.spaces.Discrete):
        return tuple(map(str, inner.get_action_meanings()))
    if hasattr(getattr(inner, "actions", None), "__members__"):  # MiniGrid's enumeration
        return tuple(inner.actions.__members__)
    if hasattr(inner, "game") and type(inner).__module__.startswith("vizdoom."):
        buttons = [b.name for b in inner.game.get_available_buttons()]
        if not isinstance(env.action_space, gym.spaces.Discrete):
            return tuple(buttons)
        return tuple(
            "+".join(b for b, on in zip(buttons, row, strict=True) if on) or "NOOP" for row in inner.button_map
        )
    return ()
