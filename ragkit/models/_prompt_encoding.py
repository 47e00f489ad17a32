"""Texts and prompts as token ids of a local model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from threading import RLock
from typing import Any

from jinja2 import TemplateError

from ragkit._text import require_valid_unicode
from ragkit.errors import InvalidInputError, PromptTooLongError, UnsupportedError
from ragkit.models._chat_template import ChatTemplate, Part, rendered
from ragkit.models._prompts import in_form
from ragkit.protocols import AnyPrompt
from ragkit.records import Chat, Message


class PromptEncoder:
    """Encodes texts and prompts with a tokenizer, one at a time, because each call changes the tokenizer's settings.

    Attributes:
        chat: The chat template; None if the tokenizer has none.
    """

    def __init__(self, tokenizer: Any, *, name: str) -> None:
        """Wrap a tokenizer; ``name`` is the model in error messages."""
        self._tokenizer, self._name, self._lock = tokenizer, name, RLock()
        self.chat = ChatTemplate(tokenizer, name=name) if tokenizer.chat_template else None

    def text(self, text: str, *, max_tokens: int | None = None) -> list[int]:
        """Encode a text without adding tokens, unless it certainly has more than ``max_tokens``."""
        self._check_length(len(text), max_tokens)
        return self._ids(Part(require_valid_unicode(text), is_content=True))

    def prompt(self, prompt: AnyPrompt, *, max_tokens: int | None = None) -> list[int]:
        """Encode a prompt, unless it certainly has more than ``max_tokens`` tokens; see `LocalModel.encode_prompt`."""
        given = in_form(prompt, chat=self.chat is not None, name=self._name)
        with self._lock:
            if isinstance(given, Chat):
                assert self.chat is not None  # noqa: S101 - in_form has checked
                parts, ids = self.chat.parts(given.messages, given.tools), []
            else:
                parts, ids = [Part(require_valid_unicode(given.text), is_content=True)], self.opening()
            self._check_length(sum(len(part.text) for part in parts), max_tokens)
            ids += [token for part in parts for token in self._ids(part)]
        if not ids:
            raise InvalidInputError(
                f"the prompt is empty, and {self._name} has no beginning-of-text token; give it some text"
            )
        return ids

    def opening(self) -> list[int]:
        """Return the beginning-of-text token, if the tokenizer adds one."""
        with self._lock, self._panics():
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

    @contextmanager
    def _panics(self) -> Iterator[None]:
        """Turn a panic of the tokenizer, which is not an `Exception`, into an error: its file is damaged."""
        try:
            yield
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            raise InvalidInputError(f"the tokenizer of {self._name} is damaged ({error}); install it again") from None

    def _check_length(self, characters: int, max_tokens: int | None) -> None:
        if max_tokens is None or characters <= max_tokens or self._max_characters is None:
            return
        least = -(-characters // self._max_characters)
        if least > max_tokens:
            raise PromptTooLongError(least, max_tokens, advice=f"shorten it; it has {characters:,} characters")

    @cached_property
    def _max_characters(self) -> int | None:
        """Maximum number of characters per token; None if there is no limit."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        return None if backend is None else max_characters_per_token(json.loads(backend.to_str()))

    def _ids(self, part: Part) -> list[int]:
        with self._lock, self._panics():
            encoded = self._tokenizer(
                part.text, add_special_tokens=False, split_special_tokens=part.is_content, verbose=False
            )
        ids: list[int] = encoded["input_ids"]
        return ids


# Steps after which a text has at least as many characters as before, or for NFC, at least a quarter of them.
_KEEP_TEXT = {"NFC", "Prepend", "Replace", "ByteLevel", "Split", "Digits", "Punctuation", "Metaspace"}
_COMPOSED = 4


def max_characters_per_token(tokenizer: Mapping[str, Any]) -> int | None:
    """Return how many characters a token can represent.

    Args:
        tokenizer: A tokenizer in the format of the file ``tokenizer.json``.

    Returns:
        An upper bound; None if there is none, as for tokenizers that remove white space or join unknown characters.
    """
    model, added = tokenizer["model"], tokenizer.get("added_tokens", [])
    steps = [*_steps(tokenizer.get("normalizer")), *_steps(tokenizer.get("pre_tokenizer"))]
    in_bytes = model.get("byte_fallback") or any(step["type"] == "ByteLevel" for step in steps)
    if model.get("type") != "BPE" or not in_bytes or any(each["lstrip"] or each["rstrip"] for each in added):
        return None
    if not all(map(_keeps_text, steps)):
        return None
    longest = max(map(len, [*model["vocab"], *(each["content"] for each in added)]), default=1)
    return longest * (_COMPOSED if any(step["type"] == "NFC" for step in steps) else 1)


def _steps(step: Any) -> Iterator[Mapping[str, Any]]:
    if step is not None and step["type"] == "Sequence":
        for each in step.get("normalizers") or step.get("pretokenizers") or ():
            yield from _steps(each)
    elif step is not None:
        yield step


def _keeps_text(step: Mapping[str, Any]) -> bool:
    if step["type"] == "Replace":
        return "String" in step["pattern"] and len(step["content"]) >= len(step["pattern"]["String"])
    return step["type"] in _KEEP_TEXT and step.get("behavior") != "Removed"
