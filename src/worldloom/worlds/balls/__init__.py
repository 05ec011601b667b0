"""Discs in a box, exact: impacts are solved for, not stepped over."""

from worldloom.worlds.balls.captioned import Captions, CaptionsConfig
from worldloom.worlds.balls.config import PUSHES, BallsConfig, BallsError
from worldloom.worlds.balls.world import Balls

__all__ = ["PUSHES", "Balls", "BallsConfig", "BallsError", "Captions", "CaptionsConfig"]
