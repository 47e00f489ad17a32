"""Model calls of one question. They go through the middleware of `LayeredModel`, with the trace as its cache."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from time import monotonic
from typing import Literal

from ragkit.answers import without_reasoning
from ragkit.errors import (
    AnswerFormError,
    EmptyAnswerError,
    InvalidInputError,
    PromptTooLongError,
    RagkitError,
    UnsupportedError,
)
from ragkit.models._budget import Budget
from ragkit.models._concurrency import Cancellation, Slots
from ragkit.models._middleware import LayeredModel
from ragkit.models._rate_limit import Retry
from ragkit.models._reservations import Result
from ragkit.models._response_cache import key_of
from ragkit.models._sampling import Sampling
from ragkit.protocols import LanguageModel
from ragkit.records import Completion, Prompt, Usage
from ragkit_pipelines.pearl.run.early_stop import EarlyStop
from ragkit_pipelines.pearl.run.trace import RunTrace

Purpose = Literal["plan", "step", "window", "pages", "gist", "warm", "answer", "option", "mine", "merge"]
_NOT_SENT = (PromptTooLongError, UnsupportedError, InvalidInputError)
_CACHE_SECONDS = 240.0  # providers keep an unused prefix for at least five minutes


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """One call of the model.

    Attributes:
        prompt: The prompt. Other calls may share its prefix.
        purpose: The purpose of the call.
        step: Name of the step that needs the call.
        max_tokens: Maximum number of tokens of the response.
        stop: Sequences at which generation stops.
        temperature: Sampling temperature; 0 for greedy decoding.
        seed: Seed of the sampling.
        grammar: Grammar that the response must follow; None for free text.
        hopeless: Returns, for the beginning of a response, why the rest is not needed; empty if it is. The response
            then ends. None to always generate all of it.
    """

    prompt: Prompt
    purpose: Purpose
    step: str = ""
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    seed: int = 0
    grammar: str | None = None
    hopeless: Callable[[str], str] | None = None

    @property
    def sampling(self) -> Sampling:
        """The sampling settings."""
        return Sampling(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            stop=self.stop,
            seed=self.seed,
            grammar=self.grammar,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A call that succeeded.

    Attributes:
        completion: The model's completion.
        key: Key of the call in a trace.
        reused: Whether the response was known before, so no call was made.
    """

    completion: Completion
    key: str
    reused: bool = False

    @property
    def text(self) -> str:
        """The text of the completion without the model's reasoning."""
        return without_reasoning(self.completion.text).text


Outcome = Response | RagkitError


@dataclass
class CallTotals:
    """Cost and usage of the calls of one question.

    Attributes:
        usage: Tokens of all responses, including reused ones.
        cost: Cost in US dollars; None if a price is unknown.
        seconds: Sum of the durations of all responses.
        calls: Number of calls made, including failed ones.
        failed: Number of calls made without a response, which no trace contains.
        reused: Number of calls that were not made because the trace contains their response.
        by_purpose: Number of calls made for each purpose.
    """

    usage: Usage = field(default_factory=Usage)
    cost: float | None = 0.0
    seconds: float = 0.0
    calls: int = 0
    failed: int = 0
    reused: int = 0
    by_purpose: Counter[str] = field(default_factory=Counter)

    def add(self, completion: Completion) -> None:
        """Add a response."""
        self.usage += completion.usage
        self.seconds += completion.seconds
        self.cost = None if self.cost is None or completion.cost is None else self.cost + completion.cost


class SentPrefixes:
    """Remembers which prompt prefixes a provider has received recently and therefore still has in its prompt cache."""

    def __init__(self) -> None:
        """Start with no prefixes."""
        self._last_use: dict[str, float] = {}
        self._lock = Lock()

    def is_cold(self, prefix: str) -> bool:
        """Whether a prefix was not sent recently. From now on it counts as sent."""
        name, now = hashlib.sha256(prefix.encode()).hexdigest(), monotonic()
        with self._lock:
            last = self._last_use.get(name)
            self._last_use[name] = now
            if len(self._last_use) > 10_000:
                self._last_use = {name: at for name, at in self._last_use.items() if now - at < _CACHE_SECONDS}
        return last is None or now - last > _CACHE_SECONDS


class _Responses:
    """The response cache of one question, which finds responses in its trace and writes new ones to it."""

    def __init__(self, trace: RunTrace | None) -> None:
        self.totals = CallTotals()
        self.trace = trace
        self._calls: dict[bytes, ModelCall] = {}
        self._known: dict[bytes, Completion] = {}
        self._lock = Lock()

    def expect(self, calls: Mapping[bytes, ModelCall]) -> None:
        self._calls.update(calls)

    def get(self, key: bytes) -> Completion | None:
        with self._lock:
            if key not in self._known and self.trace is not None:
                found = self.trace.trace.find(trace_key(key), self.trace.begun.fingerprint)
                if found is not None:
                    self._known[key] = found
                    self.totals.add(found)
                    self.totals.reused += 1
            return self._known.get(key)

    def put(self, key: bytes, answer: Completion) -> None:
        answer = replace(answer, text=answer.text.encode(errors="replace").decode())  # lone surrogates
        self._known[key] = answer
        if self.trace is not None:
            call = self._calls[key]
            self.trace.write_call(trace_key(key), answer, purpose=call.purpose, step=call.step, prompt=call.prompt.text)

    def count(self, key: bytes, result: Result) -> None:
        """Count a request, unless it was refused before it was sent. A provider also charges for an empty response."""
        if isinstance(result, _NOT_SENT):
            return
        with self._lock:
            self.totals.calls += 1
            self.totals.failed += isinstance(result, RagkitError)
            self.totals.by_purpose[self._calls[key].purpose] += 1
            answer = result.completion if isinstance(result, EmptyAnswerError | AnswerFormError) else result
            if isinstance(answer, Completion):
                self.totals.add(answer)


