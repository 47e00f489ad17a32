"""Prompting and baseline strategies, and loading strategies by name.

A strategy fits on a pool and answers the test inputs. Every object with a `name` and a `run` method is a strategy.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ragkit._text import words
from ragkit.errors import InvalidInputError, UnknownSpecError
from ragkit.protocols import LanguageModel
from ragkit.records import Example
from ragkit.registry import create, find, is_known, specs
from ragkit.tasks import Task
from ragkit_pipelines.compare.strategies.base import SHOTS, Outcome, Setting, Strategy, at_k, prompted, timed
from ragkit_pipelines.compare.strategies.scoring import CALIBRATIONS
from ragkit_pipelines.few_shot import FewShot
from ragkit_pipelines.reasoning import RATIONALE_FIELDS, Reasoning
from ragkit_selectors.loading import load_stage

_REASONING_TOKENS = 512  # enough for the steps of most problems
_SUFFIXES = re.compile(
    rf"(.*?)(?:@(?P<k>\d{{1,9}}))?(?:\*(?P<samples>\d{{1,9}}))?(?:\+(?P<calibration>{'|'.join(CALIBRATIONS)}))?",
    re.DOTALL,
)


@dataclass(frozen=True)
class Majority:
    """The majority baseline: the most frequent output of the pool for every input."""

    name: str = "majority"

    def run(self, setting: Setting) -> Outcome:
        """Answer every row with the most frequent output."""
        most_frequent = Counter(example.output for example in setting.pool).most_common(1)[0][0]
        return timed(lambda: [most_frequent] * len(setting.task.test))


@dataclass(frozen=True)
class Tfidf:
    """A classical baseline: logistic regression on TF-IDF of words and word pairs."""

    name: str = "tfidf"

    def run(self, setting: Setting) -> Outcome:
        """Train the classifier and classify."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        from ragkit.finetuning._classifier import fit_logistic

        clock = setting.clock
        with clock.paused():  # imports and starts what the first training needs
            fit_logistic([[0.0], [1.0]], ["a", "b"])
        started = clock.now()
        labels = [example.output for example in setting.pool]
        if len(set(labels)) < 2:
            raise InvalidInputError("strategy 'tfidf' needs examples of at least two labels")
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, tokenizer=words, token_pattern=None)
        classifier = fit_logistic(vectorizer.fit_transform([example.text() for example in setting.pool]), labels)
        fitted = clock.now()
        rows = vectorizer.transform([row.text() for row in setting.task.test])
        probabilities = classifier.predict_proba(rows)
        answers = [str(classifier.classes_[index]) for index in probabilities.argmax(axis=1)]
        seconds, confidence = clock.now() - fitted, probabilities.max(axis=1).tolist()
        return Outcome(
            answers, seconds=seconds, fit_seconds=fitted - started, cost=0.0, confidence=confidence,
            confidence_kind="probability",
        )  # fmt: skip


@dataclass(frozen=True)
class Vote:
    """A majority vote of the selected examples; ties are broken by similarity."""

    selector: str
    k: int = SHOTS

    @property
    def name(self) -> str:
        """``vote:<selector>``, with ``@<k>`` if k is not 8; ``copy:<selector>`` if k is 1."""
        return f"copy:{self.selector}" if self.k == 1 else f"vote:{self.selector}{at_k(self.k)}"

    def run(self, setting: Setting) -> Outcome:
        """Select examples and count their outputs."""
        selector, fit_seconds = setting.selector(self.selector)
        started = setting.clock.now()
        chosen = selector.select_many(setting.queries, setting.within_pool(self.k, self.name))
        # Counter keeps the insertion order and most_common is stable, so the most similar example breaks ties.
        votes = [Counter(example.output for example in shown).most_common(1)[0] for shown in chosen]
        shares = [count / len(shown) for (_, count), shown in zip(votes, chosen, strict=True)]
        return Outcome(
            [output for output, _ in votes],
            seconds=setting.clock.now() - started,
            fit_seconds=fit_seconds,
            cost=0.0,
            confidence=shares if self.k > 1 else (),  # a vote of one example is always unanimous
            confidence_kind=f"share of {self.k} examples" if self.k > 1 else "",
        )


