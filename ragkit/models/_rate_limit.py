"""Rate limits, and retries after transient errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import uniform
from threading import Lock
from time import monotonic, sleep
from typing import TypeVar

from ragkit.errors import (
    AnswerFormError,
    CallCancelledError,
    InvalidInputError,
    ModelAccessError,
    ModelError,
    NotRecordedError,
    TransientModelError,
)

_HOPELESS = (ModelAccessError, NotRecordedError, CallCancelledError)  # another attempt would fail as well

_Answer = TypeVar("_Answer")


@dataclass(slots=True)
class RateLimit:
    """A limit on requests and tokens per minute, which any number of models and threads can share.

    Calls wait in first-in, first-out order. A call counts its prompt tokens and maximum completion tokens, as providers
    do when they admit a request. After a pause, the allowance of `burst` seconds is available at once. The algorithm is
    the generic cell rate algorithm (ITU-T I.371).

    Attributes:
        requests: Maximum requests per minute; None for no limit.
        tokens: Maximum tokens per minute; None for no limit.
        burst: Maximum burst, as the number of seconds whose allowance can be used at once.
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
        """Sleep until the limit permits another request.

        Args:
            tokens: Maximum number of tokens of the request.
        """
        delay = self.delay(tokens, monotonic())
        if delay > 0:
            sleep(delay)

    def delay(self, tokens: int, now: float) -> float:
        """Schedule a request at the earliest possible time.

        Args:
            tokens: Maximum number of tokens of the request.
            now: Current time of a monotonic clock in seconds.

        Returns:
            Seconds until the scheduled time.
        """
        with self._lock:
            start = max(now, *self._next.values())
            for name, limit, amount in (("requests", self.requests, 1), ("tokens", self.tokens, tokens)):
                if limit is not None:
                    self._next[name] = max(self._next[name], start - self.burst) + amount * 60.0 / limit
        return start - now


@dataclass(frozen=True, slots=True)
class Retry:
    """Retries after transient errors, with random exponential backoff or the wait that the server requests.

    Attributes:
        attempts: Maximum number of requests per answer.
        first_wait: Upper bound of the first wait in seconds; it doubles for each further wait.
        longest_wait: Upper bound of all waits in seconds; if the server requests a longer wait, the call fails.
        timeout: Seconds after which an attempt counts as a transient error; None for no limit. A local model stops at
            its next decoding step. Other attempts are abandoned: their threads run until the model returns.
        timeout_is_final: Whether an attempt that exceeds the timeout is not retried.
        every_failure: Whether every failure of the model is retried: not only transient errors, but also other model
            errors, exceptions of a custom model (raised as `ModelError`) and answers without text (raised as
            `EmptyAnswerError`). If a whole batch fails, its prompts are retried one by one.
    """

    attempts: int = 6
    first_wait: float = 0.5
    longest_wait: float = 60.0
    timeout: float | None = None
    timeout_is_final: bool = False
    every_failure: bool = False

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0 <= self.first_wait <= self.longest_wait < float("inf"):
            raise InvalidInputError(
                f"a retry needs at least 1 attempt and 0 <= first_wait <= longest_wait, got {self.attempts}, "
                f"{self.first_wait} and {self.longest_wait}"
            )
        if self.timeout is not None and not 0 < self.timeout < float("inf"):
            raise InvalidInputError(f"`timeout` must be a positive number of seconds or None, got {self.timeout!r}")

    def wait_after(self, attempts: int, error: BaseException) -> float | None:
        """Decide whether a failed request is repeated.

        Args:
            attempts: Number of attempts so far, at least 1.
            error: The error of the last attempt.

        Returns:
            Seconds to wait before the next attempt; None if the error is final.
        """
        failure = ModelError if self.every_failure else TransientModelError
        requested: float | None = getattr(error, "retry_after", None)
        truncated = isinstance(error, AnswerFormError) and error.completion.finish_reason == "length"
        if truncated:  # another attempt would be truncated as well
            return None
        if attempts >= self.attempts or not isinstance(error, failure) or isinstance(error, _HOPELESS):
            return None
        if requested is not None:
            return requested if requested <= self.longest_wait else None
        return uniform(0, min(self.longest_wait, self.first_wait * 2.0 ** min(attempts - 1, 99)))

    def run(self, call: Callable[[], _Answer]) -> _Answer:
        """Repeat a call until it succeeds, fails with a permanent error, or exceeds the number of attempts.

        Args:
            call: The call, which raises `TransientModelError` if it can be retried.

        Returns:
            The answer.

        Raises:
            TransientModelError: The error of the last attempt.
        """
        attempts = 1
        while True:
            try:
                return call()
            except TransientModelError as error:
                seconds = self.wait_after(attempts, error)
                if seconds is None:
                    raise
            sleep(seconds)
            attempts += 1
