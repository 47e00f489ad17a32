"""Recommend strategies for a task by a decision table, and measure them if data is given.

Every rule that applies recommends strategies, or advises against them. The table narrows down the candidates. If data
is given, the candidates are compared on it, and the recommendation is based on the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ragkit.errors import InvalidInputError, UnknownSpecError
from ragkit.models._budget import Budget
from ragkit.protocols import Embedder, LanguageModel
from ragkit_pipelines.compare import Comparison, compare
from ragkit_pipelines.compare.options import CompareOptions, refuse_moved_keywords
from ragkit_pipelines.compare.strategies.base import Strategy
from ragkit_pipelines.compare.strategies.named import load_strategy

if TYPE_CHECKING:
    from ragkit.tasks import Task

__all__ = ["Advice", "Advised", "Needs", "advise"]

_ENOUGH = 100  # number of examples from which training is worth trying
_BUSY = 500.0  # calls per hour from which the length of prompts matters
_FAST = 500.0  # latency in milliseconds below which long prompts and large models are too slow


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Requirements of a task.

    Attributes:
        behaviour: Whether the model must learn how to answer, such as a format, a style or decision criteria.
        knowledge: Whether the model needs facts that it was not trained on.
        changes: How often these facts or the expected answers change.
        per_hour: Number of calls per hour.
        latency_ms: Maximum latency of an answer in milliseconds; None if it does not matter.
        private: Whether data must stay on premises.
        strict: Whether every answer must follow the format or style without exception.
        varied: Whether inputs are too diverse for one fixed set of examples, such as many languages or labels.
        categories: Whether answers come from a fixed list. Taken from the task if one is given.
        long_documents: Whether questions are about long documents.
        examples: Number of labelled examples. Taken from the task if one is given.
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
                raise InvalidInputError(f"`{name}` must be at least 0, got {value!r}")

    @property
    def heavy(self) -> bool:
        """Whether volume or latency rule out long prompts."""
        return self.per_hour >= _BUSY or (self.latency_ms is not None and self.latency_ms <= _FAST)


@dataclass(frozen=True, slots=True)
class Advised:
    """A strategy, with the reason for or against it."""

    strategy: str
    why: str


@dataclass(frozen=True, slots=True)
class _Rule:
    when: Callable[[Needs], bool]
    strategies: tuple[str, ...]
    why: str


def _trains(needs: Needs) -> bool:
    reason = needs.strict or needs.varied or needs.heavy
    return needs.behaviour and needs.examples >= _ENOUGH and reason and needs.changes != "daily"


# Earlier rules recommend the better strategies to start with.
WORTH: tuple[_Rule, ...] = (
    _Rule(lambda n: n.categories and n.examples > 0 and n.heavy, ("classifier-head", "tfidf"),
          "answers come from a fixed list, and volume or latency matter: a classifier needs no prompt"),
    _Rule(lambda n: n.knowledge, ("rag",),
          "facts are retrieved for each query, so changes need no training, and answers can cite sources"),
    _Rule(lambda n: n.knowledge and n.long_documents, ("pearl",),
          "questions about long documents need several steps"),
    _Rule(_trains, ("lora",),
          "a strict format, varied inputs, or high volume: training stores the behaviour in the weights"),
    _Rule(lambda n: n.behaviour and n.varied and n.examples > 0, ("few-shot:embedding",),
          "inputs vary, so the examples are selected for each input"),
    _Rule(lambda n: n.behaviour and n.examples > 0, ("few-shot:bm25",),
          "a few examples show what is hard to describe in an instruction, and need no training"),
    _Rule(lambda n: n.behaviour and n.examples >= 10 and not n.heavy, ("optimised-prompt",),
          "an optimised prompt is the baseline for training"),
    _Rule(lambda n: n.categories and n.examples > 0 and not n.heavy, ("tfidf", "classifier-head"),
          "answers come from a fixed list: the classical baselines train in seconds"),
    _Rule(lambda n: not n.categories or not n.heavy or not n.examples, ("zero-shot",),
          "an instruction alone is easiest to maintain"),
)  # fmt: skip
NOT_WORTH: tuple[_Rule, ...] = (
    _Rule(lambda n: n.knowledge and n.changes != "never", ("lora",),
          "changing facts are outdated when training ends; train only the style, and retrieve the facts"),
    _Rule(lambda n: n.behaviour and n.changes == "daily", ("lora",),
          "expected answers change daily; examples in the prompt can follow them, weights cannot"),
    _Rule(lambda n: 0 < n.examples < _ENOUGH, ("lora",),
          f"fewer than {_ENOUGH} examples are more effective in the prompt than in training"),
    _Rule(lambda n: n.behaviour and n.examples >= _ENOUGH and not (n.strict or n.varied or n.heavy), ("lora",),
          "with few calls and no strict format, training is not worth its maintenance"),
    _Rule(lambda n: n.heavy, ("optimised-prompt",), "a longer prompt increases cost and latency of every call"),
    _Rule(lambda n: not n.knowledge, ("rag",), "no facts have to be retrieved"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Recommended strategies, and the comparison that measured them.

    Attributes:
        needs: The requirements of the task.
        worth: Strategies worth running, the one to start with first.
        not_worth: Strategies that are not worth running, with the reason.
        caveats: Notes that apply to all strategies.
        not_run: Strategies worth running that could not be run, with the reason.
        comparison: The comparison of these strategies; None if no data was given.
    """

    needs: Needs
    worth: tuple[Advised, ...]
    not_worth: tuple[Advised, ...]
    caveats: tuple[str, ...]
    not_run: tuple[Advised, ...] = ()
    comparison: Comparison | None = None

    @property
    def answer(self) -> str:
        """The recommendation in one sentence, with the evidence if the strategies were compared."""
        if self.comparison is None:
            return f"Start with {self.worth[0].strategy}: {self.worth[0].why}. No strategy was measured."
        found = self.comparison.recommendation
        if found.strategy is None:
            return f"No strategy can be recommended: {found.evidence}."
        return f"Use {found.strategy}: {found.evidence}."


