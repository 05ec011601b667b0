"""The store, the writer, the lock, training and resuming on stand-ins for Windows and macOS."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the stand-ins are made for Linux: elsewhere it is real"
)
@pytest.mark.parametrize("system", ["windows", "macos"])
def test_a_day_of_work_on_another_system(system, tmp_path):
    folder = tmp_path / "Übung mit Leerzeichen"
    folder.mkdir()
    script = Path(__file__).with_name("elsewhere.py")
    command = [
        sys.executable,
        "-X",
        "warn_default_encoding",
        "-W",
        "error::EncodingWarning",
        str(script),
        system,
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all well\n")
