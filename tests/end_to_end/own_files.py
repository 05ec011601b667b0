"""The files that docs/your-own.md tells a user to save, saved."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "your-own.md"
FILES = {
    name: f"# {name}.py\n{code}"
    for name, code in re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE.read_text("utf-8"), re.S)
}


def save(folder: Path, monkeypatch: pytest.MonkeyPatch, **more: str) -> None:
    """Make ``folder`` the current one, with the page's files and ``more`` in it, as modules nobody imported yet."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    for name, code in {**FILES, **more}.items():
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
        monkeypatch.setitem(sys.modules, name, sys)  # forgotten again when the test ends
        del sys.modules[name]
