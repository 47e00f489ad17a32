"""A tokenizer's chat template: which conversations it accepts, and a conversation as token ids."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from jinja2 import TemplateError

from ragkit.errors import InvalidInputError
from ragkit.records import Message
from ragkit.text import whole_text

_PROBE = "probe"


class ChatTemplate:
    """Encodes conversations with a tokenizer's own chat template.

    Two kinds of template need a changed conversation: one without a system role gets the system message at the
    beginning of the first user turn, and one that requires alternating roles gets neighbouring turns of one role
    joined. The contents of messages are always plain text: a special-token string in them, such as ``<|im_end|>``,
    does not become a control token.
    """

    def __init__(self, tokenizer: Any, encode_text: Callable[[str], list[int]], *, name: str) -> None:
        """Take a tokenizer.

        Args:
            tokenizer: A tokenizer of transformers.
            encode_text: Encodes a piece of text without special tokens.
            name: The model's name, for errors.
        """
        self.tokenizer, self.encode_text, self.name = tokenizer, encode_text, name
        added = getattr(tokenizer, "added_tokens_decoder", {}).values()
        self._special = {str(token) for token in added if token.special} | set(tokenizer.all_special_tokens)

    @cached_property
    def has_system_role(self) -> bool:
        """Whether the template writes a system message."""
        return _PROBE in self._probe(Message("system", _PROBE), Message("user", "hello"))

    @cached_property
    def alternates(self) -> bool:
        """Whether the template rejects two turns of one role in a row."""
        return not self._probe(Message("user", "hello"), Message("user", "hello"))

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Encode a conversation up to where the assistant's next turn begins.

        Args:
            messages: The turns.

        Returns:
            Token ids.

        Raises:
            InvalidInputError: If the template rejects the conversation, or a content is not valid Unicode.
        """
        turns = self._accepted([Message(turn.role, whole_text(turn.content)) for turn in messages])
        contents = [turn.content for turn in turns]
        if not any(token in content for token in self._special for content in contents):
            return self._ids(self._render(turns))
        # The template is rendered around placeholders, and each content is encoded on its own.
        nonce = hashlib.sha256("\0".join(contents).encode()).hexdigest()[:16]
        marks = [f"\ue000{nonce}:{place}\ue001" for place in range(len(turns))]
        text = self._render([Message(turn.role, mark) for turn, mark in zip(turns, marks, strict=True)])
        ids: list[int] = []
        for part in re.split(f"(\ue000{nonce}:[0-9]+\ue001)", text):
            ids += self.encode_text(contents[marks.index(part)]) if part in marks else self._ids(part)
        return ids

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def _accepted(self, turns: list[Message]) -> list[Message]:
        """The conversation, with its system message and neighbouring turns merged if the template requires it."""
        if turns and turns[0].role == "system" and not self.has_system_role:
            rest = turns[1:]
            first = rest.pop(0).content if rest and rest[0].role == "user" else ""
            turns = [Message("user", "\n\n".join(filter(None, (turns[0].content, first)))), *rest]
        if not self.alternates:
            return turns
        merged: list[Message] = []
        for turn in turns:
            if merged and merged[-1].role == turn.role:
                turn = Message(turn.role, f"{merged.pop().content}\n\n{turn.content}")
            merged.append(turn)
        return merged

    def _render(self, turns: Sequence[Message]) -> str:
        try:
            return self._rendered(turns)
        except (ValueError, TemplateError) as error:
            raise InvalidInputError(f"the chat template of {self.name} rejects the conversation: {error}") from error

    def _rendered(self, turns: Sequence[Message]) -> str:
        conversation = [{"role": turn.role, "content": turn.content} for turn in turns]
        return str(self.tokenizer.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False))

    def _probe(self, *turns: Message) -> str:
        try:
            return self._rendered(turns)
        except (ValueError, TemplateError):
            return ""
