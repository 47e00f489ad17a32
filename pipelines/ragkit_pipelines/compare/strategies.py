"""Ways of solving a task, one class each, and the names they go by.

A strategy learns from a pool and answers the test inputs. Whatever has a `name` and a `run` is one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from time import perf_counter
from typing import Protocol

from ragkit.errors import InvalidInputError, UnknownSpecError
from ragkit.finetuning import finetune
from ragkit.models.answers import AnswerCache
from ragkit.models.layers import LayeredModel
from ragkit.protocols import Embedder, LanguageModel, Selector
from ragkit.records import Completion, Example, Prompt, field_text
from ragkit.tasks import Task
from ragkit_pipelines.few_shot import FewShot
from ragkit_selectors.loading import SOURCES, load_selector, load_stage


@dataclass(frozen=True)
class Setting:
    """What a strategy works with.

    Attributes:
        task: The task; `task.test` are the rows to answer.
        pool: The examples that may be learned from.
        seed: Seed of everything drawn.
        model: The language model, None where none was given.
        embedder: The embedder.
        folder: Where trained models are kept.
        answers: File of the answers that models gave.
    """

    task: Task
    pool: Sequence[Example]
    seed: int
    model: LanguageModel | None
    embedder: Embedder
    folder: Path
    answers: Path

    def language_model(self, strategy: str) -> LanguageModel:
        """The language model, its answers kept.

        Returns:
            The model.

        Raises:
            InvalidInputError: If none was given.
        """
        if self.model is None:
            raise InvalidInputError(
                f"strategy {strategy!r} needs a language model; give `model` (--model), such as 'tiny'"
            )
        return LayeredModel(self.model, cache=AnswerCache(self.answers))


@dataclass(frozen=True)
class Outcome:
    """Answers to the test rows, in order, and what they took.

    Attributes:
        answers: One answer for each row.
        prompt_tokens: Tokens read, all rows together.
        completion_tokens: Tokens written.
        seconds: Time spent on answering; the time of the first run where answers were kept from it.
        fit_seconds: Time spent on learning.
        cost: Money in US dollars, None where unknown.
        cached_tokens: Those of the tokens read that came from a prompt cache.
        prompts: What the model was asked, one prompt for each row; empty where no model was.
    """

    answers: Sequence[str]
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    fit_seconds: float = 0.0
    cost: float | None = None
    cached_tokens: int = 0
    prompts: Sequence[str] = ()


class Strategy(Protocol):
    """One way of solving a task."""

    @property
    def name(self) -> str:
        """What it is called in the table."""
        ...

    def run(self, setting: Setting) -> Outcome:
        """Learn from the pool and answer the test rows."""
        ...


def _timed(work: Callable[[], list[str]]) -> Outcome:
    started = perf_counter()
    answers = work()
    return Outcome(answers, seconds=perf_counter() - started, cost=0.0)


def _outcome(
    texts: Sequence[str], done: Sequence[Completion], prompts: Sequence[Prompt], *, fit_seconds: float = 0.0
) -> Outcome:
    costs = [completion.cost for completion in done]
    known = [cost for cost in costs if cost is not None]
    return Outcome(
        texts,
        prompt_tokens=sum(completion.usage.prompt_tokens for completion in done),
        completion_tokens=sum(completion.usage.completion_tokens for completion in done),
        seconds=sum(completion.seconds for completion in done),
        fit_seconds=fit_seconds,
        cost=sum(known) if len(known) == len(costs) else None,
        cached_tokens=sum(completion.usage.cached_tokens for completion in done),
        prompts=[prompt.text for prompt in prompts],
    )


@dataclass(frozen=True)
class Majority:
    """The commonest output, whatever is asked."""

    name: str = "majority"

    def run(self, setting: Setting) -> Outcome:
        """Answer every row alike.

        Returns:
            The outcome.
        """
        commonest = Counter(example.output for example in setting.pool).most_common(1)[0][0]
        return _timed(lambda: [commonest] * len(setting.task.test))


@dataclass(frozen=True)
class Tfidf:
    """The classical floor: TF-IDF of words and word pairs, logistic regression."""

    name: str = "tfidf"

    def run(self, setting: Setting) -> Outcome:
        """Fit and classify.

        Returns:
            The outcome.

        Raises:
            InvalidInputError: If all examples have one label.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer

        from ragkit.finetuning.classifier import fit_logistic

        started = perf_counter()
        labels = [example.output for example in setting.pool]
        if len(set(labels)) < 2:
            raise InvalidInputError("strategy 'tfidf' needs examples of two labels at least")
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
        classifier = fit_logistic(vectorizer.fit_transform([example.text() for example in setting.pool]), labels)
        fitted = perf_counter()
        rows = vectorizer.transform([row.text() for row in setting.task.test])
        answers = [str(label) for label in classifier.predict(rows)]
        return Outcome(answers, seconds=perf_counter() - fitted, fit_seconds=fitted - started, cost=0.0)


