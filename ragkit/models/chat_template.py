"""Chat templates of tokenizers: which conversations they accept, and how conversations are encoded."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from jinja2 import TemplateError

from ragkit.errors import InvalidInputError
from ragkit.records import Message
from ragkit.text import require_valid_unicode

_PROBE = "probe"


class ChatTemplate:
    """Encodes conversations with a tokenizer's chat template.

    If the template has no system role, the system message is prepended to the first user turn. If it requires
    alternating roles, consecutive turns of the same role are joined. Message contents are always encoded as plain text:
    special-token strings in them, such as ``<|im_end|>``, do not become control tokens.
    """

    def __init__(self, tokenizer: Any, encode_text: Callable[[str], list[int]], *, name: str) -> None:
        """Wrap a tokenizer.

        Args:
            tokenizer: A transformers tokenizer.
            encode_text: Function that encodes a text without special tokens.
            name: Name of the model in error messages.
        """
        self.tokenizer, self.encode_text, self.name = tokenizer, encode_text, name
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

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Encode a conversation up to the start of the assistant's next turn.

        Args:
            messages: The turns.

        Returns:
            Token ids.

        Raises:
            InvalidInputError: If the template rejects the conversation, or a message is not valid Unicode.
        """
        turns = self._accepted([Message(turn.role, require_valid_unicode(turn.content)) for turn in messages])
        contents = [turn.content for turn in turns]
        if not any(token in content for token in self._special for content in contents):
            return self._ids(self._render(turns))
        # The template is rendered with placeholders, and each content is encoded separately.
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
        """Merge the system message and consecutive turns of the same role if the template requires it."""
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
