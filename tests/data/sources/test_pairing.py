"""The pairing rule, row by row, and which control the actions of all recordings make."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldloom.contract import Control
from worldloom.data import DataError
from worldloom.data.sources.pairing import infer_control, pair

CHOICES, NUMBERS = Control("discrete", n=7), Control("continuous", (2,))


@given(frames=st.integers(2, 12), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_next_is_what_same_is_one_row_later(frames: int, seed: int) -> None:
    taken = np.random.default_rng(seed).integers(0, 7, frames)  # row t: taken after frame t
    led = np.concatenate([[3], taken[:-1]])  # row t: led to frame t; whatever stands in row 0 means nothing
    expected = [7, *taken[:-1].tolist()]
    assert pair(taken, frames, CHOICES, "next", "here").tolist() == expected
    assert pair(taken[:-1], frames, CHOICES, "next", "here").tolist() == expected
    assert pair(led, frames, CHOICES, "same", "here").tolist() == expected


def test_numbers_begin_with_zeros_and_keep_their_type() -> None:
    taken = np.arange(8.0).reshape(4, 2)
    out = pair(taken, 4, NUMBERS, "next", "here")
    assert out.dtype == np.float32
    assert out.tolist() == [[0, 0], [0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize(("rows", "pairing"), [(3, "next"), (6, "next"), (4, "same"), (6, "same")])
def test_other_numbers_of_rows_are_refused(rows: int, pairing: str) -> None:
    with pytest.raises(DataError, match=f"clip.*{rows} rows of actions for 5 frames"):
        pair(np.zeros(rows, np.int64), 5, CHOICES, pairing, "clip")  # type: ignore[arg-type]


def test_whole_numbers_in_one_column_are_choices() -> None:
    assert infer_control([np.array([0, 2]), np.array([[5]])], (), "auto", "x") == Control("discrete", n=6)
    assert infer_control([np.array([0.0, 2.0])], (), "auto", "x").kind == "discrete"


@pytest.mark.parametrize(
    "column",
    [[0.0, 0.5], [-1, 1], [0, 256], [0.0, 1.0], [[0, 1]]],
    ids=["half", "negative", "many", "float 0/1", "two"],
)
def test_everything_else_is_numbers(column: list[float]) -> None:
    assert infer_control([np.array(column)], (), "auto", "x").kind == "continuous"


def test_the_users_word_counts() -> None:
    assert infer_control([np.array([0, 1])], (), "continuous", "x") == Control("continuous", (1,))
    assert infer_control([np.array([0.0, 1.0])], (), "discrete", "x") == Control("discrete", n=2)
    with pytest.raises(DataError, match="whole numbers from 0"):
        infer_control([np.array([0.0, 0.5])], (), "discrete", "x")


def test_names_go_with_their_columns() -> None:
    assert infer_control([np.zeros((3, 2)) + 0.5], ("steer", "gas"), "auto", "x").names == ("steer", "gas")


@pytest.mark.parametrize(
    "bad", [[np.array([0.5, np.nan])], [np.zeros((2, 2)), np.zeros((2, 3))], [np.zeros(0)], [np.array(["a"])]]
)
def test_bad_actions_are_refused(bad: list[np.ndarray]) -> None:
    with pytest.raises(DataError, match=r"^here: "):
        infer_control(bad, (), "auto", "here")


def test_numbers_beyond_float32_are_refused() -> None:
    control = Control("continuous", (1,))
    assert pair(np.array([[3e38], [0]]), 2, control, "next", "t")[1] == np.float32(3e38)
    with pytest.raises(DataError, match=r"t: row 0 .*float32"):
        pair(np.array([[1e39], [0]]), 2, control, "next", "t")
