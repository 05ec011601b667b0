"""Physics engines beside world models: the same tasks, the same figures."""

from worldloom.evaluation.engines.hybrid import Engine, Exact, Learned, StraightOn, TimeStepped, fit, roll

__all__ = ["Engine", "Exact", "Learned", "StraightOn", "TimeStepped", "fit", "roll"]
