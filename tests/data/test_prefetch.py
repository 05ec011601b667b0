"""The thread that computes ahead: in order, not too far, and gone when it should be."""

import gc
import threading
import time

import pytest

from worldloom.data.prefetch import prefetch


def _threads() -> int:
    return sum(t.name == "worldloom-prefetch" for t in threading.enumerate())


def _wait(condition) -> None:
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    assert condition()


def test_everything_comes_in_order():
    assert list(prefetch(lambda step: step * step, 3, 9)) == [9, 16, 25, 36, 49, 64]
    assert list(prefetch(lambda step: step, 5, 5)) == []
    _wait(lambda: _threads() == 0)


def test_it_runs_ahead_but_only_so_far():
    done: list[int] = []
    with prefetch(lambda step: done.append(step) or step, 0, None, depth=3) as steps:
        _wait(lambda: len(done) == 3)
        time.sleep(0.05)
        assert done == [0, 1, 2]
        assert next(steps) == 0
        _wait(lambda: len(done) == 4)
    assert _threads() == 0
    assert list(steps) == []


def test_an_exception_comes_where_its_step_would_have():
    def fn(step: int) -> int:
        if step == 2:
            raise KeyError("step 2")
        return step

    steps = prefetch(fn, 0, 10, depth=5)
    assert [next(steps), next(steps)] == [0, 1]
    with pytest.raises(KeyError, match="step 2"):
        next(steps)
    assert list(steps) == []
    assert _threads() == 0


def test_a_forgotten_one_ends():
    steps = prefetch(lambda step: step, 0, None)
    next(steps)
    assert _threads() == 1
    del steps
    gc.collect()
    _wait(lambda: _threads() == 0)


def test_leaving_early_closes_it():
    with prefetch(lambda step: step, 0, None) as steps:
        for step in steps:
            if step == 4:
                break
    assert _threads() == 0


def test_depth_must_be_positive():
    with pytest.raises(ValueError, match="depth"):
        prefetch(lambda step: step, 0, 1, depth=0)
