"""LeRobot datasets, by their documented layout."""
