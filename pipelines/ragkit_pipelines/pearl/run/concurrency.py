"""How many calls run at once, and how they are called off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Event, Lock
from time import monotonic

_CACHE_SECONDS = 240.0  # providers keep an unused prefix five minutes or more


class Cancellation:
    """Calls off a run from another thread: no further call begins, and those under way are not waited for."""

    def __init__(self) -> None:
        """Begin with nothing called off."""
        self._event = Event()
        self._lock = Lock()
        self._listeners: dict[int, Callable[[], object]] = {}

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._event.is_set()

    def cancel(self) -> None:
        """Call the run off; a second time does nothing."""
        with self._lock:
            if self._event.is_set():
                return
            self._event.set()
            listeners = list(self._listeners.values())
        for listener in listeners:
            listener()

    def wait(self, seconds: float) -> bool:
        """Sleep, but no longer than until the run is called off.

        Returns:
            Whether it was.
        """
        return self._event.wait(seconds)

    @contextmanager
    def told(self, listener: Callable[[], object]) -> Iterator[None]:
        """Call a function when the run is called off within the block, at once where it is already.

        Yields:
            Nothing.
        """
        with self._lock:
            self._listeners[id(listener)] = listener
            already = self._event.is_set()
        if already:
            listener()
        try:
            yield
        finally:
            with self._lock:
                del self._listeners[id(listener)]


class Gate:
    """Lets a limited number of calls run at once, whichever questions they belong to."""

    def __init__(self, limit: int) -> None:
        """Open the gate for so many."""
        self.limit = limit
        self._free = limit
        self._changed = Condition()
        self._last_use: dict[str, float] = {}

    @contextmanager
    def slot(self, cancellation: Cancellation) -> Iterator[bool]:
        """Wait for a place, and give it back after the block.

        Yields:
            Whether there is one; False where the run was called off while it waited.
        """
        with cancellation.told(self._wake), self._changed:
            while not self._free and not cancellation.cancelled:
                self._changed.wait()
            taken = not cancellation.cancelled
            self._free -= taken
            if not taken:
                self._changed.notify()  # a place that this one was woken for is still free
        try:
            yield taken
        finally:
            if taken:
                with self._changed:
                    self._free += 1
                    self._changed.notify()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def is_cold(self, prefix: str) -> bool:
        """Whether a prefix was not sent for some minutes; from now on it counts as sent.

        Args:
            prefix: A name for it, such as its hash.

        Returns:
            True for the first to ask.
        """
        now = monotonic()
        with self._changed:
            last = self._last_use.get(prefix)
            self._last_use[prefix] = now
            if len(self._last_use) > 10_000:
                self._last_use = {name: at for name, at in self._last_use.items() if now - at < _CACHE_SECONDS}
        return last is None or now - last > _CACHE_SECONDS
