"""Layers that know nothing of worlds."""
