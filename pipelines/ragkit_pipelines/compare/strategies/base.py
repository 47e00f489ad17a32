"""The strategy protocol, its setting and its outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Literal, Protocol, runtime_checkable

from ragkit._call_site import warn_caller
from ragkit.errors import InvalidInputError, SmallPoolWarning
from ragkit.models._budget import Budget
from ragkit.models._middleware import LayeredModel
from ragkit.models._prompts import in_form, prompt_text
from ragkit.models._response_cache import AnswerCache
from ragkit.protocols import AnyPrompt, Embedder, LanguageModel, Retriever, Selector
from ragkit.records import Completion, Example, Fields, Usage
from ragkit.tasks import Task
from ragkit_pipelines.compare.statistics.costs import cache_saving
from ragkit_pipelines.compare.strategies.calls import CallCounter
from ragkit_pipelines.compare.strategies.timing import Clock
from ragkit_pipelines.few_shot import Answer, FewShot
from ragkit_selectors.loading import load_selector

Varied = Literal["data", "model", "order"]
VARIED: tuple[Varied, ...] = ("data", "model", "order")
SHOTS = 8  # default number of in-context examples
_SHOWN_REASONS = 3  # why answers are unreadable
_LEAST_TOKENS = 48  # enough for a short answer within a sentence


@dataclass(frozen=True)
class Setting:
    """The setting in which a strategy runs.

    Attributes:
        task: The task; the strategy answers the rows of `task.test`.
        pool: The examples for training and selection.
        seed: Seed of the run, for everything that is not in ``held``.
        model: The language model, or None.
        embedder: The embedder.
        folder: Folder for trained models.
        answers: File of the cached responses.
        trials: Number of settings that a tunable strategy may try on held-out examples; 0 for none.
        budget: Limits of the model calls of all strategies together.
        held: Seeds of ``"data"``, ``"model"`` or ``"order"`` that are the same in all runs.
        documents: The documents to retrieve from, or None.
        clock: The clock by which strategies measure fitting and prediction.
        calls: Counts the calls of the models that `language_model` and `cached` return, and reports their progress.
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
    documents: Retriever | None = None
    clock: Clock = field(default_factory=Clock)
    calls: CallCounter = field(default_factory=CallCounter)

    def seed_of(self, what: Varied) -> int:
        """Return the seed of one source of randomness: ``"data"``, ``"model"`` or ``"order"``; see `CompareOptions`."""
        return self.held.get(what, self.seed)

    def within_pool(self, k: int, strategy: str) -> int:
        """Return ``k``, or the size of the pool if it is smaller; if the user chose the number, with a warning."""
        size = len(self.pool)
        if k > size and k != SHOTS:
            warn_caller(
                SmallPoolWarning(f"{strategy}: {k} examples were requested, but the pool has {size}; {size} are used")
            )
        return min(k, size)

    @property
    def queries(self) -> list[str | Fields]:
        """The inputs of the test rows."""
        return [row.input for row in self.task.test]

    def language_model(self, strategy: str) -> LayeredModel:
        """Return the language model with cached responses.

        Returns:
            The model.

        Raises:
            InvalidInputError: If none was given.
        """
        return self.cached(need_model(strategy, self.model))

    def cached(self, model: LanguageModel) -> LayeredModel:
        """Wrap a model with the response cache, the budget and the progress of its calls."""
        cache, progress = AnswerCache(self.answers), self.calls.observe
        return LayeredModel(model, cache=cache, budget=self.budget, progress=progress)

    def answer_tokens(self, given: int | None) -> int:
        """Return the token limit of answers: as given, or enough for the longest output of the pool (at least 48)."""
        if given is not None:
            return given
        if self.model is None:
            return _LEAST_TOKENS
        longest = sorted({row.output for row in self.pool}, key=len)[-8:]
        return max(_LEAST_TOKENS, 8 + max(map(self.model.count_tokens, longest)))

    def held_out(self, strategy: str) -> tuple[list[Example], list[Example]]:
        """Split the pool for tuning into four fifths and at most 100 held-out examples, equally for all strategies.

        Returns:
            Training examples and held-out examples.

        Raises:
            InvalidInputError: If the pool has fewer than 10 examples.
        """
        size = len(self.pool)
        if size < 10:
            raise InvalidInputError(
                f"strategy {strategy!r} holds out a part of the pool and needs at least 10 examples, got {size}"
            )
        dev = set(Random(f"held out {self.seed_of('data')}").sample(range(size), held_out_rows(size)))
        return (
            [row for index, row in enumerate(self.pool) if index not in dev],
            [self.pool[index] for index in sorted(dev)],
        )

    def on(self, pool: Sequence[Example], test: Sequence[Example]) -> Setting:
        """Return the same setting with another pool and other test rows."""
        return replace(self, pool=pool, task=replace(self.task, test=test))

    def overall_score(self, answers: Sequence[str]) -> float:
        """Return the score of the answers to all test rows: the mean, or the value of a set-level metric."""
        return self.task.overall_score(answers)

    def selector(self, spec: str) -> tuple[Selector, float]:
        """Load a selector over the pool by its spec.

        Returns:
            The selector, and the seconds that it took to fit it to the pool, including the embeddings of the pool.
        """
        with self.clock.paused():  # imports libraries and compiles kernels
            self._load_selector(spec, self.pool[:2]).select_many(self.queries[:1], 1)
        started = self.clock.now()
        selector = self._load_selector(spec, self.pool)
        return selector, self.clock.now() - started

    def _load_selector(self, spec: str, pool: Sequence[Example]) -> Selector:
        return load_selector(spec, pool, embedder=self.embedder, seed=self.seed_of("order"))


