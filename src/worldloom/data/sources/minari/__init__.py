"""Minari datasets, by Minari's own storages."""
