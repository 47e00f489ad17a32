"""Calls of a model: within a limit, a time and a budget, tried again, and never made twice for the same words."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from time import perf_counter
from typing import Literal, Protocol

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
from ragkit_pipelines.pearl.run.concurrency import Cancellation, Gate
from ragkit_pipelines.pearl.run.threads import side_by_side

Purpose = Literal["plan", "step", "window", "pages", "gist", "warm", "answer", "option", "mine", "merge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A call to be made.

    Attributes:
        prompt: What is asked; the prefix is what other calls share.
        purpose: What for.
        step: Name of the step that it serves.
        max_tokens: Tokens of the answer at the most.
        stop: Sequences at which the answer ends.
        temperature: 0 for the likeliest answer.
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
    def settings(self) -> tuple[int, float, tuple[str, ...], int]:
        """What calls must have in common to be made as one batch."""
        return self.max_tokens, self.temperature, self.stop, self.seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A call that was answered, now or earlier.

    Attributes:
        completion: The answer.
        key: Hash of the model, the prompt and the settings.
        reused: Whether the answer was there already, so that no call was made.
    """

    completion: Completion
    key: str
    reused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A call that was not answered.

    Attributes:
        reason: Why, in words for a reader.
        kind: ``"model"``, ``"gone"`` where the model will not answer either when asked again, ``"time"``, ``"budget"``,
            ``"input"`` or ``"cancelled"``.
    """

    reason: str
    kind: Literal["model", "gone", "time", "budget", "input", "cancelled"]

    @property
    def may_pass(self) -> bool:
        """Whether trying again may help."""
        return self.kind in {"model", "time"}


Outcome = Answered | Failure


class Memory(Protocol):
    """Where answers are kept."""

    def find(self, key: str) -> Completion | None:
        """The answer kept under a key."""
        ...

    def keep(self, ask: Ask, key: str, completion: Completion) -> None:
        """Keep an answer."""
        ...


@dataclass
class Spent:
    """What the calls of one question took.

    Attributes:
        usage: Tokens of all answers, those that were there already among them.
        cost: US dollars; None where a price is not known.
        seconds: Time of all answers, one after the other.
        calls: Calls that were made now, those that failed among them.
        reused: Calls that were not made, as their answer was there.
        by_purpose: Calls made now, by purpose.
    """

    usage: Usage = field(default_factory=Usage)
    cost: float | None = 0.0
    seconds: float = 0.0
    calls: int = 0
    reused: int = 0
    by_purpose: Counter[str] = field(default_factory=Counter)

    def add(self, completion: Completion, *, reused: bool) -> None:
        """Count an answer."""
        self.usage += completion.usage
        self.seconds += completion.seconds
        self.reused += reused
        self.cost = None if self.cost is None or completion.cost is None else self.cost + completion.cost


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSettings:
    """How calls are made; see `PlanExecutor`."""

    step_timeout: float | None
    retries: int
    retry_wait: float
    batch: bool
    warm_tokens: int | None


class Caller:
    """Makes the calls of one question.

    Attributes:
        spent: What they took so far.
    """

    def __init__(
        self,
        model: LanguageModel,
        gate: Gate,
        settings: CallSettings,
        *,
        memory: Memory | None = None,
        cancellation: Cancellation | None = None,
    ) -> None:
        """Put the parts together."""
        self.model, self.gate, self.settings = model, gate, settings
        self.cancellation = cancellation or Cancellation()
        self.spent = Spent()
        self._memory = memory
        self._fingerprint = model.fingerprint
        self._kept: dict[str, Completion] = {}
        self._lock = Lock()

    def ask(self, asks: Sequence[Ask]) -> list[Outcome]:
        """Make calls at the same time; equal ones once, and none whose answer is known.

        Args:
            asks: The calls.

        Returns:
            An outcome for each, in order.
        """
        keys = [self.key(ask) for ask in asks]
        outcomes: dict[str, Outcome] = {}
        todo: dict[str, Ask] = {}
        for key, ask in zip(keys, asks, strict=True):
            known = self._known(key)
            if known is None:
                todo.setdefault(key, ask)
            else:
                outcomes[key] = Answered(completion=known, key=key, reused=True)
        try:
            if todo:
                self._warm(list(todo.values()))
                outcomes |= self._in_batches(todo) if self.settings.batch and len(todo) > 1 else self._at_once(todo)
        except BaseException:  # the user's Ctrl-C: nothing that has not begun shall begin
            self.cancellation.cancel()
            raise
        return [outcomes[key] for key in keys]

    def key(self, ask: Ask) -> str:
        """Name of a call: equal for two only where they have the same model, words and settings.

        Returns:
            A hash.
        """
        facts = [self._fingerprint, ask.prompt.prefix, ask.prompt.suffix, ask.max_tokens, ask.temperature, ask.stop]
        return hashlib.sha256(json.dumps([*facts, ask.seed]).encode()).hexdigest()[:32]

    def _known(self, key: str) -> Completion | None:
        if key not in self._kept and self._memory is not None:
            found = self._memory.find(key)
            if found is not None:
                self._kept[key] = found
                self.spent.add(found, reused=True)
        return self._kept.get(key)

    def _keep(self, ask: Ask, key: str, completion: Completion) -> Answered:
        with self._lock:
            self._kept[key] = completion
            self.spent.add(completion, reused=False)
        if self._memory is not None:
            self._memory.keep(ask, key, completion)
        return Answered(completion=completion, key=key)

    def _warm(self, asks: list[Ask]) -> None:
        """Send a prefix alone, once, before several calls that share it.

        Calls that begin together find no cache and each read the document anew. One call for a single token takes no
        longer than reading the document, which the first of them would have to do anyway; to let the first step go
        ahead instead would add its whole answer to the critical path.
        """
        shared = Counter(ask.prompt.prefix for ask in asks)
        self._send([prefix for prefix, count in shared.items() if self._is_cold(prefix) and count > 1])

    def warm(self, prefix: str) -> None:
        """Send a prefix that calls of other questions will share, if it is long and was not sent of late.

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
        """Send prefixes alone, side by side; whatever goes wrong, the calls themselves will meet again."""
        asks = [Ask(prompt=Prompt(prefix), purpose="warm", max_tokens=1) for prefix in prefixes]
        for outcome in side_by_side(lambda ask: self._attempt([ask]), asks, self.gate.limit):
            if isinstance(outcome, list) and isinstance(outcome[0], Completion):
                self.spent.add(outcome[0], reused=False)

    def _at_once(self, todo: Mapping[str, Ask]) -> dict[str, Outcome]:
        outcomes = side_by_side(lambda item: self._with_retries(*item), list(todo.items()), self.gate.limit)
        return dict(zip(todo, outcomes, strict=True))

    def _in_batches(self, todo: Mapping[str, Ask]) -> dict[str, Outcome]:
        """One batch for all calls with the same settings; one by one where the batch cannot be made."""
        outcomes: dict[str, Outcome] = {}
        groups: dict[object, dict[str, Ask]] = {}
        for key, ask in todo.items():
            groups.setdefault(ask.settings, {})[key] = ask
        for group in groups.values():
            answers = self._attempt(list(group.values()))
            listed = [answers] * len(group) if isinstance(answers, Failure) else answers
            for (key, ask), answer in zip(group.items(), listed, strict=True):
                if isinstance(answer, Failure) and not answer.may_pass and not isinstance(answers, Failure):
                    outcomes[key] = answer
                elif isinstance(answer, Failure) or not answer.text.strip():
                    if isinstance(answer, Completion):
                        self._paid(answer)
                    outcomes[key] = self._with_retries(key, ask)
                else:
                    outcomes[key] = self._keep(ask, key, answer)
        return outcomes

    def _with_retries(self, key: str, ask: Ask) -> Outcome:
        outcome: Completion | Failure = Failure(reason="not tried", kind="cancelled")
        for attempt in range(1 + self.settings.retries):
            if attempt and self.cancellation.wait(self.settings.retry_wait * 2 ** (attempt - 1)):
                break
            outcome = self._one(ask)
            if not isinstance(outcome, Failure):
                return self._keep(ask, key, outcome)
            if not outcome.may_pass:
                break
        assert isinstance(outcome, Failure)  # noqa: S101 - for the type checker
        return outcome

    def _one(self, ask: Ask) -> Completion | Failure:
        answers = self._attempt([ask])
        answer = answers if isinstance(answers, Failure) else answers[0]
        if isinstance(answer, Completion) and not answer.text.strip():
            self._paid(answer)
            return Failure(reason="the model answered nothing", kind="model")
        return answer

    def _paid(self, empty: Completion) -> None:
        """Count an answer that is of no use, but was read for and paid for."""
        with self._lock:
            self.spent.add(empty, reused=False)

    def _attempt(self, asks: list[Ask]) -> list[Completion | Failure] | Failure:
        """One call of the model, with a limit on its time; it cannot be stopped, only given up."""
        told: SimpleQueue[list[Completion | Failure] | Failure] = SimpleQueue()
        called_off = Failure(reason="the run was called off", kind="cancelled")
        limit = None if self.settings.batch else self.settings.step_timeout
        with self.gate.slot(self.cancellation) as free, self.cancellation.told(lambda: told.put(called_off)):
            if not free:
                return called_off
            with self._lock:
                self.spent.calls += len(asks)
                self.spent.by_purpose.update(ask.purpose for ask in asks)
            Thread(target=lambda: told.put(self._generate(asks)), daemon=True).start()
            try:
                return told.get(timeout=limit)
            except Empty:
                return Failure(reason=f"no answer within {limit:g} seconds", kind="time")

    def _generate(self, asks: list[Ask]) -> list[Completion | Failure] | Failure:
        max_tokens, temperature, stop, seed = asks[0].settings
        sampling = Sampling(max_tokens=max_tokens, temperature=temperature, stop=tuple(stop), seed=seed)
        started = perf_counter()
        try:
            results = results_of(self.model, [ask.prompt for ask in asks], sampling)
        except Exception as error:  # noqa: BLE001 - a model of one's own may raise anything
            return Failure(reason=f"{type(error).__name__}: {error}", kind="model")
        if results and all(result is results[0] for result in results) and isinstance(results[0], RagkitError):
            return self._failure(results[0])  # the batch as a whole
        share = (perf_counter() - started) / len(asks)
        return [_timed(each, share) if isinstance(each, Completion) else self._failure(each) for each in results]

    def _failure(self, error: RagkitError) -> Failure:
        kind: Literal["model", "gone", "budget", "input"] = "input"
        if isinstance(error, BudgetExceededError):
            kind = "budget"
        elif isinstance(error, ModelError) and not isinstance(error, NotRecordedError):
            tried = isinstance(error, TransientModelError) and getattr(self.model, "retries", False)
            kind = "gone" if tried or isinstance(error, ModelAccessError) else "model"
        return Failure(reason=str(error), kind=kind)


def _timed(answer: Completion, seconds: float) -> Completion:
    """An answer of a model that does not measure its time gets its share of it."""
    return answer if answer.seconds else replace(answer, seconds=seconds)