@refuse_moved_keywords
def advise(
    task: Task | None = None,
    needs: Needs | None = None,
    *,
    model: str | LanguageModel | None = None,
    embedder: str | Embedder = "minilm",
    extra: Sequence[str | Strategy] = (),
    seeds: Sequence[int] = (0,),
    budget: Budget | None = None,
    out: str | Path | None = None,
    options: CompareOptions | None = None,
) -> Advice:
    """Recommend strategies for a task, and measure them if data is given.

    Args:
        task: The task, with test rows; None for advice without a measurement.
        needs: The requirements of the task.
        model: The language model; if None, only strategies without a language model are run.
        embedder: The embedder of selectors and classifiers.
        extra: Additional strategies to run, such as your own pipeline.
        seeds: See `compare`.
        budget: See `compare`.
        out: See `compare`.
        options: See `compare`; ``rag`` and ``pearl`` need its ``documents``.

    Returns:
        The advice.
    """
    needs, options = needs or Needs(), options or CompareOptions()
    if task is not None:
        needs = replace(needs, examples=len(task.examples), categories=task.labels is not None)
    worth = _advised(WORTH, needs)
    recommended = {each.strategy for each in worth}
    advice = Advice(
        needs=needs,
        worth=worth,
        not_worth=tuple(each for each in _advised(NOT_WORTH, needs) if each.strategy not in recommended),
        caveats=tuple(_caveats(needs)),
    )
    if task is None:
        return advice
    reasons = {each.strategy: _cannot_run(each.strategy, model, options) for each in worth}
    run = [strategy for strategy, reason in reasons.items() if reason is None]
    advice = replace(advice, not_run=tuple(Advised(strategy, why) for strategy, why in reasons.items() if why))
    if not [*run, *extra]:
        return advice
    comparison = compare(
        task, [*run, *extra], model=model, embedder=embedder, seeds=seeds, budget=budget, out=out, options=options
    )
    return replace(advice, comparison=comparison)


def _advised(rules: Sequence[_Rule], needs: Needs) -> tuple[Advised, ...]:
    found: dict[str, str] = {}
    for rule in rules:
        for strategy in rule.strategies if rule.when(needs) else ():
            found.setdefault(strategy, rule.why)
    return tuple(Advised(strategy, why) for strategy, why in found.items())


def _cannot_run(name: str, model: str | LanguageModel | None, options: CompareOptions) -> str | None:
    if name in {"rag", "pearl"} and options.documents is None:
        return "needs documents to retrieve from; pass CompareOptions(documents=…) (--docs)"
    needs_model = getattr(load_strategy(name), "needs_model", False)
    return f"{name} needs a language model; pass `model` (--model)" if needs_model and model is None else None


def _caveats(needs: Needs) -> list[str]:
    caveats = []
    if needs.private:
        caveats.append("data must stay on premises: use a local model, with classifiers and LoRA adapters")
    if needs.knowledge and needs.behaviour and needs.strict:
        caveats.append("style and facts are separate problems: train the style, and retrieve the facts")
    if not needs.examples:
        caveats.append("no labelled examples are available: collect some, at least for a test")
    return caveats
