"""Tool calls as text: in prompts of models without tool support, and in the answers of local models."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ragkit._text import read_json
from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.records import Completion, Message, Tool, ToolCall

# Marks that chat templates put before a call.
_MARK = re.compile(r"\s*(<\|?tool_calls?\|?>|\[TOOL_CALLS\]|<\|python_tag\|>|```(json)?)\s*\[?\s*$")


def plain_turns(messages: Sequence[Message]) -> list[Message]:
    """Write tool calls and their results as text, for models whose chat template does not support tools.

    Results follow the user's message. Calls without a result stay in the assistant's turn as JSON; the others are only
    shown with their results, because a small model would repeat them.

    Args:
        messages: The turns. A tool turn that does not name its call is kept.

    Returns:
        Turns without tool calls.
    """
    answered = {message.answers for message in messages if message.answers is not None}
    turns: list[Message] = []
    for message in messages:
        if message.answers is not None:
            content = f"The result of {_shown(message.answers)}:\n{message.content}"
            if turns and turns[-1].role == "user":
                content = f"{turns.pop().content}\n\n{content}"
            turns.append(Message("user", content))
            continue
        calls = [_json(call) for call in message.tool_calls if call not in answered]
        if not message.tool_calls:
            turns.append(message)
        elif text := "\n".join(filter(None, (message.content, *calls))):
            turns.append(Message(message.role, text, message.weight))
    return turns


def _shown(call: ToolCall) -> str:
    arguments = arguments_of(call)
    named = arguments.items() if isinstance(arguments, dict) else ()
    return f"{call.name}({', '.join(f'{name}={json.dumps(value, ensure_ascii=False)}' for name, value in named)})"


def _json(call: ToolCall) -> str:
    return json.dumps({"name": call.name, "arguments": arguments_of(call)}, ensure_ascii=False)


def arguments_of(call: ToolCall) -> Any:
    """Return the arguments of a call as JSON values, or as text if they are not valid JSON."""
    try:
        return read_json(call.arguments)
    except InvalidInputError:
        return call.arguments


def openai_tool(tool: Tool) -> dict[str, Any]:
    """Return a tool in OpenAI's format, which chat templates and providers use."""
    function = {"name": tool.name, "description": tool.description, "parameters": json.loads(tool.parameters)}
    return {"type": "function", "function": function}


def calls_schema(tools: Sequence[Tool]) -> dict[str, Any]:
    """Return the JSON schema of a call of one of the tools: an object with its name and its arguments.

    Raises:
        UnsupportedError: If the tools define different things under the same name in ``$defs``.
    """
    definitions: dict[str, Any] = {}
    calls = []
    for tool in tools:
        arguments = json.loads(tool.parameters)
        for key in ("$defs", "definitions"):
            for name, definition in arguments.pop(key, {}).items():
                if definitions.setdefault(key, {}).setdefault(name, definition) != definition:
                    raise UnsupportedError(
                        f"two tools define {name!r} differently; rename one, or name the tool in `tool_choice`"
                    )
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": tool.name}, "arguments": arguments},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    return {**(calls[0] if len(calls) == 1 else {"anyOf": calls}), **definitions}


def selected_tools(tools: Sequence[Tool], choice: str) -> list[Tool]:
    """Return the tools that a choice allows: the named one, none, or all.

    Raises:
        InvalidInputError: If no tool has the name.
    """
    if choice in {"auto", "required"}:
        return list(tools)
    found = [tool for tool in tools if tool.name == choice]
    if not found and choice != "none":
        names = ", ".join(repr(tool.name) for tool in tools)
        raise InvalidInputError(
            f"`tool_choice` is {choice!r}; expected 'auto', 'required', 'none' or the name of a tool ({names})"
        )
    return found


def read_calls(text: str, tools: Sequence[Tool]) -> tuple[str, tuple[ToolCall, ...]]:
    """Find the tool calls in an answer: JSON objects with the name of a tool and its arguments.

    Args:
        text: The answer.
        tools: The tools that the model may call.

    Returns:
        The text before the first call, or the whole text if there is none; and the calls.
    """
    names, decoder, calls, end, before = {tool.name for tool in tools}, json.JSONDecoder(), list[ToolCall](), 0, text
    for start in (match.start() for match in re.finditer(r"\{", text)):
        if start < end:
            continue
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        call = _call_of(value, names)
        if call is None:
            continue
        if not calls:
            before = _MARK.sub("", text[:start]).strip()
        calls.append(call)
    return (before if calls else text), tuple(calls)


def with_calls(answer: Completion, tools: Sequence[Tool]) -> Completion:
    """Return an answer in which the calls of tools are separated from the text."""
    text, calls = read_calls(answer.text, tools)
    reason = "tool_calls" if calls else answer.finish_reason
    return replace(answer, text=text, tool_calls=calls, finish_reason=reason)


def _call_of(value: Mapping[str, Any], names: set[str]) -> ToolCall | None:
    name, arguments = value.get("name"), value.get("arguments", value.get("parameters"))
    if not isinstance(name, str) or name not in names or not isinstance(arguments, dict):
        return None
    return ToolCall(name, json.dumps(arguments, ensure_ascii=False))
