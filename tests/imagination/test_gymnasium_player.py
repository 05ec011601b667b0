"""A dream is played by Gymnasium's own player: keys become actions, every press is answered by a frame."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pygame")

PLAY = """
import os
os.environ["SDL_VIDEODRIVER"] = "dummy"
os.environ["SDL_AUDIODRIVER"] = "dummy"
import pygame, torch
from gymnasium.utils.play import play
import worldloom
from worldloom import Control, Segment, Sensor, Spec

spec = Spec({"camera": Sensor("image", (3, 16, 16))}, {"action": Control("discrete", n=3)})
model = worldloom.build("diffusion", spec, {"history": 2, "prompt": 1})
prompt = Segment(
    {"camera": torch.zeros(1, 2, 3, 16, 16, dtype=torch.uint8)}, {"action": torch.full((1, 2), 3)},
    torch.tensor([[True, False]]), torch.ones(1, 2, dtype=torch.bool),
)
seen = []

def told(before, after, action, reward, terminated, truncated, info):
    seen.append(action)
    assert after.shape == (16, 16, 3)
    kind = {2: pygame.KEYDOWN, 4: pygame.KEYUP}.get(len(seen))
    if kind is not None:
        pygame.event.post(pygame.event.Event(kind, key=ord("d")))
    if len(seen) == 6:
        pygame.event.post(pygame.event.Event(pygame.QUIT))

play(worldloom.DreamEnv(model, prompts=prompt, max_steps=50), keys_to_action={"a": 1, "d": 2}, noop=0, fps=200,
     zoom=4, callback=told)
print(seen)
"""


def test_keys_reach_the_dream(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PLAY], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("[0, 0, 2, 2, 0, 0]")
