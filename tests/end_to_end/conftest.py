"""A folder as a user has it after the README's first command, at debug size."""

from __future__ import annotations

from pathlib import Path

import pytest
from typed_command import command


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/demo in it."""
    folder = tmp_path_factory.mktemp("home")
    code, _, err = command("train", "balls", "--debug", "--out", str(folder / "runs" / "demo"))
    assert code == 0, err
    return folder
