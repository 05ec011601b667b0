"""From a name to an environment: registered ids, ``module:Class``, callables, and what to say when there is none."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gymnasium as gym

from worldloom.contract import WorldloomError
from worldloom.plugins import load_module, missing, one_line, parameters, place

EnvSource = str | Callable[..., Any]

PACKAGES = {
    "ALE/": ("ale_py", "ale_py"),
    "MiniGrid-": ("minigrid", "minigrid"),
    "BabyAI-": ("minigrid", "minigrid"),
    "Vizdoom": ("vizdoom", "vizdoom.gymnasium_wrapper"),
}
"""Start of an id to the package that brings it, and the module whose import registers it."""


class EnvError(WorldloomError):
    """An environment can't be found or made, or broke while it was running."""


def label_of(env: EnvSource) -> str:
    """The environment's name, for messages."""
    return env if isinstance(env, str) else str(getattr(env, "__qualname__", type(env).__name__))


def open_env(env: EnvSource, options: Mapping[str, Any], render: bool) -> gym.Env[Any, Any]:
    """Make one environment, with ``render_mode="rgb_array"`` where ``render``. Errors are one sentence."""
    label = label_of(env)
    _be_headless()
    if not isinstance(env, str):
        if isinstance(env, gym.Env):
            raise EnvError("Give a callable that makes a new environment, not an environment: lambda: MyEnv(...).")
        if not callable(env):
            raise EnvError(f"Expected an id, 'module:Class' or a callable, found {type(env).__name__}.")
        make: Callable[..., Any] = env
        env_id = None
    else:
        make, env_id = _by_name(env)
    options = dict(options)
    if env_id is not None:
        options = {"disable_env_checker": True, **options, "id": env_id}
    if render and (env_id is not None or _takes_render_mode(make)):
        options["render_mode"] = "rgb_array"
    with explained(label, "be made"):
        made = make(**options)
    if not isinstance(made, gym.Env):
        old = " It looks like one for the old 'gym' package; port it to 'gymnasium'." if hasattr(made, "step") else ""
        raise EnvError(f"{label} made a {type(made).__name__}, not a gymnasium.Env.{old}")
    _refuse_autoreset(made, label)
    return made


@contextmanager
def explained(label: str, doing: str) -> Iterator[None]:
    """Turn whatever an environment raises into one sentence with the place; the cause stays attached."""
    try:
        yield
    except WorldloomError:
        raise
    except gym.error.DependencyNotInstalled as error:
        raise EnvError(f"{label} can't {doing}: {one_line(error)} Try: pip install 'worldloom[envs]'.") from error
    except gym.error.Error as error:
        raise EnvError(f"{label} can't {doing}: {one_line(error)}") from error
    except Exception as error:
        raise EnvError(f"{label} can't {doing}: {type(error).__name__}: {one_line(error)}{place(error)}") from error


# ------------------------------------------------------------------------------------ by name


def _by_name(name: str) -> tuple[Callable[..., Any], str | None]:
    """What makes the environment, and its registered id where it has one."""
    if ":" in name:
        module_name, _, attribute = name.partition(":")
        module = load_module(module_name, name, EnvError)
        if hasattr(module, attribute):
            make = getattr(module, attribute)
            if not callable(make):
                raise EnvError(f"{name} is a {type(make).__name__}, not a class or function that makes an environment.")
            return make, None
        if attribute in gym.registry:  # importing the module registered it
            return gym.make, attribute
        raise missing(module, attribute, EnvError)
    for start, (package, module_name) in PACKAGES.items():
        if name.startswith(start) and name not in gym.registry:
            if importlib.util.find_spec(package) is None:
                raise EnvError(f"{name} needs the package {package!r}: pip install 'worldloom[envs]'.")
            _register(module_name)
    if name not in gym.registry:
        for package, module_name in PACKAGES.values():
            if importlib.util.find_spec(package) is not None:
                _register(module_name)
    if name not in gym.registry:
        near = nearest(name)
        hint = f"Did you mean {', '.join(near)}?" if near else "gymnasium.pprint_registry() lists those that are."
        raise EnvError(f"No environment {name!r} is registered. {hint} For your own give 'module:Class'.")
    return gym.make, name


def nearest(name: str, most: int = 3) -> list[str]:
    """Registered ids that read most like ``name``, with or without namespace, version and capitals."""
    keys: dict[str, list[str]] = {}
    for env_id in gym.registry:
        short = env_id.rpartition("/")[2]
        for alias in {env_id.lower(), short.lower(), short.rpartition("-v")[0].lower()}:
            keys.setdefault(alias, []).append(env_id)
    found: list[str] = []

    def rank(env_id: str) -> tuple[bool, bool]:  # ALE/Pong-v5 before Pong-v4, CartPole-v1 before phys2d/CartPole-v1
        return not env_id.startswith(tuple(PACKAGES)), "/" in env_id

    for alias in difflib.get_close_matches(name.lower(), keys, 2 * most, cutoff=0.5):
        found += sorted(sorted(keys[alias], reverse=True), key=rank)
    return list(dict.fromkeys(found))[:most]


def _register(module_name: str) -> None:
    with explained(module_name, "be imported"):
        module = importlib.import_module(module_name)
    if module_name == "ale_py":  # it greets on stderr for every environment otherwise
        module.ALEInterface.setLoggerMode(module.LoggerMode.Error)


def _takes_render_mode(make: Callable[..., Any]) -> bool:
    return any(p.name == "render_mode" or p.kind == p.VAR_KEYWORD for p in (parameters(make) or {}).values())


# ---------------------------------------------------------------------------------- the rest


def _be_headless() -> None:
    """Let pygame draw without a screen where there is none. What the user has set stays."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        os.environ.setdefault("SDL_AUDIODRIVER", "dummy")


def _refuse_autoreset(env: gym.Env[Any, Any], label: str) -> None:
    layer: Any = env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, gym.wrappers.Autoreset):
            raise EnvError(
                f"{label} wraps its environment in Autoreset, which would record steps that never happened. Leave the "
                "wrapper out: worlds are reset explicitly."
            )
        layer = layer.env
