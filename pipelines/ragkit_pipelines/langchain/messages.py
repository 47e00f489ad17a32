"""Convert LangChain messages to conversations, and completions to LangChain messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal
from uuid import uuid4

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    InvalidToolCall,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages import (
    ToolCall as LangChainToolCall,
)
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata

from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.models._tools import arguments_of, plain_turns
from ragkit.protocols import AnyPrompt
from ragkit.records import Chat, Completion, Message, ToolCall, Usage

Role = Literal["system", "user", "assistant", "tool"]

_ROLES: Mapping[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant",
    "ai": "assistant", "tool": "tool", "function": "tool",
}  # fmt: skip
_CLASSES: Sequence[tuple[type[BaseMessage], Role]] = (
    (SystemMessage, "system"), (HumanMessage, "user"), (AIMessage, "assistant"), (ToolMessage, "tool"),
    (FunctionMessage, "tool"),
)  # fmt: skip
_TEXT = {"text", "text-plain", "input_text", "output_text"}
_MEDIA = {
    "image", "image_url", "input_image", "audio", "input_audio", "video", "file", "input_file", "document", "media",
}  # fmt: skip
_SPEAKERS: Mapping[str, str] = {"system": "System", "user": "Human", "assistant": "AI", "tool": "Tool"}


def chat_of(messages: Sequence[BaseMessage]) -> Chat:
    """Convert messages to a conversation.

    Only the text of AI messages is kept, with their tool calls; reasoning is omitted. Consecutive messages of one role
    are merged.

    Args:
        messages: Messages of any provider.

    Returns:
        The conversation.

    Raises:
        InvalidInputError: If there are no messages, or a message is not a turn of a conversation.
        UnsupportedError: If a message contains anything but text.
    """
    if not messages:
        raise InvalidInputError("a chat model needs at least one message, got none")
    turns: list[Message] = []
    calls: dict[str, ToolCall] = {}
    for index, message in enumerate(messages):
        turn = _turn(message, f"messages[{index}]", calls)
        calls |= {call.id: call for call in turn.tool_calls}
        if turns and _mergeable(turns[-1], turn):
            turn = replace(turn, content=f"{turns.pop().content}\n\n{turn.content}")
        turns.append(turn)
    return Chat(tuple(turns))


def prompts_of(chat: Chat) -> list[AnyPrompt]:
    """Return the prompts that can represent a conversation, the preferred one first.

    Returns:
        The text of a single user turn. Otherwise the conversation, followed by a transcript for models without a chat
        template.
    """
    if len(chat.messages) == 1 and chat.messages[0].role == "user" and not chat.tools:
        return [chat.messages[0].content]
    lines = [f"{_SPEAKERS[turn.role]}: {turn.content}" for turn in plain_turns(chat.messages)]
    return [chat, "\n".join([*lines, "AI:"])]


def message_fields(completion: Completion, name: str) -> dict[str, Any]:
    """Return the fields of a message besides its text: tool calls, token usage, model, finish reason and cost."""
    metadata: dict[str, object] = {"model_name": name, "finish_reason": completion.finish_reason}
    if completion.cost is not None:
        metadata["cost"] = completion.cost
    fields: dict[str, Any] = {"usage_metadata": usage_of(completion.usage), "response_metadata": metadata}
    for call in completion.tool_calls:
        arguments, name_of_call = arguments_of(call), call.id or f"call_{uuid4().hex}"
        if isinstance(arguments, dict):
            valid = LangChainToolCall(name=call.name, args=arguments, id=name_of_call, type="tool_call")
            fields.setdefault("tool_calls", []).append(valid)
        else:
            problem = "the arguments are not a JSON object"
            invalid = InvalidToolCall(
                name=call.name, args=call.arguments, id=name_of_call, error=problem, type="invalid_tool_call"
            )
            fields.setdefault("invalid_tool_calls", []).append(invalid)
    return fields


def message_of(completion: Completion, name: str) -> AIMessage:
    """Convert a completion to a message."""
    return AIMessage(content=completion.text, **message_fields(completion, name))


def usage_of(usage: Usage) -> UsageMetadata:
    """Convert token usage to LangChain's format."""
    return UsageMetadata(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        input_token_details=InputTokenDetails(cache_read=usage.cached_tokens),
    )


def _mergeable(first: Message, second: Message) -> bool:
    plain = not (first.tool_calls or second.tool_calls)
    return plain and first.role == second.role != "tool"


def _turn(message: BaseMessage, place: str, calls: Mapping[str, ToolCall]) -> Message:
    """Convert a message; ``place`` names it in errors, and ``calls`` are the earlier tool calls by their id."""
    role = _role(message, place)
    text = _text(message, role, f"{place} ({type(message).__name__})")
    if role == "tool":
        key = str(getattr(message, "tool_call_id", ""))
        return Message(role, text, answers=calls.get(key) or ToolCall(message.name or "tool", "{}", key))
    made = [
        ToolCall(call["name"], json.dumps(call["args"], ensure_ascii=False), call["id"] or "")
        for call in getattr(message, "tool_calls", ())
    ]
    failed = [
        ToolCall(call["name"] or "", call["args"] or "", call["id"] or "")
        for call in getattr(message, "invalid_tool_calls", ())
    ]
    return Message(role, text, tool_calls=(*made, *failed))


def _role(message: BaseMessage, place: str) -> Role:
    if isinstance(message, RemoveMessage):
        raise InvalidInputError(
            f"{place} is a RemoveMessage, which tells LangGraph to delete the message {message.id!r} and is not part "
            "of a conversation; apply it with the reducer `add_messages` before you call the model"
        )
    if isinstance(message, ChatMessage):
        if message.role.lower() not in _ROLES:
            raise InvalidInputError(
                f"{place} is a ChatMessage with the role {message.role!r}; expected one of {', '.join(_ROLES)}"
            )
        return _ROLES[message.role.lower()]
    for kind, role in _CLASSES:
        if isinstance(message, kind):
            return role
    raise InvalidInputError(
        f"{place} is a {type(message).__name__}; expected a system, human, AI, tool or chat message"
    )


def _text(message: BaseMessage, role: Role, place: str) -> str:
    """Return the text of a message; other blocks are an error, except for reasoning and tool calls of an AI."""
    if isinstance(message.content, str):
        return message.content
    texts = []
    for index, block in enumerate(message.content):
        kind = "text" if isinstance(block, str) else block.get("type", "text")
        text = block if isinstance(block, str) else block.get("text")
        if kind in _TEXT and isinstance(text, str):
            texts.append(text)
        elif kind in _TEXT or kind in _MEDIA or role != "assistant":
            raise UnsupportedError(
                f"{place}: content block {index} has the type {kind!r}, but ragkit's models accept only text; replace "
                "the block with a text that describes it, or use a multimodal chat model for this conversation"
            )
    return "".join(texts)
