"""Middleware for models, in a fixed order: budget, request deduplication, response cache, rate limit and retries."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit.errors import (
    AnswerFormError,
    IntegrityError,
    InvalidInputError,
    ModelAccessError,
    ModelError,
    RagkitError,
    RagkitWarning,
    RefusalError,
)
from ragkit.models.base import CompletionStream, ModelBase
from ragkit.models.budget import Budget
from ragkit.models.prompts import checked_prompts
from ragkit.models.rate_limit import RateLimit, Retry
from ragkit.models.response_cache import AnswerCache, key_of
from ragkit.models.results import price_of, raised, results_of
from ragkit.models.sampling import Sampling
from ragkit.protocols import AnyPrompt, Capabilities, LanguageModel
from ragkit.records import Completion, Usage
from ragkit.text import refuse_bare_string

_GROUP = 32  # prompts per call of a model that takes batches; an interruption loses at most these

Result = Completion | RagkitError


@dataclass(slots=True)
class _Call:
    """The state of one prompt in the middleware."""

    prompt: AnyPrompt
    key: bytes
    tokens: int = 0
    money: float = 0.0
    reserved: bool = False
    attempts: int = 0
    maybe_paid: bool = False
    result: Result | None = None


class LayeredModel(ModelBase):
    """A model with middleware for budgets, caching, rate limits and retries.

    A call first reserves its maximum cost in the budget. If an equal call is in progress, it waits for that answer, and
    if the response is cached, it is returned. Otherwise the call waits for the rate limit and calls the model, with
    retries after transient errors. Afterwards the unused part of the reservation is returned. A failed attempt that may
    have been billed keeps its reservation, and the next attempt needs a new one.

    Attributes:
        model: The wrapped model.
        budget: Limits on usage and cost; `Budget.spent` is the usage so far.
        cache: Responses cached on disk; None to disable caching.
        limit: Maximum requests and tokens per minute; None for no limit.
        retry: How transient errors are retried; None to disable retries.
        concurrency: Maximum number of concurrent calls with one prompt each; None to call the model with whole batches,
            one at a time.
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        budget: Budget | None = None,
        cache: AnswerCache | None = None,
        limit: RateLimit | None = None,
        retry: Retry | None = None,
        concurrency: int | None = None,
    ) -> None:
        """Wrap a model.

        Args:
            model: The model.
            budget: Limits on usage and cost.
            cache: Cache for responses.
            limit: Maximum requests and tokens per minute.
            retry: How transient errors are retried.
            concurrency: Maximum number of concurrent calls. If None, it is that of a wrapped `LayeredModel`, or else 8
                if there is a limit, a retry or a model that does not take batches.

        Raises:
            InvalidInputError: If `concurrency` is less than 1.
        """
        if concurrency is not None and concurrency < 1:
            raise InvalidInputError(f"`concurrency` must be at least 1, or None; got {concurrency!r}")
        self.model, self.cache, self.limit, self.retry = model, cache, limit, retry
        self.budget = budget or Budget()
        one_by_one = limit or retry or not model.capabilities.batches
        # If the wrapped middleware makes one call per prompt, so does this one: answers are cached as they arrive.
        behind = model.concurrency if isinstance(model, LayeredModel) else None
        self.concurrency: int | None = concurrency or behind or (8 if one_by_one else None)
        self._under_way: dict[bytes, Future[Result]] = {}
        self._lock = Lock()

    @property
    @override
    def name(self) -> str:
        return self.model.name

    @property
    @override
    def fingerprint(self) -> str:
        return self.model.fingerprint

    @cached_property
    def capabilities(self) -> Capabilities:
        """The features of the wrapped model, which also takes batches."""
        return replace(self.model.capabilities, batches=True)

    @property
    def retries(self) -> bool:
        """Whether transient errors are retried here, which makes retries by the caller unnecessary."""
        return self.retry is not None or getattr(self.model, "retries", False)

    @override
    def cost_of(self, usage: Usage) -> float | None:
        return price_of(self.model, usage)

    @override
    def max_prompt_tokens(self, prompt: AnyPrompt) -> int:
        max_prompt_tokens = getattr(self.model, "max_prompt_tokens", super().max_prompt_tokens)
        return int(max_prompt_tokens(prompt))

    @override
    def count_tokens(self, text: str) -> int:
        return self.model.count_tokens(text)

    @override
    def _complete(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        options, fingerprint = sampling.options(), self.fingerprint
        calls = [_Call(prompt, key_of(fingerprint, prompt, options)) for prompt in prompts]
        size = 1 if self.concurrency else _GROUP
        groups = [calls[start : start + size] for start in range(0, len(calls), size)]
        refusals: list[ModelAccessError] = []

        def answer(group: list[_Call]) -> None:
            if refusals:  # a rejected key would be rejected again
                for call in group:
                    call.result = refusals[0]
                return
            self._answer(group, sampling)
            refusals.extend(call.result for call in group if isinstance(call.result, ModelAccessError))

        _in_threads(answer, groups, self.concurrency or 1)
        return raised([call.result for call in calls if call.result is not None])

    def _answer(self, calls: list[_Call], sampling: Sampling) -> None:
        """Set the result of each call."""
        for call in calls:  # cached responses cost nothing and must not reserve budget that other calls need
            call.result = self._kept(call)
        open_calls = [call for call in calls if call.result is None]
        with (
            self._reserved(open_calls, written=sampling.max_tokens) as able,
            self._leading(able) as (leaders, followers),
        ):
            missing = []
            for call in leaders:
                call.result = self._kept(call)
                if call.result is None:
                    missing.append(call)
            self._ask(missing, sampling)
        for call, future in followers:
            result = future.result()
            call.result = replace(result, cached=True) if isinstance(result, Completion) else result

    def _ask(self, calls: list[_Call], sampling: Sampling) -> None:
        if self.concurrency is not None:
            for call in calls:
                call.result = self._persist(call, sampling)
        elif calls:
            results = results_of(self.model, [call.prompt for call in calls], sampling)
            for call, result in zip(calls, results, strict=True):
                call.attempts, call.result = 1, result
                call.maybe_paid = isinstance(result, Completion) or _maybe_paid(result)
        for call in calls:
            if isinstance(call.result, Completion):
                self._cache(call.key, call.result)

    def _kept(self, call: _Call) -> Result | None:
        """Return the cached response, or the error if the cache is damaged, which fails only this call."""
        try:
            return self.cache.get(call.key) if self.cache is not None else None
        except IntegrityError as error:
            return error

    def _cache(self, key: bytes, answer: Completion) -> None:
        """Cache an answer unless it is blank, which may be a refusal that the provider's package dropped."""
        if self.cache is not None and answer.text.strip():
            self._keep(partial(self.cache.put, key, answer))

    def _keep(self, put: Callable[[], None]) -> None:
        """Cache an answer, and warn on failure: the answer was paid for and must still be returned."""
        try:
            put()
        except IntegrityError as error:
            warnings.warn(RagkitWarning(f"{error}. Answers are given back but not kept until then"), stacklevel=2)

    def _persist(self, call: _Call, sampling: Sampling) -> Result:
        """Retry one call until it has an answer or a permanent error."""
        options = sampling.options()

        def attempt() -> Completion:
            with self._one_attempt(call):
                answer: Completion = self.model.generate(call.prompt, **options)
            return answer if call.attempts == 1 else replace(answer, attempts=call.attempts)

        try:
            return attempt() if self.retry is None else self.retry.run(attempt)
        except RagkitError as error:
            return error

    @contextmanager
    def _one_attempt(self, call: _Call) -> Iterator[None]:
        if call.maybe_paid:
            self._reserve(call)
        call.attempts += 1
        call.maybe_paid = True
        if self.limit:
            self.limit.wait(call.tokens)
        try:
            yield
        except RagkitError as error:
            call.maybe_paid = _maybe_paid(error)
            raise

    @contextmanager
    def _leading(self, calls: list[_Call]) -> Iterator[tuple[list[_Call], list[tuple[_Call, Future[Result]]]]]:
        """Separate leaders from followers, which wait for an equal call, and pass on the results at the end."""
        leaders: list[_Call] = []
        followers: list[tuple[_Call, Future[Result]]] = []
        with self._lock:
            for call in calls:
                if call.key in self._under_way:
                    followers.append((call, self._under_way[call.key]))
                else:
                    self._under_way[call.key] = Future()
                    leaders.append(call)
        try:
            yield leaders, followers
        finally:
            with self._lock:
                futures = [self._under_way.pop(call.key) for call in leaders]
            for call, future in zip(leaders, futures, strict=True):
                future.set_result(call.result or ModelError(f"the call to {self.name} was interrupted"))

    # The budget.

    @contextmanager
    def _reserved(self, calls: list[_Call], *, written: int, times: int = 1) -> Iterator[list[_Call]]:
        """Reserve the maximum cost of calls, yield those within the budget, and return the unused part afterwards."""
        for call in calls:
            try:
                self._size(call, written, times)
                self._reserve(call)
            except RagkitError as error:
                call.result = error
        try:
            yield [call for call in calls if call.result is None]
        finally:
            for call in calls:
                self._settle(call)

    def _size(self, call: _Call, written: int, times: int) -> None:
        """Compute the maximum tokens and cost of a call, if the budget or the rate limit depends on them."""
        budget = self.budget
        if budget.tokens is None and budget.money is None and not (self.limit and self.limit.tokens):
            return
        read = times * self.max_prompt_tokens(call.prompt)
        call.tokens = read + written
        if budget.money is not None:
            call.money = self._price(Usage(prompt_tokens=read, completion_tokens=written))

    def _price(self, usage: Usage) -> float:
        cost = self.cost_of(usage)
        if cost is None:
            raise InvalidInputError(
                f"the budget limits money, but the price of {self.name} is not known; load it with `prices`"
            )
        return cost

    def _reserve(self, call: _Call) -> None:
        self.budget.reserve(calls=1, tokens=call.tokens, money=call.money)
        call.reserved = True

    def _settle(self, call: _Call) -> None:
        """Return the unused part of the reservation for the last attempt of a call."""
        if not call.reserved:
            return
        answer = call.result.completion if isinstance(call.result, RefusalError | AnswerFormError) else call.result
        kept = isinstance(answer, Completion) and answer.cached
        if kept or not call.maybe_paid:  # cached, deduplicated, or rejected
            self.budget.give_back(calls=1, tokens=call.tokens, money=call.money)
        elif isinstance(answer, Completion) and answer.usage.prompt_tokens:
            took = answer.usage.prompt_tokens + answer.usage.completion_tokens
            self.budget.give_back(
                calls=0,
                tokens=call.tokens - took,
                money=0.0 if answer.cost is None else call.money - answer.cost,
            )

    # Scores and streams.

    @override
    def score(
        self, prompts: Sequence[AnyPrompt], choices: Sequence[str], *, end_of_turn: bool = False
    ) -> NDArray[np.float64]:
        refuse_bare_string("choices", choices)
        batch = checked_prompts(prompts)
        options = {"score": list(choices), **({"end_of_turn": True} if end_of_turn else {})}
        fingerprint = self.fingerprint
        keys = [key_of(fingerprint, prompt, options) for prompt in batch]
        found: dict[bytes, object] = {key: self.cache.get_json(key) for key in keys} if self.cache is not None else {}
        missing = {key: prompt for key, prompt in zip(keys, batch, strict=True) if found.get(key) is None}
        if missing:
            calls = [_Call(prompt, key) for key, prompt in missing.items()]
            for call, row in zip(calls, self._scored(calls, choices, end_of_turn=end_of_turn).tolist(), strict=True):
                found[call.key] = row
                if self.cache is not None:
                    self._keep(partial(self.cache.put_json, call.key, row))
        return np.array([found[key] for key in keys], dtype=np.float64).reshape(len(batch), len(choices))

    def _scored(self, calls: list[_Call], choices: Sequence[str], *, end_of_turn: bool) -> NDArray[np.float64]:
        """Score with the model; each prompt is a call, and its tokens count once per choice."""
        written = sum(self.model.count_tokens(choice) + end_of_turn for choice in choices)
        with self._reserved(calls, written=written, times=len(choices)) as able:
            raised([call.result for call in calls if call.result is not None])
            try:
                scores = self.model.score([call.prompt for call in able], choices, end_of_turn=end_of_turn)
            except RagkitError as error:
                for call in calls:
                    call.maybe_paid = _maybe_paid(error)
                raise
            for call in calls:
                call.maybe_paid = True
            return scores

    @override
    def _pieces(self, prompt: AnyPrompt, sampling: Sampling) -> Generator[str, None, Completion]:
        call = _Call(prompt, key_of(self.fingerprint, prompt, sampling.options()))
        with self._reserved([call], written=sampling.max_tokens):
            if isinstance(call.result, RagkitError):
                raise call.result
            kept = self.cache.get(call.key) if self.cache is not None else None
            if kept is not None:
                yield kept.text
                return kept
            answer = yield from self._streamed(call, sampling)
            call.result = answer
            self._cache(call.key, answer)
            return answer

    def _streamed(self, call: _Call, sampling: Sampling) -> Generator[str, None, Completion]:
        """Stream from the model; transient errors are retried until the first piece arrives."""
        stream: list[CompletionStream] = []
        options = sampling.options()

        def first_piece() -> Completion:
            with self._one_attempt(call):
                stream[:] = [_as_stream(self.model.stream(call.prompt, **options))]
                return Completion(text=next(stream[0], ""))

        begun = first_piece() if self.retry is None else self.retry.run(first_piece)
        pieces = [begun.text]
        yield begun.text
        for piece in stream[0]:
            pieces.append(piece)
            yield piece
        whole = stream[0].completion or Completion(text="".join(pieces))
        return replace(whole, attempts=call.attempts)


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


def _maybe_paid(error: RagkitError) -> bool:
    return isinstance(error, ModelError) and error.maybe_paid


def _in_threads(work: Callable[[list[_Call]], None], groups: list[list[_Call]], threads: int) -> None:
    """Process the groups in threads; if one raises an exception, groups that have not started are cancelled."""
    if len(groups) == 1 or threads == 1:
        for group in groups:
            work(group)
        return
    pool = ThreadPoolExecutor(min(threads, len(groups)), thread_name_prefix="ragkit-calls")
    try:
        for done in [pool.submit(work, group) for group in groups]:
            done.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
