"""Trackers, metrics and the report."""
