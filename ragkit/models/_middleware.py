"""Middleware for models, in a fixed order: joining of equal calls, cache, budget, rate limit, retries."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from threading import Lock
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit._observation import observed
from ragkit._text import refuse_bare_string
from ragkit.errors import (
    CallCancelledError,
    IntegrityError,
    InvalidInputError,
    ModelAccessError,
    ModelError,
    RagkitError,
    RagkitWarning,
)
from ragkit.models._base import CompletionStream
from ragkit.models._budget import Budget
from ragkit.models._call_progress import Answered, CallProgress, answered, no_progress
from ragkit.models._concurrency import Cancellation, Slots, applied_cancellations, in_parallel
from ragkit.models._prompts import checked_prompts
from ragkit.models._rate_limit import RateLimit, Retry
from ragkit.models._requests import Requests
from ragkit.models._reservations import Call, Reservations, Result
from ragkit.models._response_cache import AnswerCache, ResponseCache, key_of
from ragkit.models._results import failed_as_a_whole, raised
from ragkit.models._sampling import Sampling
from ragkit.models._shared_prefixes import leaders_first, shared_prefixes
from ragkit.models._wrapper import ModelWrapper
from ragkit.protocols import AnyPrompt, Capabilities, LanguageModel
from ragkit.records import Completion, Usage

# Prompts per request to a model that takes batches, unless it has a `group_size`; an interruption loses at most these.
_GROUP = 32


class LayeredModel(ModelWrapper):
    """A model with middleware for budgets, caching, rate limits, timeouts and retries.

    If an equal call is in progress, a call waits for its answer, and if the response is cached, it is returned.
    Otherwise the maximum cost of a request is reserved in the budget, and the call waits for a free slot and for the
    rate limit. Transient errors are retried. After each request, the unused part of the reservation is returned; a
    failed request that may have been billed keeps its reservation, and the next one needs a new one.

    Attributes:
        model: The wrapped model.
        budget: Limits on usage and cost; `Budget.spent` is the usage so far.
        cache: Cached responses; None to disable caching.
        limit: Maximum requests and tokens per minute; None for no limit.
        retry: How errors are retried; None to disable retries.
        concurrency: Maximum number of concurrent requests with one prompt each; None to call the model with whole
            batches, one at a time.
        cancellation: Cancels all calls.
        group_size: Maximum number of prompts in a request to a model that takes batches.
        mixes_settings: Whether a request to the model may contain prompts with different settings.
        score_seconds: Time of all calls of `score`; of cached scores, the time that they took originally.
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        budget: Budget | None = None,
        cache: ResponseCache | None = None,
        limit: RateLimit | None = None,
        retry: Retry | None = None,
        concurrency: int | Slots | None = None,
        batch: bool | None = None,
        cancellation: Cancellation | None = None,
        on_request: Callable[[bytes, Result], None] | None = None,
        progress: CallProgress = no_progress,
    ) -> None:
        """Wrap a model.

        Args:
            model: The model.
            budget: Limits on usage and cost.
            cache: Cache for responses.
            limit: Maximum requests and tokens per minute.
            retry: How errors are retried.
            concurrency: Maximum number of concurrent requests; pass `Slots` to share the limit with other models. If
                None, it is that of a wrapped `LayeredModel`, or else 8 if there is a limit, a retry or a model that
                does not take batches.
            batch: Whether prompts are sent in batches; if None, only if `concurrency` is None and does not default to
                a number.
            cancellation: Cancels all calls. Calls in progress are then abandoned and raise `CallCancelledError`.
            on_request: Is called after each request, also a failed one, with the key and the result of each prompt.
            progress: Is called with the number of calls of each batch, and receives the answered ones; see `Answered`.

        Raises:
            InvalidInputError: If `concurrency` is less than 1.
        """
        if isinstance(concurrency, int) and concurrency < 1:
            raise InvalidInputError(f"`concurrency` must be at least 1, or None; got {concurrency!r}")
        self.model, self.cache, self.limit, self.retry = model, cache, limit, retry
        self.group_size = int(getattr(model, "group_size", _GROUP))
        self.mixes_settings = bool(getattr(model, "mixes_settings", False))
        self.budget = budget or Budget()
        self.cancellation = cancellation or Cancellation()
        one_by_one = limit or retry or not model.capabilities.batches
        # If the wrapped middleware makes one call per prompt, so does this one: answers are cached as they arrive.
        behind: int | None = model.concurrency if isinstance(model, LayeredModel) else None
        slots = concurrency if isinstance(concurrency, Slots) else None
        number = concurrency.limit if isinstance(concurrency, Slots) else concurrency
        self.concurrency: int | None = None if batch else number or behind or (8 if one_by_one else None)
        self._reservations = Reservations(self.budget, self, sized=limit is not None and limit.tokens is not None)
        self._requests = Requests(
            model=model, reservations=self._reservations, limit=limit, retry=retry, slots=slots,
            cancellation=cancellation, on_request=on_request,
        )  # fmt: skip
        self.score_seconds = 0.0
        self._progress = progress
        self._in_progress: dict[bytes, Future[Result]] = {}
        self._lock = Lock()

    @property
    @override
    def capabilities(self) -> Capabilities:
        """The features of the wrapped model, which also takes batches."""
        return replace(self.model.capabilities, batches=True)

    @property
    @override
    def retries(self) -> bool:
        """Whether transient errors are retried here, which makes retries by the caller unnecessary."""
        return self.retry is not None or super().retries

    def expect(self, prefixes: Iterable[bytes]) -> None:
        """Announce prefixes that several prompts share to the wrapped model."""
        expect = getattr(self.model, "expect", None)
        if expect is not None:
            expect(prefixes)

    # Generating.

    @override
    def _complete(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        return raised(self.results([(prompt, sampling) for prompt in prompts]))

    def results(self, requests: Sequence[tuple[AnyPrompt, Sampling]]) -> list[Result]:
        """Generate answers with different settings, and return errors instead of raising them.

        Args:
            requests: Prompts with their settings. In batches, neighbours with equal settings are sent together, and in
                batch mode all of them.

        Returns:
            A completion or an error for each request.
        """
        prompts = [prompt for prompt, _ in requests]
        settings = requests[0][1].options() if requests else {}
        return observed("model", self, prompts, lambda: self._results(requests), settings)

    def _results(self, requests: Sequence[tuple[AnyPrompt, Sampling]]) -> list[Result]:
        fingerprint = self.fingerprint
        groups: list[list[Call]] = []
        for prompt, sampling in requests:
            call = Call(prompt, sampling, key_of(fingerprint, prompt, sampling.options()))
            last = groups[-1] if groups and not self.concurrency else []
            fits = 0 < len(last) < self.group_size and (self.mixes_settings or last[0].sampling == sampling)
            if not fits:
                groups.append([])
            groups[-1].append(call)
        refusals: list[ModelAccessError] = []

        def answer(group: list[Call]) -> None:
            if refusals:  # a rejected key would be rejected again
                for call in group:
                    call.result = refusals[0]
                return
            self._answer(group)
            report(answered(group))
            refusals.extend(call.result for call in group if isinstance(call.result, ModelAccessError))

        with self._progress(len(requests)) as report:
            for wave in self._waves(groups):
                in_parallel(answer, wave, self.concurrency or 1)
        return [call.result for group in groups for call in group if call.result is not None]

    def _waves(self, groups: list[list[Call]]) -> list[list[list[Call]]]:
        """Order requests so that a provider has cached a prefix before others with the same prefix are sent."""
        keys = shared_prefixes([group[0].prompt for group in groups]) if self.concurrency else []
        if not any(keys):
            return [groups]
        self.expect({key for key in keys if key is not None})
        return [[groups[index] for index in wave] for wave in leaders_first(keys)]

    def _answer(self, calls: list[Call]) -> None:
        """Set the results of the calls of one request."""
        with self._joined(calls) as first:
            for call in first:
                call.result = self._cached(call)
            missing = [call for call in first if call.result is None]
            self._request(missing)
            if self.retry and self.retry.every_failure and failed_as_a_whole([call.result for call in missing]):
                for call in missing:
                    self._request([call])
            for call in missing:
                while (seconds := self._wait_after(call)) is not None and not self._cancelled_within(seconds):
                    self._request([call])

    def _request(self, calls: list[Call]) -> None:
        """Send one request and cache its answers."""
        self._requests.send(calls)
        for call in calls:
            if isinstance(call.result, Completion):
                if call.attempts > 1:
                    call.result = replace(call.result, attempts=call.attempts)
                self._cache(call.key, call.result)

    def _wait_after(self, call: Call) -> float | None:
        """Return the seconds until a failed request is repeated; None if the result is final."""
        if self.retry is None or call.final or not isinstance(call.result, RagkitError):
            return None
        return self.retry.wait_after(call.attempts, call.result)

    def _cancelled_within(self, seconds: float) -> bool:
        """Sleep, unless the calls are cancelled, and return whether they are."""
        return self.cancellation.wait(seconds, *applied_cancellations())

    @contextmanager
    def _joined(self, calls: list[Call]) -> Iterator[list[Call]]:
        """Yield the calls of which no equal one is in progress; the others get its result at the end."""
        first: list[Call] = []
        others: list[tuple[Call, Future[Result]]] = []
        with self._lock:
            for call in calls:
                if call.key in self._in_progress:
                    others.append((call, self._in_progress[call.key]))
                else:
                    self._in_progress[call.key] = Future()
                    first.append(call)
        try:
            yield first
        finally:
            with self._lock:
                futures = [self._in_progress.pop(call.key) for call in first]
            for call, future in zip(first, futures, strict=True):
                future.set_result(call.result or ModelError(f"the call to {self.name} was interrupted"))
        for call, future in others:
            result = future.result()
            if isinstance(result, CallCancelledError) and not self._cancelled_within(0):  # only the other call was
                self._answer([call])
                continue
            call.result = replace(result, cached=True) if isinstance(result, Completion) else result

    # The cache.

    def _cached(self, call: Call) -> Result | None:
        """Return the cached response, or the error if the cache is damaged, which fails only this call."""
        try:
            return self.cache.get(call.key) if self.cache is not None else None
        except IntegrityError as error:
            return error

    def _cache(self, key: bytes, answer: Completion) -> None:
        """Cache a response that is an answer; a blank one may be a refusal that the provider's package dropped."""
        told = bool(answer.text.strip() and answer.finish_reason in {"stop", "length"})
        if self.cache is not None and (told or answer.tool_calls):
            _keep(partial(self.cache.put, key, answer))

    # Scoring and streaming.

    @override
    def score(
        self, prompts: Sequence[AnyPrompt], choices: Sequence[str], *, end_of_turn: bool = False
    ) -> NDArray[np.float64]:
        refuse_bare_string("choices", choices)
        batch = checked_prompts(prompts)
        options = {"score": list(choices), **({"end_of_turn": True} if end_of_turn else {})}
        fingerprint = self.fingerprint
        keys = [key_of(fingerprint, prompt, options) for prompt in batch]
        cache = self.cache if isinstance(self.cache, AnswerCache) else None
        found = {key: _read_scores(cache.get_json(key)) for key in keys} if cache is not None else {}
        missing = {key: prompt for key, prompt in zip(keys, batch, strict=True) if found.get(key) is None}
        calls = [Call(prompt, Sampling(), key) for key, prompt in missing.items()]
        with self._progress(len(batch)) as report:
            report(Answered(len(batch) - len(calls), cached=len(batch) - len(calls)))
            for start in range(0, len(calls), self.group_size):
                group = calls[start : start + self.group_size]
                started = perf_counter()
                scores = self._scored(group, choices, end_of_turn=end_of_turn).tolist()
                seconds = (perf_counter() - started) / len(group)
                for call, row in zip(group, scores, strict=True):
                    found[call.key] = row, seconds
                    if cache is not None:
                        _keep(partial(cache.put_json, call.key, {"scores": row, "seconds": seconds}))
                report(Answered(len(group), usage=self._scored_usage(group, choices, end_of_turn=end_of_turn)))
        rows = [each for key in keys if (each := found[key]) is not None]
        self.score_seconds += sum(seconds for _, seconds in rows)
        return np.array([row for row, _ in rows], dtype=np.float64).reshape(len(batch), len(choices))

    def _scored(self, calls: list[Call], choices: Sequence[str], *, end_of_turn: bool) -> NDArray[np.float64]:
        """Score with the model; each prompt is a call, and its tokens count once per choice."""
        within = self._reservations.reserve(calls, [self.model.count_tokens(text) + end_of_turn for text in choices])
        try:
            raised([call.result for call in calls if call.result is not None])
            if self.concurrency is None:
                return self.model.score([call.prompt for call in calls], choices, end_of_turn=end_of_turn)
            return self._scored_apart(calls, choices, end_of_turn=end_of_turn)
        except RagkitError as error:
            for call in within:
                call.result = error
                self._reservations.settle(call)
            raise

    def _scored_usage(self, calls: Sequence[Call], choices: Sequence[str], *, end_of_turn: bool) -> Usage:
        if self._progress is no_progress:
            return Usage()
        written = sum(self.model.count_tokens(text) + end_of_turn for text in choices)
        read = sum(self.max_prompt_tokens(call.prompt) for call in calls)
        return Usage(prompt_tokens=read, completion_tokens=written * len(calls))

    def _scored_apart(self, calls: list[Call], choices: Sequence[str], *, end_of_turn: bool) -> NDArray[np.float64]:
        """Score with one request for each prompt, of which several run at once."""

        def score(call: Call) -> NDArray[np.float64]:
            if self.limit:
                self.limit.wait(call.tokens)
            work = partial(self.model.score, [call.prompt], choices, end_of_turn=end_of_turn)
            return self.retry.run(work) if self.retry else work()

        return np.concatenate(in_parallel(score, calls, self.concurrency or 1))

    @override
    def _pieces(self, prompt: AnyPrompt, sampling: Sampling) -> Generator[str, None, Completion]:
        call = Call(prompt, sampling, key_of(self.fingerprint, prompt, sampling.options()))
        cached = self.cache.get(call.key) if self.cache is not None else None
        if cached is not None:
            yield cached.text
            return cached
        stream, piece = self._begun(call)
        yield piece
        pieces = [piece]
        for piece in stream:
            pieces.append(piece)
            yield piece
        answer = replace(stream.completion or Completion(text="".join(pieces)), attempts=call.attempts)
        call.result = answer
        self._reservations.settle(call)
        self._cache(call.key, answer)
        return answer

    def _begun(self, call: Call) -> tuple[CompletionStream, str]:
        """Start a stream and return it with its first piece; errors before that piece are retried."""
        while True:
            if not self._reservations.reserve([call]) and isinstance(call.result, RagkitError):
                raise call.result
            call.attempts += 1
            if self.limit:
                self.limit.wait(call.tokens)
            try:
                stream = _as_stream(self.model.stream(call.prompt, **call.sampling.options()))
                return stream, next(stream, "")
            except RagkitError as error:
                call.result = error
                self._reservations.settle(call)
                seconds = self._wait_after(call)
                if seconds is None or self._cancelled_within(seconds):
                    raise


def _read_scores(stored: object) -> tuple[list[float], float] | None:
    return (stored["scores"], stored["seconds"]) if isinstance(stored, dict) else None


def _keep(put: Callable[[], None]) -> None:
    """Cache an answer, and warn on failure: the answer was paid for and must still be returned."""
    try:
        put()
    except IntegrityError as error:
        warnings.warn(RagkitWarning(f"{error}. Answers are given back but not kept until then"), stacklevel=2)


def _as_stream(pieces: Iterator[str]) -> CompletionStream:
    if isinstance(pieces, CompletionStream):
        return pieces

    def all_of_it() -> Generator[str, None, Completion]:
        text = ""
        for piece in pieces:
            text += piece
            yield piece
        return Completion(text=text)

    return CompletionStream(all_of_it())
