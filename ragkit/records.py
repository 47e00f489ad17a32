"""The values that pass between components: small, frozen, free of behaviour that needs a library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, overload

__all__ = [
    "Chat",
    "Completion",
    "Diagnostic",
    "Document",
    "Example",
    "Hit",
    "Message",
    "Preference",
    "Prompt",
    "Selection",
    "Usage",
]

Fields = Mapping[str, str]
Metadata = Mapping[str, object]
Form = Literal["auto", "chat", "text"]


@dataclass(frozen=True, slots=True)
class Document:
    """A piece of text to find.

    Attributes:
        text: What is searched and shown.
        id: A name that stays; given by whoever stores it where None.
        metadata: Values to filter by and to show.
    """

    text: str
    id: str | None = None
    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """An input with the output that is right for it.

    Attributes:
        input: One text, or several named fields.
        output: What a model should answer.
        id: A name that stays; a pool gives its position where None.
        metadata: Values to filter by and to show.
    """

    input: str | Fields
    output: str
    id: str | None = None
    metadata: Metadata | None = None

    def text(self, key: str = "input") -> str:
        """The text that selectors search.

        Args:
            key: ``"input"`` for the whole input, or the name of one of its fields.

        Returns:
            The text; several fields are joined by line breaks in their own order.
        """
        return field_text(self.input, key)


def field_text(value: str | Fields, key: str) -> str:
    """Take the text called ``key`` out of an input.

    Args:
        value: One text or several named fields.
        key: ``"input"`` for all of it, or the name of one field.

    Returns:
        The text.

    Raises:
        InvalidInputError: If the input has no such field, or it is not text.
    """
    from ragkit.errors import InvalidInputError

    if isinstance(value, str):
        if key != "input":
            raise InvalidInputError(f"`key` is {key!r}, but the input is one text; use key='input'")
        return value
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"an input must be a string or a mapping of fields, got {type(value).__name__}")
    parts = list(value.values()) if key == "input" and "input" not in value else [value.get(key)]
    for part in parts:
        if not isinstance(part, str):
            got = "no such field" if part is None else type(part).__name__  # type: ignore[redundant-expr]
            raise InvalidInputError(f"field {key!r} of an input must be text, got {got}; its fields: {list(value)}")
    return "\n".join(str(part) for part in parts)


def span_of(metadata: Metadata | None) -> tuple[int, int] | None:
    """Where a piece of text stands in its source, as its metadata ``start`` and ``end`` say.

    Returns:
        Start and end in characters; None where the metadata do not say.
    """
    start, end = (metadata or {}).get("start"), (metadata or {}).get("end")
    return (start, end) if type(start) is int and type(end) is int and 0 <= start <= end else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One item found, with the reason.

    Attributes:
        id: Id of the item.
        score: Likeness to the query; higher is closer.
        rank: Place among the hits, 1 for the best.
        text: The text that was searched.
        metadata: The item's metadata.
        span: Start and end of the text in its source, in characters.
        why: What the score is made of.
    """

    id: str
    score: float
    rank: int
    text: str = ""
    metadata: Metadata | None = None
    span: tuple[int, int] | None = None
    why: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection(Sequence[Example]):
    """Chosen examples, the best first.

    Attributes:
        examples: The examples themselves.
        hits: For each of them its id, score, rank and reason.
        dropped: Ids that were left out on the way, with the reason.
        tokens: Tokens that the examples take in the prompt, once it is known.
        ordered: Whether the examples stand in the order of the prompt instead, put there by a stage.
    """

    examples: tuple[Example, ...] = ()
    hits: Sequence[Hit] = ()
    dropped: tuple[tuple[str, str], ...] = ()
    tokens: int | None = None
    ordered: bool = False

    @overload
    def __getitem__(self, row: int) -> Example: ...
    @overload
    def __getitem__(self, row: slice) -> tuple[Example, ...]: ...
    def __getitem__(self, row: int | slice) -> Example | tuple[Example, ...]:
        return self.examples[row]

    def __len__(self) -> int:
        return len(self.examples)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: Who says it; ``"tool"`` for the result of a tool, if the chat template has that role.
        content: What is said.
        weight: How much training learns from a turn of the assistant; 0 for a turn that is only context.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation that the model continues with the assistant's next turn."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as text, divided where its reusable prefix ends, and optionally also as chat turns.

    The model chooses: a chat model is given the turns (or the text as one user message if there are none), a base
    model continues the text.

    Attributes:
        prefix: The part that stays the same from one query to the next; models reuse its computation.
        suffix: The rest.
        chat: The same prompt as a conversation.
        form: ``"auto"`` leaves the choice to the model. With ``"text"``, a local chat model continues the text without
            its chat template, and an API model gets the text as one user message. With ``"chat"``, a model without a
            chat template raises an error.
    """

    prefix: str
    suffix: str = ""
    chat: Chat | None = None
    form: Form = "auto"

    @property
    def text(self) -> str:
        """The whole prompt as text."""
        return self.prefix + self.suffix


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one input, of which one is better: what preference training learns from.

    Attributes:
        prompt: The input, one text or several named fields, which a template puts into words; or a conversation.
        chosen: The better answer.
        rejected: The worse one.
    """

    prompt: str | Fields | Chat
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """What is to be said about one place of a text that was read.

    Attributes:
        level: ``"error"`` where the text cannot be used, ``"repair"`` where a slip was mended, else ``"warning"``.
        code: A short name that stays, such as ``"unknown-action"``.
        message: What is wrong there, and what to write instead.
        line: Line of the text, counted from 1; 0 for the text as a whole.
        column: Column of the line, counted from 1; 0 for the line as a whole.
    """

    level: Literal["error", "repair", "warning"]
    code: str
    message: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        where = f"line {self.line}" + (f", column {self.column}" if self.column else "") if self.line else "the text"
        return f"{where}: {self.message} [{self.code}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one call.

    Attributes:
        prompt_tokens: Tokens read, those from a cache among them.
        cached_tokens: Tokens of the prompt that came from a prompt cache.
        completion_tokens: Tokens written.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a model answered.

    Attributes:
        text: The answer, without the stop sequence that ended it.
        usage: Tokens read and written.
        cost: Money in US dollars; None where the price is unknown, never 0 for unknown.
        seconds: Time spent on this answer; a batch's time is shared out over its answers.
        finish_reason: ``"stop"`` at a stop sequence or the end of text, ``"length"`` at `max_tokens`.
        cached: True where the answer was there already and nothing was computed or paid now; `usage`, `cost` and
            `seconds` are then what was saved.
        attempts: Requests made for it.
        parsed: The answer read by the schema that was asked for: an instance of the pydantic model, or JSON values.
    """

    text: str
    usage: Usage = Usage()
    cost: float | None = None
    seconds: float = 0.0
    finish_reason: Literal["stop", "length"] = "stop"
    cached: bool = False
    attempts: int = 1
    parsed: object = None

    @property
    def paid(self) -> float | None:
        """What it cost now: nothing where it was there already, None where the price is unknown."""
        return 0.0 if self.cached else self.cost
