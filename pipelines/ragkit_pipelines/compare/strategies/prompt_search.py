"""Search for the best prompt, which gives prompting the same amount of tuning as training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from random import Random
from typing import ClassVar, Literal

from ragkit._progress import progress
from ragkit_pipelines.compare.strategies.base import Outcome, Setting, held_out_rows, prompted
from ragkit_pipelines.few_shot import FewShot

_Order = Literal["similar_last", "similar_first"]
_ORDERS: tuple[_Order, ...] = ("similar_last", "similar_first")
_INSTRUCTIONS = (
    "Answer the last input as the examples do.",
    "Study the examples. Then write only the output for the last input, in the same form.",
)


@dataclass(frozen=True)
class Candidate:
    """A candidate prompt. The selector ``"set"`` is one fixed set of demonstrations, drawn with the seed ``draw``."""

    selector: str
    k: int
    order: _Order
    instruction: str
    draw: int = 0

    def __str__(self) -> str:
        return f"{self.selector}@{self.k}, {self.order.replace('_', ' ')}, instruction {self.instruction[:60]!r}"


@dataclass(frozen=True)
class OptimisedPrompt:
    """Optimise the demonstrations, their number, their order and the instruction on held-out examples.

    The first candidate is the default ``few-shot`` prompt; the others are drawn at random without replacement (Bergstra
    and Bengio, JMLR 2012). The best one, or the first of several equal ones, is used with the whole pool. All calls of
    the search count as fitting.

    Attributes:
        trials: Number of candidates, unless the comparison sets it.
        selectors: Specs of the selectors to try; ``"set"`` tries fixed sets.
        sizes: Numbers of demonstrations to try.
        instructions: Instructions to try in addition to that of the task.
        max_tokens: Maximum number of tokens of an answer; fits the longest output of the pool if None.
    """

    needs_model: ClassVar[bool] = True
    trials: int = 12
    selectors: Sequence[str] = ("bm25", "set", "embedding", "jaccard")
    sizes: Sequence[int] = (8, 4, 16, 2)
    instructions: Sequence[str] = _INSTRUCTIONS
    max_tokens: int | None = None
    name: str = "optimised-prompt"

    def run(self, setting: Setting) -> Outcome:
        """Search for the best prompt, then answer with it."""
        learn, dev = setting.held_out(self.name)
        inner = setting.on(learn, dev)
        tried: list[tuple[float, Outcome, Candidate]] = []
        candidates = self.candidates(setting)
        with progress("trying prompts", len(candidates)) as stage:
            for candidate in candidates:
                outcome = self._predict(candidate, inner)
                tried.append((inner.overall_score(outcome.answers), outcome, candidate))
                stage(1)
        score, _, best = max(tried, key=lambda each: each[0])
        note = f"{best}: {score:.3f} on {len(dev)} held-out rows (default prompt: {tried[0][0]:.3f})"
        return replace(self._predict(best, setting).after(*(outcome for _, outcome, _ in tried)), note=note)

    def fitting_calls(self, rows: int, trials: int) -> int:
        """Return the number of answers to held-out rows."""
        every = len(self.selectors) * len(self.sizes) * len(_ORDERS) * (1 + len(self.instructions))
        return min(trials or self.trials, every) * held_out_rows(rows)

    def candidates(self, setting: Setting) -> list[Candidate]:
        """Return as many candidates as trials, or fewer if there are no more; the default prompt comes first."""
        own = setting.task.instruction
        words = list(dict.fromkeys([own, *self.instructions]))
        every = [Candidate(*each) for each in product(self.selectors, self.sizes, _ORDERS, words)]
        rest = [
            replace(each, draw=index) if each.selector == "set" else each for index, each in enumerate(every) if index
        ]
        Random(f"prompts {setting.seed_of('model')}").shuffle(rest)
        return [every[0], *rest][: setting.trials or self.trials]

    def _predict(self, candidate: Candidate, setting: Setting) -> Outcome:
        pool = list(setting.pool)
        if candidate.selector == "set":
            Random(f"set {candidate.draw}").shuffle(pool)
        spec = "fixed" if candidate.selector == "set" else candidate.selector
        selector, fit_seconds = replace(setting, pool=pool).selector(spec)
        pipeline = FewShot(
            setting.language_model(self.name),
            selector,
            k=min(candidate.k, len(pool)),
            template=replace(setting.task.template, instruction=candidate.instruction),
            reader=setting.task.reader,
            max_tokens=setting.answer_tokens(self.max_tokens),
            order=candidate.order,
        )
        return prompted(pipeline, setting, fit_seconds=fit_seconds)
