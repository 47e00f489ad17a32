"""The progress of one piece of work: its steps, its rate, and the time left."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from time import perf_counter, process_time


class Stage:
    """Counts the steps of some work. The rate counts only the steps that were done since it began.

    Attributes:
        description: What is done.
        total: Number of steps; None if unknown.
        unit: What a step is, in the plural; empty if the description says it.
        done: Number of completed steps, including the skipped ones.
        skipped: Number of steps that an earlier run or call had already done.
        tokens: Prompt and completion tokens of model calls that were not cached.
        changed: Is called after each change.
        began: Wall seconds at the beginning.
        first, last: The number of completed steps, the wall seconds and the CPU seconds after the first and after the
            last report of steps that were not skipped; None before.
        left_of: Computes the seconds left; None to compute them from the rate so far.
    """

    def __init__(
        self, description: str, total: int | None, unit: str = "", *, clock: Callable[[], float] = perf_counter
    ) -> None:
        """Begin a stage."""
        self.description, self.total, self.unit = description, total, unit
        self.done = self.skipped = self.tokens = 0
        self.changed: Callable[[], None] = _nothing
        self.left_of: Callable[[], float | None] | None = None
        self.first: tuple[int, float, float] | None = None
        self.last: tuple[int, float, float] | None = None
        self._clock, self._lock = clock, Lock()
        self.began = clock()

    def __call__(self, steps: int, *, tokens: int = 0) -> None:
        """Count completed steps, and the tokens that they took."""
        with self._lock:
            self.done += steps
            self.tokens += tokens
            if steps:
                self.last = self.done, self._clock(), process_time()
                self.first = self.first or self.last
        self.changed()

    def skip(self, steps: int) -> None:
        """Count steps that an earlier run or call had already done."""
        with self._lock:
            if self.done == self.skipped:  # what came before was preparation, such as reading a checkpoint
                self.began = self._clock()
            self.done += steps
            self.skipped += steps
        self.changed()

    @property
    def elapsed(self) -> float:
        """Seconds since the work began."""
        return self._clock() - self.began

    @property
    def left(self) -> float | None:
        """Seconds until the end, at the rate so far; None if they are not known yet."""
        if self.left_of is not None:
            return self.left_of()
        fresh = self.done - self.skipped
        if self.total is None or fresh <= 0:
            return None
        return self.elapsed / fresh * max(0, self.total - self.done)

    @property
    def count(self) -> str:
        """The number of completed steps, as text."""
        if self.total is not None:
            return f"{self.done:,}/{self.total:,}"
        return f"{self.done:,}" if self.done else ""

    def rates(self) -> list[str]:
        """Return the rates so far and the time left, if they are known."""
        seconds, fresh, left = self.elapsed, self.done - self.skipped, self.left
        if seconds <= 0:
            return []
        found = [f"{_rate(self.tokens / seconds)} tokens/s"] if self.tokens else []
        if self.unit and fresh > 0:
            found.append(f"{_rate(fresh / seconds)} {self.unit}/s")
        return [*found, *([] if left is None else [f"{duration(left)} left"])]

    def status(self) -> str:
        """Describe the progress in one line."""
        count = " ".join(part for part in (self.description, self.count, self.unit if self.count else "") if part)
        before = f" ({self.skipped:,} already done)" if self.skipped else ""
        return ", ".join([count + before, *self.rates()])


def duration(seconds: float) -> str:
    """Describe a duration.

    Examples:
        >>> [duration(seconds) for seconds in (0.04, 3.21, 65, 7805)]
        ['0.0 s', '3.2 s', '1 min 5 s', '2 h 10 min']

    Returns:
        Hours and minutes, minutes and seconds, or seconds.
    """
    whole = round(seconds)
    if whole < 10:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _rate(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def _nothing() -> None:
    pass
