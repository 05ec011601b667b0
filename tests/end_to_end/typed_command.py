"""The command, as typed, in this process."""

from __future__ import annotations

import contextlib
import io

from worldloom.cli import main


def command(*args: str) -> tuple[int, str, str]:
    """Run the command in this process: exit code, what it printed, what it said on stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(args)
        except SystemExit as stop:  # argument errors and --help
            code = int(stop.code or 0)
    return code, out.getvalue(), err.getvalue()
