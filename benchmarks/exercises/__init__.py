"""The lab's exercises, answered by measurement: `python -m benchmarks exercises`; see :mod:`.command`."""
