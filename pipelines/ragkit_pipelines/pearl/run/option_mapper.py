"""Mapping an answer to one of several options. Answers that cannot be mapped are counted, never guessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase

from ragkit.answers._choices import NO_CHOICE, Choice, check_options, read_option
from ragkit.errors import AnswerFormError, RagkitError
from ragkit.models import load_model
from ragkit.models._results import raised, results_of
from ragkit.models._sampling import Sampling
from ragkit.protocols import LanguageModel
from ragkit.records import Completion, Prompt
from ragkit_pipelines.pearl.prompts import marked


@dataclass
class OptionMapper:
    """Maps answers to options with a model, which sees the answer and the question, but not the document.

    Attributes:
        model: A model or its spec.
        max_tokens: Maximum number of tokens of a response.
        mapped: Number of answers that were mapped to an option so far.
        unmapped: Number of answers that could not be mapped.
        replies: The model's responses so far, with their usage.
    """

    model: str | LanguageModel
    max_tokens: int = 16
    mapped: int = field(default=0, init=False)
    unmapped: int = field(default=0, init=False)
    replies: list[Completion] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        self._model = load_model(self.model)

    def map(self, answer: str, question: str, options: Sequence[str]) -> Choice:
        """Map one answer.

        Args:
            answer: The answer in words.
            question: The question.
            options: The options.

        Returns:
            The choice.
        """
        return self.map_many([(answer, question, options)])[0]

    def map_many(self, rows: Sequence[tuple[str, str, Sequence[str]]]) -> list[Choice]:
        """Map answers in one batch. An empty answer is mapped to no option without a call.

        Args:
            rows: The answer, the question and the options of each row.

        Returns:
            The choices, in order.

        Raises:
            InvalidInputError: If a row has no options, or more than there are letters.
        """
        for _, _, options in rows:
            check_options(options)
        asked = [place for place, (answer, _, _) in enumerate(rows) if answer.strip()]
        replies = self._replies([rows[place] for place in asked])
        self.replies += replies
        choices = [NO_CHOICE] * len(rows)
        for place, reply in zip(asked, replies, strict=True):
            first = next((line for line in reply.text.splitlines() if line.strip()), "")
            choices[place] = read_option(first, rows[place][2])
        self.mapped += sum(choice.place is not None for choice in choices)
        self.unmapped += sum(choice.place is None for choice in choices)
        return choices

    def _replies(self, rows: Sequence[tuple[str, str, Sequence[str]]]) -> list[Completion]:
        """Generate the responses, constrained to the letters if the model supports it, in groups of equal size."""
        able = self._model.capabilities
        found: dict[int, Completion | RagkitError] = {}
        for count in dict.fromkeys(len(options) for _, _, options in rows):
            places = [place for place, (_, _, options) in enumerate(rows) if len(options) == count]
            letters = [*ascii_uppercase[:count], "none"]
            choices = tuple(letters if able.chat else (f" {letter}" for letter in letters)) if able.choices else None
            sampling = Sampling(max_tokens=self.max_tokens, choices=choices)
            results = results_of(self._model, [_prompt(*rows[place]) for place in places], sampling)
            found |= {
                place: result.completion if isinstance(result, AnswerFormError) else result
                for place, result in zip(places, results, strict=True)
            }
        return raised([found[place] for place in range(len(rows))])


def _prompt(answer: str, question: str, options: Sequence[str]) -> Prompt:
    rows = zip(ascii_uppercase, options, strict=False)  # there are more letters than options
    listed = "".join(f"{letter}. {' '.join(option.split())}\n" for letter, option in rows)
    return Prompt(
        "An answer to a question was worked out before. Say which option it comes to.\n\n",
        f"What was worked out:\n{marked('answer', answer)}\nThe question:\n{marked('question', question)}\n"
        f"The options:\n{listed}\n"
        "Write the letter of the option only, or none if the answer comes to no option.\n\nOption:",
    )
