from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

_TESTS = Path(__file__).parent.parent
for _folder in ("training", "evaluation", "data", "resilience"):  # toys of other tests
    if str(_TESTS / _folder) not in sys.path:
        sys.path.append(str(_TESTS / _folder))

import training_toys as toys  # noqa: E402 - found only now


@pytest.fixture(autouse=True, scope="module")
def _toy_family():
    with pytest.MonkeyPatch.context() as patch:
        toys.register(patch)
        yield


@pytest.fixture(autouse=True, scope="module")
def _no_waiting_for_the_disk():
    """Processes die here, not machines: the calls are counted and made to fail, but nobody waits for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A small dataset, made once."""
    return toys.make_data(tmp_path_factory.mktemp("toy") / "data")
