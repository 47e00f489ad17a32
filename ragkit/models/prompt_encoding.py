"""Texts and prompts as token ids of a local model."""

from __future__ import annotations

from contextlib import suppress
from threading import RLock
from typing import Any

from jinja2 import TemplateError

from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.models.chat_template import ChatTemplate, Part, rendered
from ragkit.models.prompts import in_form
from ragkit.protocols import AnyPrompt
from ragkit.records import Chat, Message
from ragkit.text import require_valid_unicode


class PromptEncoder:
    """Encodes texts and prompts with a tokenizer, one at a time, because each call changes the tokenizer's settings.

    Attributes:
        chat: The chat template; None if the tokenizer has none.
    """

    def __init__(self, tokenizer: Any, *, name: str) -> None:
        """Wrap a tokenizer; ``name`` is the model in error messages."""
        self._tokenizer, self._name, self._lock = tokenizer, name, RLock()
        self.chat = ChatTemplate(tokenizer, name=name) if tokenizer.chat_template else None

    def text(self, text: str) -> list[int]:
        """Encode a text without adding tokens. Special-token strings are encoded as plain text."""
        return self._ids(Part(require_valid_unicode(text), is_content=True))

    def prompt(self, prompt: AnyPrompt) -> list[int]:
        """Encode a prompt: a conversation by the chat template, or a text after the beginning-of-text token."""
        given = in_form(prompt, chat=self.chat is not None, name=self._name)
        with self._lock:
            if isinstance(given, Chat):
                assert self.chat is not None  # noqa: S101 - in_form has checked
                return [token for part in self.chat.parts(given.messages) for token in self._ids(part)]
            ids = self.opening() + self.text(given.text)
        if not ids:
            raise InvalidInputError(
                f"the prompt is empty, and {self._name} has no beginning-of-text token; give it some text"
            )
        return ids

    def opening(self) -> list[int]:
        """Return the beginning-of-text token, if the tokenizer adds one."""
        with self._lock:
            added: list[int] = self._tokenizer("")["input_ids"]
        return [token for token in added[:1] if token == self._tokenizer.bos_token_id]

    def end_of_turn(self, ends: list[int]) -> int:
        """Select the token that ends an answer from those at which generation stops.

        The probabilities of several tokens are not summed, because scores of different models would then have different
        meanings.

        Args:
            ends: The tokens at which generation stops.

        Returns:
            The end-of-turn token of the chat template. Without a chat template, it is the tokenizer's ``eos_token_id``
            if it is among them, otherwise the first.

        Raises:
            UnsupportedError: If generation stops at no token.
        """
        if not ends:
            raise UnsupportedError(
                f"{self._name} has no end-of-turn token (`eos_token_id` of its generation config is not set); "
                "score without `end_of_turn`"
            )
        if len(ends) > 1 and self._tokenizer.chat_template:
            turns = [Message("user", "Question"), Message("assistant", "Answer")]
            with self._lock, suppress(ValueError, TemplateError):  # a template may reject the conversation
                rest = rendered(self._tokenizer, turns, asks=False).rpartition("Answer")[2]
                ends = [token for token in self._ids(Part(rest, is_content=False)) if token in ends][:1] or ends
        eos = self._tokenizer.eos_token_id
        return int(eos if eos in ends else ends[0])

    def _ids(self, part: Part) -> list[int]:
        with self._lock:
            encoded = self._tokenizer(
                part.text, add_special_tokens=False, split_special_tokens=part.is_content, verbose=False
            )
        ids: list[int] = encoded["input_ids"]
        return ids
