"""One setting of the C library's allocator that makes training on a CPU up to twice as fast."""

from __future__ import annotations

import ctypes
import os
import platform
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # parameter numbers in glibc's malloc.h
_SETTINGS = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 << 20))
_state: dict[str, bool] = {}


def tune_malloc() -> bool:
    """Tell glibc's malloc to keep big blocks instead of giving them back. Returns whether it was (ever) done.

    By default glibc maps every block over 32 MB anew and unmaps it when freed, so each use of such an activation pays
    for page faults and zeroing: in profiles of convolutional world models that was up to 60 % of a step. Here blocks
    come from the heap (``M_MMAP_MAX`` 0), the heap is not trimmed (``M_TRIM_THRESHOLD``) and it grows by 64 MB at a
    time (``M_TOP_PAD``). The price: the process keeps its peak memory until it ends. Results do not change.

    Only on Linux with glibc, only once in a process, and not where the user has set malloc up by environment.
    """
    if "done" not in _state:
        _state["done"] = _tune()
    return _state["done"]


def _tune() -> bool:
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False
    chosen = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_")
    if any(name in os.environ for name in chosen) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # statically linked, or another C library after all
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    accepted = [mallopt(parameter, value) for parameter, value in _SETTINGS]
    return all(answer == 1 for answer in accepted)


__all__ = ["tune_malloc"]
