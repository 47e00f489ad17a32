"""Requests to a model: their budget, the limit on concurrent requests, the rate limit, the timeout and cancellation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter

from ragkit.answers._reasoning import without_reasoning
from ragkit.errors import (
    CallCancelledError,
    EmptyAnswerError,
    ModelError,
    RagkitError,
    TransientModelError,
)
from ragkit.models._concurrency import Cancellation, Slots, in_thread, stop_requested
from ragkit.models._rate_limit import RateLimit, Retry
from ragkit.models._reservations import Call, Reservations, Result
from ragkit.models._results import results_of_requests
from ragkit.protocols import LanguageModel


@dataclass(slots=True, kw_only=True)
class Requests:
    """Sends requests to a model.

    Attributes:
        model: The model.
        reservations: Reserves the budget of each request.
        limit: Maximum requests and tokens per minute.
        retry: Its timeout, and whether every failure counts as an error that can be retried.
        slots: A limit on concurrent requests that other models share.
        cancellation: Cancels all requests.
        on_request: Is called after each request with the key and the result of each prompt.
    """

    model: LanguageModel
    reservations: Reservations
    limit: RateLimit | None
    retry: Retry | None
    slots: Slots | None
    cancellation: Cancellation | None
    on_request: Callable[[bytes, Result], None] | None

    def send(self, calls: Sequence[Call]) -> None:
        """Send calls as one request, and set their results; calls beyond the budget are not sent.

        A request that may have been billed keeps its reservation until its usage is known.
        """
        within = self.reservations.reserve(calls)
        if not within:
            return
        with self._slot() as acquired:
            if acquired and self.limit:
                self.limit.wait(sum(call.tokens for call in within))
            received = self._received(within) if acquired else None
        for at, call in enumerate(within):
            call.attempts += acquired
            call.result = self._abandoned(sent=acquired) if received is None else self._checked(received[at])
            # The wrapped model has already retried its own errors.
            call.final = received is not None and received[at] is call.result and getattr(self.model, "retries", False)
            self.reservations.settle(call)
            if acquired and self.on_request:
                self.on_request(call.key, call.result)

    @contextmanager
    def _slot(self) -> Iterator[bool]:
        if self.slots is None:
            yield not self._cancelled
        else:
            with self.slots.slot(self.cancellation or Cancellation()) as acquired:
                yield acquired

    @property
    def _cancelled(self) -> bool:
        own = self.cancellation is not None and self.cancellation.cancelled
        return own or stop_requested()()

    def _received(self, calls: Sequence[Call]) -> list[Result] | None:
        """Call the model; in a thread of its own if it may be abandoned, which returns None."""
        timeout = self.retry.timeout if self.retry else None
        if timeout is None and self.cancellation is None:
            return self._generate(calls)
        cancellation, abandoned = self.cancellation or Cancellation(), Cancellation()
        with abandoned.applied():
            results = in_thread(partial(self._generate, calls))
        if cancellation.wait_for(results, timeout):
            return results.result()
        abandoned.cancel()
        return None

    def _abandoned(self, *, sent: bool) -> ModelError:
        if self._cancelled:
            return CallCancelledError("the run was cancelled", maybe_paid=sent)
        timeout = self.retry.timeout if self.retry else None
        late = f"the model did not respond within {timeout:.3g} seconds"
        if self.retry is not None and self.retry.timeout_is_final:
            return CallCancelledError(late, maybe_paid=sent)
        return TransientModelError(late)

    def _generate(self, calls: Sequence[Call]) -> list[Result]:
        """Call the model, and measure the time if it does not."""
        started = perf_counter()
        try:
            results = results_of_requests(self.model, [(call.prompt, call.sampling) for call in calls])
        except Exception as error:
            if self.retry is None or not self.retry.every_failure:
                raise
            return [ModelError(f"{type(error).__name__}: {error}")] * len(calls)
        seconds = (perf_counter() - started) / len(calls)
        return [
            result if isinstance(result, RagkitError) or result.seconds else replace(result, seconds=seconds)
            for result in results
        ]

    def _checked(self, result: Result) -> Result:
        """Turn an answer without text into an error if every failure is retried."""
        if isinstance(result, RagkitError) or self.retry is None or not self.retry.every_failure or result.tool_calls:
            return result
        outside = without_reasoning(result.text)
        return EmptyAnswerError(result) if outside.truncated or not outside.text.strip() else result
