"""Training: the loop, its run folder, checkpoints that survive anything, and what is seen on the way."""

from worldloom.training.config import TrainConfig
from worldloom.training.loop import RunSummary, train
from worldloom.training.signals import InterruptedTrainingError
from worldloom.training.update import NonFiniteError

__all__ = ["InterruptedTrainingError", "NonFiniteError", "RunSummary", "TrainConfig", "train"]
