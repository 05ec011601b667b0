"""What `worldloom data inspect` does: one pass over a sample, then every check."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from worldloom.configs import at_least
from worldloom.contract import Spec, WorldloomError
from worldloom.data.episode import Episode
from worldloom.data.inspecting import episode_checks, frames_checks
from worldloom.data.inspecting.digest import Digest, digest
from worldloom.data.inspecting.reading import Entry, Opened, from_episodes, open_path
from worldloom.data.inspecting.sheet import Strip, strip
from worldloom.data.inspecting.shift import Finding, ShiftConfig, find_shift
from worldloom.data.inspecting.tallies import Tally, tally_actions, tally_lengths, tally_rewards
from worldloom.data.sources import ImportConfig, Problem

_KEPT = 2**29  # bytes of frames that are kept for the misalignment finder, but at least 500 frames
_ORDER = {"error": 0, "warning": 1, "remark": 2}


@dataclass(frozen=True)
class InspectConfig:
    """How much is looked at."""

    sample: int = 200
    """At most this many episodes (of a source: recordings) are looked at, drawn by the seed."""
    frames: int = 20_000
    """About this many frames in all; of long episodes a run of at least 100 frames each."""
    seed: int = 0
    """Of the sample."""
    verify: bool = True
    """Check every byte of a dataset against its hash."""
    align: bool = True
    """Look for a column of actions that is shifted against the frames: some seconds."""

    def __post_init__(self) -> None:
        at_least(self, 1, "sample", "frames")


@dataclass
class Inspection:
    """What a dataset, or a source not yet imported, holds, and what is wrong with it."""

    path: str
    format: str
    """``worldloom``, ``memory``, or a source's format."""
    spec: Spec
    episodes: int
    """Of a source: recordings."""
    frames: int | None
    """None where it takes decoding to know."""
    bytes: int | None
    splits: dict[str, int]
    verified: bool | None
    """Whether every hash is right; None where there are none, or they were not checked."""
    notes: list[str]
    """What a source's reader understood."""
    looked_at: dict[str, int]
    """``episodes``, ``frames``, ``seed`` of the sample."""
    lengths: Tally | None
    actions: list[Tally]
    """One for choices, one for each entry of continuous actions."""
    rewards: Tally | None
    repeated: float
    """Share of frames equal to the one before."""
    alignment: Finding
    """What the motion says about the column of actions."""
    problems: list[Problem]
    """Worst first."""
    seconds: float
    strips: list[Strip] = field(default_factory=list, repr=False)
    """Pictures for the contact sheet; not part of the JSON."""

    @property
    def counts(self) -> dict[str, int]:
        """Number of problems by severity."""
        return {s: sum(p.severity == s for p in self.problems) for s in _ORDER}

    @property
    def exit_code(self) -> int:
        """1 where a problem is an error, else 0: warnings and remarks are for the user to judge."""
        return 1 if self.counts["error"] else 0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        out = {k: v for k, v in vars(self).items() if k not in ("strips", "spec", "alignment")}
        out |= {"spec": self.spec.to_json(), "alignment": self.alignment.to_json()}
        out["lengths"] = None if self.lengths is None else asdict(self.lengths)
        out["rewards"] = None if self.rewards is None else asdict(self.rewards)
        out |= {"actions": [asdict(a) for a in self.actions], "problems": [asdict(p) for p in self.problems]}
        return out


def inspect_data(
    path: str | Path, config: InspectConfig | None = None, importing: ImportConfig | None = None
) -> Inspection:
    """Inspect a dataset, or recordings not yet imported (``importing`` says how they would be read).

    Raises :class:`~worldloom.data.DataError` where nothing there can be opened.
    """
    config = config or InspectConfig()
    opened = open_path(path, importing, verify=config.verify)
    return _inspect(opened, opened.read(config.sample, config.frames, config.seed), config)


def inspect_episodes(spec: Spec, episodes: Sequence[Episode], config: InspectConfig | None = None) -> Inspection:
    """The same for episodes in memory, which may be bad in ways that no dataset would take."""
    entries = [Entry(f"episode {i}", i, e, recording=str(e.info.get("source", ""))) for i, e in enumerate(episodes)]
    return _inspect(from_episodes(spec, episodes), entries, config or InspectConfig())


