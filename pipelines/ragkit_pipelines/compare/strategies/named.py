"""Prompting and baseline strategies, and loading strategies by name.

A strategy fits on a pool and answers the test inputs. Every object with a `name` and a `run` method is a strategy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import ClassVar, get_args

from ragkit.errors import InvalidInputError, UnknownSpecError
from ragkit.protocols import LanguageModel
from ragkit.tasks import Task
from ragkit.text import words
from ragkit_pipelines.compare.strategies.base import (
    SHOTS,
    Checked,
    Outcome,
    Setting,
    Strategy,
    answered,
    at_k,
    need_model,
    selector_of,
    timed,
)
from ragkit_pipelines.compare.strategies.imitation import Imitating
from ragkit_pipelines.compare.strategies.prompt_search import OptimisedPrompt
from ragkit_pipelines.compare.strategies.retrieval import Planning, Rag
from ragkit_pipelines.compare.strategies.scoring import CALIBRATIONS, Direction, Scoring
from ragkit_pipelines.compare.strategies.training import EncoderTuning, Tuning
from ragkit_pipelines.few_shot import FewShot
from ragkit_selectors.loading import SOURCES, load_stage


@dataclass(frozen=True)
class Majority:
    """The majority baseline: the most frequent output of the pool for every input."""

    name: str = "majority"

    def run(self, setting: Setting) -> Outcome:
        """Answer every row with the most frequent output.

        Returns:
            The outcome.
        """
        most_frequent = Counter(example.output for example in setting.pool).most_common(1)[0][0]
        return timed(lambda: [most_frequent] * len(setting.task.test))


@dataclass(frozen=True)
class Tfidf:
    """A classical baseline: logistic regression on TF-IDF of words and word pairs."""

    name: str = "tfidf"

    def run(self, setting: Setting) -> Outcome:
        """Train the classifier and classify.

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
            raise InvalidInputError("strategy 'tfidf' needs examples of at least two labels")
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, tokenizer=words, token_pattern=None)
        classifier = fit_logistic(vectorizer.fit_transform([example.text() for example in setting.pool]), labels)
        fitted = perf_counter()
        rows = vectorizer.transform([row.text() for row in setting.task.test])
        probabilities = classifier.predict_proba(rows)
        answers = [str(classifier.classes_[index]) for index in probabilities.argmax(axis=1)]
        seconds, confidence = perf_counter() - fitted, probabilities.max(axis=1).tolist()
        return Outcome(answers, seconds=seconds, fit_seconds=fitted - started, cost=0.0, confidence=confidence)


@dataclass(frozen=True)
class Vote:
    """A majority vote of the selected examples; ties are broken by similarity."""

    selector: str
    k: int = 8

    @property
    def name(self) -> str:
        """``vote:<selector>``, with ``@<k>`` if k is not 8; ``copy:<selector>`` if k is 1."""
        return f"copy:{self.selector}" if self.k == 1 else f"vote:{self.selector}{at_k(self.k)}"

    def run(self, setting: Setting) -> Outcome:
        """Select examples and count their outputs.

        Returns:
            The outcome.
        """
        started = perf_counter()
        chosen = selector_of(self.selector, setting).select_many(
            [row.input for row in setting.task.test], self._k(setting)
        )
        # Counter keeps the insertion order and most_common is stable, so the most similar example breaks ties.
        votes = [Counter(example.output for example in shown).most_common(1)[0] for shown in chosen]
        shares = [count / len(shown) for (_, count), shown in zip(votes, chosen, strict=True)]
        return Outcome(
            [output for output, _ in votes],
            seconds=perf_counter() - started,
            cost=0.0,
            confidence=shares if self.k > 1 else (),  # a vote of one example is always unanimous
        )

    def _k(self, setting: Setting) -> int:
        return min(self.k, len(setting.pool))


@dataclass(frozen=True)
class Prompting:
    """Prompt a language model with selected examples, or without examples (``selector=None``).

    Attributes:
        selector: Spec of the selector.
        k: Number of examples.
        max_tokens: Maximum number of tokens of an answer; fits the longest output of the pool if None.
    """

    needs_model: ClassVar[bool] = True
    selector: str | None = None
    k: int = 8
    max_tokens: int | None = None

    @property
    def name(self) -> str:
        """``zero-shot`` or ``few-shot:<selector>``, with ``@<k>`` if k is not 8."""
        return f"few-shot:{self.selector}{at_k(self.k)}" if self.selector else "zero-shot"

    def check(self, _task: Task, model: LanguageModel | None) -> None:
        """Raise an error if there is no model."""
        need_model(self.name, model)

    def run(self, setting: Setting) -> Outcome:
        """Select examples, prompt the model and read the answers.

        Returns:
            The outcome.
        """
        selector = selector_of(self.selector, setting) if self.selector else None
        model = setting.language_model(self.name)
        k = min(self.k, len(setting.pool))
        pipeline = FewShot.from_task(
            setting.task, model, selector, k=k, max_tokens=setting.answer_tokens(self.max_tokens)
        )
        outcome = answered(pipeline.batch([row.input for row in setting.task.test]), model)
        return outcome if self.selector else replace(outcome, labels=0)


