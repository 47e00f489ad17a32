"""Questions and conversations, read and checked before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ragkit.answers import without_reasoning
from ragkit.errors import InvalidInputError
from ragkit.records import Chat, Completion, Hit, Message, Prompt

Question = str | Chat
_LONGEST = 2000  # characters of a question that a model wrote


@dataclass(slots=True)
class Work:
    """One question on its way to an answer.

    Attributes:
        asked: The question as it was asked.
        history: The turns before it.
        question: The question as it is searched.
        rewriting: What a model wrote when it made that question.
        hits: The passages that are shown.
        dropped: Ids that are not, with the reason.
        prompt: What the model is asked.
        seconds: Time of each stage.
    """

    asked: str
    history: tuple[Message, ...]
    question: str
    rewriting: Completion | None = None
    hits: tuple[Hit, ...] = ()
    dropped: tuple[tuple[str, str], ...] = ()
    prompt: Prompt | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def read_question(question: object) -> Work:
    """A question with the turns before it.

    Args:
        question: A text, or a conversation that ends with the question.

    Returns:
        The work to do; until a model has rewritten it, a follow-up is searched together with the question before it.

    Raises:
        InvalidInputError: If there is no question.
    """
    if isinstance(question, str):
        if not question.strip():
            raise InvalidInputError("a question must not be empty")
        return Work(question, (), question)
    if not isinstance(question, Chat):
        raise InvalidInputError(f"a question must be a text or a Chat, got {type(question).__name__}")
    if not question.messages or question.messages[-1].role != "user" or not question.messages[-1].content.strip():
        raise InvalidInputError("a conversation must end with a message of the user, the question")
    *history, last = question.messages
    before = [turn.content for turn in history if turn.role == "user"]
    return Work(last.content, tuple(history), " ".join([*before[-1:], last.content]))


def take_questions(works: Sequence[Work], written: Sequence[Completion], seconds: float) -> None:
    """Take over the questions that a model made of follow-ups; an empty line changes nothing."""
    for work, completion in zip(works, written, strict=True):
        lines = [line.strip() for line in without_reasoning(completion.text).text.splitlines() if line.strip()]
        work.rewriting = completion
        work.question = lines[0][:_LONGEST] if lines else work.question
        work.seconds["rewrite"] = seconds / len(works)
