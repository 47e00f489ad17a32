"""Running plans: the steps of a wave run in parallel, and the dependents of a failed step are skipped."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ragkit._progress import progress
from ragkit.errors import InvalidInputError, RagkitError
from ragkit.models._budget import Budget
from ragkit.models._concurrency import Cancellation, Slots
from ragkit.models._rate_limit import Retry
from ragkit.models._sources import is_named
from ragkit.protocols import LanguageModel
from ragkit.records import Prompt, Usage
from ragkit_pipelines.pearl.plan.action import DIRECT
from ragkit_pipelines.pearl.plan.builtins import Value, compute, is_local, written
from ragkit_pipelines.pearl.plan.instructions import instruction_of, subjects_of
from ragkit_pipelines.pearl.plan.nodes import Argument, Ctx, Step, Text, TextList, Variable
from ragkit_pipelines.pearl.plan.plan import Plan
from ragkit_pipelines.pearl.prompts import LIST_GRAMMAR, merge_prompt, step_prompt
from ragkit_pipelines.pearl.run.calls import Caller, ModelCall, Outcome, Response, SentPrefixes
from ragkit_pipelines.pearl.run.context import Reading, View
from ragkit_pipelines.pearl.run.passages import Passage
from ragkit_pipelines.pearl.run.run import StepRun
from ragkit_pipelines.pearl.run.trace import RunTrace

_SHOWN = 100  # characters of the instructions in the progress display
_QUERY_CHARACTERS = 300  # characters of an earlier value that are part of a step's retrieval query

Work = Generator[Sequence[ModelCall], Sequence[Outcome], StepRun]


@dataclass(frozen=True)
class PlanExecutor:
    """Runs plans. Any number of questions may share one executor; its limit applies to all of them together.

    Attributes:
        concurrency: Maximum number of concurrent model calls, over all questions.
        step_timeout: Timeout of one call in seconds, or None. A call that exceeds it is abandoned and retried. Batches
            have no timeout, because a local model may be slow but does not hang.
        retries: Number of retries for a call that failed, timed out or returned an empty response. Transient errors
            that the model's own middleware has already retried are not retried again.
        retry_wait: Longest wait in seconds before the first retry; it doubles before each further one.
        max_tokens: Maximum number of tokens of a step's value.
        batch: Whether the calls of a wave are sent to the model as one batch; if None, only for local models.
        warm_tokens: Minimum length in tokens from which a prefix that several calls of a wave share is sent once
            before them, which puts it into the provider's prompt cache; None to never do this. Batches need no warming.
    """

    concurrency: int = 4
    step_timeout: float | None = 120.0
    retries: int = 2
    retry_wait: float = 1.0
    max_tokens: int = 512
    batch: bool | None = None
    warm_tokens: int | None = 1024
    _slots: Slots = field(init=False, repr=False)
    _batches: Slots = field(default_factory=lambda: Slots(1), init=False, repr=False)
    _sent: SentPrefixes = field(default_factory=SentPrefixes, init=False, repr=False)

    def __post_init__(self) -> None:
        for name, least in (("concurrency", 1), ("retries", 0), ("max_tokens", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InvalidInputError(f"`{name}` must be an integer of at least {least}, got {value!r}")
        if self.step_timeout is not None and not 0 < self.step_timeout < float("inf"):
            raise InvalidInputError(
                f"`step_timeout` must be a positive number of seconds or None, got {self.step_timeout!r}"
            )
        if not 0 <= self.retry_wait < float("inf"):
            raise InvalidInputError(f"`retry_wait` must be at least 0 seconds and finite, got {self.retry_wait!r}")
        object.__setattr__(self, "_slots", Slots(self.concurrency))

    def caller(
        self,
        model: LanguageModel,
        *,
        budget: Budget | None = None,
        trace: RunTrace | None = None,
        cancellation: Cancellation | None = None,
    ) -> Caller:
        """Create the caller of one question, which shares the limits of this executor."""
        batch = self.batches(model)
        retry = Retry(
            attempts=1 + self.retries,
            first_wait=self.retry_wait,
            longest_wait=max(60.0, self.retry_wait),
            timeout=None if batch else self.step_timeout,
            every_failure=True,
        )
        return Caller(
            model,
            slots=self._batches if batch else self._slots,  # one batch at a time, so no time is spent waiting
            sent=self._sent,
            retry=retry,
            batch=batch,
            warm_tokens=self.warm_tokens,
            budget=budget,
            trace=trace,
            cancellation=cancellation,
        )

    def batches(self, model: LanguageModel) -> bool:
        """Whether the calls of a wave are sent to this model as one batch."""
        if self.batch is not None:
            return self.batch
        return is_named(model.name) or model.name.startswith("hf:")

    def run(self, plan: Plan, view: View | None, caller: Caller, *, question: str = "") -> Iterator[StepRun]:
        """Run a plan wave by wave.

        If a step fails, the steps that need its value are skipped, and all others run.
        """
        values: dict[str, str] = {}
        missing: dict[str, str] = {}  # steps without a value, with the failed step that caused this
        shared = _Shared(
            values=values, view=view, max_tokens=self.max_tokens, question=question, lists=_read_as_lists(plan),
            subjects=subjects_of(plan.steps), grammars=caller.model.capabilities.grammar,
        )  # fmt: skip
        done_before = 0
        for wave in plan.waves:
            works = {
                step.out: _ModelStep(step, shared).steps()
                for step in wave
                if not is_local(step.action) and not missing.keys() & set(step.reads)
            }
            with progress(_said(wave, done_before, len(plan.steps), shared.subjects), None):
                ended = _drive(works, caller)
            done_before += len(wave)
            for step in wave:
                cause = next((missing[name] for name in step.reads if name in missing), None)
                if cause is not None:
                    done = StepRun(step=step, status="skipped", reason=f"needs the value of {cause}, which failed")
                elif step.out in ended:
                    done = ended[step.out]
                else:
                    done = _computed(step, values)
                if done.status == "done":
                    values[step.out] = done.value
                else:
                    missing[step.out] = cause or step.out
                yield done


def _said(wave: Sequence[Step], before: int, steps: int, subjects: Mapping[str, str]) -> str:
    """Describe the steps of a wave, for the progress display."""
    last = before + len(wave)
    numbers = f"step {last}" if len(wave) == 1 else f"steps {before + 1}-{last}"
    asked = "; ".join(instruction_of(step, subjects) for step in wave if not is_local(step.action))
    return f"{numbers} of {steps}: {asked[:_SHOWN]}"


def _read_as_lists(plan: Plan) -> frozenset[str]:
    """Names of the values that some step uses as a list."""
    return frozenset(
        argument.name
        for step in plan.steps
        for at, argument in enumerate(step.arguments)
        if isinstance(argument, Variable) and step.action.parameter(at) == "LIST"
    )


def _drive(works: Mapping[str, Work], caller: Caller) -> dict[str, StepRun]:
    """Run the steps of a wave in parallel: in each round, the calls of all of them are made together."""
    ended: dict[str, StepRun] = {}
    received: dict[str, Sequence[Outcome] | None] = dict.fromkeys(works)  # None starts a generator
    while received:
        requested: dict[str, Sequence[ModelCall]] = {}
        for name, outcomes in received.items():
            try:
                requested[name] = next(works[name]) if outcomes is None else works[name].send(outcomes)
            except StopIteration as stop:
                ended[name] = stop.value
        results = iter(caller.complete([call for calls in requested.values() for call in calls]))
        received = {name: [next(results) for _ in calls] for name, calls in requested.items()}
    return ended


def _computed(step: Step, values: Mapping[str, str]) -> StepRun:
    try:
        value = compute(step.action, [_value(argument, values) for argument in step.arguments])
    except InvalidInputError as error:
        return StepRun(step=step, status="failed", reason=f"{step.action.name}: {error}", local=True)
    return StepRun(step=step, status="done", value=value, local=True)


def _value(argument: Argument, values: Mapping[str, str]) -> Value:
    if isinstance(argument, TextList):
        return tuple(str(_value(item, values)) for item in argument.items)
    if isinstance(argument, Variable):
        return values[argument.name]
    return argument.value if isinstance(argument, Text) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """What all steps of a plan share.

    Attributes:
        values: The values so far.
        view: The document.
        max_tokens: Maximum number of tokens of a value.
        question: The question.
        lists: Names of the values that must be lists.
        subjects: What the values are about.
        grammars: Whether the model can be constrained to a grammar.
    """

    values: Mapping[str, str]
    view: View | None
    max_tokens: int
    question: str
    lists: frozenset[str]
    subjects: Mapping[str, str]
    grammars: bool


@dataclass(frozen=True, slots=True)
class _ModelStep:
    """One step that needs a model."""

    step: Step
    shared: _Shared

    def steps(self) -> Work:
        """Yield the calls of the step, round by round."""
        try:
            return (yield from self._steps())
        except RagkitError as error:  # such as a context that cannot show the document
            return StepRun(step=self.step, status="failed", reason=str(error))

    def _steps(self) -> Work:
        readings = [Reading()]
        if self.step.reads_document:
            if self.shared.view is None:
                raise InvalidInputError(f"{self.step.out} reads the document, but none was given; pass `document`")
            readings = yield from self.shared.view.readings(self.step.out, self._query())
        named = self._named_values()
        question = self.shared.question if self.step.action.name == DIRECT else ""
        as_list, subjects = self.step.out in self.shared.lists, self.shared.subjects
        purpose: Literal["step", "window"] = "step" if len(readings) == 1 else "window"
        prompts = [
            step_prompt(
                self.step,
                named,
                shared=reading.shared,
                subjects=subjects,
                passages=[passage.text for passage in reading.passages],
                part=reading.part,
                as_list=as_list,
                question=question,
            )
            for reading in readings
        ]
        outcomes = list((yield [self._call(prompt, purpose) for prompt in prompts]))
        passages = tuple(passage for reading in readings for passage in reading.passages)
        failed = next((outcome for outcome in outcomes if isinstance(outcome, RagkitError)), None)
        if len(readings) > 1 and failed is None:
            parts = [outcome.text for outcome in outcomes if isinstance(outcome, Response)]
            prompt = merge_prompt(self.step, named, parts, subjects=subjects, as_list=as_list, question=question)
            outcomes += yield [self._call(prompt, "step")]
        return self._ended(outcomes, passages)

    def _call(self, prompt: Prompt, purpose: Literal["step", "window"]) -> ModelCall:
        constrained = self.shared.grammars and self.step.out in self.shared.lists
        return ModelCall(
            prompt=prompt,
            purpose=purpose,
            step=self.step.out,
            max_tokens=self.shared.max_tokens,
            grammar=LIST_GRAMMAR if constrained else None,
        )

    def _named_values(self) -> dict[str, str]:
        """The arguments by the name of their parameter, without the document."""
        named: dict[str, str] = {}
        for at, argument in enumerate(self.step.arguments):
            if not isinstance(argument, Ctx):
                value = _value(argument, self.shared.values)
                named[self.step.action.parameter(at)] = value if isinstance(value, str) else written(value)
        return named

    def _query(self) -> str:
        """The retrieval query of the step: its note, its strings, and the beginnings of the values that it uses."""
        parts = [self.step.note, *(value[:_QUERY_CHARACTERS] for value in self._named_values().values())]
        return "\n".join([*parts, self.shared.question] if self.step.action.name == DIRECT else parts)

    def _truncation(self, responses: Sequence[Response]) -> str:
        """Report a truncated response, because a count or list based on it may be wrong."""
        truncated = any(each.completion.finish_reason == "length" for each in responses)
        return f"truncated at {self.shared.max_tokens} tokens; raise `max_tokens` of PlanExecutor" if truncated else ""

    def _ended(self, outcomes: Sequence[Outcome], passages: tuple[Passage, ...]) -> StepRun:
        responses = [outcome for outcome in outcomes if isinstance(outcome, Response)]
        failed = next((outcome for outcome in outcomes if isinstance(outcome, RagkitError)), None)
        return StepRun(
            step=self.step,
            status="done" if failed is None else "failed",
            value="" if failed is not None else responses[-1].text,
            reason=self._truncation(responses) if failed is None else str(failed),
            passages=passages,
            usage=sum((each.completion.usage for each in responses), Usage()),
            seconds=sum(each.completion.seconds for each in responses),
            reused=bool(responses) and all(each.reused for each in responses),
            keys=tuple(each.key for each in responses),
        )
