"""A prompt that was searched for, so that prompting gets the same tuning as training does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from random import Random
from typing import ClassVar, Literal

from ragkit.protocols import LanguageModel
from ragkit.tasks import Task
from ragkit_pipelines.compare.strategies.base import Outcome, Setting, answered, need_model, selector_of
from ragkit_pipelines.few_shot import FewShot

_Order = Literal["similar_last", "similar_first"]
_ORDERS: tuple[_Order, ...] = ("similar_last", "similar_first")
_OTHER_WORDS = (
    "Answer the last input as the examples do.",
    "Study the examples. Then write only the output for the last input, in the same form.",
)


@dataclass(frozen=True)
class Candidate:
    """One way to prompt.

    Attributes:
        selector: Where demonstrations come from; ``"set"`` is one fixed set, drawn with ``draw``.
        k: How many.
        order: Where the most similar one stands.
        instruction: What the prompt begins with.
        draw: Seed of a fixed set.
    """

    selector: str
    k: int
    order: _Order
    instruction: str
    draw: int = 0

    def __str__(self) -> str:
        return f"{self.selector}@{self.k}, {self.order.replace('_', ' ')}, instruction {self.instruction[:60]!r}"


@dataclass(frozen=True)
class OptimisedPrompt:
    """Search demonstrations, their number, their order and the instruction on held-out examples.

    The first candidate is the plain ``few-shot`` prompt, the others are drawn at random, each once (Bergstra and
    Bengio, JMLR 2012). The best one, among equals the first, is asked with the whole pool behind it. All calls of the
    search count as learning.

    Attributes:
        trials: Candidates that are tried where the comparison does not say how many.
        selectors: Where demonstrations may come from; ``"set"`` stands for fixed sets.
        sizes: Numbers of demonstrations.
        instructions: Other instructions than the task's own.
        max_tokens: Tokens of an answer at the most; room for the longest output of the pool if None.
    """

    needs_model: ClassVar[bool] = True
    trials: int = 12
    selectors: Sequence[str] = ("bm25", "set", "embedding", "jaccard")
    sizes: Sequence[int] = (8, 4, 16, 2)
    instructions: Sequence[str] = _OTHER_WORDS
    max_tokens: int | None = None
    name: str = "optimised-prompt"

    def check(self, _task: Task, model: LanguageModel | None) -> None:
        """Refuse to run without a model."""
        need_model(self.name, model)

    def run(self, setting: Setting) -> Outcome:
        """Search, then answer with what was found.

        Returns:
            The outcome.
        """
        learn, dev = setting.held_out(self.name)
        inner = setting.on(learn, dev)
        tried: list[tuple[float, Outcome, Candidate]] = []
        for candidate in self.candidates(setting):
            outcome = self._ask(candidate, inner)
            scores = inner.task.score_all(outcome.answers)
            tried.append((sum(scores) / len(scores), outcome, candidate))
        score, _, best = max(tried, key=lambda each: each[0])
        note = f"{best}: {score:.3f} on {len(dev)} held-out examples, the plain prompt {tried[0][0]:.3f}"
        return replace(self._ask(best, setting).after(*(outcome for _, outcome, _ in tried)), note=note)

    def candidates(self, setting: Setting) -> list[Candidate]:
        """What is tried, the plain prompt first.

        Returns:
            As many candidates as there are trials, or all there are.
        """
        own = setting.task.instruction
        words = list(dict.fromkeys([own, *self.instructions]))
        every = [Candidate(*each) for each in product(self.selectors, self.sizes, _ORDERS, words)]
        rest = [
            replace(each, draw=place) if each.selector == "set" else each for place, each in enumerate(every) if place
        ]
        Random(f"prompts {setting.seed_of('model')}").shuffle(rest)
        return [every[0], *rest][: setting.trials or self.trials]

    def _ask(self, candidate: Candidate, setting: Setting) -> Outcome:
        model = setting.language_model(self.name)
        pool = list(setting.pool)
        if candidate.selector == "set":
            Random(f"set {candidate.draw}").shuffle(pool)
        spec = "fixed" if candidate.selector == "set" else candidate.selector
        pipeline = FewShot(
            model,
            selector_of(spec, replace(setting, pool=pool)),
            k=min(candidate.k, len(pool)),
            template=replace(setting.task.template, instruction=candidate.instruction),
            reader=setting.task.reader,
            max_tokens=setting.answer_tokens(self.max_tokens),
            order=candidate.order,
        )
        return answered(pipeline.batch([row.input for row in setting.task.test]), model)
