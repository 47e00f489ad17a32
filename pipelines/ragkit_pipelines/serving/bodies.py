"""Requests of OpenAI's protocol, read strictly: what is not supported is refused by its name, never passed over."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ragkit.errors import InvalidInputError
from ragkit.models.sampling import Sampling
from ragkit.protocols import AnyPrompt
from ragkit.records import Chat, Message, Prompt

# Values that ask for nothing, which clients send for fields that are not supported otherwise.
_ASKS_NOTHING: Mapping[str, object] = {
    "n": 1, "best_of": 1, "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0, "logit_bias": {}, "tools": [],
    "echo": False, "store": False, "suffix": "", "modalities": ["text"],
}  # fmt: skip
_MOST_DEPTH = 64
_Plain = str | int | float | None  # what JSON holds besides objects and arrays
_ANY_OBJECT: Mapping[str, object] = {"title": "Answer", "type": "object"}


class BadRequestError(InvalidInputError):
    """A request that is refused.

    Attributes:
        field: The field that is wrong; None for the whole.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        """Say what is wrong and where."""
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a request asks of a model.

    Attributes:
        model: Name of the model.
        prompt: What is to be continued.
        max_tokens: Tokens written at the most; None where the request does not say.
        temperature: 0 for the likeliest token each time.
        stop: Sequences at which the answer ends.
        seed: Seed of the sampling; None where the request does not say.
        schema: JSON schema that the answer must follow, if any.
        choices: Texts one of which must be the answer, if any.
        top_logprobs: How many likely tokens are told beside each; None for no log-probabilities.
    """

    model: str
    prompt: AnyPrompt
    max_tokens: int | None = None
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    schema: Mapping[str, object] | None = None
    choices: tuple[str, ...] | None = None
    top_logprobs: int | None = None

    def sampling(self, max_tokens: int, seed: int | None = None) -> Sampling:
        """The settings for a model.

        Args:
            max_tokens: What holds where the request does not say.
            seed: The seed; that of the request, else a random one, if None.

        Returns:
            Settings that are checked.
        """
        if seed is None:
            seed = secrets.randbits(62) if self.seed is None and self.temperature else self.seed or 0
        return Sampling(
            max_tokens=max_tokens if self.max_tokens is None else self.max_tokens,
            temperature=self.temperature,
            stop=self.stop,
            seed=seed,
            schema=self.schema,
            choices=self.choices,
        )


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _StreamOptions(_Strict):
    include_usage: bool = False


class _JsonSchema(_Strict):
    name: str = "Answer"
    description: str | None = None
    strict: bool | None = None
    held_to: dict[str, object] = Field(alias="schema")


class _Format(_Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema | None = None

    def schema_asked(self) -> Mapping[str, object] | None:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise BadRequestError(
                "`response_format` holds `json_schema` where its type is json_schema", field="response_format"
            )
        if self.json_schema is None:
            return _ANY_OBJECT if self.type == "json_object" else None
        return {"title": self.json_schema.name, **self.json_schema.held_to}


class _Body(_Strict):
    """What both kinds of requests have. `user` says who asks, which changes no answer."""

    model: str
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=0.0, ge=0, le=10)
    stop: list[str] = Field(default=[], max_length=16)
    seed: int | None = None
    stream: bool = False
    stream_options: _StreamOptions | None = None
    response_format: _Format = _Format(type="text")
    guided_choice: list[str] | None = Field(default=None, min_length=1)  # as vLLM calls it
    user: str | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @property
    def tells_usage(self) -> bool:
        """Whether the last piece of a stream tells the tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    def asked(self, prompt: AnyPrompt, *, max_tokens: int | None, top_logprobs: int | None) -> Question:
        """The question about one prompt."""
        if self.stream_options is not None and not self.stream:
            raise BadRequestError("`stream_options` goes with `stream`", field="stream_options")
        return Question(
            model=self.model,
            prompt=prompt,
            max_tokens=max_tokens,
            temperature=self.temperature,
            stop=tuple(self.stop),
            seed=self.seed,
            schema=self.response_format.schema_asked(),
            choices=None if self.guided_choice is None else tuple(self.guided_choice),
            top_logprobs=top_logprobs,
        )


