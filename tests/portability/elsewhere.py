"""A day of a user's work on a system that is not there: run as ``python elsewhere.py SYSTEM FOLDER``.

worldloom's modules are imported while ``os``, ``sys`` and ``signal`` are stand-ins that lack what the other system
lacks and refuse what it refuses; everybody else keeps the real ones. For Windows files that are open can be neither
replaced nor deleted.
"""

from __future__ import annotations

import errno
import importlib
import os
import pathlib
import pkgutil
import signal
import sys
import threading
import time
import types
from pathlib import Path

SYSTEM, FOLDER = sys.argv[1], Path(sys.argv[2])
WINDOWS = SYSTEM == "windows"
sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

# What the library uses of others comes first, so that it sees the real system.
import filelock  # noqa: E402, F401
import numpy as np  # noqa: E402
import safetensors.torch  # noqa: E402, F401
import torch  # noqa: E402
import torch.utils.data  # noqa: E402
import tyro  # noqa: E402, F401

torch.set_num_threads(1)

LINUX = {"posix_fadvise", "posix_fallocate", "sched_getaffinity", "preadv", "pwritev", "fdatasync", "sendfile"}
POSIX = {"pread", "pwrite", "fork", "waitid", "getuid", "fchmod", "statvfs", "killpg", "setsid", "uname", "sync"}
POSIX |= {"O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "chown", "getloadavg", "WNOHANG", "sysconf"}
BINARY = 0x8000


class Other(types.ModuleType):
    """A module without some names and with others in their place."""

    def __init__(self, real, gone=(), **own):
        super().__init__(real.__name__)
        self.__dict__.update(own)
        self._real, self._gone = real, frozenset(gone)

    def __getattr__(self, name):
        if name in self._gone:
            raise AttributeError(f"module {self._real.__name__!r} has no attribute {name!r} on {SYSTEM}")
        return getattr(self._real, name)


read_only: dict[int, bool] = {}


def open_there(path, flags, mode=0o777):
    if Path(path).is_dir():
        raise PermissionError(errno.EACCES, "folders can't be opened", str(path))
    assert flags & BINARY, f"{path} would be opened as text, in which each newline is two bytes"
    descriptor = os.open(path, flags & ~BINARY, mode)
    read_only[descriptor] = not flags & (os.O_RDWR | os.O_WRONLY)
    return descriptor


def fsync_there(descriptor):
    if read_only.get(descriptor, False):
        raise OSError(errno.EBADF, "only a file opened for writing can be flushed")
    os.fsync(descriptor)


def kill_there(pid, number):
    raise AssertionError("os.kill ends a process on Windows, whatever the signal")


if WINDOWS:
    own = {"name": "nt", "O_BINARY": BINARY, "open": open_there, "fsync": fsync_there, "kill": kill_there}
    stand_ins = {
        "os": Other(os, LINUX | POSIX, **own),
        "sys": Other(sys, platform="win32"),
        "signal": Other(signal, {"SIGHUP", "SIGKILL", "SIGALRM", "SIGUSR1", "setitimer"}, SIGBREAK=signal.SIGUSR2),
        "fcntl": None,
        "resource": None,
    }
else:
    stand_ins = {"os": Other(os, LINUX), "sys": Other(sys, platform="darwin"), "resource": None}

import worldloom  # noqa: E402  (with the real system, for what it imports of others)

names = [m.name for m in pkgutil.walk_packages(worldloom.__path__, "worldloom.") if not m.name.endswith("__main__")]
for name in names:  # once, so that all libraries they want are there
    importlib.import_module(name)
for name in [n for n in sys.modules if n.split(".")[0] == "worldloom"]:
    del sys.modules[name]
real = {name: sys.modules.get(name) for name in stand_ins}
sys.modules.update(stand_ins)
for name in ["worldloom", *names]:
    importlib.import_module(name)
for name, module in real.items():
    if module is None:
        sys.modules.pop(name)
    else:
        sys.modules[name] = module


def opened(path) -> bool:
    """Whether this process has a file open."""
    target = str(Path(path).resolve())
    links = [f"/proc/self/fd/{n}" for n in os.listdir("/proc/self/fd")]  # noqa: PTH208
    return any(os.path.lexists(f) and os.path.realpath(f) == target for f in links)


if WINDOWS:
    refused = []
    for verb in ("replace", "rename", "unlink"):
        plain = getattr(pathlib.Path, verb)

        def careful(self, *args, plain=plain, **kwargs):
            if any(opened(p) for p in (self, *args) if isinstance(p, pathlib.Path) and p.exists()):
                refused.append(str(self))
                raise PermissionError(errno.EACCES, "the file is open in another program", str(self))
            return plain(self, *args, **kwargs)

        setattr(pathlib.Path, verb, careful)

import training_toys as toys  # noqa: E402

from worldloom.contract import WorldloomError  # noqa: E402
from worldloom.data.store import Dataset  # noqa: E402
from worldloom.data.writer import DatasetWriter  # noqa: E402
from worldloom.files import load_tensors, read_json, write_atomic, write_json  # noqa: E402
from worldloom.models.saved import load_model  # noqa: E402
from worldloom.training import malloc, train  # noqa: E402
from worldloom.training.signals import StopSignals  # noqa: E402

toys.register()


def raises(call, words: str) -> None:
    said = "nothing"
    try:
        call()
    except WorldloomError as error:
        said = str(error)
    assert words in said, f"expected an error that says {words!r}, found {said}"


def files() -> None:
    file = FOLDER / "a file.json"
    for value in ({"a": 1}, {"a": "ü→"}):
        write_json(file, value)
    assert read_json(file) == {"a": "ü→"}
    assert [p.name for p in FOLDER.iterdir()] == ["a file.json"]
    if WINDOWS:
        held = file.open("rb")
        threading.Timer(0.05, held.close).start()
        write_atomic(file, b"new")  # another program lets go of it after a moment
        assert refused
        with file.open("rb"):
            raises(lambda: write_atomic(file, b"newer"), "is untouched")
        assert file.read_bytes() == b"new"
        assert [p.name for p in FOLDER.iterdir()] == ["a file.json"]


def store() -> Dataset:
    path = FOLDER / "data"
    data = toys.make_data(path, episodes=4)
    frames = [data.episode(i) for i in range(len(data))]
    with DatasetWriter(path, data.spec) as writer:
        raises(lambda: DatasetWriter(path, data.spec), "another writer")
        writer.add(frames[0])
        writer.flush()
        assert len(Dataset(path)) == 5  # readers go on beside the writer
    with (path / "shards" / "000000.bin").open("ab") as shard, (path / "index.jsonl").open("ab") as index:
        shard.write(b"of an episode that was cut")
        index.write(b'{"torn')
    with DatasetWriter(path, data.spec) as writer:  # tidies up after a crash
        writer.add(frames[1])
    data = Dataset(path)
    assert data.verify() == 6
    for number, like in ((4, 0), (5, 1)):
        assert np.array_equal(data.episode(number).obs["screen"], frames[like].obs["screen"])
    assert b"\r" not in (path / "index.jsonl").read_bytes()
    return data


def training(data: Dataset) -> None:
    settings = {"steps": 8, "checkpoint_every": 2, "validate_every": 4, "sample_every": 4}

    def go(out, model=None, **more):
        return train(model or toys.Toy(), data, toys.quick(**settings, **more), FOLDER / out, echo=lambda line: None)

    go("whole run")
    stopped = toys.at_call(toys.Toy(), 5, lambda: os.kill(os.getpid(), signal.SIGUSR2 if WINDOWS else signal.SIGHUP))
    raises(lambda: go("stopped", stopped), "Stopped at step 5 of 8; saved in")
    raises(
        lambda: go("stopped", toys.at_call(toys.Toy(), 6, lambda: go("stopped"))), "Another trainer"
    )  # a second one in the same folder, while the first is at its sixth step
    newest = sorted((FOLDER / "stopped" / "checkpoints").iterdir())[-1]
    data_of_it = bytearray(newest.read_bytes())
    data_of_it[-1] ^= 1
    newest.write_bytes(data_of_it)
    go("stopped")
    assert newest.with_name(newest.name + ".damaged").exists()
    toys.same_outcome(FOLDER / "whole run", FOLDER / "stopped")
    assert isinstance(load_model(FOLDER / "stopped"), toys.Toy)
    tensors, _ = load_tensors(FOLDER / "stopped" / "model.safetensors")
    train(toys.Toy(), data, toys.quick(steps=1), FOLDER / "tuned", init=FOLDER / "stopped", echo=lambda line: None)
    assert tensors.keys() == set(read_json(FOLDER / "tuned" / "init.json")["taken"])
    assert go("stopped").steps == 8  # finished: nothing to do


def signals() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with StopSignals() as stop:
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN  # as nohup has it
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(100):
            if stop.signum is not None:
                break
            time.sleep(0.01)
        assert stop.signum == signal.SIGINT
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


files()
training(store())
signals()
assert malloc.tune_malloc() is False
print("all well")
