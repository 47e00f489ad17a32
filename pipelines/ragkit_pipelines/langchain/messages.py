"""Convert LangChain messages to prompts, and completions to LangChain messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    get_buffer_string,
    merge_message_runs,
)
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata

from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.protocols import AnyPrompt
from ragkit.records import Chat, Completion, Message, Usage


def prompts_of(messages: Sequence[BaseMessage]) -> list[AnyPrompt]:
    """Return the prompts that can represent a conversation, the preferred one first.

    Args:
        messages: System, human and AI messages; consecutive messages of one role are merged.

    Returns:
        The text of a single human message. Otherwise a `Chat`, followed by a transcript for models without a chat
        template.

    Raises:
        InvalidInputError: If there are no messages.
    """
    if not messages:
        raise InvalidInputError("a chat model needs at least one message, got none")
    plain = [type(each)(content=_text(each)) for each in messages]
    merged = merge_message_runs(plain, chunk_separator="\n\n")
    if len(merged) == 1 and isinstance(merged[0], HumanMessage):
        return [str(merged[0].content)]
    chat = Chat(tuple(_turn(each) for each in merged))
    return [chat, f"{get_buffer_string(merged)}\nAI:"]


def message_fields(completion: Completion, name: str) -> dict[str, Any]:
    """Return the fields of a message besides its text: the token usage, the model, the finish reason and the cost."""
    metadata: dict[str, object] = {"model_name": name, "finish_reason": completion.finish_reason}
    if completion.cost is not None:
        metadata["cost"] = completion.cost
    return {"usage_metadata": usage_of(completion.usage), "response_metadata": metadata}


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


def _text(message: BaseMessage) -> str:
    if not isinstance(message, HumanMessage | AIMessage | SystemMessage) or getattr(message, "tool_calls", None):
        raise UnsupportedError(f"tools are not supported, got {type(message).__name__} with a tool call or result")
    if isinstance(message.content, str):
        return message.content
    for block in message.content:
        if not isinstance(block, str) and block.get("type") != "text":
            raise UnsupportedError(f"only text content is supported, got a block of type {block.get('type')!r}")
    return "".join(block if isinstance(block, str) else block["text"] for block in message.content)


def _turn(message: BaseMessage) -> Message:
    if isinstance(message, SystemMessage):
        return Message("system", str(message.content))
    return Message("user" if isinstance(message, HumanMessage) else "assistant", str(message.content))
