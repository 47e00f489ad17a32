"""Model calls of one question: cached, retried, limited in number, time and budget, and never repeated."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from time import perf_counter
from typing import Literal, Protocol

from ragkit.answers import without_reasoning
from ragkit.errors import (
    BudgetExceededError,
    ModelAccessError,
    ModelError,
    NotRecordedError,
    RagkitError,
    TransientModelError,
)
from ragkit.models.results import results_of
from ragkit.models.sampling import Sampling
from ragkit.protocols import LanguageModel
from ragkit.records import Completion, Prompt, Usage
from ragkit_pipelines.pearl.run.concurrency import Cancellation, Gate, in_parallel, in_thread

Purpose = Literal["plan", "step", "window", "pages", "gist", "warm", "answer", "option", "mine", "merge"]


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
    """

    prompt: Prompt
    purpose: Purpose
    step: str = ""
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    seed: int = 0

    @property
    def sampling(self) -> Sampling:
        """The sampling settings. Calls with equal settings can be sent as one batch."""
        return Sampling(max_tokens=self.max_tokens, temperature=self.temperature, stop=self.stop, seed=self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A call that succeeded.

    Attributes:
        completion: The model's completion.
        key: Hash of the model, the prompt and the settings.
        reused: Whether the response was cached, so no call was made.
    """

    completion: Completion
    key: str
    reused: bool = False

    @property
    def text(self) -> str:
        """The text of the completion without the model's reasoning; nothing if it ends inside the reasoning."""
        return _spoken(self.completion)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A call that failed.

    Attributes:
        reason: The reason, as a message for users.
        kind: ``"model"``, ``"permanent"`` if the model would fail again, ``"time"``, ``"budget"``, ``"input"`` or
            ``"cancelled"``.
    """

    reason: str
    kind: Literal["model", "permanent", "time", "budget", "input", "cancelled"]

    @property
    def transient(self) -> bool:
        """Whether a retry may succeed."""
        return self.kind in {"model", "time"}


Outcome = Response | Failure
_CANCELLED = Failure(reason="the run was cancelled", kind="cancelled")


class CallCache(Protocol):
    """A store of responses, such as a trace."""

    def find(self, key: str) -> Completion | None:
        """Return the cached response to a call, or None."""
        ...

    def store(self, call: ModelCall, key: str, completion: Completion) -> None:
        """Store the response to a call."""
        ...


@dataclass
class CallTotals:
    """Cost and usage of the calls of one question.

    Attributes:
        usage: Tokens of all responses, including cached ones.
        cost: Cost in US dollars; None if a price is unknown.
        seconds: Sum of the durations of all responses.
        calls: Number of calls made, including failed ones.
        reused: Number of calls that were not made because their response was cached.
        by_purpose: Number of calls made for each purpose.
    """

    usage: Usage = field(default_factory=Usage)
    cost: float | None = 0.0
    seconds: float = 0.0
    calls: int = 0
    reused: int = 0
    by_purpose: Counter[str] = field(default_factory=Counter)

    def add(self, completion: Completion, *, reused: bool) -> None:
        """Add a response to the totals."""
        self.usage += completion.usage
        self.seconds += completion.seconds
        self.reused += reused
        self.cost = None if self.cost is None or completion.cost is None else self.cost + completion.cost


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSettings:
    """Settings for calls; see `PlanExecutor`."""

    step_timeout: float | None
    retries: int
    retry_wait: float
    batch: bool
    warm_tokens: int | None


class Caller:
    """Makes the model calls of one question.

    Attributes:
        totals: Cost and usage so far.
    """

    def __init__(
        self,
        model: LanguageModel,
        gate: Gate,
        settings: CallSettings,
        *,
        cache: CallCache | None = None,
        cancellation: Cancellation | None = None,
    ) -> None:
        """Create a caller."""
        self.model, self.gate, self.settings = model, gate, settings
        self.cancellation = cancellation or Cancellation()
        self.totals = CallTotals()
        self._cache = cache
        self._fingerprint = model.fingerprint
        self._known: dict[str, Completion] = {}
        self._lock = Lock()

    def complete(self, calls: Sequence[ModelCall]) -> list[Outcome]:
        """Make calls in parallel. Equal calls are made once, and cached responses are reused.

        Args:
            calls: The calls.

        Returns:
            One outcome for each call, in order.
        """
        keys = [self.key(call) for call in calls]
        outcomes: dict[str, Outcome] = {}
        todo: dict[str, ModelCall] = {}
        for key, call in zip(keys, calls, strict=True):
            cached = self._cached(key)
            if cached is None:
                todo.setdefault(key, call)
            else:
                outcomes[key] = Response(completion=cached, key=key, reused=True)
        try:
            if todo:
                self._warm(list(todo.values()))
                outcomes |= self._in_batches(todo) if self.settings.batch and len(todo) > 1 else self._each(todo)
        except BaseException:  # such as KeyboardInterrupt: no further call may start
            self.cancellation.cancel()
            raise
        return [outcomes[key] for key in keys]

    def key(self, call: ModelCall) -> str:
        """Identify a call by everything that its response depends on: the model, the prompt and the settings.

        Returns:
            A hash.
        """
        facts = [
            self._fingerprint,
            call.prompt.prefix,
            call.prompt.suffix,
            call.max_tokens,
            call.temperature,
            call.stop,
        ]
        return hashlib.sha256(json.dumps([*facts, call.seed]).encode()).hexdigest()[:32]

    def _cached(self, key: str) -> Completion | None:
        if key not in self._known and self._cache is not None:
            found = self._cache.find(key)
            if found is not None:
                self._known[key] = found
                self.totals.add(found, reused=True)
        return self._known.get(key)

    def _store(self, call: ModelCall, key: str, completion: Completion) -> Response:
        with self._lock:
            self._known[key] = completion
            self.totals.add(completion, reused=False)
        if self._cache is not None:
            self._cache.store(call, key, completion)
        return Response(completion=completion, key=key)

    def _warm(self, calls: list[ModelCall]) -> None:
        """Send a prefix alone, once, before several calls that share it.

        Calls that start at the same time all miss the prompt cache, and each of them prefills the document. One call
        for a single token takes no longer than prefilling the document, which the first call would have to do anyway.
        Running the first step alone instead would add its whole response to the critical path.
        """
        shared = Counter(call.prompt.prefix for call in calls)
        self._send([prefix for prefix, count in shared.items() if self._is_cold(prefix) and count > 1])

    def warm(self, prefix: str) -> None:
        """Send a prefix that calls of other questions will share, if it is long and was not sent recently.

        Args:
            prefix: The prefix.
        """
        self._send([prefix] if self._is_cold(prefix) else [])

    def _is_cold(self, prefix: str) -> bool:
        least = self.settings.warm_tokens
        if least is None or self.settings.batch or len(prefix.encode()) < 4 * least:
            return False
        return self.gate.is_cold(hashlib.sha256(f"{self._fingerprint}\n{prefix}".encode()).hexdigest())

    def _send(self, prefixes: Sequence[str]) -> None:
        """Send prefixes alone, in parallel. Failures are ignored, because the calls that follow will report them."""
        calls = [ModelCall(prompt=Prompt(prefix), purpose="warm", max_tokens=1) for prefix in prefixes]
        for outcome in in_parallel(lambda call: self._attempt([call])[0], calls, self.gate.limit):
            if isinstance(outcome, Completion):
                self.totals.add(outcome, reused=False)

    def _each(self, todo: Mapping[str, ModelCall]) -> dict[str, Outcome]:
        outcomes = in_parallel(lambda item: self._with_retries(*item), list(todo.items()), self.gate.limit)
        return dict(zip(todo, outcomes, strict=True))

    def _in_batches(self, todo: Mapping[str, ModelCall]) -> dict[str, Outcome]:
        """Send calls with equal settings as one batch, and retry those that failed one by one."""
        # A permanent failure is final, unless it ended the whole batch: then one call may have caused it for all.
        outcomes: dict[str, Outcome] = {}
        groups: dict[Sampling, dict[str, ModelCall]] = {}
        for key, call in todo.items():
            groups.setdefault(call.sampling, {})[key] = call
        for group in groups.values():
            results = self._attempt(list(group.values()))
            whole = all(result is results[0] for result in results)
            for (key, call), result in zip(group.items(), results, strict=True):
                if isinstance(result, Completion):
                    outcomes[key] = self._store(call, key, result)
                elif result.transient or whole:
                    outcomes[key] = self._with_retries(key, call)
                else:
                    outcomes[key] = result
        return outcomes

    def _with_retries(self, key: str, call: ModelCall) -> Outcome:
        result = self._attempt([call])[0]
        for retry in range(self.settings.retries):
            if isinstance(result, Completion) or not result.transient:
                break
            if self.cancellation.wait(self.settings.retry_wait * 2**retry):
                break
            result = self._attempt([call])[0]
        return self._store(call, key, result) if isinstance(result, Completion) else result

    def _attempt(self, calls: list[ModelCall]) -> list[Completion | Failure]:
        """Call the model once. A call that exceeds the timeout is abandoned, because it cannot be stopped."""
        limit = None if self.settings.batch else self.settings.step_timeout
        with self.gate.slot(self.cancellation) as acquired:
            if not acquired:
                return [_CANCELLED] * len(calls)
            with self._lock:
                self.totals.calls += len(calls)
                self.totals.by_purpose.update(call.purpose for call in calls)
            results = in_thread(lambda: self._generate(calls))
            if self.cancellation.wait_for(results, limit):
                return [self._checked(result) for result in results.result()]
            late = Failure(reason=f"the model did not respond within {limit:g} seconds", kind="time")
            return [_CANCELLED if self.cancellation.cancelled else late] * len(calls)

    def _checked(self, result: Completion | Failure) -> Completion | Failure:
        """Turn an empty response into a failure; its tokens still count, because the provider charges for them."""
        if isinstance(result, Failure) or _spoken(result).strip():
            return result
        with self._lock:
            self.totals.add(result, reused=False)
        return Failure(reason="the model returned an empty response", kind="model")

    def _generate(self, calls: list[ModelCall]) -> list[Completion | Failure]:
        """Call the model. If the batch as a whole fails, all calls get the same `Failure` object."""
        started = perf_counter()
        try:
            results = results_of(self.model, [call.prompt for call in calls], calls[0].sampling)
        except Exception as error:  # noqa: BLE001 - a user's own model may raise anything
            return [Failure(reason=f"{type(error).__name__}: {error}", kind="model")] * len(calls)
        share = (perf_counter() - started) / len(calls)
        failures = {id(result): self._failure(result) for result in results if isinstance(result, RagkitError)}
        return [_timed(each, share) if isinstance(each, Completion) else failures[id(each)] for each in results]

    def _failure(self, error: RagkitError) -> Failure:
        kind: Literal["model", "permanent", "budget", "input"] = "input"
        if isinstance(error, BudgetExceededError):
            kind = "budget"
        elif isinstance(error, ModelError) and not isinstance(error, NotRecordedError):
            retried = isinstance(error, TransientModelError) and getattr(self.model, "retries", False)
            kind = "permanent" if retried or isinstance(error, ModelAccessError) else "model"
        return Failure(reason=str(error), kind=kind)


def _spoken(completion: Completion) -> str:
    outside = without_reasoning(completion.text)
    return "" if outside.truncated else outside.text


def _timed(completion: Completion, seconds: float) -> Completion:
    """Set the duration of a completion whose model does not measure it."""
    return completion if completion.seconds else replace(completion, seconds=seconds)
