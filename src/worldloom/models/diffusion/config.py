"""What a diffusion world model is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from worldloom.configs import ConfigError, at_least, within
from worldloom.models.diffusion.backbone import BackboneConfig
from worldloom.models.diffusion.flow import FlowConfig
from worldloom.models.diffusion.texts import TextConfig
from worldloom.tokenizers.continuous import ContinuousConfig


@dataclass(frozen=True)
class DiffusionConfig:
    """A causal diffusion model: its network, its training and its default sampler."""

    history: int = 6
    """Past frames in the stem. Fewer may be known: an episode's start, or a short prompt."""
    ahead: int = 0
    """Later frames in the stem. With 0 a frame sees its past alone; above 0, joint training shows half of the clips
    both ways, and ``fill`` can then extend backward and dream what lies between known frames."""
    memory: int = 0
    """Frames that attention may recall: the first ``sink`` of the episode and the last ones, those in the stem too.
    0: none. Needs ``backbone.attention``."""
    sink: int = 1
    """How many of an episode's first frames stay in memory for good."""
    retrieve: int = 0
    """Explicit memory: frames beyond those that are recalled because they look most like the newest one."""
    archive: int = 256
    """Frames among which they are sought in a dream; unused without ``retrieve``."""
    lookback: int = 16
    """By how many frames training windows are longer, so that there is something to retrieve."""
    inject: Literal["modulate", "add", "cross"] = "modulate"
    """How controls given with each frame as vectors reach the network: they modulate every block; are added to every
    cell once; or are tokens to attend to (needs ``backbone.attention``)."""
    prompt: int = 2
    """Least history that is trained in next-frame windows. With less the next frame is a guess, whose large error would
    drown the rest."""
    short: float = 0.25
    """Share of training windows whose history is cut to a random length from ``prompt`` on."""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """The network."""
    codec: ContinuousConfig | None = None
    """An autoencoder, trained along, in whose latents the model dreams; None: in pixels. Frame by frame: its ``time``
    is 0 and ``temporal`` off. Latents want a small fold."""
    text: TextConfig = field(default_factory=TextConfig)
    """The encoder of a text, for worlds that are given one."""
    flow: FlowConfig = field(default_factory=FlowConfig)
    """Noise levels and loss."""
    joint: float = 0.0
    """Share of a batch that is trained as whole clips, each frame at a level of its own (diffusion forcing); ``fill``
    and unprompted dreams need it. The rest predicts next frames from clean histories."""
    shortcut: float = 0.0
    """Share of the whole clips that learn long steps as two of half their length (shortcut models): for one and two
    steps a clip."""
    drop: dict[str, float] = field(default_factory=dict)
    """By control, share of training windows from which it is left out; what is dropped can be guided."""
    heads: bool = False
    """Whether reward and end are predicted, from the features of finished frames."""
    steps: int = 2
    """Denoising steps of a dreamed frame. With 1 it is the mean of all that may come (but for shortcut models): enough
    where the past decides, the same blur for every seed where nothing does."""
    method: Literal["euler", "heun"] = "euler"
    """How a step is taken; ``heun`` costs two passes but for the last step."""
    guidance: dict[str, float] = field(default_factory=dict)
    """By condition (a control that is dropped in training, or ``history``), the weight of guidance; 1 is none. Each
    costs one more pass."""
    history_level: float = 0.0
    """Level at which the dream that guidance on history compares with sees its past. 0: not at all; above 0: through
    noise, so that only what such noise hides is guided (fractional history guidance, Song et al. 2025). Frame by
    frame, what memory recalls is hidden in either case."""
    residual: float = 0.8
    """Share of the last frame that the network's output is added to. At 1 it emits changes, which is learnt fastest;
    but what a dream leaves behind then stays until it is noticed. Below 1 such remains fade by this factor a frame."""
    targets: int = 4
    """Frames of a next-frame window that are targets, its last ones; those before are only history."""
    context_noise: float = 0.0
    """Largest noise mixed into the past while training, a level a frame, told to the model."""
    told_noise: float = 0.0
    """Noise that a dream declares in its past, frame by frame, though there is none: the model then trusts it less, as
    it learnt to trust noisy frames (diffusion forcing's stabilisation). At most what was trained: ``context_noise``, or
    any with ``joint``."""
    own_past: float = 0.25
    """A frame predicted from pure noise takes the truth's place in the past of the window's next targets, if its error
    is below this fraction of the error of copying the last frame. 0: the past is always true."""
    pad: bool = False
    """Whether frames that the grid does not divide are padded; otherwise they are refused."""

    def __post_init__(self) -> None:
        at_least(self, 1, "history", "steps", "targets", "prompt")
        at_least(self, 0, "ahead", "memory", "sink", "own_past", "retrieve", "lookback")
        within(self, 0.0, 1.0, "short", "context_noise", "told_noise", "residual", "joint", "shortcut", "history_level")
        if self.prompt > self.history:
            raise ConfigError(f"prompt is at most history: found {self.prompt} and {self.history}.")
        if self.memory and not self.backbone.attention:
            raise ConfigError(f"Memory of {self.memory} frames is read by attention: set backbone.attention above 0.")
        if self.codec is not None and (self.codec.time or self.codec.temporal):
            raise ConfigError(
                "A model that steps frame by frame needs an autoencoder that takes each frame alone: set codec.time to "
                f"0 and codec.temporal to false, found {self.codec.time} and {self.codec.temporal}."
            )
        if self.retrieve and not self.memory:
            raise ConfigError(f"Frames are retrieved into memory (retrieve {self.retrieve}): set memory above 0.")
        if self.retrieve and self.archive <= self.memory:
            raise ConfigError(f"The archive holds more than memory's {self.memory} frames, found {self.archive}.")
        if self.inject == "cross" and not self.backbone.attention:
            raise ConfigError("Controls that are attended to (inject cross) need backbone.attention above 0.")
        if self.memory and self.memory <= self.sink:
            raise ConfigError(f"Memory holds more than the first {self.sink} frames (sink), found {self.memory}.")
        if self.ahead and not self.joint:
            raise ConfigError(
                f"Later frames in the stem (ahead {self.ahead}) are trained by joint clips: set joint above 0."
            )
        if self.told_noise > self.context_noise and not self.joint:
            raise ConfigError(
                f"A past declared as noisy as {self.told_noise:g} (told_noise) was never seen in training: set "
                f"context_noise to as much, found {self.context_noise:g}, or joint above 0."
            )
        if self.shortcut and self.flow.shift != 1:
            raise ConfigError(f"Shortcuts are learnt on even steps: leave flow.shift at 1, found {self.flow.shift:g}.")
        if self.shortcut and not self.joint:
            raise ConfigError(f"Shortcuts are learnt on whole clips (shortcut {self.shortcut}): set joint above 0.")
        if self.history_level == 1:
            raise ConfigError("At history_level 1 guidance on history compares a dream with itself: choose below 1.")
        for name, p in self.drop.items():
            if not 0 <= p < 1:
                raise ConfigError(f"drop holds shares from 0 to below 1, found {p} for {name!r}.")
        for name in self.guidance:
            if name == "history" and not self.joint:
                raise ConfigError(
                    "Guidance on history compares with a dream that sees no past, which joint clips train: set joint "
                    "above 0."
                )
            if name != "history" and not self.drop.get(name):
                raise ConfigError(
                    f"Guidance on {name!r} compares with a dream without it, and it was never dropped in training: "
                    f"train with drop {{{name!r}: 0.1}}, or leave the guidance out."
                )

    @classmethod
    def debug(cls) -> DiffusionConfig:
        """Tiny: trains on a CPU in seconds."""
        backbone = BackboneConfig(size="debug", attention=1, remembered=16)
        return cls(history=3, memory=5, joint=0.5, backbone=backbone, text=TextConfig(width=32, layers=1))
