"""Strategies that retrieve from documents: ``rag`` and ``pearl``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar
from uuid import uuid4

from ragkit.answers._choices import MOST_OPTIONS
from ragkit.errors import InvalidInputError
from ragkit.protocols import LanguageModel, Retriever
from ragkit.records import Completion, Usage, field_text
from ragkit.tasks import Task
from ragkit_pipelines.compare.documents import Library
from ragkit_pipelines.compare.strategies.base import Outcome, Setting, outcome_of, sum_known
from ragkit_pipelines.rag.answers import without_marks
from ragkit_pipelines.rag.pipeline import RetrieveThenAnswer
from ragkit_pipelines.rag.styles import StyleName, style_named

# Metrics that compare the words of an answer with those of a short expected answer.
_SHORT_METRICS = ("macro_f1", "mcc", "exact_match", "accuracy", "f1", "choice", "number")
_SHORT_ANSWER = 8  # words


@dataclass(frozen=True)
class Rag:
    """Retrieve passages for each test row and answer from them, without in-context examples of the task.

    The prompt contains the instruction and the labels of the task. It asks for a few words if the expected answers are
    short and the metric compares words, as exact match and F1 do, and otherwise for sentences with citations, which are
    removed before scoring. Invented demonstrations show the form of an answer, unless the task has labels.

    Attributes:
        retriever: The retriever; the documents of the comparison if None. The content of a custom retriever is unknown,
            so a resumed comparison retrieves again, but responses to equal prompts are cached.
        k: Number of passages per row.
        max_tokens: Maximum number of tokens of an answer; fits the longest output of the pool if None.
        style: Style of the answers, as of `RetrieveThenAnswer`; determined by the metric if None.
    """

    retriever: Retriever | None = None
    needs_model: ClassVar[bool] = True
    k: int = 5
    max_tokens: int | None = None
    style: StyleName | None = None

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InvalidInputError(f"`k` of Rag must be at least 1, got {self.k}")
        if self.style is not None:
            style_named(self.style)
        if self.retriever is not None and not isinstance(self.retriever, Library):
            object.__setattr__(self, "retriever", Library(self.retriever, uuid4().hex))

    @property
    def name(self) -> str:
        """``rag``, with ``@<k>`` if k is not 5."""
        return "rag" if self.k == 5 else f"rag@{self.k}"

    def needs_documents(self, _task: Task) -> bool:
        """Whether it has no retriever of its own."""
        return self.retriever is None

    def run(self, setting: Setting) -> Outcome:
        """Retrieve, prompt the model and read the answers; the note counts those not found in the passages."""
        task = setting.task
        retriever = self.retriever or setting.documents
        assert retriever is not None  # noqa: S101 - `check_strategies` has checked
        model = setting.language_model(self.name)
        style = style_named(self.style or _style_of(task))
        pipeline = RetrieveThenAnswer(
            model,
            retriever,
            self.k,
            style=style.name,
            examples=() if task.labels else None,
            max_tokens=setting.answer_tokens(self.max_tokens),
            instruction="\n\n".join(filter(None, (task.template.for_model(model).task, style.instruction()))),
        )
        found = pipeline.batch([row.text() for row in task.test])
        texts = [task.template.read_answer(without_marks(answer.text)) for answer in found]
        done = [answer.completion for answer in found if answer.completion is not None]
        prompts = ["" if answer.prompt is None else answer.prompt for answer in found]
        outcome = outcome_of(texts, done, prompts, model)
        missing = f"{sum(answer.refused for answer in found)} of {len(found)} answers not found in the documents"
        return replace(
            outcome,
            labels=0,
            seconds=outcome.seconds + sum(answer.seconds.get("retrieve", 0.0) for answer in found),
            note="; ".join(filter(None, (missing, outcome.note))),
        )


def _style_of(task: Task) -> StyleName:
    """Return the style of the answers that the metric of a task scores."""
    outputs = [row.output.strip() for row in task.examples]
    short = all("\n" not in output and len(output.split()) <= _SHORT_ANSWER for output in outputs)
    compares = isinstance(task.metric, str) and task.metric in _SHORT_METRICS
    return "short" if task.labels or (compares and short) else "cited"


@dataclass(frozen=True)
class Planning:
    """Answer questions about documents with PEARL plans.

    Inputs have the fields ``question`` and ``document``, or are questions about the documents of the comparison.

    Attributes:
        max_steps: Maximum number of steps of a plan; the default of `PromptPlanner` if None.
        max_tokens: Maximum number of tokens of a step's value.
        retrieved: Whether steps receive retrieved passages instead of the whole document.
        plan_tokens: Maximum number of tokens that planning one question generates.
        plan_seconds: Maximum duration of the calls that plan one question; None for no limit.
        step_seconds: Timeout of a call to an API in seconds; None for no limit.
    """

    needs_model: ClassVar[bool] = True
    max_steps: int | None = None
    max_tokens: int = 256
    retrieved: bool = False
    plan_tokens: int = 2048
    plan_seconds: float | None = 300.0
    step_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.max_steps is not None and self.max_steps < 1:
            raise InvalidInputError(f"`max_steps` of Planning must be at least 1, got {self.max_steps}")

    @property
    def name(self) -> str:
        """``pearl``, with ``:<max_steps>`` if there is a limit."""
        return "pearl" if self.max_steps is None else f"pearl:{self.max_steps}"

    def check(self, task: Task, _model: LanguageModel | None) -> None:
        """Raise an error if the inputs are not questions, or there are too many labels."""
        if task.labels and len(task.labels) > MOST_OPTIONS:
            raise InvalidInputError(
                f"strategy 'pearl' supports at most {MOST_OPTIONS} labels, but the task has {len(task.labels)}; "
                "remove 'pearl' from the strategies"
            )
        if any(not isinstance(row.input, str) and "question" not in row.input for row in task.test):
            raise InvalidInputError(
                "strategy 'pearl' needs inputs that are questions, or that have the fields 'question' and 'document'"
            )

    def needs_documents(self, task: Task) -> bool:
        """Whether an input has no document."""
        return any(isinstance(row.input, str) or "document" not in row.input for row in task.test)

    def run(self, setting: Setting) -> Outcome:
        """Make and run plans, and map the answers to the labels of the task, if any."""
        from ragkit_pipelines.pearl.pipeline import Pearl
        from ragkit_pipelines.pearl.plan.planner import PromptPlanner
        from ragkit_pipelines.pearl.run.context import WholeText
        from ragkit_pipelines.pearl.run.executor import PlanExecutor
        from ragkit_pipelines.pearl.run.option_mapper import OptionMapper
        from ragkit_pipelines.pearl.run.retrieval_contexts import Retrieved
        from ragkit_pipelines.pearl.run.run import Run

        rows = setting.queries
        questions = [row if isinstance(row, str) else field_text(row, "question") for row in rows]
        library = setting.documents if self.needs_documents(setting.task) else None
        documents = None if library else [field_text(row, "document") for row in rows]
        model = setting.language_model(self.name)
        pearl = Pearl(
            model,
            planner=PromptPlanner(max_steps=self.max_steps, total_tokens=self.plan_tokens, seconds=self.plan_seconds),
            executor=PlanExecutor(concurrency=1, max_tokens=self.max_tokens, step_timeout=self.step_seconds),
            context=Retrieved(library) if self.retrieved or library else WholeText(),
        )
        runs = pearl.batch(questions, documents)
        answers = [run.text for run in runs]
        labels = setting.task.labels
        mapper = OptionMapper(model)
        if labels:
            choices = mapper.map_many([(a, q, labels) for a, q in zip(answers, questions, strict=True)])
            answers = ["" if choice.place is None else labels[choice.place] for choice in choices]
        calls: list[Run | Completion] = [*runs, *mapper.replies]
        usage = sum((each.usage for each in calls), Usage())
        return Outcome(
            answers,
            labels=0,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            seconds=sum(run.model_seconds for run in runs) + sum(reply.seconds for reply in mapper.replies),
            cost=sum_known([each.cost for each in calls]),
            cached_tokens=usage.cached_tokens,
            note=f"{sum(run.planning.source == 'planner' for run in runs)} of {len(runs)} questions answered by a plan",
        )
