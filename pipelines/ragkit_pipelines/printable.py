"""Show text from files, data and models so that it cannot control a terminal or hide what it says."""

from __future__ import annotations

import json
import re

# Control characters except newline and tab, line separators, bidirectional embeddings, overrides and isolates,
# interlinear annotations, tags, and lone surrogates.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def printable(text: str) -> str:
    r"""Replace the characters that control a terminal, or change the direction of text, by their escapes.

    Returns:
        The text, in which ``\x1b`` or ``\u202e`` stands for such a character. Line breaks and tabs are unchanged.
    """
    return _UNSAFE.sub(lambda match: ascii(match[0])[1:-1], text.replace("\r\n", "\n"))


def printable_json(text: str) -> str:
    """Escape these characters in JSON, where they can only occur in strings, so its meaning is the same."""
    return _UNSAFE.sub(lambda match: json.dumps(match[0])[1:-1], text)
