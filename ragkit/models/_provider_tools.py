"""Tools of API models: conversations with tool calls as LangChain messages, and tool calls in replies."""

from __future__ import annotations

import json
from typing import Any

from ragkit.errors import UnsupportedError
from ragkit.models._provider_settings import unbound
from ragkit.models._tools import arguments_of, openai_tool, selected_tools
from ragkit.records import Chat, Message, ToolCall


def accepts_tools(chat_model: Any) -> bool:
    """Return whether the class of a LangChain chat model supports tools."""
    from langchain_core.language_models import BaseChatModel

    can = getattr(type(unbound(chat_model)[0]), "bind_tools", None)
    return can is not None and can is not BaseChatModel.bind_tools


def with_tools(model: Any, chat: Chat, name: str) -> Any:
    """Bind the tools of a conversation to a LangChain chat model, which may already be constrained to a schema.

    Args:
        model: The chat model or its binding.
        chat: The conversation.
        name: The model in error messages.

    Returns:
        A runnable that returns the provider's reply.

    Raises:
        UnsupportedError: If the provider constrains answers with tools of its own.
    """
    inner, settings = unbound(model)
    if "tools" in settings:
        raise UnsupportedError(f"{name} cannot combine tools with `schema`; omit one of them")
    selected_tools(chat.tools, chat.tool_choice)  # raises an error for an unknown name
    tools = [openai_tool(tool) for tool in chat.tools]
    choice = {"auto": None, "required": "any"}.get(chat.tool_choice, chat.tool_choice)
    bound: Any = inner.bind_tools(tools, **({} if choice is None else {"tool_choice": choice}))
    return bound.bind(**settings)


def tool_turn(message: Message) -> Any:
    """Convert a turn with tool calls, or the result of a tool, to a LangChain message."""
    from langchain_core.messages import AIMessage, ToolMessage

    if message.answers is not None:
        return ToolMessage(message.content, name=message.answers.name, tool_call_id=message.answers.id)
    read = AIMessage(message.content)
    for call in message.tool_calls:
        given = arguments_of(call)
        arguments = given if isinstance(given, dict) else {}  # a failed call, which is followed by an error
        read.tool_calls.append({"name": call.name, "args": arguments, "id": call.id, "type": "tool_call"})
    return read


def calls_in(reply: Any) -> tuple[ToolCall, ...]:
    """Return the tool calls of a reply; one with invalid arguments has them as the provider wrote them."""
    valid = [
        ToolCall(call["name"], json.dumps(call["args"], ensure_ascii=False), call["id"] or "")
        for call in reply.tool_calls
    ]
    invalid = [ToolCall(call["name"] or "", call["args"] or "", call["id"] or "") for call in reply.invalid_tool_calls]
    return (*valid, *invalid)
