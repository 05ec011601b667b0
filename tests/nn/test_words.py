"""Texts become tokens and come back; what can't be said is named, never left out."""

import pytest
import torch

from worldloom.contract import ContractError, Control
from worldloom.nn.words import batch_of_tokens, split, to_text, to_tokens

WORDS = ("red", "ball", "Fast", "two")
TEXT = Control("tokens", (4,), n=4, names=WORDS, per="once")


def test_there_and_back():
    tokens = to_tokens("Two RED, ball; fast!", TEXT)
    assert tokens.tolist() == [3, 0, 1, 2]
    assert tokens.dtype == torch.int64
    TEXT.check(tokens, (), "text")
    assert to_text(tokens, TEXT) == "two red ball Fast"
    assert to_tokens(to_text(tokens, TEXT), TEXT).equal(tokens)


def test_places_after_the_last_word_are_null():
    assert to_tokens("red", TEXT).tolist() == [0, 4, 4, 4]
    assert to_tokens(" ,.", TEXT).equal(TEXT.null())
    assert to_text(TEXT.null(), TEXT) == ""


def test_a_batch_is_its_rows():
    both = batch_of_tokens(["two", "red ball"], TEXT)
    assert both.tolist() == [[3, 4, 4, 4], [0, 1, 4, 4]]
    assert batch_of_tokens([], TEXT).shape == (0, 4)


def test_words_are_runs_of_letters_and_digits():
    assert split("one-two,\tThree_4 don't") == ["one", "two", "three", "4", "don", "t"]


@pytest.mark.parametrize(
    ("text", "control", "says"),
    [
        ("two rad balls", TEXT, r"'text' does not know the word 'rad'.*'red'"),
        ("3 red", TEXT, "know the word '3'.*red, ball, fast, two"),  # a number is not a gap between words
        ("red ball fast two red", TEXT, "has 5 words.*takes 4"),
        ("red", Control("tokens", (4,), n=4), "names no words"),
        ("red", Control("tokens", (4,), n=5, names=WORDS), "5 different single words.*found 4"),
        ("red", Control("tokens", (4,), n=4, names=("red", "RED", "two", "x")), "found 3"),
        ("red", Control("tokens", (4,), n=2, names=("red", "very fast")), "very fast"),
        ("red", Control("discrete", n=4, names=WORDS), "discrete and takes no text"),
    ],
)
def test_what_can_not_be_said_is_named(text, control, says):
    with pytest.raises(ContractError, match=says):
        to_tokens(text, control)


def test_tokens_that_do_not_fit_are_no_text():
    with pytest.raises(ContractError, match="shape"):
        to_text(torch.zeros(3, dtype=torch.int64), TEXT)
    with pytest.raises(ContractError, match=r"0\.\.3"):
        to_text(torch.full((4,), 5), TEXT)
