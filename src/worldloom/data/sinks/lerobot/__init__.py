"""Datasets as LeRobotDataset v3."""
