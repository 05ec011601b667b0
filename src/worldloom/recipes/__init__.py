"""One file a system: functions that return a full, typed configuration."""
