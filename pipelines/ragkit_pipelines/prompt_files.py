"""Read prompts from JSON Lines files: text prompts, conversations, or inputs for a template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ragkit._task_files import read_objects
from ragkit.errors import DataFileError, InvalidInputError
from ragkit.protocols import AnyPrompt
from ragkit.records import Chat, Message
from ragkit.templates import Template

_EXPECTED = '{"prompt": text}, {"messages": [{"role", "content"}, …]} or {"input": text or fields}'


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of a file in their order; ``stop`` are the stop sequences of the template if it rendered a prompt."""

    prompts: list[AnyPrompt]
    stop: tuple[str, ...]


def read_prompts(path: str | Path, template: Template | None = None) -> Prompts:
    """Read the prompts of a JSON Lines file; the template renders rows with an input.

    Returns:
        The prompts.

    Raises:
        DataFileError: If the file or one of its rows cannot be read, or it has no rows.
    """
    path, template = Path(path), template or Template()
    rows = read_objects(path)
    prompts: list[AnyPrompt] = []
    for number, row in enumerate(rows, 1):
        try:
            prompts.append(_prompt_of(row, template))
        except InvalidInputError as error:
            raise DataFileError(path, 0, f"row {number} {error}") from error
    templated = any(not isinstance(row.get("prompt"), str) and not row.get("messages") for row in rows)
    return Prompts(prompts, template.stop if templated else ())


def _prompt_of(row: Mapping[str, object], template: Template) -> AnyPrompt:
    prompt, turns, value = row.get("prompt"), row.get("messages"), row.get("input")
    if isinstance(prompt, str):
        return prompt
    if isinstance(turns, list) and turns:
        return Chat(tuple(map(_message, turns)))
    if isinstance(value, str):
        return template.prompt((), value)
    if isinstance(value, dict) and all(isinstance(text, str) for text in value.values()):
        return template.prompt((), value)
    raise InvalidInputError(f"has none of the expected fields, got {sorted(row)}; expected {_EXPECTED}")


def _message(turn: object) -> Message:
    if isinstance(turn, dict) and turn.get("role") in {"system", "user", "assistant"}:
        role, content = turn["role"], turn.get("content")
        if isinstance(content, str):
            return Message(role, content)
    raise InvalidInputError(f"has an invalid message {turn!r}; expected {_EXPECTED}")
