"""Where an episode of balls begins."""

from __future__ import annotations

import numpy as np

from worldloom.worlds.balls.config import BallsConfig, BallsError

TRIES = 2000
"""Draws of a disc's place before the box counts as too full."""


def draw_start(
    config: BallsConfig, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A start: position (K, 2) without overlap, velocity (K, 2), radius (K,), goal (2,) away from the pushed disc."""
    k, box = config.balls, np.array([config.width, config.height], float)
    low, high = config.radii
    radius = random.uniform(low, high, k) if low < high else np.full(k, low)
    velocity = random.uniform(-config.speed, config.speed, (k, 2))
    position = np.zeros((k, 2))
    # Large discs first: they are the hardest to place.
    for count, disc in enumerate(order := np.argsort(-radius, kind="stable")):
        others = order[:count]
        for _ in range(TRIES):
            place = random.uniform(radius[disc], box - radius[disc])
            away = position[others] - place
            if (np.hypot(away[:, 0], away[:, 1]) > radius[others] + radius[disc]).all():
                position[disc] = place
                break
        else:
            raise BallsError(
                f"No room for {k} discs of radius {config.radius} in {config.width}x{config.height}: "
                "take fewer or smaller discs, or a larger frame."
            )
    goal = np.zeros(2)
    if config.task == "goal":
        inset = np.minimum(config.goal_radius, box / 2)
        for _ in range(TRIES):
            goal = random.uniform(inset, box - inset)
            if np.hypot(*(goal - position[config.pushed])) > config.goal_radius:
                break
        else:
            raise BallsError(f"A goal of radius {config.goal_radius} covers the whole frame: make it smaller.")
    return position, velocity, radius, goal


def deepest_overlap(position: np.ndarray, radius: np.ndarray) -> float:
    """Largest overlap of two discs of one world, px; 0 where none touch. position: (N, K, 2); radius: (N, K)."""
    i, j = np.triu_indices(radius.shape[1], 1)
    if not len(i):
        return 0.0
    away = position[:, j] - position[:, i]
    return max(0.0, float((radius[:, i] + radius[:, j] - np.hypot(away[..., 0], away[..., 1])).max()))
