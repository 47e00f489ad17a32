"""Choices as a schema, which providers support, and the choice in an answer that follows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ragkit._text import read_json
from ragkit.errors import InvalidInputError
from ragkit.models._provider_logprobs import tokens_within
from ragkit.models._sampling import choice_error
from ragkit.records import Completion


def choice_schema(choices: Sequence[str]) -> dict[str, object]:
    """Return the schema of an object whose only field is one of the choices."""
    return {
        "title": "Answer",
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": list(choices)}},
        "required": ["answer"],
        "additionalProperties": False,
    }


def choice_in(answer: Completion, choices: Sequence[str], name: str) -> Completion:
    """Return the completion with the choice as its text, or raise `AnswerFormError`."""
    try:
        read = read_json(answer.text)
    except InvalidInputError:
        read = None
    chosen = read["answer"] if isinstance(read, dict) and "answer" in read else answer.text
    if chosen not in choices:
        raise choice_error(answer, choices, name)
    return replace(answer, text=chosen, logprobs=tokens_within(answer.logprobs, chosen, last=True))
