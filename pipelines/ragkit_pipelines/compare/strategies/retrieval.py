"""Strategies that look things up in documents: retrieve and answer, and plan and answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, runtime_checkable
from uuid import uuid4

from ragkit.errors import InvalidInputError
from ragkit.options import MOST_OPTIONS
from ragkit.protocols import LanguageModel, Retriever
from ragkit.records import Completion, Usage, field_text
from ragkit.tasks import Task
from ragkit_pipelines.compare.documents import AnyDocuments, Library
from ragkit_pipelines.compare.strategies.base import Outcome, Setting, Strategy, need_model, outcome_of, sum_known
from ragkit_pipelines.rag.answers import without_marks
from ragkit_pipelines.rag.pipeline import RetrieveThenAnswer
from ragkit_pipelines.rag.prompts import INSTRUCTION


@runtime_checkable
class Reading(Protocol):
    """A strategy that looks things up."""

    @property
    def name(self) -> str:
        """What it is called in the table."""
        ...

    def reads(self, task: Task, /) -> bool:
        """Whether it needs the documents of the comparison for this task."""
        ...

    def over(self, library: Library, /) -> Strategy:
        """The same strategy over these documents."""
        ...


def check_documents(strategies: Sequence[Strategy], task: Task, documents: AnyDocuments | None) -> None:
    """Refuse to go on without documents that are needed, or with some that nobody needs.

    Raises:
        InvalidInputError: If that is so.
    """
    found = [each.name for each in strategies if isinstance(each, Reading) and each.reads(task)]
    if found and documents is None:
        raise InvalidInputError(
            f"strategy {found[0]!r} looks things up; give `documents` (--docs): a folder, a file, a list of passages, "
            "an Index or a retriever; inputs with the fields 'question' and 'document' need none for 'pearl'"
        )
    if documents is not None and not found:
        raise InvalidInputError("`documents` are given, but no strategy looks anything up in them; add 'rag'")


def over_documents(strategies: Sequence[Strategy], task: Task, library: Library) -> list[Strategy]:
    """Give documents to the strategies that need them.

    Returns:
        All strategies in their order.
    """
    return [each.over(library) if isinstance(each, Reading) and each.reads(task) else each for each in strategies]


@dataclass(frozen=True)
class Rag:
    """Retrieve passages for each test row and answer from them, without examples of the pool.

    The model is told the task's instruction and to cite; the marks are taken off before an answer is scored.

    Attributes:
        retriever: What finds passages; the documents of the comparison if None. Nobody can know what a retriever of
            your own holds, so it is searched again when a comparison goes on; equal prompts are not asked again.
        k: Passages that are found for a row.
        max_tokens: Tokens of an answer at the most; room for the longest output of the pool if None.
    """

    retriever: Retriever | None = None
    needs_model: ClassVar[bool] = True
    k: int = 5
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InvalidInputError(f"`k` of Rag must be 1 or more, got {self.k}")
        if self.retriever is not None and not isinstance(self.retriever, Library):
            object.__setattr__(self, "retriever", Library(self.retriever, uuid4().hex))

    @property
    def name(self) -> str:
        """``rag``, with ``@<k>`` where k is not 5."""
        return "rag" if self.k == 5 else f"rag@{self.k}"

    def check(self, _task: Task, model: LanguageModel | None) -> None:
        """Refuse to run without a model."""
        need_model(self.name, model)

    def reads(self, _task: Task) -> bool:
        """Whether it was given no retriever of its own.

        Returns:
            Whether it needs documents.
        """
        return self.retriever is None

    def over(self, library: Library) -> Rag:
        """The same over these documents.

        Returns:
            A strategy.
        """
        return replace(self, retriever=library)

    def run(self, setting: Setting) -> Outcome:
        """Find, ask and read.

        Returns:
            The outcome; its note says how often the model found no answer in the passages.
        """
        task = setting.task
        assert self.retriever is not None  # noqa: S101 - `check_documents` has checked
        model = setting.language_model(self.name)
        pipeline = RetrieveThenAnswer(
            model,
            self.retriever,
            self.k,
            max_tokens=setting.answer_tokens(self.max_tokens),
            instruction=f"{task.instruction}\n\n{INSTRUCTION}" if task.instruction else INSTRUCTION,
        )
        found = pipeline.batch([row.text() for row in task.test])
        texts = [task.template.read_answer(without_marks(answer.text)) for answer in found]
        done = [answer.completion for answer in found if answer.completion is not None]
        prompts = ["" if answer.prompt is None else answer.prompt for answer in found]
        outcome = outcome_of(texts, done, prompts, model)
        return replace(
            outcome,
            labels=0,
            seconds=outcome.seconds + sum(answer.seconds.get("retrieve", 0.0) for answer in found),
            note=f"{sum(answer.refused for answer in found)} of {len(found)} answers not found in the documents",
        )


@dataclass(frozen=True)
class Planning:
    """Answer questions about documents by plans.

    Inputs have the fields ``question`` and ``document``, or are questions about the documents of the comparison.

    Attributes:
        max_tokens: Tokens of a step's value at the most.
        retrieved: Whether steps are shown passages that are found for them; else they are shown the whole document.
        library: What steps look things up in where inputs are questions alone; the documents of the comparison.
    """

    needs_model: ClassVar[bool] = True
    max_tokens: int = 256
    retrieved: bool = False
    name: str = "pearl"
    library: Library | None = None

    def check(self, task: Task, model: LanguageModel | None) -> None:
        """Refuse to run without a model, or on inputs that are no questions.

        Raises:
            InvalidInputError: If an input has other fields, or there are more labels than letters.
        """
        need_model(self.name, model)
        if task.labels and len(task.labels) > MOST_OPTIONS:
            raise InvalidInputError(
                f"strategy 'pearl' maps its answers to {MOST_OPTIONS} labels at most, the task has {len(task.labels)}; "
                "leave it out"
            )
        if any(not isinstance(row.input, str) and "question" not in row.input for row in task.test):
            raise InvalidInputError(
                "strategy 'pearl' needs inputs that are questions, or have the fields 'question' and 'document'"
            )

    def reads(self, task: Task) -> bool:
        """Whether an input comes without a document of its own.

        Returns:
            Whether it needs documents.
        """
        return any(isinstance(row.input, str) or "document" not in row.input for row in task.test)

    def over(self, library: Library) -> Planning:
        """The same over these documents.

        Returns:
            A strategy.
        """
        return replace(self, library=library)

    def run(self, setting: Setting) -> Outcome:
        """Plan, run and, where the task has labels, map the answers to them.

        Returns:
            The outcome.
        """
        from ragkit_pipelines.pearl.pipeline import Pearl
        from ragkit_pipelines.pearl.run.context import WholeText
        from ragkit_pipelines.pearl.run.executor import PlanExecutor
        from ragkit_pipelines.pearl.run.option_mapper import OptionMapper
        from ragkit_pipelines.pearl.run.retrieval_contexts import Retrieved
        from ragkit_pipelines.pearl.run.run import Run

        rows = [row.input for row in setting.task.test]
        questions = [row if isinstance(row, str) else field_text(row, "question") for row in rows]
        documents = None if self.library else [field_text(row, "document") for row in rows]
        model = setting.language_model(self.name)
        pearl = Pearl(
            model,
            executor=PlanExecutor(concurrency=1, max_tokens=self.max_tokens, step_timeout=None),
            context=Retrieved(self.library) if self.retrieved or self.library else WholeText(),
        )
        runs = pearl.batch(questions, documents)
        answers = [run.text for run in runs]
        labels = setting.task.labels
        mapper = OptionMapper(model)
        if labels:
            choices = mapper.map_many([(a, q, labels) for a, q in zip(answers, questions, strict=True)])
            answers = ["" if choice.place is None else labels[choice.place] for choice in choices]
        took: list[Run | Completion] = [*runs, *mapper.replies]
        usage = sum((each.usage for each in took), Usage())
        return Outcome(
            answers,
            labels=0,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            seconds=sum(run.model_seconds for run in runs) + sum(reply.seconds for reply in mapper.replies),
            cost=sum_known([each.cost for each in took]),
            cached_tokens=usage.cached_tokens,
        )
