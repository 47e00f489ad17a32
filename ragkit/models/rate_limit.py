"""How often a model may be asked, and how often again after trouble."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic, sleep
from typing import TYPE_CHECKING, TypeVar

from ragkit.errors import InvalidInputError, TransientModelError
from ragkit.extras import require

if TYPE_CHECKING:
    from tenacity import RetryCallState


_Answer = TypeVar("_Answer")


@dataclass(slots=True)
class RateLimit:
    """Requests and tokens a minute that a provider takes; any number of models and threads can share one.

    A call waits for its turn, in the order of asking. Tokens are those of the prompt and the most that may be written,
    which is how providers count when they let a request in. After a pause, what `burst` seconds allow goes at once.
    This is the generic cell rate algorithm (ITU-T I.371).

    Attributes:
        requests: Requests a minute; None for no limit.
        tokens: Tokens a minute; None for no limit.
        burst: Seconds whose allowance may be taken at once.
    """

    requests: float | None = None
    tokens: float | None = None
    burst: float = 1.0
    _next: dict[str, float] = field(default_factory=lambda: {"requests": 0.0, "tokens": 0.0}, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def __post_init__(self) -> None:
        for name in ("requests", "tokens"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise InvalidInputError(f"`{name}` must be more than 0 a minute, or None; got {value!r}")
        if not 0 <= self.burst <= 60:
            raise InvalidInputError(f"`burst` must be between 0 and 60 seconds, got {self.burst!r}")

    def wait(self, tokens: int) -> None:
        """Sleep until one more request may be made.

        Args:
            tokens: The most it can take.
        """
        delay = self.delay(tokens, monotonic())
        if delay > 0:
            sleep(delay)

    def delay(self, tokens: int, now: float) -> float:
        """Take the next free turn.

        Args:
            tokens: The most that the request can take.
            now: Seconds on any clock that only goes forward.

        Returns:
            Seconds until the turn.
        """
        with self._lock:
            start = max(now, *self._next.values())
            for name, limit, amount in (("requests", self.requests, 1), ("tokens", self.tokens, tokens)):
                if limit is not None:
                    self._next[name] = max(self._next[name], start - self.burst) + amount * 60.0 / limit
        return start - now


@dataclass(frozen=True, slots=True)
class Retry:
    """How to go on after trouble that may pass: a random wait below a bound that doubles, or what the server asks for.

    Attributes:
        attempts: Requests at the most for one answer.
        first_wait: Bound of the first wait in seconds.
        longest_wait: Bound of any wait in seconds; where a server asks for more, the call is given up.
    """

    attempts: int = 6
    first_wait: float = 0.5
    longest_wait: float = 60.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0 <= self.first_wait <= self.longest_wait < float("inf"):
            raise InvalidInputError(
                f"a retry needs at least 1 attempt and 0 <= first_wait <= longest_wait, got {self.attempts}, "
                f"{self.first_wait} and {self.longest_wait}"
            )

    def run(self, call: Callable[[], _Answer]) -> _Answer:
        """Make a call until it gives an answer, an error that will not pass, or the attempts are used up.

        Args:
            call: The call; it raises `TransientModelError` where another attempt makes sense.

        Returns:
            The answer.

        Raises:
            TransientModelError: The last trouble.
        """
        try:
            return call()
        except TransientModelError as error:
            if self.attempts == 1 or not self._is_worth_another(error):
                raise
            first = [error]
        require("tenacity")
        import tenacity

        bound = tenacity.wait_random_exponential(multiplier=self.first_wait, max=self.longest_wait)

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = getattr(error, "retry_after", None)
            return bound(state) if asked is None else float(asked)

        def attempt() -> _Answer:
            if first:  # tenacity counts the attempt above too
                raise first.pop()
            return call()

        return tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.attempts),
            wait=wait,
            retry=tenacity.retry_if_exception(self._is_worth_another),
            reraise=True,
        )(attempt)

    def _is_worth_another(self, error: BaseException) -> bool:
        return isinstance(error, TransientModelError) and (error.retry_after or 0.0) <= self.longest_wait
