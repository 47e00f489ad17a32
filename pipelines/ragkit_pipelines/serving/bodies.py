"""Parse requests of OpenAI's API strictly: unsupported fields are rejected by name and never ignored."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator

from ragkit.models._sampling import Sampling
from ragkit.protocols import AnyPrompt
from ragkit.records import Chat, Prompt
from ragkit_pipelines.serving.conversations import ToolChoice, ToolField, Turn, chat_of
from ragkit_pipelines.serving.limits import Limits
from ragkit_pipelines.serving.strict import BadRequestError, Strict

# Neutral values, which clients send for fields that are otherwise unsupported.
_NEUTRAL: Mapping[str, object] = {
    "n": 1, "best_of": 1, "logit_bias": {}, "tools": [],
    "store": False, "suffix": "", "modalities": ["text"],
}  # fmt: skip
_SCHEMAS = {"json_schema", "parameters"}  # fields in which null has a meaning
_MAX_DEPTH = 64
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\Z)', re.DOTALL)
_ANY_OBJECT: Mapping[str, object] = {"title": "Answer", "type": "object"}


class _StreamOptions(Strict):
    include_usage: bool = False


class _JsonSchema(Strict):
    name: str = "Answer"
    description: str | None = None
    strict: bool | None = None
    content: dict[str, object] = Field(alias="schema")


class _Format(Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema | None = None

    def schema_of(self) -> Mapping[str, object] | None:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise BadRequestError(
                "`response_format` must contain `json_schema` if, and only if, its type is json_schema",
                field="response_format",
            )
        if self.json_schema is None:
            return _ANY_OBJECT if self.type == "json_object" else None
        return {"title": self.json_schema.name, **self.json_schema.content}


_MAX_TOKENS = Field(default=None, ge=1, lt=2**31)


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class _Body(Strict):
    """The fields that both kinds of requests have. `user` is accepted, and does not affect the response."""

    model: str
    max_tokens: int | None = _MAX_TOKENS
    temperature: float = Field(default=0.0, ge=0, le=10)
    top_p: float = Field(default=1.0, ge=0, le=1)
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    stop: list[str] = Field(default=[], max_length=16)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stream: bool = False
    stream_options: _StreamOptions | None = None
    response_format: _Format = _Format(type="text")
    guided_choice: list[str] | None = Field(default=None, min_length=1, fail_fast=True)  # vLLM's name
    guided_grammar: str | None = Field(default=None, min_length=1)  # vLLM's name
    user: str | None = None

    _stop_as_list = field_validator("stop", mode="before")(_as_list)

    @property
    def include_usage(self) -> bool:
        """Whether the last chunk of a stream contains the token usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def call(self, prompt: AnyPrompt, *, max_tokens: int | None, top_logprobs: int | None) -> Call:
        """Return the call for one prompt."""
        if self.stream_options is not None and not self.stream:
            raise BadRequestError("`stream_options` requires `stream`", field="stream_options")
        schema = self.response_format.schema_of()
        return Call(body=self, prompt=prompt, max_tokens=max_tokens, schema=schema, top_logprobs=top_logprobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One prompt of a request.

    Attributes:
        body: The request with the other settings.
        prompt: The prompt.
        max_tokens: Maximum number of tokens; None if the request sets no limit.
        schema: JSON schema that the response must follow, if any.
        top_logprobs: Number of alternative tokens with log-probabilities; None for no log-probabilities.
        echo: Whether the reply begins with the prompt.
    """

    body: _Body
    prompt: AnyPrompt
    max_tokens: int | None
    schema: Mapping[str, object] | None
    top_logprobs: int | None
    echo: bool = False

    def sampling(self, max_tokens: int, seed: int | None = None) -> Sampling:
        """Return the validated settings; ``max_tokens`` is the default limit, and ``seed`` overrides the request."""
        body = self.body
        if seed is None:
            seed = secrets.randbits(62) if body.seed is None and body.temperature else body.seed or 0
        return Sampling(
            max_tokens=max_tokens if self.max_tokens is None else max(1, self.max_tokens),
            temperature=body.temperature,
            top_p=body.top_p,
            presence_penalty=body.presence_penalty,
            frequency_penalty=body.frequency_penalty,
            stop=tuple(body.stop),
            seed=seed,
            schema=self.schema,
            choices=None if body.guided_choice is None else tuple(body.guided_choice),
            grammar=body.guided_grammar,
        )

    @property
    def tools(self) -> bool:
        """Whether the model may call tools."""
        return isinstance(self.prompt, Chat) and bool(self.prompt.tools)


Kind = TypeVar("Kind", bound=Strict)


class ChatBody(_Body):
    """A request to ``/v1/chat/completions``."""

    messages: list[Turn] = Field(min_length=1, max_length=2048, fail_fast=True)
    max_completion_tokens: int | None = _MAX_TOKENS
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    tools: list[ToolField] = Field(default=[], max_length=128)
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True

    def calls(self) -> list[Call]:
        """Return the call; a single user message becomes a plain prompt, as everywhere in ragkit."""
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise BadRequestError("pass `max_tokens` or `max_completion_tokens`, not both", field="max_tokens")
        if self.top_logprobs is not None and not self.logprobs:
            raise BadRequestError("`top_logprobs` requires `logprobs`", field="top_logprobs")
        if not self.parallel_tool_calls:
            raise BadRequestError("`parallel_tool_calls`: only true is supported", field="parallel_tool_calls")
        chat = chat_of(self.messages, self.tools, self.tool_choice)
        if chat.tools and self.logprobs:
            raise BadRequestError("`logprobs` cannot be combined with `tools`", field="logprobs")
        if chat.tools and (self.response_format.type != "text" or self.guided_choice):
            message = "`tools` cannot be combined with `response_format` or `guided_choice`"
            raise BadRequestError(message, field="tools")
        turns = chat.messages
        prompt = turns[0].content if len(turns) == 1 and turns[0].role == "user" and not chat.tools else chat
        limit = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        top = (self.top_logprobs or 0) if self.logprobs else None
        return [self.call(prompt, max_tokens=limit, top_logprobs=top)]


class CompletionBody(_Body):
    """A request to ``/v1/completions``: texts that are continued verbatim."""

    prompt: list[str] = Field(min_length=1, max_length=2048, fail_fast=True)
    logprobs: int | None = Field(default=None, ge=0, le=20)
    max_tokens: int | None = Field(default=None, ge=0, lt=2**31)
    echo: bool = False

    _prompt_as_list = field_validator("prompt", mode="before")(_as_list)

    def calls(self) -> list[Call]:
        """Return one call per prompt."""
        if self.stream and len(self.prompt) > 1:
            raise BadRequestError("`prompt` must be a single text if `stream` is set", field="prompt")
        if self.stream and self.echo:
            raise BadRequestError("`echo` cannot be combined with `stream`", field="echo")
        if self.max_tokens == 0 and not self.echo:
            raise BadRequestError("`max_tokens` must be at least 1 unless `echo` is set", field="max_tokens")
        calls = [
            self.call(Prompt(text, form="text"), max_tokens=self.max_tokens, top_logprobs=self.logprobs)
            for text in self.prompt
        ]
        return [replace(call, echo=self.echo) for call in calls]


def read_body(kind: type[Kind], content: bytes | bytearray, limits: Limits) -> Kind:
    """Parse the body of a request; raises `BadRequestError` if it is invalid, too large, or has unsupported fields."""
    # Counted before it is parsed: an empty list takes 2 bytes in JSON, and 56 in memory.
    structure = _STRING.sub(b"", content)
    if sum(map(structure.count, (b",", b"[", b"{"))) > limits.values:
        raise BadRequestError(f"the body contains more than {limits.values:,} JSON values")
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"the body is not valid JSON ({error})") from error
    if not isinstance(body, dict):
        raise BadRequestError(f"the body must be a JSON object, got {type(body).__name__}")
    _check_depth(body)
    given = {name: value for name, value in _without_nulls(body).items() if not _is_neutral(name, value)}
    try:
        parsed = kind.model_validate(given)
    except ValidationError as error:
        raise _invalid(error) from None
    for field, size in _schema_sizes(parsed).items():
        if size > limits.schema_bytes:
            what = "grammar" if field == "guided_grammar" else "schema"
            message = f"the {what} takes {size:,} bytes, the limit is {limits.schema_bytes:,}"
            raise BadRequestError(message, field=field)
    return parsed


def _schema_sizes(body: Strict) -> dict[str, int]:
    """Return the size of the schemas and the grammar in a request, by field."""
    sizes: dict[str, int] = {}
    if isinstance(body, _Body) and body.response_format.json_schema is not None:
        sizes["response_format"] = len(json.dumps(body.response_format.json_schema.content))
    if isinstance(body, _Body) and body.guided_grammar is not None:
        sizes["guided_grammar"] = len(body.guided_grammar.encode(errors="surrogatepass"))
    if isinstance(body, ChatBody):
        sizes["tools"] = sum(len(json.dumps(tool.function.parameters)) for tool in body.tools)
    return sizes


def _invalid(error: ValidationError) -> BadRequestError:
    first = error.errors(include_url=False, include_input=False)[0]
    field = _path(first["loc"])
    problem = first["msg"]
    if first["type"] == "extra_forbidden":
        unsupported = f"only {_NEUTRAL[field]!r} is supported" if field in _NEUTRAL else "not supported"
        problem = f"{unsupported}; omit the field"
    return BadRequestError(f"`{field}`: {problem}", field=field)


def _check_depth(body: object) -> None:
    """Reject deeply nested JSON, which would exceed the recursion limit."""
    level: list[Any] = [body]
    for _ in range(_MAX_DEPTH):
        inside = [value.values() if isinstance(value, dict) else value for value in level]
        level = [part for parts in inside for part in parts if isinstance(part, dict | list)]
        if not level:
            return
    raise BadRequestError(f"the body is nested too deeply (limit: {_MAX_DEPTH})")


def _without_nulls(value: Any) -> Any:
    """Remove fields that are null, which means that they are absent; a schema is not changed."""
    if isinstance(value, dict):
        return {
            name: part if name in _SCHEMAS else _without_nulls(part) for name, part in value.items() if part is not None
        }
    return [_without_nulls(part) for part in value] if isinstance(value, list) else value


def _is_neutral(name: str, value: object) -> bool:
    if name not in _NEUTRAL or isinstance(value, bool) != isinstance(_NEUTRAL[name], bool):
        return False
    return value == _NEUTRAL[name]


def _path(location: tuple[int | str, ...]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.removeprefix(".")
