"""Rollouts, dream environments, video."""
