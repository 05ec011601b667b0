"""Compute the coming steps in a thread while the present one is used."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Iterator[T], Generic[T]):
    """See :func:`prefetch`."""

    def __init__(self, fn: Callable[[int], T], start: int, stop: int | None, depth: int):
        self._results: SimpleQueue[tuple[str, object]] = SimpleQueue()
        self._room = threading.Semaphore(depth)
        self._stop = threading.Event()
        self._done = False
        arguments = (fn, start, stop, self._results, self._room, self._stop)  # never self: it must be collectable
        self._thread = threading.Thread(target=_work, args=arguments, name="worldloom-prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Prefetch[T]:
        return self

    def __next__(self) -> T:
        if self._done:
            raise StopIteration
        kind, value = self._results.get()
        self._room.release()
        if kind == "value":
            return value  # type: ignore[return-value]
        self.close()
        if isinstance(value, BaseException):
            raise value
        raise StopIteration

    def close(self) -> None:
        """Stop the thread and wait for the step that it is at. Closing twice is harmless."""
        self._done = True
        self._stop.set()
        self._room.release()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Prefetch[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_thread"):
            self._stop.set()
            self._room.release()


def _work(
    fn: Callable[[int], object],
    start: int,
    stop: int | None,
    results: SimpleQueue[tuple[str, object]],
    room: threading.Semaphore,
    ended: threading.Event,
) -> None:
    step = start
    while stop is None or step < stop:
        room.acquire()
        if ended.is_set():
            return
        try:
            value = fn(step)
        except BaseException as error:
            results.put(("error", error))
            return
        results.put(("value", value))
        del value  # the reader may free it before the next is done
        step += 1
    results.put(("end", None))


def prefetch(fn: Callable[[int], T], start: int, stop: int | None, depth: int = 2) -> Prefetch[T]:
    """Iterate over ``fn(start), fn(start + 1), ..., fn(stop - 1)``, up to ``depth`` of them computed ahead in a thread.

    ``stop=None`` never ends. An exception of ``fn`` is raised where its step would have come. Use it as a context
    manager, or call ``close``, so that the thread has ended when you go on; a forgotten one ends when collected.
    ``fn`` must be safe to call from another thread; ``Windows.batch`` is.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, found {depth}.")
    return Prefetch(fn, start, stop, depth)
