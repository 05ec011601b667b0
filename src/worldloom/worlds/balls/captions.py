"""The language in which a video of balls is described: what can be said, in which words, and what a caption says.

Every word belongs to one attribute and to one of its values alone, so that the order of words carries nothing and a
caption can be read word by word.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from worldloom.contract import Control, WorldloomError
from worldloom.nn.words import split

COUNTS = ("one", "two", "three", "four")
SIZES = ("small", "medium", "large")
COLOURS = {
    "red": (230, 50, 50),
    "green": (60, 190, 80),
    "blue": (70, 110, 255),
    "yellow": (245, 220, 60),
    "purple": (180, 80, 230),
    "white": (240, 240, 240),
}
"""RGB by name. No two are closer than 100 (of 441), and none is closer than 150 to the dark box."""
GRAVITIES = ("no", "weak", "strong")
SPEEDS = ("slow", "moderate", "fast")
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "count": COUNTS,
    "size": SIZES,
    "colour": tuple(COLOURS),
    "gravity": GRAVITIES,
    "speed": SPEEDS,
}
"""What a caption may say: the values of each attribute, as its words."""
FILLERS = ("a", "ball", "balls", "gravity", "motion", "under", "with")
VOCABULARY = (*(word for words in ATTRIBUTES.values() for word in words), *FILLERS)
"""All words, in the order of their tokens."""
LENGTH = 12
"""Words of the longest text; the longest caption has nine."""


class CaptionError(WorldloomError):
    """A caption contradicts itself, or a meaning has a value that there is no word for."""


@dataclass(frozen=True)
class Meaning:
    """What is said of a video: a value of :data:`ATTRIBUTES` each, or None where nothing is said."""

    count: str | None = None
    """How many balls."""
    size: str | None = None
    """How large they are, all alike."""
    colour: str | None = None
    """Of which colour, all alike."""
    gravity: str | None = None
    """How strongly they are pulled down."""
    speed: str | None = None
    """How fast they start, all alike."""

    def __post_init__(self) -> None:
        for name, words in ATTRIBUTES.items():
            value = getattr(self, name)
            if value is not None and value not in words:
                raise CaptionError(f"The {name} of a caption is one of {', '.join(words)}, found {value!r}.")

    @property
    def said(self) -> dict[str, str]:
        """Attribute to value, of what is said."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}

    def index(self, name: str) -> int:
        """Place of an attribute's value among its values; -1 where nothing is said."""
        value = getattr(self, name)
        return -1 if value is None else ATTRIBUTES[name].index(value)


def draw_meaning(random: np.random.Generator, counts: tuple[int, ...], colours: tuple[str, ...]) -> Meaning:
    """A whole meaning, each value with the same chance; how many and which colours among those given."""
    choices = {**ATTRIBUTES, "count": tuple(COUNTS[n - 1] for n in counts), "colour": colours}
    return Meaning(**{name: words[int(random.integers(len(words)))] for name, words in choices.items()})


def caption(meaning: Meaning, random: np.random.Generator | None = None, leave_out: float = 0.0) -> str:
    """A caption that says nothing but what is so, such as ``three small red balls, strong gravity, fast``.

    random: varies the wording and the order of the clauses; without it, the words are always those of the example.
    leave_out: chance of each attribute to be left unsaid.
    """
    said = meaning.said
    if random is not None:
        said = {name: value for name, value in said.items() if random.random() >= leave_out}

    def one_of(*forms: str) -> str:
        return forms[0] if random is None else forms[int(random.integers(len(forms)))]

    subject = [said[name] for name in ("count", "size", "colour") if name in said]
    noun = "ball" if meaning.count == "one" else "balls"
    if said.get("count") == "one":
        subject[0] = one_of("one", "a")
    if "count" in said:
        subject.append(noun)
    elif meaning.count is not None and subject and one_of("", noun):
        # "red balls" are more than one, "red" may be any number: neither says what is not so.
        subject.append(noun)
    clauses = [" ".join(subject)] if subject else []
    if "gravity" in said:
        clauses.append(one_of("", "under ", "with ") + f"{said['gravity']} gravity")
    if "speed" in said:
        clauses.append(said["speed"] + one_of("", " motion"))
    if random is not None:
        clauses = [clauses[i] for i in random.permutation(len(clauses))]
    return ", ".join(clauses)


def read(text: str) -> Meaning:
    """What a text says, word by word; words of no attribute, known or not, say nothing, but for ``a`` or a single
    ``ball``, which is one. Raises :class:`CaptionError` where it says two things of one attribute."""
    words = split(text)
    said: dict[str, str] = {}
    for word in words:
        for name, values in ATTRIBUTES.items():
            if word in values and said.setdefault(name, word) != word:
                raise CaptionError(f"A caption says one {name} at most, found {said[name]!r} and {word!r}.")
    single = "ball" in words or "a" in words
    if single and said.setdefault("count", "one") != "one":
        raise CaptionError(f"A caption of {said['count']} balls can't say 'a' or 'ball', found {text!r}.")
    return Meaning(**said)


def text_control() -> Control:
    """The control ``text`` of such a world: (L,) tokens, given once for an episode."""
    return Control("tokens", (LENGTH,), n=len(VOCABULARY), names=VOCABULARY, per="once")


__all__ = [
    "ATTRIBUTES",
    "COLOURS",
    "COUNTS",
    "LENGTH",
    "VOCABULARY",
    "CaptionError",
    "Meaning",
    "caption",
    "draw_meaning",
    "read",
    "text_control",
]
