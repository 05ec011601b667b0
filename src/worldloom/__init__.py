"""worldloom: train, dream in, play, plan with and measure world models, every family behind one contract.

    model = worldloom.load("runs/demo")
    starts = worldloom.load_starts("runs/demo")
    dream = worldloom.imagine(model, starts.time(slice(0, 4)), frames=60)

Names are loaded when first used: importing worldloom costs little more than importing torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worldloom.conformance import check_model as check_model
    from worldloom.contract import Control as Control
    from worldloom.contract import Loss as Loss
    from worldloom.contract import Segment as Segment
    from worldloom.contract import Sensor as Sensor
    from worldloom.contract import Spec as Spec
    from worldloom.contract import State as State
    from worldloom.contract import WorldloomError as WorldloomError
    from worldloom.contract import WorldModel as WorldModel
    from worldloom.data.collect import collect as collect
    from worldloom.data.mixing.mixture import Mixture as Mixture
    from worldloom.data.store import Dataset as Dataset
    from worldloom.data.store import DatasetWriter as DatasetWriter
    from worldloom.data.windows import Windows as Windows
    from worldloom.evaluation.evaluate import evaluate as evaluate
    from worldloom.evaluation.probes import probe as probe
    from worldloom.imagination.accelerate import accelerate as accelerate
    from worldloom.imagination.env import DreamEnv as DreamEnv
    from worldloom.imagination.rollout import imagine as imagine
    from worldloom.imagination.starts import load_starts as load_starts
    from worldloom.imagination.vector_env import DreamVectorEnv as DreamVectorEnv
    from worldloom.imagination.video import write_video as write_video
    from worldloom.models import build as build
    from worldloom.models.saved import load_model
    from worldloom.training import TrainConfig as TrainConfig
    from worldloom.training import train as train
    from worldloom.worlds import make_world as make_world
    from worldloom.worlds.base import Frames as Frames
    from worldloom.worlds.base import World as World
    from worldloom.worlds.checking import check_world as check_world

    load = load_model


_HOME = {
    "Control": "contract",
    "Dataset": "data.store",
    "DatasetWriter": "data.store",
    "DreamEnv": "imagination.env",
    "DreamVectorEnv": "imagination.vector_env",
    "Frames": "worlds.base",
    "Loss": "contract",
    "Mixture": "data.mixing.mixture",
    "Segment": "contract",
    "Sensor": "contract",
    "Spec": "contract",
    "State": "contract",
    "TrainConfig": "training",
    "Windows": "data.windows",
    "World": "worlds.base",
    "WorldModel": "contract",
    "WorldloomError": "contract",
    "accelerate": "imagination.accelerate",
    "build": "models",
    "check_model": "conformance",
    "check_world": "worlds.checking",
    "collect": "data.collect",
    "evaluate": "evaluation.evaluate",
    "imagine": "imagination.rollout",
    "load": "models.saved:load_model",
    "load_starts": "imagination.starts",
    "make_world": "worlds",
    "probe": "evaluation.probes",
    "train": "training",
    "write_video": "imagination.video",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'worldloom' has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    value = getattr(importlib.import_module(f"worldloom.{module}"), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
