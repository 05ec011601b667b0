"""A long training takes no more memory, and holds no more files, than a short one."""

from __future__ import annotations

import gc
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import scenarios
import training_toys as toys

from worldloom.training import train

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")


def resident() -> int:
    """Bytes of memory that this process holds for itself: mapped files come and go as the system likes."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.split("RssAnon:")[1].split()[0])


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Watch:
    """Notes memory and open files every so many steps."""

    def __init__(self, every: int):
        self.every, self.steps = every, 0
        self.seen: list[tuple[int, int, int, int]] = []

    def model(self) -> toys.Toy:
        model = toys.Toy()
        plain = model.loss

        def loss(segment, generator=None):
            if model.training:
                self.steps += 1
                if self.steps % self.every == 0:
                    gc.collect()
                    self.seen.append((self.steps, resident(), descriptors(), threading.active_count()))
            return plain(segment, generator)

        model.loss = loss
        return model

    def check(self, growth: float) -> str:
        """Assert that after the first third memory grows by less than ``growth`` bytes a step, and files not at all.

        A leak is steady. The allocator takes a few megabytes at once, now and then: the largest and smallest rises are
        left out of the mean, and all of them together may come to 64 MB.
        """
        late = np.array(self.seen[len(self.seen) // 3 :], float)
        rises = np.sort(np.diff(late[:, 1]))
        few = max(1, len(rises) // 25)
        slope = float(rises[few:-few].mean()) / self.every
        assert late[-1, 1] - late[0, 1] < 64e6, self.seen
        said = f"{self.steps} steps: {slope:.2f} bytes a step, files {late[:, 2].min():.0f} to {late[:, 2].max():.0f}"
        assert slope < growth, said
        assert late[:, 2].max() - late[:, 2].min() <= 1, said
        assert late[:, 3].max() <= late[0, 3], said
        return said


def settings(steps: int, **changes):
    usual = {"checkpoint_every": steps // 10, "validate_every": steps // 5, "sample_every": steps // 5, "log_every": 50}
    return scenarios.config(**{"steps": steps, **usual, "prefetch": 2, "batch": 2, **changes})


def test_hundreds_of_steps_leave_nothing_open(data, tmp_path):
    before, watch = descriptors(), Watch(15)
    train(watch.model(), data, settings(300), tmp_path / "run", echo=lambda line: None)
    watch.check(growth=6000.0)  # a batch is 1 KiB, the model 8 KiB: keeping either of every step would show
    assert descriptors() <= before + 1


def test_the_watch_sees_a_leak(data, tmp_path):
    watch, kept = Watch(10), []
    model = watch.model()
    plain = model.loss
    model.loss = lambda segment, generator=None: kept.append(b"x" * 400_000) or plain(segment, generator)
    train(model, data, settings(150), tmp_path / "run", echo=lambda line: None)
    with pytest.raises(AssertionError, match="bytes a step"):
        watch.check(growth=6000.0)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_a_million_steps(data, tmp_path):
    """Memory may grow by 10 bytes a step: 10 MB in a million."""
    steps = int(os.environ.get("WORLDLOOM_SOAK_STEPS", 10**6))
    watch = Watch(steps // 200)
    train(watch.model(), data, settings(steps, log_every=500), tmp_path / "run", echo=lambda line: None)
    print("leak:", watch.check(growth=10.0), file=sys.stderr)


def test_fits_and_readers_close_what_they_open(data, tmp_path):
    from worldloom.data import Dataset, Windows
    from worldloom.imagination.starts import load_starts
    from worldloom.models.saved import load_model

    scenarios.go_on(data, tmp_path / "run")

    def use() -> None:
        dataset = Dataset(data.path)
        Windows(dataset).batch(2, 0, 0)
        load_model(tmp_path / "run")
        load_starts(tmp_path / "run")

    use()
    gc.collect()
    before = descriptors()
    for _ in range(30):
        use()
    gc.collect()
    assert descriptors() <= before
