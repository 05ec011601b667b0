"""A sample of the hostile files of ``fuzz.py``, and the whole of them in ``make soak``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from fuzz import OUTCOMES, Fuzzer, case_of, shares
from targets import TARGETS

from worldloom.files import DamagedFileError, load_tensors

SAMPLE = 1500


@pytest.mark.parametrize("target", TARGETS)
def test_hostile_files_are_refused_or_read_rightly(target, tmp_path):
    for extra in {"hdf5": ["h5py"], "minari": ["h5py"], "lerobot": ["pyarrow"]}.get(target, []):
        pytest.importorskip(extra)
    fuzzer = Fuzzer(target, tmp_path)
    found = {number: fuzzer.run(number, alarm=False) for number in range(shares(SAMPLE)[target])}
    bad = {number: said for number, said in found.items() if said[0] in OUTCOMES[3:]}
    assert not bad
    assert Counter(outcome for outcome, _ in found.values())["refused"] > 0 or target in (
        "checkpoints",
        "log",
        "resume",
    )


@pytest.mark.soak
def test_a_hundred_thousand_hostile_files(tmp_path):
    out = Path(os.environ.get("WORLDLOOM_FUZZ_OUT", tmp_path / "fuzz.json"))
    script = Path(__file__).with_name("fuzz.py")
    done = subprocess.run(
        [sys.executable, str(script), "--count", "100000", "--out", str(out)], stdout=subprocess.PIPE, text=True
    )
    print(done.stdout)
    assert done.returncode == 0
    assert json.loads(out.read_text(encoding="utf-8"))["cases"] > 99_000


def test_a_case_can_be_repeated(tmp_path):
    fuzzer = Fuzzer("dataset", tmp_path)
    for number in range(20):
        assert case_of("dataset", number, fuzzer.files) == case_of("dataset", number, fuzzer.files)


def test_a_loader_that_believes_everything_is_caught(tmp_path, monkeypatch):
    """Without its hash a tensor file gives wrong tensors, and the fuzzer says so."""
    from worldloom import files

    monkeypatch.setattr(files, "tensors_hash", lambda tensors, meta: "the same for all")
    fuzzer = Fuzzer("tensors", tmp_path)
    found = Counter(fuzzer.run(number, alarm=False)[0] for number in range(400))
    assert found["wrong"] > 0


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 100_000_001, 9, 0])
def test_a_header_that_claims_more_than_the_file_holds(tmp_path, length):
    TARGETS["tensors"].make(tmp_path / "t")
    path = tmp_path / "t" / "x.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])
    with pytest.raises(DamagedFileError, match="truncated or not a worldloom file"):
        load_tensors(path)


@pytest.mark.parametrize(
    "change",
    [
        {"deter": 10**9}, {"units": 10**7}, {"deter": 10**40}, {"classes": 0}, {"stoch": -3}, {"deter": "8"},
        {"bins": 2**31}, {"channels": 10**6},
    ],
)  # fmt: skip
def test_a_model_that_claims_to_be_huge_takes_no_memory(tmp_path, change):
    """Its hash is right: whoever made the file made the claim."""
    import resource

    from worldloom.contract import WorldloomError
    from worldloom.files import save_tensors
    from worldloom.models.saved import load_model

    TARGETS["recurrent"].make(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    tensors, meta = load_tensors(path)
    meta["model"]["config"].update(change)
    save_tensors(path, tensors, meta)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WorldloomError):
        load_model(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_model_of_a_billion_layers_is_not_built(tmp_path):
    from worldloom.contract import WorldloomError
    from worldloom.files import save_tensors
    from worldloom.models.saved import load_model

    TARGETS["diffusion"].make(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    tensors, meta = load_tensors(path)
    meta["model"]["config"]["backbone"]["blocks"] = 10**9
    save_tensors(path, tensors, meta)
    with pytest.raises(WorldloomError, match=r"far more than its|must"):
        load_model(path)
