"""Tests kill processes, not machines: waiting for the disk would prove nothing and take minutes."""

import os

import pytest


@pytest.fixture(autouse=True, scope="module")
def no_waiting_for_the_disk():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield
