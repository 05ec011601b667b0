"""Texts: the small encoder, and a frozen one in its place."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusion_toys import make
from torch import Tensor

from worldloom.contract import ContractError, Control, Sensor, Spec, WorldloomError
from worldloom.imagination.prompts import prompted
from worldloom.models.diffusion import Diffusion, DiffusionConfig, TextConfig, texts
from worldloom.nn.words import batch_of_tokens

ENCODER_WORDS = ("red", "blue", "ball", "fast", "slow")
WORDS = ("red", "blue", "ball", "fast")
TEXT = Control("tokens", (4,), n=4, names=WORDS, per="once")
SPEC = Spec({"camera": Sensor("image", (3, 16, 16))}, {"text": TEXT})


def test_the_small_encoder_reads_the_order_and_not_the_padding() -> None:
    torch.manual_seed(0)
    small = texts.SmallText(TEXT, TextConfig(width=32, layers=1))
    x, real = small(batch_of_tokens(["red ball fast", "fast ball red", "red ball fast"], TEXT))
    assert real.tolist() == [[True, True, True, False]] * 3
    assert not x[:, 3].any()
    torch.testing.assert_close(x[0], x[2])
    assert not torch.allclose(x[0, 1], x[1, 1], atol=1e-4)  # the same word, in other company


class Fake:
    """Stands for transformers: a text of n words has n vectors, each the hash of its word."""

    asked: list[str]

    def __init__(self) -> None:
        self.asked = []

    def load(self, name: str) -> tuple[Any, Any, int]:
        assert name == "some/encoder"
        return self.tokenize, self.encode, 6

    def tokenize(self, new: Sequence[str], return_tensors: str, padding: bool) -> dict[str, Tensor]:
        assert return_tensors == "pt" and padding  # noqa: PT018
        self.asked += new
        words = [[ENCODER_WORDS.index(w) + 1 for w in text.split()] for text in new]
        longest = max(map(len, words))
        ids = torch.tensor([w + [0] * (longest - len(w)) for w in words])
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        return SimpleNamespace(last_hidden_state=torch.nn.functional.one_hot(input_ids, 6).float())


def test_a_frozen_encoder_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake()
    monkeypatch.setattr(texts, "load_encoder", fake.load)
    debug = DiffusionConfig.debug()
    config = dataclasses.replace(debug, text=dataclasses.replace(debug.text, encoder="some/encoder"))
    torch.manual_seed(0)
    model = Diffusion(SPEC, config)
    encoder = model.conditions.texts["text"]
    assert [n for n in model.state_dict() if ".texts." in n] == [
        "conditions.texts.text.project.weight",
        "conditions.texts.text.project.bias",
    ]
    tokens = batch_of_tokens(["red ball", "", "blue ball fast"], TEXT)
    x, real = encoder(tokens)
    assert real.tolist() == [[True, True, False], [False] * 3, [True] * 3]
    expected = encoder.project(torch.eye(6)[[2, 3, 4]])
    torch.testing.assert_close(x[2], expected)
    assert not x[1].any()
    encoder(tokens)
    assert fake.asked == ["red ball", "blue ball fast"]  # each text is encoded once
    x.sum().backward()
    assert encoder.project.weight.grad is not None


def test_a_frozen_encoder_reads_words_that_no_caption_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "load_encoder", Fake().load)
    text = TextConfig(width=32, encoder="some/encoder")
    model = make(SPEC, text=text)
    other = model.reading(["red ball", "Ball, slow"])
    assert model.spec == SPEC  # untouched
    assert model.conditions.texts["text"].control == TEXT
    made = [prompted(model, text=text, frames=4, seed=3) for text in ("red ball", "blue ball", "slow ball")]
    assert made[2].control["text"].tolist() == [[4, 2, 5, 5]]
    assert [int((a.obs["camera"] != b.obs["camera"]).any()) for a, b in pairwise(made)] == [1, 1]
    assert all(a is b for a, b in zip(model.parameters(), other.parameters(), strict=True))
    small = make(SPEC)
    with pytest.raises(ContractError, match="does not know the word 'slow'"):
        prompted(small, text="slow ball", frames=4)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(WorldloomError, match=r"worldloom\[text\]"):
        texts.load_encoder("some/encoder")