@dataclass(frozen=True)
class Prompting:
    """Prompt a language model with selected examples, or without examples (``selector=None``).

    Attributes:
        selector: Spec of the selector.
        k: Number of examples.
        max_tokens: Maximum number of tokens of an answer; fits the longest output of the pool if None.
        samples: Number of answers that are sampled for each row; the most frequent one counts, or the first of several
            equally frequent ones. All of them are paid for. 1 for a single answer by greedy decoding.
        temperature: Sampling temperature of several answers.
        reasoning: Whether the model is prompted to reason before it answers. Only examples with a reasoning are
            selected. `max_tokens` limits reasoning and answer together, and is at least 512 if it is None.
    """

    needs_model: ClassVar[bool] = True
    selector: str | None = None
    k: int = SHOTS
    max_tokens: int | None = None
    samples: int = 1
    temperature: float = 0.7
    reasoning: bool = False

    @property
    def name(self) -> str:
        """``zero-shot`` or ``few-shot:<selector>``, with ``@<k>`` if k is not 8, and ``*<samples>`` if not 1.

        With reasoning, it begins with ``reason`` instead.
        """
        alone, with_examples = ("reason", "reason") if self.reasoning else ("zero-shot", "few-shot")
        source = f"{with_examples}:{self.selector}{at_k(self.k)}" if self.selector else alone
        return source if self.samples == 1 else f"{source}*{self.samples}"

    def check(self, task: Task, model: LanguageModel | None) -> None:
        """Raise `InvalidInputError` if examples with reasoning are to be selected and the task has none."""
        del model
        if self.reasoning and self.selector:
            self._with_reasoning(task, task.examples)

    def _with_reasoning(self, task: Task, pool: Sequence[Example]) -> list[tuple[Example, Example]]:
        """Return the examples of a pool that have a reasoning, each also as it is rendered with its reasoning."""
        reasoning = Reasoning.of(task.template, task.reader)
        found = [(example, rendered) for example in pool if (rendered := reasoning.example(example))]
        if not found:
            fields = ", ".join(map(repr, RATIONALE_FIELDS))
            raise InvalidInputError(
                f"strategy {self.name!r} needs examples with a reasoning, but none of the {len(pool)} examples has "
                f"one; add one of the fields {fields} to the rows, or use 'reason' without examples"
            )
        return found

    def run(self, setting: Setting) -> Outcome:
        """Select examples, prompt the model and read the answers."""
        tokens = setting.answer_tokens(self.max_tokens)
        if self.reasoning and self.selector:
            pairs = self._with_reasoning(setting.task, setting.pool)
            tokens = replace(setting, pool=[rendered for _, rendered in pairs]).answer_tokens(self.max_tokens)
            setting = replace(setting, pool=[example for example, _ in pairs])
        if self.reasoning and self.max_tokens is None:
            tokens = max(tokens, _REASONING_TOKENS)
        selector, fit_seconds = setting.selector(self.selector) if self.selector else (None, 0.0)
        pipeline = FewShot.from_task(
            setting.task,
            setting.language_model(self.name),
            selector,
            k=setting.within_pool(self.k, self.name) if self.selector else self.k,
            max_tokens=tokens,
            samples=self.samples,
            temperature=self.temperature,
            seed=setting.seed_of("model"),
            reasoning=self.reasoning,
        )
        outcome = prompted(pipeline, setting, fit_seconds=fit_seconds)
        return outcome if self.selector else replace(outcome, labels=0)


FOR_LABELS = ("majority", "tfidf", "vote:jaccard", "vote:bm25", "vote:embedding", "classifier-head", "full")
FOR_TEXT = ("zero-shot", "few-shot:random", "few-shot:jaccard", "few-shot:bm25", "few-shot:embedding", "lora")


def load_strategy(strategy: str | Strategy, settings: Mapping[str, object] | None = None) -> Strategy:
    """Load a strategy by the spec of a registered strategy; objects are returned unchanged.

    If the listed spec ends with ``[@<k>]``, the number of examples may follow: ``"few-shot:bm25@4"``; with
    ``[*<samples>]``, so may the number of sampled answers, ``"zero-shot*5"``; with ``[+<calibration>]``, so may
    ``+contextual``, ``+batch`` or ``+pmi``.

    Args:
        strategy: A spec or an object.
        settings: Fields of strategies that are loaded by their specs, such as ``{"epochs": 2}``; a strategy without
            such a field ignores it. A number in a spec takes precedence over ``k`` and ``samples``.

    Returns:
        A strategy.

    Raises:
        UnknownSpecError: If no strategy or selector has this name, or ``@`` or ``*`` is not followed by a number of at
            least 1.
    """
    if not isinstance(strategy, str):
        return strategy
    try:
        spec, given = _split(strategy)
        component = find("strategy", spec)
    except UnknownSpecError:
        error = _unknown(strategy)
        raise error from None
    shared = {name: value for name, value in (settings or {}).items() if name != "k" or "<k>" in component.spec}
    selectors = component.arguments(spec) if "<selector>" in component.spec else []
    if 0 in given.values() or not all(map(_is_selector, selectors)):
        numbers = {"@": ("k", "examples"), "*": ("samples", "samples")}
        error = _unknown(strategy, *(
            f"`{mark}` must be followed by a number of {what} of at least 1."
            for mark, (name, what) in numbers.items() if mark in strategy and not given.get(name)
        ))  # fmt: skip
        raise error
    loaded: Strategy = create("strategy", spec, settings={**shared, **given})
    return loaded


def _unknown(strategy: str, *hints: str) -> UnknownSpecError:
    hint = " ".join([*hints, "`ragkit compare --strategies list` describes all strategies."])
    error = UnknownSpecError("strategy", strategy, _known(), hint=hint)
    return error if error.suggestions else UnknownSpecError("strategy", strategy, specs("strategy"), hint=hint)


def _split(strategy: str) -> tuple[str, dict[str, object]]:
    """Split ``@<k>``, ``*<samples>`` and ``+<calibration>`` off a spec if the strategy accepts them."""
    found = _SUFFIXES.fullmatch(strategy)
    if found is None:
        return strategy, {}
    spec, texts = found[1], {name: text for name, text in found.groupdict().items() if text}
    given: dict[str, object] = {name: int(text) if text.isdecimal() else text for name, text in texts.items()}
    accepted = find("strategy", spec).spec
    return (spec, given) if all(f"<{name}>" in accepted for name in given) else (strategy, {})


def _known() -> set[str]:
    """The specs of all strategies, with the name of each selector."""
    selectors = specs("selector")
    known = {spec.replace("<selector>", name) for spec in specs("strategy") for name in selectors}
    return {re.sub(r"[\[\]]|[@*+]<.*", "", spec) for spec in known}


def _is_selector(spec: str) -> bool:
    """Whether a spec consists of a known selector followed by stages."""
    source, *stages = (part.strip() for part in spec.split("|"))
    for stage in stages:
        load_stage(stage)
    return is_known("selector", source)
