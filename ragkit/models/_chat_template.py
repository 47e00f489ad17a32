"""Chat templates of tokenizers: which conversations they accept, and conversations as text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

from jinja2 import TemplateError

from ragkit._text import require_valid_unicode
from ragkit.errors import InvalidInputError
from ragkit.models._prompts import without_system_role
from ragkit.models._template_sandbox import render
from ragkit.models._tools import arguments_of, openai_tool, plain_turns
from ragkit.records import Message, Tool, ToolCall

_PROBE = "probe"


class Part(NamedTuple):
    """A part of a rendered conversation.

    Attributes:
        text: The text.
        is_content: Whether special-token strings in it are plain text, as in the content of a message.
    """

    text: str
    is_content: bool


class ChatTemplate:
    """Renders conversations with a tokenizer's chat template.

    If the template has no system role, the system message is prepended to the first user turn. If it requires
    alternating roles, consecutive turns of the same role are joined. Special-token strings in message contents, such as
    ``<|im_end|>``, do not become control tokens. If it has no tools, tool calls and their results are written as text.

    Attributes:
        variables: Further variables of the template, such as a switch for reasoning.
    """

    def __init__(self, tokenizer: Any, *, name: str) -> None:
        """Wrap a tokenizer; ``name`` is the model in error messages."""
        self.tokenizer, self.name = tokenizer, name
        self.variables: dict[str, object] = {}
        added = getattr(tokenizer, "added_tokens_decoder", {}).values()
        self._special = {str(token) for token in added if token.special} | set(tokenizer.all_special_tokens)

    @cached_property
    def has_system_role(self) -> bool:
        """Whether the template supports a system message."""
        return _PROBE in self._probe(Message("system", _PROBE), Message("user", "hello"))

    @cached_property
    def alternates(self) -> bool:
        """Whether the template rejects consecutive turns of the same role."""
        return not self._probe(Message("user", "hello"), Message("user", "hello"))

    @cached_property
    def has_tools(self) -> bool:
        """Whether the template supports tools."""
        return _PROBE in self._probe(Message("user", "hello"), tools=(Tool(_PROBE),))

    def parts(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> list[Part]:
        """Render a conversation up to the start of the assistant's next turn, or raise `InvalidInputError`."""
        for tool in tools:
            if self._is_special(f"{tool.name} {tool.description} {tool.parameters}"):
                raise InvalidInputError(
                    f"the tool {tool.name!r} must not contain a special token of {self.name}, such as '<|im_end|>'; "
                    "remove it from the name, the description and the parameters"
                )
        native = self.has_tools and not any(
            self._is_special(call.arguments) for turn in messages for call in _calls(turn)
        )
        given = messages if native else plain_turns(messages)
        turns = self._accepted([replace(turn, content=require_valid_unicode(turn.content)) for turn in given])
        contents = [turn.content for turn in turns]
        if not any(map(self._is_special, contents)):
            return [Part(self._render(turns, tools), is_content=False)]
        # The template is rendered with placeholders, which are then replaced by the contents.
        nonce = hashlib.sha256("\0".join(contents).encode()).hexdigest()[:16]
        marks = {f"\ue000{nonce}:{index}\ue001": content for index, content in enumerate(contents)}
        text = self._render([replace(turn, content=mark) for turn, mark in zip(turns, marks, strict=True)], tools)
        pieces = re.split(f"(\ue000{nonce}:[0-9]+\ue001)", text)
        return [Part(marks.get(piece, piece), is_content=piece in marks) for piece in pieces]

    def _is_special(self, text: str) -> bool:
        return any(token in text for token in self._special)

    def _accepted(self, turns: list[Message]) -> list[Message]:
        """Merge the system message and consecutive turns of the same role if the template requires it."""
        if turns and turns[0].role == "system" and not self.has_system_role:
            turns = list(without_system_role(turns))
        if not self.alternates:
            return turns
        merged: list[Message] = []
        for turn in turns:
            if (
                merged
                and merged[-1].role == turn.role
                and not (turn.answers or turn.tool_calls or merged[-1].tool_calls)
            ):
                turn = Message(turn.role, f"{merged.pop().content}\n\n{turn.content}")
            merged.append(turn)
        return merged

    def _render(self, turns: Sequence[Message], tools: Sequence[Tool]) -> str:
        try:
            return rendered(self.tokenizer, turns, variables=self.variables, tools=tools)
        except (ValueError, TemplateError) as error:
            raise InvalidInputError(f"the chat template of {self.name} rejects the conversation: {error}") from error

    def _probe(self, *turns: Message, tools: Sequence[Tool] = ()) -> str:
        try:
            return rendered(self.tokenizer, turns, variables=self.variables, tools=tools)
        except (ValueError, TemplateError):
            return ""


def rendered(
    tokenizer: Any,
    turns: Sequence[Message],
    *,
    asks: bool = True,
    variables: Mapping[str, object] | None = None,
    tools: Sequence[Tool] = (),
) -> str:
    """Render turns with the template of a tokenizer; ``asks`` adds the start of the assistant's next turn."""
    conversation = [_turn(turn) for turn in turns]
    values = {**tokenizer.special_tokens_map, "add_generation_prompt": asks, **(variables or {})}
    given = [openai_tool(tool) for tool in tools] or None
    return render(tokenizer.get_chat_template(), conversation, variables=values, tools=given)


def _turn(turn: Message) -> dict[str, Any]:
    """Return a turn with the keys that chat templates read."""
    fields: dict[str, Any] = {"role": turn.role, "content": turn.content}
    if turn.tool_calls:
        fields["tool_calls"] = [
            {"type": "function", "id": call.id, "function": {"name": call.name, "arguments": arguments_of(call)}}
            for call in turn.tool_calls
        ]
    if turn.answers:
        fields |= {"name": turn.answers.name, "tool_call_id": turn.answers.id}
    return fields


def _calls(turn: Message) -> tuple[ToolCall, ...]:
    return (*turn.tool_calls, *([turn.answers] if turn.answers else []))
