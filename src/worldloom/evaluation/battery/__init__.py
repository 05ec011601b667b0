"""Worlds with a known fault, and the true one: what the probes are tested on.

A probe is worth what it detects. ``make_dreams(world, dreamer("ghosts", world), 32, 4, 40, 0)`` gives any probe the
dreams of a world in which balls pass through each other, without a model; ``battery.table`` asks every probe about
every such world, and ``battery.claims`` says what each must find.
"""

from worldloom.evaluation.battery.corruptions import (
    BATTERY,
    REFERENCES,
    Corruption,
    dreamer,
    make_dreams,
)
from worldloom.evaluation.battery.laws import Law
from worldloom.evaluation.battery.pictures import Altered, CopyLast, Nearest
from worldloom.evaluation.battery.truth import BatteryError, Simulated, Truth, tracked_truth

__all__ = [
    "BATTERY",
    "REFERENCES",
    "Altered",
    "BatteryError",
    "CopyLast",
    "Corruption",
    "Law",
    "Nearest",
    "Simulated",
    "Truth",
    "dreamer",
    "make_dreams",
    "tracked_truth",
]
