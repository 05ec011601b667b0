"""Collecting, episodes on disk, and windows for training."""