Kind = TypeVar("Kind", bound=_Body)


class _Turn(_Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: str

    @field_validator("content", mode="before")
    @classmethod
    def _joined(cls, value: object) -> object:
        if not isinstance(value, list):
            return value
        texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in value]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("only parts of the type text are supported")
        return "".join(text for text in texts if text)

    def message(self) -> Message:
        return Message("system" if self.role == "developer" else self.role, self.content)


class ChatBody(_Body):
    """A request to ``/v1/chat/completions``."""

    messages: list[_Turn] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)

    def questions(self) -> list[Question]:
        """What is asked: one question; the one message of a user is a plain prompt, as in all of ragkit."""
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise BadRequestError("give `max_tokens` or `max_completion_tokens`, not both", field="max_tokens")
        if self.top_logprobs is not None and not self.logprobs:
            raise BadRequestError("`top_logprobs` goes with `logprobs`", field="top_logprobs")
        turns = tuple(turn.message() for turn in self.messages)
        alone = len(turns) == 1 and turns[0].role == "user"
        most = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        prompt = turns[0].content if alone else Chat(turns)
        top = (self.top_logprobs or 0) if self.logprobs else None
        return [self.asked(prompt, max_tokens=most, top_logprobs=top)]


class CompletionBody(_Body):
    """A request to ``/v1/completions``: texts that are continued as they stand."""

    prompt: list[str] = Field(min_length=1, max_length=2048)
    logprobs: int | None = Field(default=None, ge=0, le=20)

    @field_validator("prompt", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    def questions(self) -> list[Question]:
        """What is asked: a question for each prompt."""
        if self.stream and len(self.prompt) > 1:
            raise BadRequestError("`prompt` must be one text where the answer is streamed", field="prompt")
        return [
            self.asked(Prompt(text, form="text"), max_tokens=self.max_tokens, top_logprobs=self.logprobs)
            for text in self.prompt
        ]


def read_body(kind: type[Kind], body: object) -> Kind:
    """Read the JSON of a request.

    Args:
        kind: What is expected.
        body: JSON values.

    Returns:
        The request.

    Raises:
        BadRequestError: If it is not what is expected, or asks for what is not supported.
    """
    if not isinstance(body, dict):
        raise BadRequestError(f"the body must be a JSON object, got {type(body).__name__}")
    _check_depth(body)
    given = {name: value for name, value in _without_nulls(body).items() if not _asks_nothing(name, value)}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = _path(first["loc"])
        if first["type"] == "extra_forbidden":
            only = f" but for {_ASKS_NOTHING[field]!r}" if field in _ASKS_NOTHING else ""
            raise BadRequestError(f"`{field}` is not supported{only}; leave it out", field=field) from None
        raise BadRequestError(f"`{field}`: {first['msg']}", field=field) from None


def _check_depth(body: object) -> None:
    """Refuse brackets in brackets in brackets, at which recursion would end."""
    level: list[Any] = [body]
    depth = 0
    while level:
        depth += 1
        if depth > _MOST_DEPTH:
            raise BadRequestError(f"brackets stand more than {_MOST_DEPTH} deep in the body; send a flatter one")
        held = [value.values() if isinstance(value, dict) else value for value in level]
        level = [part for parts in held if not isinstance(parts, _Plain) for part in parts]


def _without_nulls(value: Any) -> Any:
    """JSON in which null means that a field is absent; a schema is left as it is."""
    if isinstance(value, dict):
        return {
            name: part if name == "json_schema" else _without_nulls(part)
            for name, part in value.items()
            if part is not None
        }
    return [_without_nulls(part) for part in value] if isinstance(value, list) else value


def _asks_nothing(name: str, value: object) -> bool:
    if name not in _ASKS_NOTHING or isinstance(value, bool) != isinstance(_ASKS_NOTHING[name], bool):
        return False
    return value == _ASKS_NOTHING[name]


def _path(place: tuple[int | str, ...]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return path.removeprefix(".")
