"""What a recipe is: one typed configuration from the world to the trained model."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from worldloom.contract import WorldModel
from worldloom.models import family as find_family
from worldloom.models.own import default_config
from worldloom.training import TrainConfig


@dataclass(frozen=True)
class CollectConfig:
    """How a dataset is collected from a world."""

    episodes: int = 200
    """Episodes in the dataset; collecting again tops it up to this number."""
    length: int = 1000
    """Longest episode in frames; longer ones are cut (which is not a terminal frame)."""
    policy: Literal["random", "sticky"] = "random"
    """``random``: uniform actions; ``sticky``: repeats its last action with probability 0.75 and so wanders farther."""
    num: int = 8
    """Worlds side by side."""
    workers: int = 0
    """Processes in which a Gymnasium environment runs; 0: in this one."""
    seed: int = 0
    """Seed of worlds and policy."""


@dataclass(frozen=True)
class Recipe:
    """All that makes a run. Its model, train, world and collect are flags of `worldloom train`, field by field."""

    name: str
    """Name of the recipe, or ``own`` for a user's data or environment."""
    about: str
    """One line for the list of recipes."""
    family: str
    """Model family, or ``module:Class`` of a user's own."""
    model: Any
    """The family's configuration; None for an own class without one."""
    train: TrainConfig
    """Optimiser, length and care of the training."""
    env: str | None = None
    """World to collect from: a built-in name, a Gymnasium id, or ``module:Class``. None: the data are given."""
    world: Any = None
    """The world's configuration: BallsConfig, LabWorldConfig, PhyWorldConfig or GymConfig."""
    collect: CollectConfig = field(default_factory=CollectConfig)
    """What is collected where no dataset is given."""
    kind: type[WorldModel] | None = None
    """The user's own class of model; None for a registered family."""

    @property
    def model_class(self) -> type[Any]:
        """The class that is trained."""
        return self.kind or find_family(self.family)

    def own(self, kind: type[WorldModel]) -> Recipe:
        """The same with a user's own class of model."""
        return replace(self, family=f"{kind.__module__}:{kind.__qualname__}", model=default_config(kind), kind=kind)

    def debug(self) -> Recipe:
        """The same in seconds on a CPU: tiny model, few short episodes, few steps. Shows that all runs, no more."""
        return replace(
            self,
            model=_debug(self.model),
            train=replace(
                self.train, steps=12, minutes=None, batch=4, log_every=4, validate_batches=1, sample_frames=6
            ),
            collect=replace(self.collect, episodes=8, length=min(self.collect.length, 40), num=4),
        )


def _debug(config: Any) -> Any:
    """The tiny configuration of a family; a user's own class may have none and is then taken as it is."""
    make = getattr(type(config), "debug", None)
    return make() if callable(make) else config
