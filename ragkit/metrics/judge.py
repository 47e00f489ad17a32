"""Open answers, judged by a model that is shown the answer beside the expected one, in both orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock

from ragkit.models import load_model
from ragkit.protocols import LanguageModel
from ragkit.records import Example, Prompt
from ragkit.text import marked

_VERDICTS = ("A", "B", "same")
_FIRST = {"A": 1.0, "same": 0.5, "B": 0.0}


@dataclass
class Judge:
    """Score open answers against expected ones by a model's verdict.

    The model chooses among "A", "B" and "same", and is asked twice with the answers swapped, since models prefer a
    place (Zheng et al., "Judging LLM-as-a-Judge", NeurIPS 2023). A verdict scores 1 where the answer is the better
    one, 0.5 for the same, 0 where it is the worse one; the score is the mean of both orders. An empty answer is not
    asked about: it scores 0.

    Attributes:
        model: A model that can choose among texts (`Capabilities.choices`), or its spec.
        criterion: What makes an answer the better one.
        judged: Answers judged so far.
        disagreements: Those of them whose two orders gave different verdicts.
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
        """``judge:<model>``."""
        return f"judge:{self._model.name}"

    @property
    def fingerprint(self) -> str:
        """Equal only for the same model and criterion."""
        return f"judge:{self._model.fingerprint}:{self.criterion}"

    def score_rows(self, answers: Sequence[str], rows: Sequence[Example]) -> list[float]:
        """Judge each answer; the model gets all of them, in both orders, as one batch.

        Args:
            answers: One answer for each row.
            rows: The questions with their expected answers.

        Returns:
            A score from 0 to 1 for each.
        """
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
