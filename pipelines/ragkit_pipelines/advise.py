"""Which ways of solving a task are worth running: a small decision table, measured where data is given.

Every rule that fits adds ways to run, or says what is not worth it. The table narrows the choice down; it does not
make it. Where there is data, the ways are run on it, and the evidence decides or says that no difference was shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ragkit.errors import InvalidInputError, UnknownSpecError
from ragkit.models.budget import Budget
from ragkit.protocols import Embedder, LanguageModel
from ragkit_pipelines.compare import Comparison, compare
from ragkit_pipelines.compare.documents import AnyDocuments
from ragkit_pipelines.compare.strategies.base import Strategy
from ragkit_pipelines.compare.strategies.named import load_strategy

if TYPE_CHECKING:
    from ragkit.tasks import Task

_ENOUGH = 100  # examples from which training is worth trying
_BUSY = 500.0  # calls an hour from which the tokens of every prompt count
_FAST = 500.0  # milliseconds under which a long prompt, or a large model, is too slow


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Answers to the questions of practice.

    Attributes:
        behaviour: Whether the model must learn how to answer: a form, a style, a way to decide.
        knowledge: Whether it must know facts that it was not trained on.
        changes: How fast these facts or the wanted answers change.
        per_hour: Calls an hour.
        latency_ms: Milliseconds that an answer may take; None where it does not matter.
        private: Whether inputs must not leave the house.
        strict: Whether every answer must hold the form or style, without exception.
        varied: Whether inputs differ too much for one fixed set of examples: many languages, many labels.
        categories: Whether answers come from a fixed list. Known from the task where there is one.
        long_documents: Whether a question is about a document of many pages.
        examples: Labelled examples at hand. Known from the task where there is one.
    """

    behaviour: bool = True
    knowledge: bool = False
    changes: Literal["never", "monthly", "daily"] = "never"
    per_hour: float = 10.0
    latency_ms: float | None = None
    private: bool = False
    strict: bool = False
    varied: bool = False
    categories: bool = False
    long_documents: bool = False
    examples: int = 0

    def __post_init__(self) -> None:
        if self.changes not in {"never", "monthly", "daily"}:
            raise UnknownSpecError("rate of change", str(self.changes), ("never", "monthly", "daily"))
        for name in ("per_hour", "examples", "latency_ms"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise InvalidInputError(f"`{name}` must be 0 or more, got {value!r}")

    @property
    def heavy(self) -> bool:
        """Whether volume or latency speak against long prompts."""
        return self.per_hour >= _BUSY or (self.latency_ms is not None and self.latency_ms <= _FAST)


@dataclass(frozen=True, slots=True)
class Way:
    """One way of solving a task, with the reason for or against it."""

    strategy: str
    why: str


@dataclass(frozen=True, slots=True)
class _Rule:
    when: Callable[[Needs], bool]
    ways: tuple[str, ...]
    why: str


def _trains(needs: Needs) -> bool:
    reason = needs.strict or needs.varied or needs.heavy
    return needs.behaviour and needs.examples >= _ENOUGH and reason and needs.changes != "daily"


# The table. What stands higher is the better start.
WORTH: tuple[_Rule, ...] = (
    _Rule(lambda n: n.categories and n.examples > 0 and n.heavy, ("classifier-head", "tfidf"),
          "answers come from a list and calls are many or must be fast: a classifier needs no prompt at all"),
    _Rule(lambda n: n.knowledge, ("rag",),
          "facts are looked up when they are asked for, so a change needs no training and a source can be named"),
    _Rule(lambda n: n.knowledge and n.long_documents, ("pearl",),
          "questions about long documents take several steps"),
    _Rule(_trains, ("lora",),
          "a form that must always hold, varied inputs, or many calls: training puts it into the weights"),
    _Rule(lambda n: n.behaviour and n.varied and n.examples > 0, ("few-shot:embedding",),
          "inputs vary, so the examples are chosen for each of them"),
    _Rule(lambda n: n.behaviour and n.examples > 0, ("few-shot:bm25",),
          "a few examples show what words describe badly, and cost nothing until they are asked"),
    _Rule(lambda n: n.behaviour and n.examples >= 10 and not n.heavy, ("optimised-prompt",),
          "a searched prompt is what training has to beat"),
    _Rule(lambda n: n.categories and n.examples > 0 and not n.heavy, ("tfidf", "classifier-head"),
          "answers come from a list: the classical floor costs seconds"),
    _Rule(lambda n: not n.categories or not n.heavy or not n.examples, ("zero-shot",),
          "an instruction alone is the least to maintain"),
)  # fmt: skip
NOT_WORTH: tuple[_Rule, ...] = (
    _Rule(lambda n: n.knowledge and n.changes != "never", ("lora",),
          "facts that change are old on the day the training ends; train for style only, on top of retrieval"),
    _Rule(lambda n: n.behaviour and n.changes == "daily", ("lora",),
          "wanted answers change daily; examples in the prompt change with them, weights do not"),
    _Rule(lambda n: 0 < n.examples < _ENOUGH, ("lora",),
          f"fewer than {_ENOUGH} examples: they say more in a prompt than in training"),
    _Rule(lambda n: n.behaviour and n.examples >= _ENOUGH and not (n.strict or n.varied or n.heavy), ("lora",),
          "calls are few and no answer is critical: training does not pay for its upkeep"),
    _Rule(lambda n: n.heavy, ("optimised-prompt",), "a longer prompt is paid for with every one of many calls"),
    _Rule(lambda n: not n.knowledge, ("rag",), "nothing has to be looked up"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What is worth running, and what running it showed.

    Attributes:
        needs: What was asked for.
        worth: Ways worth running, the one to start with first.
        not_worth: Ways that are not, with the reason.
        caveats: What to mind whichever way is taken.
        not_run: Ways worth running that could not be run on the data, with the reason.
        comparison: What running them showed; None where no data was given.
    """

    needs: Needs
    worth: tuple[Way, ...]
    not_worth: tuple[Way, ...]
    caveats: tuple[str, ...]
    not_run: tuple[Way, ...] = ()
    comparison: Comparison | None = None

    @property
    def answer(self) -> str:
        """One sentence: the evidence where there is some, else the way to start with."""
        if self.comparison is None:
            return f"Start with {self.worth[0].strategy}: {self.worth[0].why}. Nothing was measured."
        found = self.comparison.recommendation
        if found.strategy is None:
            return f"No way is shown to be the best: {found.evidence}."
        return f"Use {found.strategy}: {found.evidence}."


def advise(
    task: Task | None = None,
    needs: Needs | None = None,
    *,
    model: str | LanguageModel | None = None,
    embedder: str | Embedder = "minilm",
    extra: Sequence[str | Strategy] = (),
    seeds: Sequence[int] = (0,),
    trials: int = 0,
    budget: Budget | None = None,
    documents: AnyDocuments | None = None,
    out: str | Path | None = None,
) -> Advice:
    """Say which ways of solving a task are worth running, and run them where there is data.

    Args:
        task: The task, with test rows; None for advice from the table alone.
        needs: Answers to the questions of practice.
        model: The language model; without one, only ways that need none are run.
        embedder: The embedder of selectors and classifiers.
        extra: Ways to run beside those of the table, such as a pipeline of your own over your documents.
        seeds: See `compare`, like the rest.
        trials: See there.
        budget: See there.
        documents: See there.
        out: See there.

    Returns:
        The advice.
    """
    needs = needs or Needs()
    if task is not None:
        needs = replace(needs, examples=len(task.examples), categories=task.labels is not None)
    worth = _ways(WORTH, needs)
    taken = {way.strategy for way in worth}
    advice = Advice(
        needs=needs,
        worth=worth,
        not_worth=tuple(way for way in _ways(NOT_WORTH, needs) if way.strategy not in taken),
        caveats=tuple(_caveats(needs)),
    )
    if task is None:
        return advice
    run: list[str | Strategy] = []
    not_run = []
    for way in worth:
        reason = _cannot_run(way.strategy, model, documents)
        if reason is None:
            run.append(way.strategy)
        else:
            not_run.append(Way(way.strategy, reason))
    if not [*run, *extra]:
        return replace(advice, not_run=tuple(not_run))
    comparison = compare(
        task,
        [*run, *extra],
        model=model,
        embedder=embedder,
        seeds=seeds,
        trials=trials,
        budget=budget,
        documents=documents,
        out=out,
    )
    return replace(advice, not_run=tuple(not_run), comparison=comparison)


def _ways(rules: Sequence[_Rule], needs: Needs) -> tuple[Way, ...]:
    found: dict[str, str] = {}
    for rule in rules:
        for strategy in rule.ways if rule.when(needs) else ():
            found.setdefault(strategy, rule.why)
    return tuple(Way(strategy, why) for strategy, why in found.items())


def _cannot_run(name: str, model: str | LanguageModel | None, documents: AnyDocuments | None) -> str | None:
    if name in {"rag", "pearl"} and documents is None:
        return "looks things up; give `documents` (--docs) to run it"
    strategy = load_strategy(name)
    needs_model = name not in {"tfidf", "classifier-head"}
    return f"needs a language model; give `model` to run {strategy.name}" if needs_model and model is None else None


def _caveats(needs: Needs) -> list[str]:
    said = []
    if needs.private:
        said.append("inputs must not leave the house: take a local model, and classifiers and LoRA over it")
    if needs.knowledge and needs.behaviour and needs.strict:
        said.append("style and facts are two jobs: train the style, retrieve the facts")
    if not needs.examples:
        said.append("there is no labelled example: collect some, if only to test on")
    return said
