"""What a strategy works with, what it gives back, and what makes an object one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Literal, Protocol, runtime_checkable

from ragkit.errors import InvalidInputError
from ragkit.models.budget import Budget
from ragkit.models.middleware import LayeredModel
from ragkit.models.prompts import in_form, prompt_text
from ragkit.models.response_cache import AnswerCache
from ragkit.protocols import AnyPrompt, Embedder, LanguageModel, Selector
from ragkit.records import Completion, Example
from ragkit.tasks import Task
from ragkit_pipelines.few_shot import Answer
from ragkit_selectors.loading import load_selector

Varied = Literal["data", "model", "order"]
VARIED: tuple[Varied, ...] = ("data", "model", "order")
SHOTS = 8  # examples that are chosen where a name does not say how many
_LEAST_TOKENS = 48  # room for a short answer with some words around it


@dataclass(frozen=True)
class Setting:
    """What a strategy works with.

    Attributes:
        task: The task; `task.test` are the rows to answer.
        pool: The examples that may be learned from.
        seed: The run; the seed of everything that is not held.
        model: The language model, None where none was given.
        embedder: The embedder.
        folder: Where trained models are kept.
        answers: File of the answers that models gave.
        trials: Settings that each strategy which can be tuned may try on held-out examples; 0 for none.
        budget: What calls of models may take, all strategies together.
        held: Seeds of ``"data"``, ``"model"`` or ``"order"`` that all runs share.
    """

    task: Task
    pool: Sequence[Example]
    seed: int
    model: LanguageModel | None
    embedder: Embedder
    folder: Path
    answers: Path
    trials: int = 0
    budget: Budget | None = None
    held: Mapping[Varied, int] = field(default_factory=dict)

    def seed_of(self, what: Varied) -> int:
        """The seed that decides one thing.

        Args:
            what: ``"data"`` for what is drawn of the pool and held out of it, ``"model"`` for training and the search
                for a prompt, ``"order"`` for selectors that draw by chance.

        Returns:
            The seed.
        """
        return self.held.get(what, self.seed)

    def language_model(self, strategy: str) -> LayeredModel:
        """The language model, with its responses cached.

        Returns:
            The model.

        Raises:
            InvalidInputError: If none was given.
        """
        if self.model is None:
            raise InvalidInputError(
                f"strategy {strategy!r} needs a language model; give `model` (--model), such as 'tiny'"
            )
        return self.kept(self.model)

    def kept(self, model: LanguageModel) -> LayeredModel:
        """A model whose answers are kept.

        Returns:
            The model.
        """
        return LayeredModel(model, cache=AnswerCache(self.answers), budget=self.budget)

    def answer_tokens(self, given: int | None) -> int:
        """Tokens that an answer may take: as given, else room for the longest output of the pool, 48 at least.

        Returns:
            The number, the same for every strategy that asks the same model.
        """
        if given is not None:
            return given
        if self.model is None:
            return _LEAST_TOKENS
        longest = sorted({row.output for row in self.pool}, key=len)[-8:]
        return max(_LEAST_TOKENS, 8 + max(map(self.model.count_tokens, longest)))

    def held_out(self, strategy: str) -> tuple[list[Example], list[Example]]:
        """Divide the pool to tune on it: the same way for every strategy, so that all tune on the same rows.

        Returns:
            Four fifths to learn from, and the rest, 100 at the most, to try settings on.

        Raises:
            InvalidInputError: If the pool has fewer than 10 examples.
        """
        size = len(self.pool)
        if size < 10:
            raise InvalidInputError(
                f"strategy {strategy!r} tries settings on a part of the pool; expected 10 examples at least, got {size}"
            )
        dev = set(Random(f"held out {self.seed_of('data')}").sample(range(size), min(100, size // 5)))
        return (
            [row for place, row in enumerate(self.pool) if place not in dev],
            [self.pool[place] for place in sorted(dev)],
        )

    def on(self, pool: Sequence[Example], test: Sequence[Example]) -> Setting:
        """The same setting with other rows.

        Returns:
            A setting whose task is judged on ``test``.
        """
        return replace(self, pool=pool, task=replace(self.task, test=test))


@dataclass(frozen=True)
class Outcome:
    """Answers to the test rows, in order, and what they took.

    Attributes:
        answers: One answer for each row.
        prompt_tokens: Tokens read, all rows together.
        completion_tokens: Tokens written.
        seconds: Time spent on answering; the time of the first run where answers were kept from it.
        fit_seconds: Time spent on learning.
        cost: Money for answering in US dollars, None where unknown.
        fit_tokens: Tokens that learning took: those trained on, and those read and written to try settings.
        fit_cost: Money for calls that learning made, None where unknown.
        trials: Settings that were tried.
        note: What was chosen or found on the way, for a reader.
        cached_tokens: Those of the tokens read that came from a prompt cache.
        prompts: What the model was asked, one prompt for each row; empty where no model was.
        trained_tokens: Those of the tokens of learning that were trained on, each epoch counted.
        trained_flops: Floating-point operations of training, None where they were not counted.
        labels: Labelled examples that were used; the whole pool if None.
        confidence: The probability, 0 to 1, that the strategy itself gives to each answer; empty where it gives none.
        unreadable: Number of completions that did not contain an answer of the expected form; None if no completion
            was read.
    """

    answers: Sequence[str]
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    fit_seconds: float = 0.0
    cost: float | None = None
    fit_tokens: int = 0
    fit_cost: float | None = 0.0
    trials: int = 0
    note: str = ""
    cached_tokens: int = 0
    prompts: Sequence[str] = ()
    trained_tokens: int = 0
    trained_flops: float | None = 0.0
    labels: int | None = None
    confidence: Sequence[float] = ()
    unreadable: int | None = None

    def after(self, *earlier: Outcome) -> Outcome:
        """This outcome with all that others took counted as learning.

        Args:
            *earlier: Outcomes of settings that were tried.

        Returns:
            The outcome.
        """
        return replace(
            self,
            fit_seconds=self.fit_seconds + sum(done.seconds + done.fit_seconds for done in earlier),
            fit_tokens=self.fit_tokens
            + sum(done.prompt_tokens + done.completion_tokens + done.fit_tokens for done in earlier),
            fit_cost=sum_known([self.fit_cost, *(part for done in earlier for part in (done.cost, done.fit_cost))]),
            trained_tokens=self.trained_tokens + sum(done.trained_tokens for done in earlier),
            trained_flops=sum_known([done.trained_flops for done in (self, *earlier)]),
            trials=self.trials + len(earlier),
        )


def sum_known(values: Sequence[float | None]) -> float | None:
    """The sum, None where one of the values is.

    Returns:
        A number or None.
    """
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def mean_known(values: Sequence[float | None]) -> float | None:
    """The mean, None where one of the values is.

    Returns:
        A number or None.
    """
    total = sum_known(values)
    return None if total is None else total / len(values)


class Strategy(Protocol):
    """One way of solving a task; a class attribute ``needs_model = True`` says that it needs a language model."""

    @property
    def name(self) -> str:
        """What it is called in the table."""
        ...

    def run(self, setting: Setting) -> Outcome:
        """Learn from the pool and answer the test rows."""
        ...


def at_k(k: int) -> str:
    """How a strategy's name says the number of examples.

    Returns:
        ``@<k>``; nothing where it is the usual one.
    """
    return "" if k == SHOTS else f"@{k}"


def timed(work: Callable[[], list[str]]) -> Outcome:
    """The answers that some work gives, with the time it took; it costs no money.

    Returns:
        The outcome.
    """
    started = perf_counter()
    answers = work()
    return Outcome(answers, seconds=perf_counter() - started, cost=0.0)


def outcome_of(
    texts: Sequence[str],
    done: Sequence[Completion],
    prompts: Sequence[AnyPrompt],
    model: LanguageModel,
    *,
    fit_seconds: float = 0.0,
    unreadable: int | None = None,
) -> Outcome:
    """The outcome of querying a model.

    Args:
        texts: Answers as they are scored.
        done: The completions, with tokens, cost and seconds.
        prompts: The prompts.
        model: The model.
        fit_seconds: Time spent on learning.
        unreadable: Number of completions without an answer of the expected form.

    Returns:
        The outcome; its cost is None if one of the completions has none.
    """
    return Outcome(
        texts,
        prompt_tokens=sum(completion.usage.prompt_tokens for completion in done),
        completion_tokens=sum(completion.usage.completion_tokens for completion in done),
        seconds=sum(completion.seconds for completion in done),
        fit_seconds=fit_seconds,
        cost=sum_known([completion.cost for completion in done]),
        cached_tokens=sum(completion.usage.cached_tokens for completion in done),
        prompts=shown_prompts(prompts, model),
        unreadable=unreadable,
    )


def answered(answers: Sequence[Answer], model: LanguageModel) -> Outcome:
    """The outcome of few-shot answers, with the number of those that could not be read."""
    return outcome_of(
        [answer.text for answer in answers],
        [answer.completion for answer in answers],
        [answer.prompt for answer in answers],
        model,
        unreadable=sum(not answer.readable for answer in answers),
    )


def shown_prompts(prompts: Sequence[AnyPrompt], model: LanguageModel) -> list[str]:
    """Prompts as text, in the form that the model was given: chat turns follow each other after their roles."""
    chat = model.capabilities.chat
    return [prompt_text(in_form(each, chat=True, name=model.name) if chat else each) for each in prompts]


@runtime_checkable
class Checked(Protocol):
    """A strategy that can say, before anything is run, that it does not fit the task."""

    def check(self, task: Task, model: LanguageModel | None, /) -> None:
        """Raise `InvalidInputError` where it cannot run."""
        ...


def need_model(strategy: str, model: LanguageModel | None) -> None:
    """Refuse to go on without a language model.

    Raises:
        InvalidInputError: If there is none.
    """
    if model is None:
        raise InvalidInputError(f"strategy {strategy!r} needs a language model; give `model` (--model), such as 'tiny'")


def selector_of(spec: str, setting: Setting) -> Selector:
    """The selector that a spec stands for, over the pool.

    Returns:
        A selector.
    """
    return load_selector(spec, setting.pool, embedder=setting.embedder, seed=setting.seed_of("order"))
