"""Groups of environments, in this process or in one of their own, driven by the same few messages.

A worker is a fresh Python started by :mod:`subprocess`, which reads requests from its standard input and answers on
its standard output. Compared with :mod:`multiprocessing` nothing of the parent is forked (threads of a running model
survive a fork badly) and nothing of it is imported again (a script needs no ``if __name__ == "__main__"``); it is the
same on Linux, macOS and Windows. What passes between the two is pickled: both ends are this program.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from worldloom.contract import ContractError, Spec, UnsupportedError, WorldloomError
from worldloom.worlds.gym.find import EnvError, EnvSource, label_of
from worldloom.worlds.gym.single import GymConfig, Row, Single

ERRORS = {kind.__name__: kind for kind in (WorldloomError, ContractError, UnsupportedError, EnvError)}


class Group:
    """Some of a world's environments, in this process."""

    def __init__(self, env: EnvSource, config: GymConfig, places: range):
        self._singles: dict[int, Single] = {}
        try:
            for place in places:
                single = Single(env, config)
                if any(single.env is other.env for other in self._singles.values()):
                    raise EnvError(
                        f"{label_of(env)} gave the same environment twice; it must make a new one each time."
                    )
                self._singles[place] = single
                first = next(iter(self._singles.values()))
                if single.spec != first.spec:
                    raise EnvError(f"{label_of(env)} makes environments that differ: {single.spec} and {first.spec}.")
        except BaseException:
            self.close()
            raise
        self.spec, self.notes = first.spec, list(first.notes)
        self._rows: dict[int, Row] = {}

    def send(self, verb: str, what: Mapping[int, Any]) -> None:
        """``reset`` (place to seed or None) or ``step`` (place to action) some of the environments."""
        self._rows = {}
        for place, value in what.items():
            single = self._singles[place]
            self._rows[place] = single.reset(value) if verb == "reset" else single.step(value)

    def receive(self) -> dict[int, Row]:
        """The frames that the last :meth:`send` led to, by place."""
        return self._rows

    def close(self) -> None:
        """Free the environments."""
        for single in self._singles.values():
            single.close()
        self._singles = {}


class Worker:
    """A :class:`Group` in a process of its own. Made at once; :meth:`ready` waits for it."""

    def __init__(self, env: EnvSource, config: GymConfig, places: range):
        import cloudpickle

        try:
            job = cloudpickle.dumps((env, config, places))
        except Exception as error:
            raise EnvError(f"{label_of(env)} can't be sent to a worker ({error}). Use workers=0 or a name.") from error
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # the processes are the parallelism
            environment.setdefault(name, "1")
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from worldloom.worlds.gym.workers import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self._label = label_of(env)
        self._write(job)

    def ready(self) -> None:
        """Wait until the environments are made; whatever went wrong with them is raised here."""
        spec, self.notes = self._read()
        self.spec = Spec.from_json(spec)

    def send(self, verb: str, what: Mapping[int, Any]) -> None:
        """As :meth:`Group.send`, without waiting."""
        self._write((verb, dict(what)))

    def receive(self) -> dict[int, Row]:
        """As :meth:`Group.receive`."""
        rows: dict[int, Row] = self._read()
        return rows

    def _write(self, message: Any) -> None:
        assert self._process.stdin is not None  # given as PIPE above
        try:
            pickle.dump(message, self._process.stdin, protocol=5)
            self._process.stdin.flush()
        except (BrokenPipeError, OSError) as error:
            raise self._died() from error

    def _read(self) -> Any:
        assert self._process.stdout is not None
        try:
            kind, value = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError, OSError) as error:
            raise self._died() from error
        if kind == "ok":
            return value
        raise ERRORS.get(kind, EnvError)(value)

    def _died(self) -> EnvError:
        try:
            code = str(self._process.wait(timeout=5))
        except subprocess.TimeoutExpired:  # it closed its pipe but lives on
            code = "none yet"
        return EnvError(
            f"A worker of {self._label} died (exit code {code}); what it printed stands above. What was collected is "
            "kept: run the same command again to go on."
        )

    def close(self) -> None:
        """Ask the process to end by closing its input; end it if it does not."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:  # it is gone already, with bytes still unsent
                continue
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def serve() -> None:
    """The worker's life: make the environments, answer requests, free them when the parent closes its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # what an environment prints must not land among the answers
    group: Group | None = None
    try:
        while True:
            try:
                request = pickle.load(requests)
                if group is None:
                    group = Group(*pickle.loads(request))
                    answer: Any = (group.spec.to_json(), group.notes)
                else:
                    group.send(*request)
                    answer = group.receive()
                message = ("ok", answer)
            except EOFError:
                return
            except WorldloomError as error:
                message = (type(error).__name__, str(error))
            except Exception as error:  # the parent tells the user; a worker has no one to raise to
                message = (EnvError.__name__, f"A worker failed: {type(error).__name__}: {error}")
            pickle.dump(message, answers, protocol=5)
            answers.flush()
            if group is None:
                return
    except OSError:  # a broken pipe, which Windows calls an invalid argument
        os.dup2(nothing, answers.fileno())  # nobody listens: let the buffer go quietly
    finally:
        if group is not None:
            group.close()


def split(num: int, workers: int) -> list[range]:
    """``num`` places as evenly as they go into at most ``workers`` ranges."""
    edges = np.linspace(0, num, min(workers, num) + 1).round().astype(int)
    return [range(int(a), int(b)) for a, b in pairwise(edges)]
