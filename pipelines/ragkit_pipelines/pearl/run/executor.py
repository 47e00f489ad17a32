"""Running plans: the steps of a wave at the same time, and what a failed step needs left out."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ragkit.errors import InvalidInputError, RagkitError
from ragkit.models.sources import is_named
from ragkit.protocols import LanguageModel
from ragkit.records import Prompt, Usage
from ragkit_pipelines.pearl.plan.builtins import Value, compute, is_local, written
from ragkit_pipelines.pearl.plan.plan import Argument, Ctx, Plan, Step, Text, TextList, Variable
from ragkit_pipelines.pearl.prompts import merge_prompt, step_prompt
from ragkit_pipelines.pearl.run.calls import Answered, Ask, Caller, CallSettings, Failure, Memory, Outcome
from ragkit_pipelines.pearl.run.concurrency import Cancellation, Gate
from ragkit_pipelines.pearl.run.context import Reading, View
from ragkit_pipelines.pearl.run.passages import Passage
from ragkit_pipelines.pearl.run.run import StepRun

DIRECT = "ANSWER"  # an action of this name is shown the question itself
_WORDS = 300  # characters of an earlier value that count among a step's own words

Work = Generator[Sequence[Ask], Sequence[Outcome], StepRun]


@dataclass(frozen=True)
class PlanExecutor:
    """Runs plans. Any number of questions may share one; together they keep to its limit.

    Attributes:
        concurrency: Calls of the model that run at once, all questions together.
        step_timeout: Seconds that one call may take, or None; a call that takes longer is given up and tried again.
            Batches are not timed: a model on this machine is slow, not lost.
        retries: How often a call is made again that failed, took too long or came back empty. Trouble that the model's
            own layers have met with retries is not multiplied by this.
        retry_wait: Seconds before the first retry; twice as many before each further one.
        max_tokens: Tokens of a step's value at the most.
        batch: Whether the calls of a wave go to the model as one batch; if None, where the model runs on this machine.
        warm_tokens: From this length on a prefix that several calls of a wave share is sent once before them, so that
            they find it in the provider's cache; None to never do so. Batches need no warming.
    """

    concurrency: int = 4
    step_timeout: float | None = 120.0
    retries: int = 2
    retry_wait: float = 1.0
    max_tokens: int = 512
    batch: bool | None = None
    warm_tokens: int | None = 1024
    _gate: Gate = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name, least in (("concurrency", 1), ("retries", 0), ("max_tokens", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InvalidInputError(f"`{name}` must be a whole number of {least} or more, got {value!r}")
        if self.step_timeout is not None and not 0 < self.step_timeout < float("inf"):
            raise InvalidInputError(f"`step_timeout` must be a number of seconds above 0, got {self.step_timeout!r}")
        if not 0 <= self.retry_wait < float("inf"):
            raise InvalidInputError(f"`retry_wait` must be a number of seconds of 0 or more, got {self.retry_wait!r}")
        object.__setattr__(self, "_gate", Gate(self.concurrency))

    def caller(
        self, model: LanguageModel, *, memory: Memory | None = None, cancellation: Cancellation | None = None
    ) -> Caller:
        """What makes the calls of one question, within the limit of all.

        Args:
            model: The model, with a budget before it if there is one.
            memory: Where answers are found and kept.
            cancellation: What calls the question off.

        Returns:
            A caller.
        """
        settings = CallSettings(
            step_timeout=self.step_timeout,
            retries=self.retries,
            retry_wait=self.retry_wait,
            batch=self.batches(model),
            warm_tokens=self.warm_tokens,
        )
        return Caller(model, self._gate, settings, memory=memory, cancellation=cancellation)

    def batches(self, model: LanguageModel) -> bool:
        """Whether the calls of a wave go to this model as one batch."""
        if self.batch is not None:
            return self.batch
        return is_named(model.name) or model.name.startswith("hf:")

    def run(self, plan: Plan, view: View | None, caller: Caller, *, question: str = "") -> Iterator[StepRun]:
        """Run a plan wave by wave.

        A step that fails fails alone; the steps that need its value are skipped, all others run.

        Args:
            plan: The plan.
            view: The document; None where no step reads it.
            caller: What makes the calls.
            question: The question, for a step that answers it.

        Yields:
            The steps, each as soon as its wave is over.
        """
        values: dict[str, str] = {}
        missing: dict[str, str] = {}  # steps without a value, with the step to blame
        lists = _read_as_lists(plan)
        for wave in plan.waves:
            works = {
                step.out: _ModelStep(step, values, view, self.max_tokens, step.out in lists, question).steps()
                for step in wave
                if not is_local(step.action) and not missing.keys() & set(step.reads)
            }
            ended = _drive(works, caller)
            for step in wave:
                blamed = next((missing[name] for name in step.reads if name in missing), None)
                if blamed is not None:
                    done = StepRun(step=step, status="skipped", reason=f"needs the value of {blamed}, which failed")
                elif step.out in ended:
                    done = ended[step.out]
                else:
                    done = _computed(step, values)
                if done.status == "done":
                    values[step.out] = done.value
                else:
                    missing[step.out] = blamed or step.out
                yield done


def _read_as_lists(plan: Plan) -> frozenset[str]:
    """Names of the values that some step takes as a list."""
    return frozenset(
        argument.name
        for step in plan.steps
        for at, argument in enumerate(step.arguments)
        if isinstance(argument, Variable) and step.action.parameter(at) == "LIST"
    )


def _drive(works: Mapping[str, Work], caller: Caller) -> dict[str, StepRun]:
    """Run the works of a wave side by side: in each round, the calls of all of them are made together."""
    ended: dict[str, StepRun] = {}
    asked: dict[str, Sequence[Ask]] = {}

    answers: dict[str, Sequence[Outcome] | None] = dict.fromkeys(works)  # None begins a work
    while answers:
        asked.clear()
        for name, answer in answers.items():
            try:
                asked[name] = next(works[name]) if answer is None else works[name].send(answer)
            except StopIteration as stop:
                ended[name] = stop.value
        outcomes = iter(caller.ask([ask for asks in asked.values() for ask in asks]))
        answers = {name: [next(outcomes) for _ in asks] for name, asks in asked.items()}
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


@dataclass(frozen=True, slots=True)
class _ModelStep:
    """One step that takes a model."""

    step: Step
    values: Mapping[str, str]
    view: View | None
    max_tokens: int
    as_list: bool
    question: str

    def steps(self) -> Work:
        """Make the calls of the step, round by round."""
        try:
            return (yield from self._steps())
        except RagkitError as error:  # what the context could not do; a text that is no model's fault
            return StepRun(step=self.step, status="failed", reason=str(error))

    def _steps(self) -> Work:
        readings = [Reading()]
        if self.step.reads_document:
            if self.view is None:
                raise InvalidInputError(f"{self.step.out} reads the document, but none was given; give `document`")
            readings = yield from self.view.readings(self.step.out, self._words())
        named = self._named_values()
        question = self.question if self.step.action.name == DIRECT else ""
        outcomes = list(
            (
                yield [
                    self._ask(
                        step_prompt(
                            self.step,
                            named,
                            shared=reading.shared,
                            passages=[passage.text for passage in reading.passages],
                            part=reading.part,
                            as_list=self.as_list,
                            question=question,
                        ),
                        "step" if len(readings) == 1 else "window",
                    )
                    for reading in readings
                ]
            )
        )
        passages = tuple(passage for reading in readings for passage in reading.passages)
        failed = next((outcome for outcome in outcomes if isinstance(outcome, Failure)), None)
        if len(readings) > 1 and failed is None:
            parts = [outcome.completion.text for outcome in outcomes if isinstance(outcome, Answered)]
            prompt = merge_prompt(self.step, named, parts, as_list=self.as_list, question=question)
            outcomes += yield [self._ask(prompt, "step")]
        return self._ended(outcomes, passages)

    def _ask(self, prompt: Prompt, purpose: Literal["step", "window"]) -> Ask:
        return Ask(prompt=prompt, purpose=purpose, step=self.step.out, max_tokens=self.max_tokens)

    def _named_values(self) -> dict[str, str]:
        """What each parameter stands for; the document itself is not among them."""
        named: dict[str, str] = {}
        for at, argument in enumerate(self.step.arguments):
            if not isinstance(argument, Ctx):
                value = _value(argument, self.values)
                named[self.step.action.parameter(at)] = value if isinstance(value, str) else written(value)
        return named

    def _words(self) -> str:
        """The step's own words, to retrieve by: its note, its texts, and the beginnings of the values it takes."""
        parts = [self.step.note, *(value[:_WORDS] for value in self._named_values().values())]
        return "\n".join([*parts, self.question] if self.step.action.name == DIRECT else parts)

    def _cut_off(self, answered: Sequence[Answered]) -> str:
        """Say it where an answer is not whole: what is counted or joined from it may be wrong."""
        cut = any(each.completion.finish_reason == "length" for each in answered)
        return f"cut off at {self.max_tokens} tokens; raise `max_tokens` of PlanExecutor" if cut else ""

    def _ended(self, outcomes: Sequence[Outcome], passages: tuple[Passage, ...]) -> StepRun:
        answered = [outcome for outcome in outcomes if isinstance(outcome, Answered)]
        failed = next((outcome for outcome in outcomes if isinstance(outcome, Failure)), None)
        return StepRun(
            step=self.step,
            status="done" if failed is None else "failed",
            value="" if failed is not None else answered[-1].completion.text,
            reason=self._cut_off(answered) if failed is None else failed.reason,
            passages=passages,
            usage=sum((each.completion.usage for each in answered), Usage()),
            seconds=sum(each.completion.seconds for each in answered),
            reused=bool(answered) and all(each.reused for each in answered),
            keys=tuple(each.key for each in answered),
        )
