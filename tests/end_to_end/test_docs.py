"""README and docs: every Python block runs, from the top of its page, in a folder that holds runs/demo.

A block that begins with the name of a file (``# my_model.py``) is saved under it, and its names are imported from it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWN = {"tutorial.md"}  # have tests of their own
PAGES = [p for p in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if "```python" in p.read_text("utf-8")]
PAGES = [p for p in PAGES if p.name not in OWN]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_every_python_block_runs(page: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").symlink_to(home / "runs")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "docs"}
    monkeypatch.syspath_prepend(tmp_path)
    for code in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.S):
        if file := re.match(r"# (\w+)\.py\n", code):
            monkeypatch.setitem(sys.modules, file[1], sys)  # forgotten again when the test ends
            del sys.modules[file[1]]
            (tmp_path / f"{file[1]}.py").write_text(code, encoding="utf-8")
            code = f"from {file[1]} import *"
        exec(compile(code, str(page), "exec"), names)


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda p: p.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
