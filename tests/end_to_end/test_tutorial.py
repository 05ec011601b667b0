"""The tutorial: its notebook is its page, and runs from end to end in a fresh kernel, at debug size."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def _maker():  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location("make_notebook", DOCS / "make_notebook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_notebook_is_the_page() -> None:
    made = json.loads(_maker().text())
    stored = json.loads((DOCS / "tutorial.ipynb").read_text("utf-8"))
    assert stored == made, "run `python docs/make_notebook.py`"


@pytest.mark.filterwarnings("default")  # Jupyter's own
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    page = (DOCS / "tutorial.md").read_text("utf-8")
    small = page.replace("minutes, episodes, length = 12.0, 300, 120", "minutes, episodes, length = None, 6, 40")
    small = small.replace('build("diffusion", data.spec)', 'build("diffusion", data.spec, TINY)')
    small = small.replace("TrainConfig(minutes=minutes, batch=8", "TrainConfig(steps=6, batch=2, validate_batches=1")
    assert small.count("TINY") == small.count("steps=6") == small.count("length = None") == 1
    tiny = "```python\nfrom worldloom.models.diffusion import DiffusionConfig\n\nTINY = DiffusionConfig.debug()\n```\n"
    notebook = _maker().notebook(tiny + small)
    NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    for made in ("my_game.py", "data/hopper/dataset.json", "runs/hopper/report.html", "hopper.mp4", "hopper.png"):
        assert (tmp_path / made).stat().st_size > 0
    report = json.loads((tmp_path / "runs/hopper/report.json").read_text("utf-8"))
    assert report["setting"]["starts"] >= 1
