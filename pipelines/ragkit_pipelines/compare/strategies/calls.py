"""Counts the model calls of a strategy, and reports them as progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from time import perf_counter

from ragkit._progress import open_stages, progress
from ragkit._stages import Stage
from ragkit.models._call_progress import Answered

ROWS = "rows"


class CallCounter:
    """Counts calls, and reports the rows that are answered.

    Attributes:
        total: All calls so far.
        seconds: Wall seconds within batches of calls.
    """

    def __init__(self) -> None:
        """Begin with no calls."""
        self.total, self.seconds = Answered(0), 0.0
        self._lock = Lock()

    @contextmanager
    def observe(self, calls: int) -> Iterator[Callable[[Answered], None]]:
        """Observe a batch of calls; it is a stage of its own, unless it is a part of one that already counts rows."""
        open_now, started = open_stages(), perf_counter()
        outer = open_now[-1] if open_now else None
        with ExitStack() as stack:
            own: Stage | None = None
            if calls > 1 and (outer is None or outer.unit != ROWS):
                own = stack.enter_context(progress("answering", calls, ROWS))

            def report(answered: Answered) -> None:
                with self._lock:
                    self.total = _sum(self.total, answered)
                tokens = answered.usage.prompt_tokens + answered.usage.completion_tokens
                if own is not None:
                    own(answered.calls - answered.cached, tokens=tokens)
                    own.skip(answered.cached)  # last: skipping at the beginning restarts the clock of the rate
                elif outer is not None:
                    outer(0, tokens=tokens)

            try:
                yield report
            finally:
                with self._lock:
                    self.seconds += perf_counter() - started


def _sum(one: Answered, other: Answered) -> Answered:
    return Answered(one.calls + other.calls, one.cached + other.cached, one.usage + other.usage)
