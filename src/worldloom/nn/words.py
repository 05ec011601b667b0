"""Texts to tokens and back, for any control of kind ``tokens`` whose ``names`` are the words of its vocabulary.

A word is a run of letters and digits, in lower case; all else parts words and says nothing. Places after the last word
hold the null index n. Nothing is guessed: an unknown word is an error, never left out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from worldloom.contract import ContractError, Control

_LISTED = 60
"""Words of a vocabulary that an error lists at most."""


def split(text: str) -> list[str]:
    """The words of a text: ``"Three SMALL balls, fast!"`` has ``three``, ``small``, ``balls``, ``fast``."""
    return re.findall(r"[^\W_]+", text.lower())


def to_tokens(text: str, control: Control, name: str = "text") -> Tensor:
    """The text as the control's value, (L,) int64; a text without words is the null value.

    name: of the control, for errors. Raises :class:`ContractError` where the control has no words, does not know one of
    the text's, or the text has more than L.
    """
    index = _vocabulary(control, name)
    words = split(text)
    for word in words:
        if word not in index:
            raise ContractError(f"The control {name!r} does not know the word {word!r}. {_hint(word, list(index))}")
    length = control.shape[0]
    if len(words) > length:
        raise ContractError(
            f"The text has {len(words)} words, and the control {name!r} takes {length} at most: {' '.join(words)!r}. "
            "Say it in fewer."
        )
    out = control.null()
    out[: len(words)] = torch.tensor([index[word] for word in words], dtype=torch.int64)
    return out


def batch_of_tokens(texts: Sequence[str], control: Control, name: str = "text") -> Tensor:
    """Several texts at once, (B, L) int64; as :func:`to_tokens`."""
    return torch.stack([to_tokens(text, control, name) for text in texts]) if texts else control.null(0)


def to_text(tokens: Tensor, control: Control, name: str = "text") -> str:
    """The words of a value (L,), joined by spaces: nulls are left out. The inverse of :func:`to_tokens` but for what
    parted the words."""
    _vocabulary(control, name)
    control.check(tokens, (), name)
    return " ".join(control.names[i] for i in tokens.tolist() if i != control.n)


def _vocabulary(control: Control, name: str) -> dict[str, int]:
    """Word to index."""
    if control.kind != "tokens":
        raise ContractError(f"The control {name!r} is {control.kind} and takes no text; one of kind 'tokens' does.")
    if not control.names:
        raise ContractError(
            f"The control {name!r} names no words: its {control.n} tokens mean something only to who made them. Give "
            "tokens, or make the control with names=the words of its vocabulary."
        )
    words = [word.lower() for word in control.names]
    odd = [word for word in words if split(word) != [word]]
    if len(set(words)) != control.n or len(words) != control.n or odd:
        raise ContractError(
            f"The names of the control {name!r} must be {control.n} different single words, one for each token; found "
            f"{len(set(words))} different ones{f', and {odd[:5]}' if odd else ''}."
        )
    return {word: i for i, word in enumerate(words)}


def _hint(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, 3, 0.6)
    if near:
        return f"Did you mean {' or '.join(map(repr, near))}?"
    rest = f", ... ({len(known)} in all)" if len(known) > _LISTED else ""
    return f"Its words: {', '.join(known[:_LISTED])}{rest}."


__all__ = ["batch_of_tokens", "split", "to_text", "to_tokens"]
