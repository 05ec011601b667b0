"""The loop, optimisers, checkpoints, a run's folder."""
