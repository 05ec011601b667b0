"""Exact simulators with ground truth, and the bridge to Gymnasium."""
