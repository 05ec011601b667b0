"""The command: `worldloom VERB ...`. It parses, calls the library, and turns its errors into one sentence."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from worldloom.cli.common import Verb, dispatch
from worldloom.cli.data import data
from worldloom.cli.show import evaluate, imagine
from worldloom.cli.train import train
from worldloom.contract import WorldloomError
from worldloom.nn.devices import out_of_memory

USAGE = """worldloom: train, dream in and measure world models.

  worldloom train RECIPE --out RUN         a recipe, from the world to the model (worldloom recipes lists them)
  worldloom train --env ENV --out RUN      your environment: collects, then trains
  worldloom train --data DATA --out RUN    your data; several are mixed
  worldloom imagine RUN --out dream.mp4    a video of the model's dream; at once: worldloom imagine balls
  worldloom evaluate RUN                   report.json and report.html: where to believe it
  worldloom data collect --env ENV --out DATA
  worldloom data import SOURCE --out DATA  videos, pictures, LeRobot, Minari, HDF5 or npz
  worldloom data inspect DATA              what data hold, and what is wrong with them
  worldloom recipes                        the recipes

Every verb explains its flags: worldloom train balls --help
"""


def _recipes(args: list[str]) -> int:
    from worldloom.recipes import RECIPES, find

    for name in RECIPES:
        print(f"{name:<12}{find(name).about}")
    return 0


VERBS: dict[str, Verb] = {"train": train, "imagine": imagine, "evaluate": evaluate, "data": data, "recipes": _recipes}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code. A user's mistake is one sentence on stderr and exit code 2."""
    args = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):  # Windows writes to files and pipes in a code page that lacks some signs
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")
    if args == ["--version"]:
        from importlib.metadata import version

        print(f"worldloom {version('worldloom')}")
        return 0
    try:
        return dispatch(VERBS, args, "verb", USAGE)
    except WorldloomError as error:
        print(f"worldloom: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 2)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        print("worldloom: There is not enough memory for this. Try a smaller batch, or fewer at once.", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `worldloom ... | head`: what is left to print goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # what no part of the library expected of a disk or a folder
        where = f"{error.filename}: " if error.filename else ""
        print(f"worldloom: {where}{error.strerror or error}. Check the file, its folder and the disk.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("worldloom: stopped.", file=sys.stderr)
        return 130