def _inspect(opened: Opened, entries: Any, config: InspectConfig) -> Inspection:
    begun = time.monotonic()
    spec = opened.spec
    problems = opened.problems
    digests: list[Digest] = []
    strips: list[Strip] = []
    size = sum(int(np.prod(s.shape)) * (1 if s.kind == "image" else 4) for s in spec.shown.values())
    pieces = _Pieces(np.random.default_rng([config.seed, 2]), min(5000, max(500, _KEPT // max(1, size))))
    for entry in entries:
        try:
            entry.episode.check(spec)
        except WorldloomError as error:
            problems.append(Problem(entry.where, str(error), "does not fit"))
            continue
        digests.append(digest(entry, spec))
        pieces.add(len(digests) - 1, entry)
        found = strip(entry, spec)
        if found is not None:
            strips.append(found)
    lengths = opened.lengths
    if lengths is None and opened.source is not None and opened.episodes == len({d.recording for d in digests}):
        lengths = None if any(d.length >= opened.source.config.length for d in digests) else [d.length for d in digests]
    frames = sum(lengths) if lengths is not None else None
    alignment = (
        find_shift(spec, pieces.episodes, ShiftConfig(seed=config.seed))
        if config.align
        else Finding("unclear", 0, {}, {}, 0, "it was not asked for")
    )
    problems += _problems(opened, digests, lengths, frames)
    problems += _misaligned(alignment, opened, digests, pieces)
    problems.sort(key=lambda p: _ORDER[p.severity])
    return Inspection(
        opened.path,
        opened.format,
        spec,
        opened.episodes,
        frames,
        opened.bytes,
        opened.splits,
        opened.verified,
        opened.notes,
        {"episodes": len(digests), "frames": sum(d.length for d in digests), "seed": config.seed},
        tally_lengths(lengths if lengths is not None else [d.length for d in digests]),
        tally_actions(spec, [d.action[1 if d.start == 0 else 0 :] for d in digests if d.action is not None]),
        tally_rewards([d.reward for d in digests if d.reward is not None]),
        _repeated(digests),
        alignment,
        problems,
        round(time.monotonic() - begun, 1),
        strips,
    )


def _problems(opened: Opened, digests: list[Digest], lengths: list[int] | None, frames: int | None) -> list[Problem]:
    spec = opened.spec
    found = episode_checks.amounts(opened.episodes, frames, opened.splits)
    if lengths is not None:
        names = (
            [i.name for i in opened.source.items] if opened.source else [f"episode {i}" for i in range(len(lengths))]
        )
        found += episode_checks.lengths(lengths, names if len(names) == len(lengths) else [d.where for d in digests])
    if not digests:
        return found
    found += frames_checks.layout(spec, digests)
    found += episode_checks.finite(digests)
    for check in (frames_checks.blank, frames_checks.frozen, frames_checks.stutter, frames_checks.jumps):
        found += check(digests)
    found += episode_checks.actions(spec, digests)
    ends_known = opened.dataset.has_terminal if opened.dataset else any(d.terminal is not None for d in digests)
    found += episode_checks.rewards(digests, ends_known)
    found += episode_checks.duplicates(digests) + episode_checks.recordings(digests)
    return found


def _repeated(digests: list[Digest]) -> float:
    pairs = [(a, b) for d in digests for a, b in zip(d.hashes, d.hashes[1:], strict=False)]
    return sum(a == b for a, b in pairs) / max(1, len(pairs))


class _Pieces:
    """A bounded choice of runs of frames for the misalignment finder, kept in memory with their pictures."""

    def __init__(self, rng: np.random.Generator, frames: int):
        self.rng, self.frames, self.longest = rng, frames, frames // 10
        self.kept: list[tuple[int, int, Episode]] = []

    def add(self, number: int, entry: Entry) -> None:
        """Take some of an episode; once there is too much, leave out pieces by chance."""
        episode = entry.episode
        start = int(self.rng.integers(0, max(1, episode.length - self.longest + 1)))
        cut = slice(start, start + self.longest)
        control = {"action": episode.control["action"][cut]} if "action" in episode.control else {}
        # A piece from mid-episode is as good as a whole one: the finder never looks at the first frame's action.
        self.kept.append((number, start, Episode({k: x[cut].copy() for k, x in episode.obs.items()}, control)))
        while sum(e.length for _, _, e in self.kept) > self.frames and len(self.kept) > 10:
            del self.kept[int(self.rng.integers(0, len(self.kept)))]

    @property
    def episodes(self) -> list[Episode]:
        return [e for _, _, e in self.kept]


def _misaligned(finding: Finding, opened: Opened, digests: list[Digest], pieces: _Pieces) -> list[Problem]:
    """The finding as a problem: what was seen, both explanations, where to look, what to do."""
    if finding.verdict != "shifted":
        return []
    k, rows = abs(finding.shift), "row" if abs(finding.shift) == 1 else "rows"
    where = "action"
    look = ""
    if finding.example is not None:
        number, frame = finding.example
        index, start, _ = pieces.kept[number]
        d = digests[index]
        at = d.start + start + frame
        where = f"action; see {d.where}, frames {at - 3} to {at + 3}"
        look = f" Look at {d.where} around frame {at}, where the action changes."
    share, own = 100 * finding.told[finding.shift], 100 * max(0.0, finding.told[0])
    seen = (
        f"What moves from one frame to the next tells {share:.0f} % of the action {k} {rows} "
        f"{'before' if finding.shift < 0 else 'after'} the one it should tell of, and {own:.0f} % of that one "
        f"({finding.frames:,} frames)."
    )
    if finding.shift > 0:
        why = f"Actions stand {k} {rows} after the frame they led to." + _remedy(finding.shift, opened)
        if opened.collected:
            why = "This library paired them itself, so the policy answers within the frame, or the world looks ahead."
        return [Problem(where, f"{seen} {why}{look}", "misaligned actions", "warning" if opened.collected else "error")]
    if opened.collected:
        why = (
            f"This library paired them itself, so the world answers {k} {rows.replace('row', 'frame')} late. That is "
            "harmless for models that remember."
        )
        return [Problem(where, f"{seen} {why}", "late world", "remark")]
    why = (
        f"Either actions stand {k} {rows} before the frame they led to, or the world answers that much late: the two "
        f"look the same.{look} If the column is shifted:{_remedy(finding.shift, opened)}"
    )
    return [Problem(where, f"{seen} {why}", "misaligned actions", "error")]


def _remedy(shift: int, opened: Opened) -> str:
    if (shift, opened.pairing) == (1, "next"):
        return " Import with --pairing same."
    if (shift, opened.pairing) == (-1, "same"):
        return " Import with --pairing next."
    way = "down" if shift < 0 else "up"
    return f" Move the column {abs(shift)} {'row' if abs(shift) == 1 else 'rows'} {way} and import it anew."
