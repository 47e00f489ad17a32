"""Validate questions and conversations, and hold the state of their answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ragkit._text import words
from ragkit.answers import without_reasoning
from ragkit.errors import InvalidInputError
from ragkit.records import Chat, Completion, Example, Hit, Message, Prompt

Question = str | Chat
_MAX_CHARACTERS = 2000  # of a rewritten question
_SHORT = 8  # words; a shorter follow-up question rarely names what it is about
_MOST_TURNS = 4


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
        truncated: Ids of truncated passages, with the reason.
        turns: The earlier turns in the prompt.
        examples: The demonstrations in the prompt.
        prompt: The prompt for the answer.
        seconds: Time of each stage.
    """

    original: str
    history: tuple[Message, ...]
    question: str
    rewriting: Completion | None = None
    hits: tuple[Hit, ...] = ()
    dropped: tuple[tuple[str, str], ...] = ()
    truncated: tuple[tuple[str, str], ...] = ()
    turns: tuple[Message, ...] = ()
    examples: tuple[Example, ...] = ()
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


def keep_history(works: Sequence[Work]) -> None:
    """Keep the turns before a follow-up question instead of rewriting it; the query of a long one is itself alone."""
    for work in works:
        if work.history and len(words(work.original)) > _SHORT:
            work.question = work.original


def latest_turns(history: Sequence[Message], limit: int, count: Callable[[str], int]) -> tuple[Message, ...]:
    """Return the latest turns of user and assistant that fit into ``limit`` tokens, beginning with a user turn."""
    turns = [turn for turn in history if turn.role in {"user", "assistant"} and turn.content.strip()]
    kept: list[Message] = []
    for turn in reversed(turns[-_MOST_TURNS:]):
        limit -= count(turn.content)
        if limit < 0:
            break
        kept.insert(0, turn)
    while kept and kept[0].role != "user":
        kept.pop(0)
    return tuple(kept)