_ALL: tuple[Strategy, ...] = (
    Majority(),
    Tfidf(),
    Prompting(),
    *(Prompting(name) for name in SOURCES),
    *(Scoring(name, direction=each) for each in get_args(Direction) for name in (None, *SOURCES)),
    *(Vote(name) for name in SOURCES),
    *(Vote(name, k=1) for name in SOURCES),
    *(Tuning(method) for method in ("lora", "full", "last-layers", "prompt-tuning")),
    Tuning("lora", pretrain=True),
    EncoderTuning(),
    OptimisedPrompt(),
    Planning(),
    Rag(),
)
NAMED = {strategy.name: strategy for strategy in _ALL}
FOR_LABELS = ("majority", "tfidf", "vote:jaccard", "vote:bm25", "vote:embedding", "classifier-head", "full")
FOR_TEXT = ("zero-shot", "few-shot:random", "few-shot:jaccard", "few-shot:bm25", "few-shot:embedding", "lora")


def load_strategy(strategy: str | Strategy) -> Strategy:
    """Load a strategy by name; objects are returned unchanged.

    Args:
        strategy: An object, a name of `NAMED`, or one of these, in which ``@<k>`` after the selector sets the number of
            examples: ``"few-shot:<selector>"``, ``"vote:<selector>"``, ``"copy:<selector>"``,
            ``"lora+few-shot:<selector>"``, ``"score:<selector>"`` and ``"channel:<selector>"`` (both also with
            ``+contextual``, ``+batch`` or ``+pmi``), ``"rag@<k>"``, ``"imitate:<teacher>"``.

    Returns:
        A strategy.

    Raises:
        UnknownSpecError: If no strategy has this name.
        InvalidInputError: If the text after ``@`` is not a valid number of examples.
    """
    if not isinstance(strategy, str):
        return strategy
    if strategy.startswith(get_args(Direction)):
        return _scoring(strategy)
    kind, _, given = strategy.partition(":")
    if kind == "imitate" and given:
        return Imitating(given)
    if strategy.startswith("rag@") and strategy[4:].isdecimal():
        return Rag(k=int(strategy[4:]))
    selector, at, number = given.rpartition("@")
    if not at:
        selector, number = given, ""
    if kind in _WITH_SELECTOR and given and _is_selector(selector) and (number.isdecimal() or not at):
        k = int(number) if number else None
        if k == 0 or (kind == "copy" and k is not None):
            raise InvalidInputError(f"strategy {strategy!r}: `@` must be followed by a number of examples of at least "
                                    "1, and cannot be used with `copy`")  # fmt: skip
        return _WITH_SELECTOR[kind](selector, k)
    if strategy not in NAMED:
        raise UnknownSpecError("strategy", strategy, [*NAMED, "imitate:<teacher>", "lora+few-shot:<selector>"])
    return NAMED[strategy]


def _scoring(name: str) -> Strategy:
    """Load ``score`` or ``channel``, with an optional selector and calibration."""
    whole, calibration = name, None
    for each in CALIBRATIONS:
        if name.endswith(f"+{each}"):
            whole, calibration = name.removesuffix(f"+{each}"), each
    kind, colon, given = whole.partition(":")
    selector, at, number = given.rpartition("@") if "@" in given else (given, "", "")
    for direction in get_args(Direction):
        if kind == direction and not colon:
            return Scoring(direction=direction, calibration=calibration)
        if kind == direction and _is_selector(selector) and (not at or (number.isdecimal() and int(number) > 0)):
            return Scoring(selector, int(number or SHOTS), direction, calibration)
    known = [f"{kind}:<selector>@<k>+{each}" for kind in get_args(Direction) for each in CALIBRATIONS]
    raise UnknownSpecError("strategy", name, [*NAMED, *known])


def check_strategies(strategies: Sequence[Strategy], task: Task, model: LanguageModel | None) -> None:
    """Raise an error for a strategy that cannot run on this task, before anything is run."""
    for strategy in strategies:
        if isinstance(strategy, Checked):
            strategy.check(task, model)


_WITH_SELECTOR: dict[str, Callable[[str, int | None], Strategy]] = {
    "few-shot": lambda selector, k: Prompting(selector, k=k or SHOTS),
    "vote": lambda selector, k: Vote(selector, k=k or SHOTS),
    "copy": lambda selector, _: Vote(selector, k=1),
    "lora+few-shot": lambda selector, k: Tuning("lora", selector=selector, k=k or 4),
}


def _is_selector(spec: str) -> bool:
    """Whether a spec consists of a known selector followed by stages."""
    source, *stages = (part.strip() for part in spec.split("|"))
    for stage in stages:
        load_stage(stage)
    return source in SOURCES
