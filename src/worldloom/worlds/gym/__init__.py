"""The bridge to Gymnasium: any registered environment, or a user's own, as a world."""

from worldloom.worlds.gym.single import GymConfig
from worldloom.worlds.gym.world import GymWorld

__all__ = ["GymConfig", "GymWorld"]