class Caller:
    """Makes the model calls of one question.

    Attributes:
        model: The model.
        totals: Cost and usage so far.
        cancellation: Cancels the calls.
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        slots: Slots,
        sent: SentPrefixes,
        retry: Retry,
        batch: bool,
        warm_tokens: int | None,
        budget: Budget | None = None,
        trace: RunTrace | None = None,
        cancellation: Cancellation | None = None,
    ) -> None:
        """Put the middleware around a model; see `PlanExecutor` for the settings."""
        self.cancellation = cancellation or Cancellation()
        self.model, self._fingerprint, self._retry, self._budget = model, model.fingerprint, retry, budget
        self._sent, self._warm_tokens = sent, None if batch else warm_tokens
        self._responses = _Responses(trace)
        self.totals = self._responses.totals

        def layered(retry: Retry, cache: _Responses | None, inner: LanguageModel = model) -> LayeredModel:
            return LayeredModel(
                inner, budget=budget, cache=cache, retry=retry, concurrency=slots, batch=batch,
                cancellation=self.cancellation, on_request=self._responses.count,
            )  # fmt: skip

        self._layered = layered
        self._warming = layered(replace(retry, attempts=1), None)

    def complete(self, calls: Sequence[ModelCall], *, seconds: float | None = None) -> list[Outcome]:
        """Make calls in parallel. Equal calls are made once, and responses in the trace are reused.

        Args:
            calls: The calls.
            seconds: Time after which a call ends without a response and without a retry; None for no limit other than
                the executor's timeout and the seconds that are left of the budget.

        Returns:
            A response or an error for each call, in order.
        """
        keys = [self._key(call) for call in calls]
        new = {key: call for key, call in zip(keys, calls, strict=True) if self._responses.get(key) is None}
        try:
            shared = Counter(call.prompt.prefix for call in new.values())
            self._send_alone(prefix for prefix, count in shared.items() if count > 1)
            results = self._results(self._limited(calls, seconds), new)
        except BaseException:  # such as KeyboardInterrupt: no further call may start
            self.cancellation.cancel()
            raise
        return [self._outcome(key, results.get(key)) for key in keys]

    def _limited(self, calls: Sequence[ModelCall], seconds: float | None) -> LayeredModel:
        """Return the model with the timeouts and the early stop of these calls."""
        left = None if self._budget is None else self._budget.seconds_left
        limits = [limit for limit in (self._retry.timeout, seconds, left) if limit is not None]
        retry = replace(self._retry, timeout=max(min(limits), 0.001) if limits else None)
        if seconds is not None and retry.timeout == seconds:
            retry = replace(retry, timeout_is_final=True)
        hopeless = next((call.hopeless for call in calls if call.hopeless is not None), None)
        model = self.model if hopeless is None else EarlyStop(self.model, hopeless)
        return self._layered(retry, self._responses, model)

    def _key(self, call: ModelCall) -> bytes:
        return key_of(self._fingerprint, call.prompt, call.sampling.options())

    def _results(self, model: LayeredModel, calls: Mapping[bytes, ModelCall]) -> dict[bytes, Result]:
        self._responses.expect(calls)
        results = model.results([(call.prompt, call.sampling) for call in calls.values()])
        return dict(zip(calls, results, strict=True))

    def _outcome(self, key: bytes, result: Result | None) -> Outcome:
        if isinstance(result, AnswerFormError) and result.completion.finish_reason == "length":
            self._responses.put(key, result.completion)  # truncated before the grammar was complete
            result = result.completion
        if isinstance(result, RagkitError):
            return result
        known = self._responses.get(key)
        assert known is not None  # noqa: S101 - every answer is in the cache of its question
        return Response(completion=known, key=trace_key(key), reused=result is None)

    def warm(self, prefix: str) -> None:
        """Send a prefix that calls of other questions will share, if it is long and was not sent recently."""
        self._send_alone([prefix])

    def _send_alone(self, prefixes: Iterable[str]) -> None:
        """Send long prefixes alone, in parallel, before the calls that share them.

        Calls that start at the same time all miss the prompt cache, and each of them prefills the document. One call
        for a single token takes no longer than prefilling the document, which the first call would have to do anyway.
        Running the first step alone instead would add its whole response to the critical path. Failures are ignored,
        because the calls that follow will report them.
        """
        least = self._warm_tokens
        if least is None:
            return
        cold = (
            ModelCall(prompt=Prompt(prefix), purpose="warm", max_tokens=1)
            for prefix in prefixes
            if len(prefix.encode()) >= 4 * least and self._sent.is_cold(f"{self._fingerprint}\n{prefix}")
        )
        self._results(self._warming, {self._key(call): call for call in cold})


def trace_key(key: bytes) -> str:
    """Shorten the key of a call to the form in which traces contain it."""
    return key.hex()[:32]
