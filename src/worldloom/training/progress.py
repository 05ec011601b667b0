"""What a person sees while a model trains: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any


def clock(seconds: float) -> str:
    """``75`` as ``1:15``, ``3700`` as ``1:01:40``."""
    whole = round(max(0.0, seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def describe(step: int, steps: int, record: Mapping[str, Any]) -> str:
    """One line of progress: loss, validation loss, speed, time left."""
    speed = record.get("steps_per_second") or 0.0
    parts = [f"step {step}/{steps}"]
    parts += [f"{label} {record[k]:.4g}" for k, label in (("loss", "loss"), ("val_loss", "val")) if k in record]
    parts.append(f"{speed:.3g} it/s")
    parts.append(f"{record.get('frames_per_second', 0.0):.0f} frames/s")
    if speed:
        parts.append(f"{clock((steps - step) / speed)} left")
    return "  ".join(parts)


class Progress:
    """Shows progress. ``echo`` takes plain lines; None prints them, or draws a bar where stdout is a terminal."""

    def __init__(self, echo: Callable[[str], None] | None = None):
        self._echo = echo
        self._bar: Any = None
        self._task: Any = None
        self._last: dict[str, Any] = {}
        self._live = echo is None and sys.stdout.isatty()

    def begin(self, step: int, steps: int) -> None:
        """Training goes from ``step`` to ``steps``."""
        self._steps = steps
        if not self._live:
            return
        from rich.progress import BarColumn, Progress, TextColumn

        self._bar = Progress(BarColumn(bar_width=24), TextColumn("{task.description}"))
        self._task = self._bar.add_task(f"step {step}/{steps}", total=steps, completed=step)
        self._bar.start()

    def say(self, line: str) -> None:
        """One plain line, above the bar where there is one."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        elif self._echo is not None:
            self._echo(line)
        else:
            print(line, flush=True)

    def update(self, step: int, record: Mapping[str, Any], *, line: bool) -> None:
        """New figures. ``line`` says that they are due as a plain line too; the bar always shows them."""
        self._last.update(record)
        text = describe(step, self._steps, self._last)
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=text)
        elif line:
            self.say(text)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


__all__ = ["Progress", "clock", "describe"]
