"""Texts as vectors to attend to: a small encoder trained along with the model, or any from Hugging Face, frozen."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from worldloom.configs import ConfigError, at_least
from worldloom.contract import Control, WorldloomError
from worldloom.nn.attention import Cross
from worldloom.nn.words import to_text

Encoded: TypeAlias = tuple[Float[Tensor, "b k e"], Bool[Tensor, "b k"]]
"""Vectors, zero for padding, and which are real."""
M = TypeVar("M", bound=nn.Module)
KEPT = 4096
"""Texts whose vectors by a frozen encoder are kept."""


@dataclass(frozen=True)
class TextConfig:
    """The encoder of a text."""

    width: int = 128
    """Width of a token; a multiple of 32."""
    layers: int = 2
    """Layers of attention among the tokens, in the small encoder that is trained along with the model."""
    encoder: str | None = None
    """Name or folder of a Hugging Face encoder that takes its place, frozen. It is not stored with the model: who loads
    the model loads it too, by this name. Needs the extra ``worldloom[text]``."""

    def __post_init__(self) -> None:
        at_least(self, 0, "layers")
        if self.width < 32 or self.width % 32:
            raise ConfigError(f"The width of a text's tokens is a multiple of 32, found {self.width}.")


def make_text(control: Control, config: TextConfig) -> nn.Module:
    """The encoder of a control of kind ``tokens``: a module from tokens (B, L), padded with n, to :data:`Encoded`."""
    return SmallText(control, config) if config.encoder is None else FrozenText(control, config)


class SmallText(nn.Module):
    """Embeddings, places, and a few layers of attention among the tokens."""

    def __init__(self, control: Control, config: TextConfig):
        super().__init__()
        self.n, e = control.n, config.width
        self.embed = nn.Embedding(control.n, e)
        self.place = nn.Parameter(torch.randn(control.shape[0], e) * 0.02)
        self.mix = nn.ModuleList(Cross(e, e) for _ in range(config.layers))
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.Linear(e, 2 * e), nn.SiLU(), nn.Linear(2 * e, e)) for _ in range(config.layers)
        )

    def forward(self, tokens: Int64[Tensor, "b l"]) -> Encoded:
        """Tokens (B, L) to vectors (B, L, width)."""
        real = tokens < self.n
        x = self.embed(tokens.clamp(max=self.n - 1)) + self.place
        for mix, mlp in zip(self.mix, self.mlp, strict=True):
            normed = F.layer_norm(x, x.shape[-1:])
            x = x + mix(normed[:, None], normed, real)[:, 0]
            x = x + mlp(F.layer_norm(x, x.shape[-1:]))
        return x * real[..., None], real


class FrozenText(nn.Module):
    """The words of a control, read by an encoder of Hugging Face, and a linear layer to the model's width.

    The encoder's weights are neither trained nor stored with the model: whoever loads it needs the encoder too. It
    reads any word.
    """

    def __init__(self, control: Control, config: TextConfig):
        super().__init__()
        self.control = control
        # In a list, so that its weights are not the module's.
        self._encoder = [Encoder(str(config.encoder))]
        self.project = nn.Linear(self._encoder[0].width, config.width)

    def with_words(self, control: Control) -> FrozenText:
        """The same, weights shared, for a control of other words."""
        same = shared(self)
        same.control = control
        return same

    def forward(self, tokens: Int64[Tensor, "b l"]) -> Encoded:
        """Tokens (B, L) to vectors (B, tokens of the longest text, width)."""
        texts = [to_text(row, self.control) for row in tokens.cpu()]
        x, real = self._encoder[0](texts, tokens.device)
        return self.project(x) * real[..., None], real


class Encoder:
    """A Hugging Face tokenizer and encoder by name or folder; what it says of a text is computed once."""

    def __init__(self, name: str):
        self._tokenize, self._model, self.width = load_encoder(name)
        self._kept: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, texts: Sequence[str], device: torch.device) -> Encoded:
        """Vectors (B, L, width) of texts, and which are real; a text without words has none that is."""
        new = [text for text in dict.fromkeys(texts) if text and text not in self._kept]
        if len(self._kept) + len(new) > KEPT:
            self._kept.clear()
            new = [text for text in dict.fromkeys(texts) if text]
        if new:
            batch = self._tokenize(new, return_tensors="pt", padding=True)
            out = self._model(**batch).last_hidden_state.float()
            for text, x, mask in zip(new, out, batch["attention_mask"], strict=True):
                self._kept[text] = x[mask.bool()]
        nothing = torch.zeros(0, self.width)
        found = [self._kept[text] if text else nothing for text in texts]
        longest = max(1, *(len(x) for x in found))
        padded = torch.stack([F.pad(x, (0, 0, 0, longest - len(x))) for x in found])
        real = torch.arange(longest) < torch.tensor([len(x) for x in found])[:, None]
        return padded.to(device), real.to(device)


def shared(module: M) -> M:
    """A module with the same parts, one of which may then be exchanged in it alone."""
    same = copy.copy(module)
    same._modules = dict(module._modules)
    return same


def load_encoder(name: str) -> tuple[Callable[..., Any], Callable[..., Any], int]:
    """(tokenizer, encoder, width of its vectors) by name or folder. Weights are read from safetensors alone, and no
    code that comes with them is run."""
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise WorldloomError(f"The text encoder {name!r} needs transformers: pip install worldloom[text].") from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModel.from_pretrained(name, use_safetensors=True).eval().requires_grad_(False)
    except (OSError, ValueError) as error:
        raise WorldloomError(
            f"The text encoder {name!r} could not be loaded: give the name of a Hugging Face model or a folder that "
            f"holds one, with safetensors. It says: {str(error).strip().splitlines()[0]}"
        ) from error
    encoder = model.get_encoder() if model.config.is_encoder_decoder else getattr(model, "text_model", model)
    return tokenizer, encoder, encoder.config.hidden_size


__all__ = ["Encoded", "FrozenText", "SmallText", "TextConfig", "load_encoder", "make_text", "shared"]
