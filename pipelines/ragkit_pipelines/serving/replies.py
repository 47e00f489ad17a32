"""Format responses and errors as in OpenAI's API."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import isnan
from typing import TYPE_CHECKING, Any

from ragkit.errors import (
    BudgetExceededError,
    InvalidInputError,
    ModelError,
    PromptTooLongError,
    TransientModelError,
    UnsupportedError,
)
from ragkit.records import Completion, ToolCall, Usage
from ragkit_pipelines.serving.jobs import QueueFullError
from ragkit_pipelines.serving.strict import BadRequestError

if TYPE_CHECKING:
    from ragkit.models._streaming import TokenLogprob

_MAX_CHARACTERS = 500  # of an error message, which may quote a field of the request
_MIN_LOGPROB = -9999.0  # replaces minus infinity, which JSON does not have
# The status, code and additional headers of each kind of error; the first matching class applies.
_STATUS: tuple[tuple[type[Exception], int, str, dict[str, str]], ...] = (
    (PromptTooLongError, 400, "context_length_exceeded", {}),
    (InvalidInputError, 400, "invalid_request", {}),
    (UnsupportedError, 400, "invalid_request", {}),
    (QueueFullError, 503, "overloaded", {"retry-after": "1"}),
    (TransientModelError, 503, "model_unavailable", {}),
    (BudgetExceededError, 402, "budget_exceeded", {}),
    (ModelError, 502, "model_error", {}),
)


@dataclass(frozen=True, slots=True)
class Reply:
    """The fields that all parts of one reply share.

    Attributes:
        model: Name of the model.
        fingerprint: Fingerprint of the model.
        chat: Whether the reply is a chat message; otherwise it is a text completion.
        include_usage: Whether the last chunk of a stream contains the token usage.
        id: Id of the reply.
        created: Unix time in seconds.
    """

    model: str
    fingerprint: str
    chat: bool
    include_usage: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def _head(self, *, chunk: bool) -> dict[str, Any]:
        kind = ("chat.completion" + ".chunk" * chunk) if self.chat else "text_completion"
        name = ("chatcmpl-" if self.chat else "cmpl-") + self.id
        return {"id": name, "object": kind, "created": self.created, "model": self.model,
                "system_fingerprint": self.fingerprint}  # fmt: skip

    def whole(
        self, completions: Sequence[Completion], logprobs: Sequence[Sequence[TokenLogprob] | None]
    ) -> dict[str, Any]:
        """Return the JSON of a reply that is not streamed; ``logprobs`` is None if they were not requested."""
        choices = []
        for index, (done, tokens) in enumerate(zip(completions, logprobs, strict=True)):
            content = {"message": _message(done)} if self.chat else {"text": done.text}
            choices.append(
                {"index": index, **content, "logprobs": self._logprobs(tokens), "finish_reason": finish_reason_of(done)}
            )
        usage = sum((done.usage for done in completions), Usage())
        return {**self._head(chunk=False), "choices": choices, "usage": _usage(usage)}

    def chunk(
        self,
        text: str,
        logprobs: Sequence[TokenLogprob] | None = None,
        *,
        first: bool = False,
        finish_reason: str | None = None,
    ) -> str:
        """Return a chunk of a stream as a server-sent event; the first chunk of a chat message names its role."""
        delta = {**({"role": "assistant"} if first else {}), **({"content": text} if text or first else {})}
        content = {"delta": delta} if self.chat else {"text": text}
        choice = {"index": 0, **content, "logprobs": self._logprobs(logprobs), "finish_reason": finish_reason}
        usage = {"usage": None} if self.include_usage else {}
        return event({**self._head(chunk=True), "choices": [choice], **usage})

    def calls_chunk(self, calls: Sequence[ToolCall]) -> str:
        """Return the chunk of a stream that contains all tool calls, as a server-sent event."""
        delta = {"tool_calls": [{"index": index, **_call(call)} for index, call in enumerate(calls)]}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        usage = {"usage": None} if self.include_usage else {}
        return event({**self._head(chunk=True), "choices": [choice], **usage})

    def usage_chunk(self, usage: Usage) -> str:
        """Return the chunk of a stream that contains the token usage, as a server-sent event."""
        return event({**self._head(chunk=True), "choices": [], "usage": _usage(usage)})

    def _logprobs(self, tokens: Sequence[TokenLogprob] | None) -> dict[str, Any] | None:
        if tokens is None:
            return None
        if self.chat:
            return {"content": [_token(token) for token in tokens], "refusal": None}
        starts = accumulate((len(token.text) for token in tokens[:-1]), initial=0)
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [None if isnan(token.logprob) else max(token.logprob, _MIN_LOGPROB) for token in tokens],
            "top_logprobs": [
                None if isnan(token.logprob) else {text: max(value, _MIN_LOGPROB) for text, value in token.top}
                for token in tokens
            ],
            "text_offset": list(starts)[: len(tokens)],
        }


def _message(done: Completion) -> dict[str, Any]:
    reasoning = {"reasoning_content": done.reasoning} if done.reasoning else {}  # as vLLM and DeepSeek name it
    if not done.tool_calls:
        return {"role": "assistant", "content": done.text, **reasoning}
    calls = [_call(call) for call in done.tool_calls]
    return {"role": "assistant", "content": done.text or None, "tool_calls": calls, **reasoning}


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id or f"call_{uuid.uuid4().hex}", "type": "function", "function": function}


def finish_reason_of(done: Completion) -> str:
    """Return the finish reason of a completion; calls end it, unless it was truncated."""
    return "tool_calls" if done.tool_calls and done.finish_reason == "stop" else done.finish_reason


def _token(token: TokenLogprob) -> dict[str, Any]:
    top = [_token_logprob(text, value) for text, value in token.top]
    return {**_token_logprob(token.text, token.logprob), "top_logprobs": top}


def _token_logprob(text: str, value: float) -> dict[str, Any]:
    whole = "\ufffd" not in text  # otherwise the token is a part of a character, whose bytes are unknown
    return {"token": text, "logprob": max(value, _MIN_LOGPROB), "bytes": list(text.encode()) if whole else None}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def event(value: object) -> str:
    """Return a server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def error_of(error: Exception) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Return the HTTP status, the body and additional headers of an error; internal errors are not described."""
    field_name = error.field if isinstance(error, BadRequestError) else None
    for kind, status, code, headers in _STATUS:
        if isinstance(error, kind):
            return status, error_body(str(error), code, field_name), headers
    return 500, error_body("an internal error occurred; see the log of the server", "internal_error"), {}


def error_body(message: str, code: str, field_name: str | None = None) -> dict[str, Any]:
    """Return the JSON of an error."""
    param = None if field_name is None else _quotable(field_name)
    return {"error": {"message": _quotable(message), "type": f"{code}_error", "param": param, "code": code}}


def _quotable(text: str) -> str:
    """Shorten a text, and replace lone surrogates, which a response cannot contain."""
    shown = text if len(text) <= _MAX_CHARACTERS else text[:_MAX_CHARACTERS] + "…"
    return shown.encode(errors="backslashreplace").decode()