def _selector(spec: str, setting: Setting) -> Selector:
    return load_selector(spec, setting.pool, embedder=setting.embedder, seed=setting.seed)


@dataclass(frozen=True)
class Vote:
    """The label that most of the chosen examples have; among equals that of the most similar one."""

    selector: str
    k: int = 8

    @property
    def name(self) -> str:
        """``vote:<selector>``, or ``copy:<selector>`` where one example is chosen."""
        return f"{'copy' if self.k == 1 else 'vote'}:{self.selector}"

    def run(self, setting: Setting) -> Outcome:
        """Choose and count.

        Returns:
            The outcome.
        """

        def work() -> list[str]:
            chosen = _selector(self.selector, setting).select_many(
                [row.input for row in setting.task.test], self._k(setting)
            )
            # Counter keeps the order of first sight, and most_common is stable: the most similar wins a draw.
            return [Counter(example.output for example in shown).most_common(1)[0][0] for shown in chosen]

        return _timed(work)

    def _k(self, setting: Setting) -> int:
        return min(self.k, len(setting.pool))


@dataclass(frozen=True)
class Prompting:
    """Ask a language model, with chosen examples or (``selector=None``) without."""

    selector: str | None = None
    k: int = 8
    max_tokens: int = 48

    @property
    def name(self) -> str:
        """``zero-shot`` or ``few-shot:<selector>``."""
        return f"few-shot:{self.selector}" if self.selector else "zero-shot"

    def run(self, setting: Setting) -> Outcome:
        """Choose, ask and read.

        Returns:
            The outcome.
        """
        chooser = _selector(self.selector, setting) if self.selector else None
        model = setting.language_model(self.name)
        k = min(self.k, len(setting.pool))
        pipeline = FewShot.from_task(setting.task, model, chooser, k=k, max_tokens=self.max_tokens)
        answers = pipeline.batch([row.input for row in setting.task.test])
        done = [answer.completion for answer in answers]
        return _outcome([answer.text for answer in answers], done, [answer.prompt for answer in answers])


@dataclass(frozen=True)
class Tuning:
    """Fine-tune the language model on the pool, then ask it without examples.

    Attributes:
        method: ``"lora"`` or ``"full"``.
        epochs: Passes over the pool; if None, three, or more where that would be under 200 steps.
        learning_rate: The highest rate; the library's own choice if None.
        max_tokens: Tokens of an answer at the most.
    """

    method: str = "lora"
    epochs: int | None = None
    learning_rate: float | None = None
    max_tokens: int = 48

    @property
    def name(self) -> str:
        """The method."""
        return self.method

    def run(self, setting: Setting) -> Outcome:
        """Train, or load what was trained before, and ask.

        Returns:
            The outcome.
        """
        if self.method == "full" and setting.model is None:
            return EncoderTuning("full").run(setting)
        model = setting.language_model(self.name)
        assert setting.model is not None  # noqa: S101 - language_model has checked
        tuned = finetune(
            setting.model,
            setting.pool,
            method=self.method,
            output_dir=setting.folder / self.method,
            template=setting.task.template,
            epochs=self.epochs or max(3, ceil(200 / ceil(len(setting.pool) / 16))),
            learning_rate=self.learning_rate,
            seed=setting.seed,
        )
        model = LayeredModel(tuned.model, cache=AnswerCache(setting.answers))
        template = setting.task.template
        prompts = [template.prompt([], row.input) for row in setting.task.test]
        done = model.generate(prompts, max_tokens=self.max_tokens, stop=template.stop)
        return _outcome([template.read_answer(c.text) for c in done], done, prompts, fit_seconds=tuned.manifest.seconds)


