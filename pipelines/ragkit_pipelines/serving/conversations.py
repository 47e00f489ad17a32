"""The conversation in a chat request: its turns, and the tools that the model may call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator

from ragkit.records import Chat, Message, Tool, ToolCall
from ragkit_pipelines.serving.strict import BadRequestError, Strict

_NO_PARAMETERS: dict[str, object] = {"type": "object", "properties": {}}


class _Function(Strict):
    name: str = Field(min_length=1, max_length=64)
    description: str = ""
    parameters: dict[str, object] = _NO_PARAMETERS
    strict: bool = False  # arguments of required calls always follow the schema


class ToolField(Strict):
    """A tool that the model may call."""

    type: Literal["function"]
    function: _Function

    def tool(self) -> Tool:
        """Return the tool."""
        function = self.function
        return Tool(function.name, function.description, json.dumps(function.parameters, ensure_ascii=False))


class _Name(Strict):
    name: str


class NamedTool(Strict):
    """The tool that the model must call."""

    type: Literal["function"]
    function: _Name


ToolChoice = Literal["none", "auto", "required"] | NamedTool


class _CalledFunction(Strict):
    name: str
    arguments: str


class _Call(Strict):
    id: str
    type: Literal["function"] = "function"
    function: _CalledFunction
    index: int = 0  # some clients send the calls of a stream back


class Turn(Strict):
    """A turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str = ""
    tool_calls: list[_Call] = Field(default=[], max_length=128)
    tool_call_id: str | None = None
    name: str | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _joined(cls, value: object) -> object:
        if not isinstance(value, list):
            return value
        texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in value]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("only parts of type text are supported")
        return "".join(text for text in texts if text)


def chat_of(turns: Sequence[Turn], tools: Sequence[ToolField], choice: ToolChoice) -> Chat:
    """Return the conversation of a request.

    Raises:
        BadRequestError: If a turn has fields that its role does not have, the result of a tool belongs to no call, or
            a tool is required that is not given.
    """
    calls: dict[str, ToolCall] = {}
    messages = [_message(turn, f"messages[{number}]", calls) for number, turn in enumerate(turns)]
    name = choice.function.name if isinstance(choice, NamedTool) else choice
    if not tools and name not in {"none", "auto"}:
        raise BadRequestError("`tool_choice` requires `tools`", field="tool_choice")
    names = [tool.function.name for tool in tools]
    if len(set(names)) < len(names):
        raise BadRequestError("`tools` contains two tools with the same name", field="tools")
    if isinstance(choice, NamedTool) and name not in names:
        raise BadRequestError(f"`tool_choice` names {name!r}, which is not in `tools`", field="tool_choice")
    if name == "none":
        return Chat(tuple(messages))
    return Chat(tuple(messages), tuple(tool.tool() for tool in tools), name)


def _message(turn: Turn, path: str, calls: dict[str, ToolCall]) -> Message:
    if turn.name is not None and turn.role != "tool":
        raise BadRequestError(f"`{path}.name`: not supported; omit the field", field=f"{path}.name")
    if turn.tool_calls and turn.role != "assistant":
        raise BadRequestError(f"`{path}.tool_calls`: only an assistant calls tools", field=f"{path}.tool_calls")
    if (turn.tool_call_id is not None) != (turn.role == "tool"):
        field = f"{path}.tool_call_id"
        raise BadRequestError(f"`{field}` goes with the role tool, and only with it", field=field)
    if "content" not in turn.model_fields_set and not turn.tool_calls:
        raise BadRequestError(f"`{path}.content`: Field required", field=f"{path}.content")
    if turn.role == "tool":
        if (answers := calls.get(str(turn.tool_call_id))) is None:
            field = f"{path}.tool_call_id"
            raise BadRequestError(f"`{field}` is not the id of an earlier tool call", field=field)
        return Message("tool", turn.content, answers=answers)
    called = tuple(ToolCall(each.function.name, each.function.arguments, each.id) for each in turn.tool_calls)
    calls |= {call.id: call for call in called}
    return Message("system" if turn.role == "developer" else turn.role, turn.content, tool_calls=called)
