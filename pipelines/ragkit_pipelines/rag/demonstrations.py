"""The demonstrations of a prompt: questions with passages and answers, which show a model the form of an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from warnings import warn

from ragkit.errors import InvalidInputError, TruncationWarning
from ragkit.protocols import Selector
from ragkit.records import Example
from ragkit_pipelines.rag.prompt import answer_prompt, passages_of

Given = Selector | Sequence[Example] | None
_SHARE = 4  # demonstrations may take one fourth of the context window


class Demonstrations:
    """Fixed demonstrations, or those that a selector finds for each question.

    Attributes:
        selector: The selector, if any.
        fixed: The demonstrations without a selector.
        shots: Number of demonstrations that are selected for a question.
    """

    def __init__(self, given: Given, shots: int, built_in: Sequence[Example]) -> None:
        """Validate what a user gives; None stands for the built-in demonstrations."""
        self.selector = given if isinstance(given, Selector) else None
        self.fixed: tuple[Example, ...] = ()
        self.shots = shots
        self._given = given is not None
        if self.selector is None:
            chosen = built_in if given is None else given
            if isinstance(chosen, str) or not isinstance(chosen, Sequence):
                raise InvalidInputError(
                    f"`examples` must be a Selector or a sequence of Examples, got {type(chosen).__name__}"
                )
            self.fixed = tuple(chosen)
            for each in self.fixed:
                passages_of(each)

    def select(self, questions: Sequence[str]) -> list[tuple[Example, ...]]:
        """Return the demonstrations for each question; the most similar one is last, next to the question."""
        if self.selector is None:
            return [self.fixed] * len(questions)
        found = self.selector.select_many(questions, self.shots) if questions else []
        return [each.examples if each.ordered else each.examples[::-1] for each in found]

    def fitting(
        self, chosen: Sequence[Example], window: int | None, count: Callable[[str], int]
    ) -> tuple[Example, ...]:
        """Return the last demonstrations that fit into a fourth of the context window, because passages need the rest.

        There is a warning if demonstrations of the user do not fit.
        """
        if window is None:
            return tuple(chosen)
        kept: list[Example] = []
        free = window // _SHARE
        for each in reversed(chosen):
            free -= count(answer_prompt("", "", (), demonstrations=[each]).prefix)
            if free < 0:
                break
            kept.insert(0, each)
        if self._given and len(kept) < len(chosen):
            warn(
                TruncationWarning(
                    f"{len(chosen) - len(kept)} of {len(chosen)} demonstrations do not fit into a fourth of the "
                    f"context window of {window} tokens"
                ),
                stacklevel=5,
            )
        return tuple(kept)
