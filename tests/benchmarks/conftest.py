"""Benchmarks lie beside the package, not in it: let tests import them however pytest is started."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
