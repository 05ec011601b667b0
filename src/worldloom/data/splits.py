"""Which episodes train, validate and test: decided by an episode's number, once for all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from worldloom.contract import WorldloomError
from worldloom.data.episode import DataError
from worldloom.files import DamagedFileError, read_json, sweep, write_json

SPLITS = "splits.json"
BLOCK = 20
NAMES = ("train", "val", "test")


def _draw(seed: int, block: int, what: str, below: int) -> int:
    """A whole number in [0, below), a pure function of its arguments that no library's version changes."""
    digest = hashlib.sha256(f"{seed}/{block}/{what}".encode()).digest()
    return int.from_bytes(digest[:8], "little") % below


def assign(episodes: int, seed: int) -> dict[str, np.ndarray]:
    """Episode numbers 0..episodes-1 as ``{"train", "val", "test"}``, sorted int64 arrays.

    Of every 20 consecutive episodes one validates and one tests, at places drawn from (seed, block); so shares
    are 90/5/5 and an episode's part never changes when more are appended. In the first block the places are not
    drawn: episode 0 trains, 1 validates, 2 tests, so that with three episodes every part has one.
    """
    part = np.zeros(episodes, np.int64)
    for block in range(-(-episodes // BLOCK)):
        if block == 0:
            val, test = 1, 2
        else:
            val = _draw(seed, block, "val", BLOCK)
            test = (val + 1 + _draw(seed, block, "test", BLOCK - 1)) % BLOCK
        for place, code in ((val, 1), (test, 2)):
            if block * BLOCK + place < episodes:
                part[block * BLOCK + place] = code
    return {name: np.flatnonzero(part == code) for code, name in enumerate(NAMES)}


def stored_seed(folder: Path, seed: int = 0) -> int:
    """The seed in ``splits.json``; where there is none yet, ``seed`` is written there (if the folder lets us)."""
    path = folder / SPLITS
    if not path.exists():
        sweep(folder, SPLITS)
        try:
            write_json(path, {"format": "worldloom-splits", "version": 1, "seed": seed, "block": BLOCK}, sealed=True)
        except WorldloomError:
            return seed  # a read-only folder: the default seed gives the same split every time
    try:
        found = read_json(path, sealed=True)
    except DamagedFileError as error:
        raise DataError(f"{error} Do not delete it, or tests may leak.") from error
    expected = isinstance(found, dict) and found.get("format") == "worldloom-splits" and found.get("version") == 1
    if not expected or found.get("block") != BLOCK or type(found.get("seed")) is not int:
        raise DataError(f"{path} is damaged or of another version. Restore it; do not delete it, or tests may leak.")
    return int(found["seed"])