def held_out_rows(size: int) -> int:
    """Return the number of examples that `Setting.held_out` holds out of a pool."""
    return min(100, size // 5)


@dataclass(frozen=True)
class Outcome:
    """Answers to the test rows, in order, with their usage and cost.

    Attributes:
        answers: One answer per row.
        prompt_tokens: Prompt tokens of all rows.
        completion_tokens: Completion tokens of all rows.
        seconds: Prediction time, selection and retrieval included; for cached responses and embeddings, the time of the
            original calls.
        fit_seconds: Time for everything that is done once for a pool: training, tuning, embedding and indexing.
        cost: Cost of prediction in US dollars, or None if unknown.
        fit_tokens: Tokens of training, and of the calls that tried settings.
        fit_cost: Cost of the calls made during fitting in US dollars, or None if unknown.
        trials: Number of settings tried.
        note: Settings that were selected, or other remarks.
        cached_tokens: Prompt tokens that came from a prompt cache.
        prompts: The prompts, one per row; empty if no model was called.
        trained_tokens: The part of ``fit_tokens`` that was trained on, counted once per epoch.
        trained_flops: FLOPs of training, or None if they were not counted.
        labels: Number of labelled examples used; the whole pool if None.
        confidence: The probability, 0 to 1, that the strategy assigns to each answer; empty if it returns none.
        confidence_kind: What the confidence is, for the table of calibration, such as "share of 5 samples".
        unreadable: Number of completions that did not contain an answer of the expected form; None if no completion
            was read.
        samples: Number of completions per row.
        unreadable_rows: The indices of the test rows with such completions; empty if they are not known.
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
    confidence_kind: str = ""
    unreadable: int | None = None
    samples: int = 1
    unreadable_rows: Sequence[int] = ()

    def after(self, *earlier: Outcome) -> Outcome:
        """Add the usage and cost of earlier outcomes, of the settings that were tried, to the fitting of this one."""
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
    """Return the sum, or None if a value is None."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def mean_known(values: Sequence[float | None]) -> float | None:
    """Return the mean, or None if a value is None."""
    total = sum_known(values)
    return None if total is None else total / len(values)


class Strategy(Protocol):
    """A strategy for a task. The class attribute ``needs_model = True`` declares that it needs a language model."""

    @property
    def name(self) -> str:
        """The name in the table."""
        ...

    def run(self, setting: Setting) -> Outcome:
        """Fit on the pool and answer the test rows."""
        ...


def at_k(k: int) -> str:
    """Return the end of a strategy's name for the number of examples: ``@<k>``, or nothing for the default number."""
    return "" if k == SHOTS else f"@{k}"


def timed(work: Callable[[], list[str]]) -> Outcome:
    """Run a function that returns the answers, and measure its time; its cost is 0."""
    clock = Clock()
    started = clock.now()
    answers = work()
    return Outcome(answers, seconds=clock.now() - started, cost=0.0)


def outcome_of(
    texts: Sequence[str],
    done: Sequence[Completion],
    prompts: Sequence[AnyPrompt],
    model: LanguageModel,
    *,
    unreadable_rows: Sequence[int] | None = None,
) -> Outcome:
    """Make the outcome of completions; its cost is None if the cost of a completion is unknown."""
    return Outcome(
        texts,
        prompt_tokens=sum(completion.usage.prompt_tokens for completion in done),
        completion_tokens=sum(completion.usage.completion_tokens for completion in done),
        seconds=sum(completion.seconds for completion in done),
        cost=sum_known([completion.cost for completion in done]),
        cached_tokens=sum(completion.usage.cached_tokens for completion in done),
        prompts=shown_prompts(prompts, model),
        unreadable=None if unreadable_rows is None else len(unreadable_rows),
        unreadable_rows=unreadable_rows or (),
        note=remarks(done, model),
    )


def remarks(done: Sequence[Completion], model: LanguageModel) -> str:
    """Return what a comparison notes about completions: answers that may vary, reasoning and the prompt cache."""
    found = []
    if omitted := sorted({name for completion in done for name in completion.omitted_settings}):
        found.append(f"the model does not accept {' and '.join(omitted)}; its answers may vary between runs")
    if truncated := sum(completion.truncated_in_reasoning for completion in done):
        found.append(f"{truncated} of {len(done)} completions were truncated during reasoning")
    if reasoning := sum(completion.usage.reasoning_tokens for completion in done):
        tokens = sum(completion.usage.completion_tokens for completion in done)
        found.append(f"{reasoning:,} of {tokens:,} completion tokens are reasoning")
    usage = sum((completion.usage for completion in done), Usage())
    saved = cache_saving(model, [completion.usage for completion in done])
    if usage.cached_tokens and saved:
        share = f"{usage.cached_tokens:,} of {usage.prompt_tokens:,} prompt tokens came from the prompt cache"
        found.append(f"{share}, which saved ${saved:.4g}")
    return "; ".join(found)


def prompted(pipeline: FewShot, setting: Setting, *, fit_seconds: float = 0.0) -> Outcome:
    """Answer the test rows with a few-shot pipeline, and count the unreadable completions."""
    started = setting.clock.now()
    prompts = pipeline.prompts(setting.queries)
    selecting = setting.clock.now() - started
    samples = pipeline.voting.samples
    answers = pipeline.answer(prompts, logprobs=samples == 1)
    outcome = outcome_of(
        [answer.text for answer in answers],
        [completion for answer in answers for completion in answer.completions],
        [answer.prompt for answer in answers],
        pipeline.model,
        unreadable_rows=[index for index, answer in enumerate(answers) if not answer.readable],
    )
    reasons = Counter(answer.why for answer in answers if pipeline.answering.reasons and not answer.readable)
    confidence, kind = _confidence(answers, samples)
    unread = [f"{count} unreadable: {why}" for why, count in reasons.most_common(_SHOWN_REASONS)]
    return replace(
        outcome, note="; ".join(filter(None, (outcome.note, *unread))),
        seconds=outcome.seconds + selecting, fit_seconds=fit_seconds, samples=samples,
        confidence=confidence, confidence_kind=kind,
    )  # fmt: skip


def _confidence(answers: Sequence[Answer], samples: int) -> tuple[list[float], str]:
    """Return the confidence of answers and its kind; empty if there is only one sample and no log-probabilities."""
    if samples > 1:
        return [answer.agreement for answer in answers], f"share of {samples} samples"
    known = [answer.probability for answer in answers if answer.probability is not None]
    if not known or any(answer.readable and answer.probability is None for answer in answers):
        return [], ""
    # A refusal has no tokens, and is not an answer.
    return [answer.probability or 0.0 for answer in answers], "probability of the answer"


def shown_prompts(prompts: Sequence[AnyPrompt], model: LanguageModel) -> list[str]:
    """Return prompts as text, in the form that the model receives; chat turns are listed with their roles."""
    chat = model.capabilities.chat
    return [prompt_text(in_form(each, chat=True, name=model.name) if chat else each) for each in prompts]


@runtime_checkable
class Checked(Protocol):
    """A strategy that can check, before anything is run, whether it fits the task."""

    def check(self, task: Task, model: LanguageModel | None, /) -> None:
        """Raise `InvalidInputError` if it cannot run."""
        ...


@runtime_checkable
class Trained(Protocol):
    """A strategy that trains in steps, whose number is known before."""

    def shortened(self, steps: int, rows: int, /) -> Strategy:
        """Return the same strategy with the fewest epochs that take some steps on a pool with some rows.

        Raises:
            InvalidInputError: If it cannot be tried.
        """
        ...

    def training_steps(self, rows: int, trials: int, /) -> int:
        """Return the number of training steps on a pool with some rows, in all trials together."""
        ...


@runtime_checkable
class CallsInFitting(Protocol):
    """A strategy that calls a model before it answers the test rows."""

    def fitting_calls(self, rows: int, trials: int, /) -> int:
        """Return the number of these calls on a pool with some rows."""
        ...


@runtime_checkable
class Retrieving(Protocol):
    """A strategy that retrieves from documents."""

    name: str

    def needs_documents(self, task: Task, /) -> bool:
        """Whether it retrieves from the documents of the comparison for this task."""
        ...


def check_strategies(
    strategies: Sequence[Strategy], task: Task, model: LanguageModel | None, documents: object = None
) -> None:
    """Raise an error for a strategy that cannot run on this task, or if no strategy needs the documents."""
    for strategy in strategies:
        if getattr(strategy, "needs_model", False):
            need_model(strategy.name, model)
        if isinstance(strategy, Checked):
            strategy.check(task, model)
    retrieving = [each.name for each in strategies if isinstance(each, Retrieving) and each.needs_documents(task)]
    if retrieving and documents is None:
        raise InvalidInputError(
            f"strategy {retrieving[0]!r} needs documents; pass `documents` in the CompareOptions (--docs): a "
            "folder, a file, passages, an Index or a retriever. 'pearl' also accepts inputs with 'question' "
            "and 'document'"
        )
    if documents is not None and not retrieving:
        raise InvalidInputError("`documents` was given, but no strategy retrieves from it; add 'rag'")


def need_model(strategy: str, model: LanguageModel | None) -> LanguageModel:
    """Return the language model, or raise an error if there is none."""
    if model is None:
        raise InvalidInputError(f"strategy {strategy!r} needs a language model; pass `model` (--model), such as 'tiny'")
    return model
