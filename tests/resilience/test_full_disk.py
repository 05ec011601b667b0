"""Disks that are really full: a small file system of its own, and the system's limit on a file's size."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import scenarios
from faults import litter

from worldloom.contract import WorldloomError

resource = pytest.importorskip("resource")


@pytest.fixture
def limited():
    """A function that sets the largest size of a file; lifted afterwards."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 100, 3000, 9000])
def test_a_limit_on_the_size_of_files(data, tmp_path, limited, size):
    out = tmp_path / "run"
    scenarios.begin(data, out)
    limited(size)
    with pytest.raises(WorldloomError, match=os.strerror(errno.EFBIG)) as caught:
        scenarios.go_on(data, out)
    limited(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    assert str(out) in str(caught.value)
    scenarios.began_is_intact(out)
    scenarios.go_on(data, out)
    scenarios.go_on(data, tmp_path / "straight")
    assert scenarios.run_outcome(out)[:4] == scenarios.run_outcome(tmp_path / "straight")[:4]
    assert not litter(out)


def test_a_limit_on_the_size_of_videos(data, tmp_path, limited):
    """libav writes by itself, past what Python can see."""
    from worldloom.recipes.show import imagine_video

    scenarios.go_on(data, tmp_path / "run")
    limited(1000)
    for name in ("dream.mp4", "dream.gif"):
        with pytest.raises(WorldloomError):
            list(imagine_video(tmp_path / "run", tmp_path / name, frames=8, prompt=2, device="cpu"))
        assert not (tmp_path / name).exists()


SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:5]
import training_toys as toys, scenarios, shutil, torch
from worldloom.cli import main
from worldloom.contract import WorldloomError
from worldloom.data import Dataset

torch.set_num_threads(1)
toys.register()
folder = Path(sys.argv[1])
data = toys.make_data(folder / "data")
free = shutil.disk_usage(folder).free
refused = 0
for left in (1, 2, 3, 5, 8, 12, 20, 40):
    out, ballast = folder / "run", folder / "ballast"
    shutil.rmtree(out, ignore_errors=True)
    scenarios.begin(data, out)
    ballast.write_bytes(bytes(max(0, shutil.disk_usage(folder).free - left * 4096)))
    try:
        scenarios.go_on(data, out)
    except WorldloomError as error:
        refused += 1
        assert "No space left on device" in str(error), error
        assert str(out) in str(error), error
    ballast.unlink()
    scenarios.began_is_intact(out)
    scenarios.go_on(data, out)
    assert scenarios.toys.newest(out)[0] == 6
ballast.write_bytes(bytes(shutil.disk_usage(folder).free - 4096))
code = main(["data", "collect", "--env", "balls", "--out", str(folder / "balls"), "--episodes", "4", "--length", "20"])
print("refused", refused, "code", code)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's namespaces")
def test_a_full_file_system(tmp_path):
    """800 KiB of memory as a disk, in a namespace of its own; skipped where the system does not allow that."""
    there = tmp_path / "disk"
    there.mkdir()
    mount = f"mount -t tmpfs -o size=800k none {there}"
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "sh", "-c", mount]).returncode:
        pytest.skip("this system does not let us make a small file system")
    tests = Path(__file__).parents[1]
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    folders = " ".join(str(tests / name) for name in ("training", "data", "resilience"))
    line = f"{mount} && {sys.executable} {script} {there} {folders}"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", line], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "code 2" in done.stdout
    assert int(done.stdout.split("refused")[1].split()[0]) >= 3
    last = [line for line in done.stderr.splitlines() if line and "Stopping after this step" not in line]
    assert len(last) == 1, done.stderr  # one sentence, no traceback
    assert last[0].startswith("worldloom: ")
    assert "No space left on device" in last[0]
