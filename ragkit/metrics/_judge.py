"""A metric for open answers: a model compares the answer with the expected one, in both orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock

from ragkit._text import marked
from ragkit.models import load_model
from ragkit.protocols import LanguageModel
from ragkit.records import Example, Prompt

_VERDICTS = ("A", "B", "same")
_FIRST = {"A": 1.0, "same": 0.5, "B": 0.0}


@dataclass
class Judge:
    """Scores open answers against the expected answers by the verdict of a model.

    The verdict is "A", "B" or "same". The model is prompted twice, with the answers swapped, because models have a
    position bias (Zheng et al., "Judging LLM-as-a-Judge", NeurIPS 2023). A verdict scores 1 if the answer is better,
    0.5 if both are the same, and 0 if it is worse; the score is the mean of both orders. An empty answer scores 0
    without a call of the model.

    Attributes:
        model: A model that supports choices (`Capabilities.choices`), or its spec.
        criterion: The question by which the model compares the answers.
        judged: Number of answers judged so far.
        disagreements: Number of answers whose two orders gave different verdicts.
    """

    model: str | LanguageModel
    criterion: str = "Which answer is more correct and complete?"
    judged: int = field(default=0, init=False)
    disagreements: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._model = load_model(self.model)
        self._lock = Lock()

    @property
    def name(self) -> str:
        """The spec ``judge:<model>``."""
        return f"judge:{self._model.name}"

    @property
    def fingerprint(self) -> str:
        """A fingerprint that is equal only for the same model and criterion."""
        return f"judge:{self._model.fingerprint}:{self.criterion}"

    def score_rows(self, answers: Sequence[str], rows: Sequence[Example]) -> list[float]:
        """Score one answer for each row, from 0 to 1; the model receives all answers, in both orders, as one batch."""
        asked = [place for place, answer in enumerate(answers) if answer.strip()]
        prompts = []
        for place in asked:
            question, answer, expected = rows[place].text(), answers[place].strip(), rows[place].output.strip()
            prompts += [self._prompt(question, answer, expected), self._prompt(question, expected, answer)]
        replies = self._model.generate(prompts, max_tokens=8, choices=_VERDICTS) if prompts else []
        scores, differ = [0.0] * len(answers), 0
        for turn, place in enumerate(asked):
            straight, swapped = _FIRST[replies[2 * turn].text], 1 - _FIRST[replies[2 * turn + 1].text]
            scores[place] = (straight + swapped) / 2
            differ += straight != swapped
        with self._lock:
            self.judged += len(asked)
            self.disagreements += differ
        return scores

    def _prompt(self, question: str, first: str, second: str) -> Prompt:
        return Prompt(
            f"Two answers to a question stand below. {self.criterion}\n\n",
            f"The question:\n{marked('question', question)}\nAnswer A:\n{marked('answer-a', first)}\n"
            f"Answer B:\n{marked('answer-b', second)}\n"
            "Write A if answer A is better, B if answer B is, or same if neither is.\n\nBetter:",
        )
