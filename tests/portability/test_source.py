"""Read from the source: text with encodings, and nothing that only Linux has unless it is asked for first."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import worldloom

HOME = Path(worldloom.__file__).parent
FILES = sorted(HOME.rglob("*.py"))

NOT_ON_WINDOWS = {
    "os": {
        "O_CLOEXEC", "O_DIRECTORY", "O_DSYNC", "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC", "WNOHANG", "chown", "fchdir",
        "copy_file_range", "fchmod", "fchown", "fdatasync", "fork", "forkpty", "getegid", "geteuid", "getgid",
        "getgroups", "getloadavg", "getpgid", "getpgrp", "getuid", "killpg", "lchown", "memfd_create", "mkfifo",
        "mknod", "nice", "openpty", "pathconf", "posix_fadvise", "posix_fallocate", "posix_spawn", "pread", "preadv",
        "pwrite", "pwritev", "readv", "sched_getaffinity", "sched_setaffinity", "sendfile", "setpgid", "setpriority",
        "setsid", "setuid", "splice", "statvfs", "sync", "sysconf", "ttyname", "uname", "wait", "waitid", "writev",
    },
    "signal": {
        "SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGUSR1", "SIGUSR2", "alarm", "pause", "pthread_kill",
        "setitimer", "sigwait",
    },
    "time": {"tzset", "clock_gettime"},
    "socket": {"AF_UNIX"},
}  # fmt: skip
NO_SUCH_MODULE = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "select", "syslog", "termios", "tty"}
ONLY_LINUX_PATHS = ("/proc", "/dev/", "/sys/", "/tmp", "/usr", "/etc", "/home")
ALLOWED_PATHS = {
    ("training/run.py", "/proc/"),  # read for a message's sake, and OSError is an answer
    ("evaluation/probes/cost_meters.py", "/proc/self"),  # where these are not, the report says so
    ("evaluation/probes/cost_meters.py", "/sys/class/powercap"),
}


def where(file: Path, node: ast.AST) -> str:
    return f"{file.relative_to(HOME).as_posix()}:{node.lineno}"


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            f = node.func
            yield node, f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "")


def without_encoding(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls that open text without saying in which encoding."""
    for call, name in calls(tree):
        given = {k.arg: k.value for k in call.keywords}
        if name in ("read_text", "write_text") and "encoding" not in given:
            yield call
        if name in ("run", "Popen", "check_output") and "text" in given and "encoding" not in given:
            yield call
        if name in ("open", "fdopen") and "encoding" not in given:
            method = isinstance(call.func, ast.Attribute) and name == "open"
            if method and ast.unparse(call.func.value) in ("os", "av", "Image", "zipfile", "webbrowser"):
                continue
            place = 0 if method else 1  # path.open(mode), open(file, mode), os.fdopen(descriptor, mode)
            mode = given.get("mode") or (call.args[place] if len(call.args) > place else ast.Constant("r"))
            # A method's argument that is no mode belongs to another kind of open
            if isinstance(mode, ast.Constant) and re.fullmatch("[rwxa+t]+", str(mode.value)):
                yield call


def unguarded(tree: ast.Module, source: str) -> Iterator[tuple[ast.AST, str]]:
    """Names that Windows lacks, in a module that does not ask whether they are there."""
    tried = {id(n) for t in ast.walk(tree) if isinstance(t, ast.Try) for b in t.body for n in ast.walk(b)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module, name = node.value.id, node.attr
            asked = any(f'{ask}({module}, "{name}"' in source for ask in ("hasattr", "getattr"))
            if name in NOT_ON_WINDOWS.get(module, ()) and not asked:
                yield node, f"{module}.{name}"
        if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in tried:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from ((node, f"import {n}") for n in names if n.split(".")[0] in NO_SUCH_MODULE)


def double_on_a_device(tree: ast.AST) -> Iterator[ast.Call]:
    """Apple's GPU has no float64: such tensors are made on the CPU, and ``.double()`` comes after ``.cpu()``."""
    for call, name in calls(tree):
        given = {k.arg: ast.unparse(k.value) for k in call.keywords}
        if given.get("dtype") in ("torch.float64", "torch.double") and "device" in given:
            yield call
        if name == "double" and not ast.unparse(call).endswith(".cpu().double()"):
            yield call


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("open('a')", 1), ("open('a', 'rb')", 0), ("open('a', encoding='utf-8')", 0), ("p.open()", 1),
        ("p.open('ab')", 0), ("p.read_text()", 1), ("p.write_text(x, encoding='utf-8')", 0), ("os.fdopen(3)", 1),
        ("os.fdopen(3, 'wb')", 0), ("subprocess.run(c, text=True)", 1), ("os.open(p, os.O_RDONLY)", 0),
    ],
)  # fmt: skip
def test_the_search_for_encodings_finds_what_it_should(source, found):
    assert len(list(without_encoding(ast.parse(source)))) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("os.pread(1, 2, 3)", 1), ("if hasattr(os, \"pread\"):\n    os.pread(1, 2, 3)", 0), ("os.fsync(3)", 0),
        ("import fcntl", 1), ("try:\n    import fcntl\nexcept ImportError:\n    fcntl = None", 0),
        ("signal.setitimer(0, 1)", 1), ("from resource import getrusage", 1),
    ],
)  # fmt: skip
def test_the_search_for_linux_finds_what_it_should(source, found):
    assert len(list(unguarded(ast.parse(source), source))) == found


def test_the_search_for_float64_finds_what_it_should():
    bad = "torch.zeros(3, dtype=torch.float64, device=d)\nx.double()\nx.double().cpu()"
    assert len(list(double_on_a_device(ast.parse(bad)))) == 3
    assert not list(double_on_a_device(ast.parse("torch.zeros(3, dtype=torch.float64)\nx.cpu().double()")))


def test_source():
    """One pass over all files, every finding with its place."""
    found = []
    for file in FILES:
        source = file.read_text(encoding="utf-8")
        tree = ast.parse(source)
        inside = file.relative_to(HOME).as_posix()
        found += [f"{where(file, c)} text without encoding: {ast.unparse(c)}" for c in without_encoding(tree)]
        found += [f"{where(file, n)} not on Windows: {what}" for n, what in unguarded(tree, source)]
        found += [f"{where(file, c)} float64 on a device: {ast.unparse(c)}" for c in double_on_a_device(tree)]
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
                continue
            if node.value.startswith(ONLY_LINUX_PATHS) and (inside, node.value) not in ALLOWED_PATHS:
                found.append(f"{where(file, node)} a path of Linux: {node.value!r}")
            if node.value in ("fork", "forkserver"):
                found.append(f"{where(file, node)} a way to start processes that Windows lacks: {node.value!r}")
    assert not found, "\n".join(found)


def test_file_names_differ_by_more_than_case_and_hold_no_colon():
    root = HOME.parents[1]
    tops = ("src", "docs", "tests", "benchmarks")
    names = [
        p.relative_to(root).as_posix() for top in tops for p in (root / top).rglob("*") if "__pycache__" not in p.parts
    ]
    assert len({n.lower() for n in names}) == len(names)
    odd = [n for n in names if set(n) & set('<>:"|?*\\') or n.endswith((" ", "."))]
    reserved = {"con", "prn", "aux", "nul", *(f"com{i}" for i in range(10)), *(f"lpt{i}" for i in range(10))}
    assert not odd + [n for n in names if Path(n).stem.lower() in reserved]
