from __future__ import annotations

import re
from pathlib import Path

import torch

from worldloom.contract import Control, Segment, Sensor, Spec
from worldloom.imagination import read_video, save_starts
from worldloom.models import build, family
from worldloom.models.saved import save_model

PAGE = Path(__file__).parents[2] / "docs" / "imagination.md"


def test_examples_of_the_page_run(tmp_path, monkeypatch):
    spec = Spec({"screen": Sensor("image", (3, 16, 16))}, {"action": Control("discrete", n=3)})
    save_model(tmp_path / "runs/demo/model.safetensors", build("recurrent", spec, family("recurrent").Config.debug()))
    first = torch.zeros(2, 4, dtype=torch.bool)
    obs = torch.randint(0, 256, (2, 4, 3, 16, 16), dtype=torch.uint8)
    segment = Segment({"screen": obs}, {"action": torch.ones(2, 4, dtype=torch.int64)}, first, ~first)
    save_starts(tmp_path / "runs/demo/starts.safetensors", segment)
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 3
    names: dict = {}
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), names)
    assert names["dream"].obs["screen"].shape == (2, 40, 3, 16, 16)
    assert len(read_video("dream.mp4")[0]) == 40
    assert {p.name for p in tmp_path.iterdir()} == {"runs", "dream.mp4", "both.gif", "strip.png"}
