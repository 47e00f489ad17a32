"""The data classes that components exchange: small, frozen, and without dependencies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, overload

from ragkit._tuples import restore_tuples

__all__ = [
    "Chat", "Completion", "Diagnostic", "Document", "Example", "Hit", "Message", "Preference", "Prompt", "Selection",
    "Tool", "ToolCall", "Usage",
]  # fmt: skip

Fields = Mapping[str, str]
Metadata = Mapping[str, object]
Form = Literal["auto", "chat", "text"]
FinishReason = Literal["stop", "length", "refusal", "content_filter", "tool_calls", "error"]
_MOST_DROPPED = 10  # a filter can drop thousands of candidates, more than anyone wants to see printed


@dataclass(frozen=True, slots=True)
class Document:
    """A text to retrieve.

    Attributes:
        text: The text that is searched and returned.
        id: A stable identifier; if None, the component that stores the document assigns one.
        metadata: Values to filter by and to display.
    """

    text: str
    id: str | None = None
    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """An input with its correct output.

    Attributes:
        input: One text, or several named fields.
        output: The answer that a model should give.
        id: A stable identifier; if None, a pool uses the position of the example.
        metadata: Values to filter by and to display.
    """

    input: str | Fields
    output: str
    id: str | None = None
    metadata: Metadata | None = None

    def text(self, key: str = "input") -> str:
        """Return the text that selectors search.

        Args:
            key: ``"input"`` for the whole input, or the name of one of its fields.

        Returns:
            The text; several fields are joined by line breaks in their order.
        """
        return field_text(self.input, key)


def field_text(value: str | Fields, key: str) -> str:
    """Return the text of an input, or of the field that ``key`` names, as `Example.text` does.

    Returns:
        The text.

    Raises:
        InvalidInputError: If the input does not have the field, or the field is not text.
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
    """Return start and end of a text in its source, in characters, if its metadata contains them."""
    start, end = (metadata or {}).get("start"), (metadata or {}).get("end")
    return (start, end) if type(start) is int and type(end) is int and 0 <= start <= end else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A search result.

    Attributes:
        id: Id of the item.
        score: Similarity to the query; higher is more similar.
        rank: Rank among the hits, 1 for the best.
        text: The text that was searched.
        metadata: The metadata of the item.
        span: Start and end of the text in its source, in characters.
        why: The components of the score and other reasons for the rank.
    """

    id: str
    score: float
    rank: int
    text: str = ""
    metadata: Metadata | None = None
    span: tuple[int, int] | None = None
    why: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        restore_tuples(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection(Sequence[Example]):
    """Selected examples, the best first; ``print`` shows the rank, score, input and output of each.

    Attributes:
        examples: The examples.
        hits: The id, score, rank and reason of each example.
        dropped: Ids of the candidates that were excluded, with the reason.
        tokens: Number of tokens of the examples in the prompt; None if no stage counted them.
        ordered: Whether a stage put the examples into the order of the prompt instead.
    """

    examples: tuple[Example, ...] = ()
    hits: Sequence[Hit] = ()
    dropped: tuple[tuple[str, str], ...] = ()
    tokens: int | None = None
    ordered: bool = False

    def __post_init__(self) -> None:
        restore_tuples(self)

    def _asdict(self) -> dict[str, Any]:
        """Return the fields with a tuple of hits, which selectors create when they are read; for serializers."""
        return {each.name: getattr(self, each.name) for each in fields(self)} | {"hits": tuple(self.hits)}

    @overload
    def __getitem__(self, row: int) -> Example: ...
    @overload
    def __getitem__(self, row: slice) -> tuple[Example, ...]: ...
    def __getitem__(self, row: int | slice) -> Example | tuple[Example, ...]:
        return self.examples[row]

    def __len__(self) -> int:
        return len(self.examples)

    def __str__(self) -> str:
        from ragkit._text import shown

        lines = [f"examples: {len(self)}" + ("" if self.tokens is None else f", tokens: {self.tokens}")]
        ranks = [f"{hit.rank}. {hit.score:.3f} " for hit in self.hits]
        if len(ranks) != len(self):  # a selection that was made by hand needs no hits
            ranks = [""] * len(self)
        for rank, example in zip(ranks, self.examples, strict=True):
            lines.append(f"{rank}{shown(example.input)} -> {shown(example.output)}")
        lines += [f"dropped {shown(name)}: {reason}" for name, reason in self.dropped[:_MOST_DROPPED]]
        more = len(self.dropped) - _MOST_DROPPED
        return "\n".join([*lines, *([f"{more} more dropped"] if more > 0 else [])])


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model can ask its caller to run.

    Attributes:
        name: The name of the function.
        description: When and how to use it.
        parameters: JSON schema of its arguments, as JSON text.
    """

    name: str
    description: str = ""
    parameters: str = '{"type": "object", "properties": {}}'


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool that a model asks for.

    Attributes:
        name: Name of the tool.
        arguments: The arguments, a JSON object as text.
        id: Identifier of the call, which its result repeats.
    """

    name: str
    arguments: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: The author of the turn; ``"tool"`` for the result of a tool, if the chat template has that role.
        content: The text of the turn.
        weight: Weight of an assistant turn in the training loss; 0 for a turn that is only context.
        tool_calls: The tools that an assistant turn calls.
        answers: The call of which a tool turn is the result; None for the other roles.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    weight: float = 1.0
    tool_calls: tuple[ToolCall, ...] = ()
    answers: ToolCall | None = None

    def __post_init__(self) -> None:
        restore_tuples(self)


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation that the model continues with the assistant's next turn.

    Attributes:
        messages: The turns.
        tools: Tools that the model may call, if `Capabilities.tools` is set.
        tool_choice: ``"auto"``, ``"required"``, ``"none"``, or the name of the tool that must be called.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"

    def __post_init__(self) -> None:
        restore_tuples(self)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as text, split into a reusable prefix and a suffix, and optionally also as chat turns.

    By default, the model determines the form: a chat model receives the turns (or the text as one user message if
    there are none), and a base model continues the text.

    Attributes:
        prefix: The part that is the same for all queries; models reuse its computation.
        suffix: The rest of the text.
        chat: The same prompt as a conversation.
        form: ``"auto"`` lets the model determine the form. With ``"text"``, a local chat model continues the text
            without its chat template, and an API model receives the text as one user message. With ``"chat"``, a model
            without a chat template raises an error.
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
    """A better and a worse answer to one input, for preference training.

    Attributes:
        prompt: The input, one text or several named fields, which a template renders; or a conversation.
        chosen: The better answer.
        rejected: The worse answer.
    """

    prompt: str | Fields | Chat
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """A message about one position of a text that was parsed.

    Attributes:
        level: ``"error"`` if the text cannot be used, ``"repair"`` if a mistake was fixed, otherwise ``"warning"``.
        code: A stable short name, such as ``"unknown-action"``.
        message: The problem, and what to write instead.
        line: Line of the text, counted from 1; 0 for the whole text.
        column: Column of the line, counted from 1; 0 for the whole line.
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
    """The token usage of one call.

    Attributes:
        prompt_tokens: Number of tokens of the prompt, including those from a cache.
        cached_tokens: Number of tokens of the prompt that came from a prompt cache.
        cache_written_tokens: Number of tokens of the prompt that the provider stored in its prompt cache, if it bills
            them separately.
        completion_tokens: Number of generated tokens, including those of the reasoning.
        reasoning_tokens: Number of generated tokens that are reasoning, as far as the provider reports it.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cache_written_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            cache_written_tokens=self.cache_written_tokens + other.cache_written_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """The answer of a model.

    Attributes:
        text: The answer, without the stop sequence that ended it, and without the reasoning if the provider or tags
            such as ``<think>`` separate it.
        usage: The token usage.
        cost: Cost in US dollars; None if the price is unknown, never 0.
        seconds: Time spent on this answer; the time of a batch is divided among its answers.
        finish_reason: ``"stop"`` at a stop sequence or the end of the text, ``"length"`` at `max_tokens`,
            ``"refusal"`` if the model refused, ``"content_filter"`` if a filter ended the answer, ``"tool_calls"`` if
            the model calls tools, ``"error"`` if the provider failed while it wrote the answer.
        cached: Whether the answer is a cached response, so nothing was computed or paid now; `usage`, `cost` and
            `seconds` are then the savings.
        attempts: Number of requests.
        parsed: The answer parsed by the requested schema: an instance of the pydantic model, or JSON values.
        omitted_settings: Settings that make answers repeatable and that were not sent, because the provider does not
            accept them: ``("temperature",)`` for many reasoning models, whose answers may vary between runs.
        reasoning: The reasoning before the answer, if the model returns it.
        tool_calls: The tools that the model calls; the text is then usually empty.
        logprobs: The tokens of the text with their log-probabilities in nats, if they were requested and the provider
            returned them. Tokens that are parts of one character are joined, and the first and the last token may
            contain more than the text.
    """

    text: str
    usage: Usage = Usage()
    cost: float | None = None
    seconds: float = 0.0
    finish_reason: FinishReason = "stop"
    cached: bool = False
    attempts: int = 1
    parsed: object = None
    omitted_settings: tuple[str, ...] = ()
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        restore_tuples(self)

    @property
    def paid(self) -> float | None:
        """The cost that was charged now: 0 for a cached response, None if the price is unknown."""
        return 0.0 if self.cached else self.cost

    @property
    def truncated_in_reasoning(self) -> bool:
        """Whether `max_tokens` was used up by the reasoning, so that there is no answer."""
        reasoned = bool(self.reasoning or self.usage.reasoning_tokens)
        return self.finish_reason == "length" and reasoned and not self.text.strip()
