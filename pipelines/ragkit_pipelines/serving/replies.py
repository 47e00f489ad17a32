"""Answers and errors in the shapes of OpenAI's protocol."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ragkit.errors import (
    BudgetExceededError,
    InvalidInputError,
    ModelError,
    PromptTooLongError,
    TransientModelError,
    UnsupportedError,
)
from ragkit.records import Completion, Usage
from ragkit_pipelines.serving.bodies import BadRequestError
from ragkit_pipelines.serving.jobs import FullError, Logprob

_LEAST = -9999.0  # what stands for minus infinity, which JSON has not


@dataclass(frozen=True, slots=True)
class Reply:
    """What all parts of one reply have in common.

    Attributes:
        model: Name of the model.
        fingerprint: The model's.
        chat: Whether it is a message, else a text.
        tells_usage: Whether the last piece of a stream tells the tokens.
        id: Name of the reply.
        created: Seconds since 1970.
    """

    model: str
    fingerprint: str
    chat: bool
    tells_usage: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def _head(self, *, chunk: bool) -> dict[str, Any]:
        kind = ("chat.completion" + ".chunk" * chunk) if self.chat else "text_completion"
        name = ("chatcmpl-" if self.chat else "cmpl-") + self.id
        return {"id": name, "object": kind, "created": self.created, "model": self.model,
                "system_fingerprint": self.fingerprint}  # fmt: skip

    def whole(self, answers: Sequence[Completion], logprobs: Sequence[Sequence[Logprob] | None]) -> dict[str, Any]:
        """The whole reply.

        Args:
            answers: The answers.
            logprobs: For each its tokens; None where they were not asked for.

        Returns:
            JSON values.
        """
        choices = []
        for place, (answer, tokens) in enumerate(zip(answers, logprobs, strict=True)):
            shown = {"message": {"role": "assistant", "content": answer.text}} if self.chat else {"text": answer.text}
            choices.append(
                {"index": place, **shown, "logprobs": self._logprobs(tokens), "finish_reason": answer.finish_reason}
            )
        usage = sum((answer.usage for answer in answers), Usage())
        return {**self._head(chunk=False), "choices": choices, "usage": usage_of(usage)}

    def chunk(
        self,
        text: str,
        logprobs: Sequence[Logprob] | None = None,
        *,
        first: bool = False,
        finish_reason: str | None = None,
    ) -> str:
        """A piece of a stream.

        Args:
            text: The piece.
            logprobs: Its tokens; None where they were not asked for.
            first: Whether it opens a message.
            finish_reason: Why the answer ends, where it does.

        Returns:
            A server-sent event.
        """
        delta = {**({"role": "assistant"} if first else {}), **({"content": text} if text or first else {})}
        shown = {"delta": delta} if self.chat else {"text": text}
        choice = {"index": 0, **shown, "logprobs": self._logprobs(logprobs), "finish_reason": finish_reason}
        usage = {"usage": None} if self.tells_usage else {}
        return event({**self._head(chunk=True), "choices": [choice], **usage})

    def usage_chunk(self, usage: Usage) -> str:
        """The piece of a stream that tells the tokens.

        Returns:
            A server-sent event.
        """
        return event({**self._head(chunk=True), "choices": [], "usage": usage_of(usage)})

    def _logprobs(self, tokens: Sequence[Logprob] | None) -> dict[str, Any] | None:
        if tokens is None:
            return None
        if self.chat:
            return {"content": [_token(token) for token in tokens], "refusal": None}
        starts = [sum(len(token.text) for token in tokens[:place]) for place in range(len(tokens))]
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [max(token.logprob, _LEAST) for token in tokens],
            "top_logprobs": [{text: max(value, _LEAST) for text, value in token.top} for token in tokens],
            "text_offset": starts,
        }


def _token(token: Logprob) -> dict[str, Any]:
    top = [_likely(text, value) for text, value in token.top]
    return {**_likely(token.text, token.logprob), "top_logprobs": top}


def _likely(text: str, value: float) -> dict[str, Any]:
    whole = "\ufffd" not in text  # else it is a part of a character, whose bytes are not at hand
    return {"token": text, "logprob": max(value, _LEAST), "bytes": list(text.encode()) if whole else None}


def usage_of(usage: Usage) -> dict[str, Any]:
    """Tokens in OpenAI's words.

    Returns:
        JSON values.
    """
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def event(value: object) -> str:
    """A server-sent event.

    Returns:
        Its text.
    """
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def error_of(error: Exception) -> tuple[int, dict[str, Any], dict[str, str]]:
    """How an error is told.

    Args:
        error: The error; of one that is not ours nothing is told.

    Returns:
        The HTTP status, the body and more headers.
    """
    status, code, headers = 500, "internal_error", dict[str, str]()
    message = str(error)
    if isinstance(error, PromptTooLongError):
        status, code = 400, "context_length_exceeded"
    elif isinstance(error, InvalidInputError | UnsupportedError):
        status, code = 400, "invalid_request"
    elif isinstance(error, FullError):
        status, code, headers = 503, "overloaded", {"retry-after": "1"}
    elif isinstance(error, TransientModelError):
        status, code = 503, "model_unavailable"
    elif isinstance(error, BudgetExceededError):
        status, code = 402, "budget_exceeded"
    elif isinstance(error, ModelError):
        status, code = 502, "model_error"
    else:
        message = "something went wrong; the server's log says what"
    field_name = error.field if isinstance(error, BadRequestError) else None
    return status, error_body(message, code, field_name), headers


def error_body(message: str, code: str, field_name: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's shape.

    Returns:
        JSON values.
    """
    # A message may quote half of a character, which a reply cannot hold.
    message, field_name = _sendable(message), None if field_name is None else _sendable(field_name)
    return {"error": {"message": message, "type": f"{code}_error", "param": field_name, "code": code}}


def _sendable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
