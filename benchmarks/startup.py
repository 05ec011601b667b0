"""What `import worldloom` costs beside `import torch`, in fresh processes taken in turn."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any


def _seconds(code: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begin


def run(n: int = 5) -> list[dict[str, Any]]:
    torch_only, ours = [], []
    for _ in range(n):
        torch_only.append(_seconds("import torch"))
        ours.append(_seconds("import torch, worldloom; worldloom.load, worldloom.Spec"))
    more = statistics.median(b - a for a, b in zip(torch_only, ours, strict=True))
    return [
        {"what": "import torch", "value": statistics.median(torch_only), "unit": "s", "n": n},
        {"what": "import worldloom, beyond torch", "value": more, "unit": "s", "n": n, "note": "median of differences"},
    ]
