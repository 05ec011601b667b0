"""Nothing that a file holds is unpickled, imported, compiled or run, whatever it says."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from fuzz import Fuzzer
from targets import TARGETS

import worldloom

SOURCES = sorted(Path(worldloom.__file__).parent.rglob("*.py"))
_PIPES = {"worlds/gym/workers.py"}  # both ends are this program, and no file is read
_MODULES = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
_CALLS = {"eval", "exec", "compile", "__import__"}

_heard: list[str] = []
_listening = False
_HARMFUL = (
    *("pickle.find_class", "marshal.load", "ctypes.dlopen", "socket.connect", "urllib.Request"),
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.spawn"),
)


def _hear(event: str, args: tuple[object, ...]) -> None:
    if not _listening:
        return
    if event.startswith(_HARMFUL) and event != "marshal.loads":
        _heard.append(f"{event} {str(args)[:100]}")
    elif event == "import" and _comes_from_data(str(args[0])):
        _heard.append(f"import {args[0]}")


def _comes_from_data(module: str) -> bool:
    return module.partition(".")[0] in {"hostile", "evil", "training_evil"}


@pytest.fixture(scope="module", autouse=True)
def _audited():
    sys.addaudithook(_hear)  # for good: Python knows no way to take one away


@pytest.mark.parametrize("target", TARGETS)
def test_no_loader_runs_anything(target, tmp_path):
    global _listening
    for extra in {"hdf5": ["h5py"], "minari": ["h5py"], "lerobot": ["pyarrow"]}.get(target, []):
        pytest.importorskip(extra)
    fuzzer = Fuzzer(target, tmp_path)  # once without listening: libraries are imported on first use
    _heard.clear()
    _listening = True
    try:
        fuzzer.kind.load(fuzzer.work)
        for number in range(10_000, 10_012):
            fuzzer.run(number, alarm=False)
    finally:
        _listening = False
    assert _heard == []


def test_the_hook_hears(tmp_path):
    import pickle
    import subprocess

    global _listening
    _heard.clear()
    _listening = True
    try:
        pickle.loads(pickle.dumps(Path("x")))
        subprocess.run([sys.executable, "-c", ""], check=True)
    finally:
        _listening = False
    assert any("pickle.find_class" in line for line in _heard)
    assert any("subprocess.Popen" in line for line in _heard)


def test_a_pickle_under_our_names_is_not_unpickled(tmp_path):
    """What would run a command if it were loaded the old way."""
    import os
    import pickle

    from worldloom.contract import WorldloomError
    from worldloom.data import Dataset
    from worldloom.files import read_json
    from worldloom.models.saved import load_model

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    data = pickle.dumps(Evil())
    for name, load in (("model.safetensors", load_model), ("dataset.json", Dataset)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(WorldloomError):
            load(tmp_path)
    with pytest.raises(WorldloomError):
        read_json(tmp_path / "dataset.json")
    assert not (tmp_path / "ran").exists()


# ----------------------------------------------------------------------------------------------------- the source code


def _offences(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [f"import {a.name}" for a in node.names if a.name.partition(".")[0] in _MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in _MODULES:
            found.append(f"from {node.module}")
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in _CALLS or name in ("torch.load", "torch.jit.load", "os.system", "pd.read_pickle"):
                found.append(f"{name}(...)")
            for keyword in node.keywords:
                value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                if (keyword.arg == "allow_pickle" and value is not False) or (keyword.arg == "shell" and value):
                    found.append(f"{name}({keyword.arg}=...)")
            if name in ("np.load", "numpy.load") and not any(k.arg == "allow_pickle" for k in node.keywords):
                found.append(f"{name} without allow_pickle=False")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(Path(worldloom.__file__).parent).as_posix())
def test_the_source_never_unpickles_or_evaluates(path):
    place = path.relative_to(Path(worldloom.__file__).parent).as_posix()
    if place in _PIPES:
        return
    assert _offences(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "line",
    ["import pickle", "from dill import loads", "eval(x)", "exec(x)", "torch.load(p)", "np.load(p)",
     "np.load(p, allow_pickle=True)", "subprocess.run(x, shell=True)"],
)  # fmt: skip
def test_the_gate_closes(line):
    assert _offences(ast.parse(line)) != []
