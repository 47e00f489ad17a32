"""Checking whether a text follows a grammar, without a model's tokenizer."""

from __future__ import annotations

from functools import lru_cache

from ragkit._extras import require
from ragkit.errors import InvalidInputError


class GrammarCheck:
    r"""Checks texts against a grammar in the dialect of Lark that llguidance reads.

    Examples:
        >>> check = GrammarCheck('start: "lamp " /on|off/')
        >>> check.accepts("lamp off"), check.accepts("lamp o")
        (True, False)
    """

    def __init__(self, grammar: str) -> None:
        """Compile a grammar.

        Raises:
            InvalidInputError: If the grammar cannot be compiled; the message contains that of llguidance.
        """
        require("llguidance")
        from llguidance import LLMatcher, LLTokenizer

        self._matcher = LLMatcher(LLTokenizer("byte"), grammar)
        if problem := self._matcher.get_error():
            raise InvalidInputError(f"`grammar` cannot be followed: {problem.strip()}")

    def accepts(self, text: str) -> bool:
        """Whether a text is complete according to the grammar; some tokenizers omit the space at its beginning."""
        return self._accepts(text) or self._accepts(f" {text}")

    def _accepts(self, text: str) -> bool:
        matcher = self._matcher.deep_copy()  # several threads may share the check
        written = list(text.encode(errors="replace"))
        return bool(matcher.try_consume_tokens(written) == len(written) and matcher.is_accepting())


@lru_cache(maxsize=32)
def grammar_check(grammar: str) -> GrammarCheck:
    """Compile a grammar, or return it if it was compiled recently."""
    return GrammarCheck(grammar)