@dataclass(frozen=True)
class EncoderTuning:
    """Classify with an encoder: a head on its frozen vectors, or the whole encoder trained."""

    method: str = "classifier-head"
    epochs: int | None = None

    @property
    def name(self) -> str:
        """The method."""
        return self.method

    def run(self, setting: Setting) -> Outcome:
        """Train, or load what was trained before, and classify.

        Returns:
            The outcome.
        """
        tuned = finetune(
            setting.embedder,
            setting.pool,
            method=self.method,
            output_dir=setting.folder / self.method,
            epochs=self.epochs or (2 if len(setting.pool) > 5000 else 4),
            seed=setting.seed,
        )
        started = perf_counter()
        done = tuned.model.generate([row.text() for row in setting.task.test])
        seconds = perf_counter() - started
        return Outcome([c.text for c in done], seconds=seconds, fit_seconds=tuned.manifest.seconds, cost=0.0)


@dataclass(frozen=True)
class Planning:
    """Answer questions about documents by plans; inputs have the fields ``question`` and ``document``.

    Attributes:
        max_tokens: Tokens of a step's value at the most.
        retrieved: Whether steps are shown passages that are found for them; else they are shown the whole document.
    """

    max_tokens: int = 256
    retrieved: bool = False
    name: str = "pearl"

    def run(self, setting: Setting) -> Outcome:
        """Plan, run and, where the task has labels, map the answers to them.

        Returns:
            The outcome.

        Raises:
            InvalidInputError: If an input has other fields.
        """
        from ragkit_pipelines.pearl.context import WholeText
        from ragkit_pipelines.pearl.executor import PlanExecutor
        from ragkit_pipelines.pearl.options import OptionMapper
        from ragkit_pipelines.pearl.pipeline import Pearl
        from ragkit_pipelines.pearl.retrieved import Retrieved

        rows = [row.input for row in setting.task.test]
        if any(isinstance(row, str) or not {"question", "document"} <= set(row) for row in rows):
            raise InvalidInputError("strategy 'pearl' needs inputs with the fields 'question' and 'document'")
        questions, documents = ([field_text(row, name) for row in rows] for name in ("question", "document"))
        model = setting.language_model(self.name)
        pearl = Pearl(
            model,
            executor=PlanExecutor(concurrency=1, max_tokens=self.max_tokens, step_timeout=None),
            context=Retrieved() if self.retrieved else WholeText(),
        )
        runs = pearl.batch(questions, documents)
        answers = [run.text for run in runs]
        labels = setting.task.labels
        if labels:
            choices = OptionMapper(model).map_many([(a, q, labels) for a, q in zip(answers, questions, strict=True)])
            answers = ["" if choice.place is None else labels[choice.place] for choice in choices]
        costs = [run.cost for run in runs]
        return Outcome(
            answers,
            prompt_tokens=sum(run.usage.prompt_tokens for run in runs),
            completion_tokens=sum(run.usage.completion_tokens for run in runs),
            seconds=sum(run.model_seconds for run in runs),
            cost=None if None in costs else sum(cost for cost in costs if cost is not None),
        )


_ALL: tuple[Strategy, ...] = (
    Majority(),
    Tfidf(),
    Prompting(),
    *(Prompting(name) for name in SOURCES),
    *(Vote(name) for name in SOURCES),
    *(Vote(name, k=1) for name in SOURCES),
    Tuning("lora"),
    Tuning("full"),
    EncoderTuning(),
    Planning(),
)
NAMED = {strategy.name: strategy for strategy in _ALL}
FOR_LABELS = ("majority", "tfidf", "vote:jaccard", "vote:bm25", "vote:embedding", "classifier-head", "full")
FOR_TEXT = ("zero-shot", "few-shot:random", "few-shot:jaccard", "few-shot:bm25", "few-shot:embedding", "lora")


def load_strategy(strategy: str | Strategy) -> Strategy:
    """Return the strategy that a name stands for; an object is its own.

    Returns:
        A strategy.

    Raises:
        UnknownSpecError: If no strategy has this name.
    """
    if not isinstance(strategy, str):
        return strategy
    kind, colon, selector = strategy.partition(":")
    if kind in _CHOOSING and colon and _is_selector(selector):
        return _CHOOSING[kind](selector)
    if strategy not in NAMED:
        raise UnknownSpecError("strategy", strategy, NAMED)
    return NAMED[strategy]


_CHOOSING: dict[str, Callable[[str], Strategy]] = {
    "few-shot": Prompting,
    "vote": Vote,
    "copy": lambda selector: Vote(selector, k=1),
}


def _is_selector(spec: str) -> bool:
    """Whether a spec begins with a known selector and all that stands behind it are stages."""
    source, *stages = (part.strip() for part in spec.split("|"))
    for stage in stages:
        load_stage(stage)
    return source in SOURCES
