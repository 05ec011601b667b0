"""`worldloom imagine` and `worldloom evaluate`: what a run dreams, and how far to believe it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from worldloom.cli.common import model_class, parse
from worldloom.contract import WorldloomError


@dataclass
class Imagine:
    """Dream on from held-out frames, and write a video: beside the truth where there is one.

    A model of whole clips (the recipe sora) also dreams what a text, a picture or a clip asks for.
    """

    run: tyro.conf.Positional[Path]
    """Folder of a run, or the name of a model that comes with the package: balls, duo."""
    out: Path = Path("dream.mp4")
    """Video to write: .mp4 or .gif, or .png for a contact sheet."""
    frames: int | None = None
    """Frames to dream, by default 200; of a video from prompts all frames, given ones too, by default 16 or more."""
    start: int = 0
    """Which held-out start."""
    prompt: int = 4
    """Held-out frames to begin with."""
    actions: Literal["recorded", "random", "rest"] = "recorded"
    """Where actions come from: ``rest`` does nothing; ``recorded`` ends with random ones, after the recording's end."""
    data: Path | None = None
    """Dataset to take the start from; by default the run's own, and without it the starts stored in the run."""
    text: str | None = None
    """What the video shall show, as "three small red balls, strong gravity"."""
    image: Path | None = None
    """A picture that the video begins with."""
    clip: Path | None = None
    """A clip that the video goes on from."""
    last: Path | None = None
    """A picture or clip that the video ends with."""
    table: Literal["joint", "autoregressive", "pyramid", "keyframes"] | None = None
    """Order of denoising: all frames together, one by one, in a sliding ramp, every fourth first (docs/prompts.md)."""
    steps: int | None = None
    """Denoising steps of a frame; all frames of a clip take them together where the table is joint."""
    size: str | None = None
    """Height x width of the video, such as 64x96, if other than trained on."""
    guidance: tuple[str, ...] = ()
    """How strongly conditions are obeyed, such as text=2 (1: as trained). Each costs one more pass."""
    batch: int = 1
    """Videos to make of the prompts, side by side."""
    model: str | None = None
    """The class of a run of your own model, as my_model:MyModel; a run of ours needs none."""
    seed: int = 0
    """Seed of the dream and of random actions."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to dream."""


HELD_OUT = ("start", "prompt", "actions", "data")
"""Flags of dreams that go on from held-out frames ..."""
PROMPTS = ("text", "image", "clip", "last", "table", "steps", "size", "guidance", "batch")
"""... and those of videos from prompts: any of them asks for one."""


@dataclass
class Evaluate:
    """Measure a run on held-out episodes; writes report.json and report.html. Several runs: each, and a page that holds
    them against each other."""

    run: tyro.conf.Positional[tuple[Path, ...]]
    """Folder of a run; of several, which are then compared on one page. A model that comes with the package (balls,
    duo) is copied into a folder of its name here and measured there."""
    data: Path | None = None
    """Dataset to measure on (its test split); by default the run's own."""
    out: Path | None = None
    """Folder for the report; by default the run. For several runs by default ``comparison``."""
    starts: int = 64
    """Dreams, each from another held-out start."""
    prompt: int = 4
    """True frames before each dream."""
    horizon: int | None = None
    """Dreamed frames compared with the truth; by default 50 or what the episodes allow."""
    count_horizon: int = 100
    """Dreamed frames in which objects are counted, for worlds with an exact truth."""
    probes: tuple[str, ...] = ("default",)
    """What is asked beyond pictures, objects and speed: ``default``, ``none``, names of ours (docs/probes), your own as
    my_probes:my_probe (docs/your-own.md). Several after one another."""
    full: bool = False
    """The long run: more clips, and the probes that take long (half an hour instead of five minutes)."""
    extractor: str | None = None
    """Your own feature extractor for distances between distributions, as my_module:my_callable."""
    model: str | None = None
    """The class of a run of your own model, as my_model:MyModel; a run of ours needs none."""
    seed: int = 0
    """Seed of starts, dreams and intervals."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to dream."""


def imagine(args: list[str]) -> int:
    """`worldloom imagine ...`."""
    flags = parse(Imagine, args, "worldloom imagine")
    plain = {field.name: field.default for field in dataclasses.fields(Imagine)}
    options = dataclasses.asdict(flags)
    options["kind"] = model_class(options.pop("model"))
    held_out, prompts = ([n for n in names if options[n] != plain[n]] for names in (HELD_OUT, PROMPTS))
    if held_out and prompts:
        raise WorldloomError(
            f"--{held_out[0]} goes on from held-out frames, --{prompts[0]} makes a video from prompts: leave one out."
        )
    for name in HELD_OUT if prompts else PROMPTS:
        del options[name]
    for line in _prompted(options) if prompts else _held_out(options):
        print(line)
    return 0


def _prompted(options: dict[str, Any]) -> Iterator[str]:
    from worldloom.recipes.prompted import prompt_video

    return prompt_video(**options)


def _held_out(options: dict[str, Any]) -> Iterator[str]:
    from worldloom.recipes.show import imagine_video

    if options["frames"] is None:
        del options["frames"]
    return imagine_video(**options)


def evaluate(args: list[str]) -> int:
    """`worldloom evaluate ...`."""
    from worldloom.evaluation.compare import compare
    from worldloom.evaluation.evaluate import evaluate as measure

    flags = parse(Evaluate, args, "worldloom evaluate")
    options = dataclasses.asdict(flags)
    options["kind"] = model_class(options.pop("model"))
    runs = options.pop("run")
    if not runs:
        raise WorldloomError("Give the folder of a run, or of several: worldloom evaluate RUN [RUN ...]")
    if len(runs) == 1:
        measure(runs[0], **options)
    else:
        compare(runs, **options)
    return 0
