"""Validate questions and conversations, and hold the state of their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ragkit.answers import without_reasoning
from ragkit.errors import InvalidInputError
from ragkit.records import Chat, Completion, Hit, Message, Prompt

Question = str | Chat
_MAX_CHARACTERS = 2000  # of a rewritten question


@dataclass(slots=True)
class Work:
    """The state of one question in a pipeline.

    Attributes:
        original: The question of the user.
        history: The turns before it.
        question: The query for the retriever.
        rewriting: The completion that rewrote the question.
        hits: The passages in the prompt.
        dropped: Ids of the other passages, with the reason.
        prompt: The prompt for the answer.
        seconds: Time of each stage.
    """

    original: str
    history: tuple[Message, ...]
    question: str
    rewriting: Completion | None = None
    hits: tuple[Hit, ...] = ()
    dropped: tuple[tuple[str, str], ...] = ()
    prompt: Prompt | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def read_question(question: object) -> Work:
    """Validate a question, or a conversation that ends with a question, and return its initial state."""
    if isinstance(question, str):
        if not question.strip():
            raise InvalidInputError("the question must not be empty")
        return Work(question, (), question)
    if not isinstance(question, Chat):
        raise InvalidInputError(f"the question must be a string or a Chat, got {type(question).__name__}")
    if not question.messages or question.messages[-1].role != "user" or not question.messages[-1].content.strip():
        raise InvalidInputError("the last message of a conversation must be the question of the user")
    *history, last = question.messages
    before = [turn.content for turn in history if turn.role == "user"]
    # Until it is rewritten, the query of a follow-up question also contains the question before it.
    return Work(last.content, tuple(history), " ".join([*before[-1:], last.content]))


def set_rewritten(works: Sequence[Work], completions: Sequence[Completion], seconds: float) -> None:
    """Replace follow-up questions by their rewritten form, unless it is empty."""
    for work, completion in zip(works, completions, strict=True):
        lines = [line.strip() for line in without_reasoning(completion.text).text.splitlines() if line.strip()]
        work.rewriting = completion
        work.question = lines[0][:_MAX_CHARACTERS] if lines else work.question
        work.seconds["rewrite"] = seconds / len(works)
