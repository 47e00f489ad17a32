"""Separation of the reasoning of a model from its answer."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

_NAME = r"(?:(?:\w+:)?think|thinking|thoughts?|reasoning|scratchpad)"
# Tags, and the special tokens of Magistral, Kimi, Sky-T1, Command A, gpt-oss and MedGemma.
_OPEN = (
    rf"<{_NAME}(?:\s[^<>]*)?>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|START_THINKING\|>"
    r"|<\|channel\|>analysis<\|message\|>|<unused94>"
)
_CLOSE = (
    rf"</{_NAME}\s*>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|END_THINKING\|>"
    r"|<\|channel\|>final<\|message\|>|<unused95>"
)
_TAG = re.compile(rf"(?P<close>{_CLOSE})|(?P<open>{_OPEN})", re.IGNORECASE)
_CLOSING = re.compile(_CLOSE, re.IGNORECASE)
# Quoted text is one token, so a tag inside a JSON string or inline code is not mistaken for a real one.
_TOKEN = re.compile(rf'{_TAG.pattern}|\\.|"(?:[^"\\\n]|\\.)*+"|`[^`\n]++`', re.IGNORECASE)
_JSON_START = re.compile(r"\s*+(?:```\w*+\s*+)?+(?=[\[{])")


class Outside(NamedTuple):
    """A completion without its reasoning.

    Attributes:
        text: The text outside the reasoning.
        truncated: Whether the completion ends inside its reasoning, so that it has no answer.
    """

    text: str
    truncated: bool


def without_reasoning(text: str) -> Outside:
    """Remove the reasoning of a model, which is between tags.

    The tags are ``<think>``, ``<thinking>``, ``<thought>``, ``<reasoning>`` and ``<scratchpad>``, in any case and with
    any attributes, and the special tokens that some models use instead, such as ``[THINK]``. A closing tag without an
    opening one ends reasoning that began in the prompt, because chat templates of reasoning models often end with
    ``<think>``. Outside the reasoning, tags within double quotes or backticks are ordinary text.

    Examples:
        >>> without_reasoning("<think>B? No.</think>A").text
        'A'

    Args:
        text: A completion.

    Returns:
        The text outside the reasoning, and whether the reasoning is truncated.
    """
    first = _TAG.search(text)
    if first is None:
        return Outside(text, truncated=False)
    kept: list[str] = []
    at = first.end() if first["close"] and first.start() >= _end_of_json(text) else 0
    while tag := _next_tag(text, at):
        if tag["close"]:
            kept, at = [], tag.end()
            continue
        kept.append(text[at : tag.start()])
        end = _CLOSING.search(text, tag.end())
        if end is None:
            return Outside("".join(kept), truncated=True)
        at = end.end()
    return Outside("".join((*kept, text[at:])), truncated=False)


def _next_tag(text: str, at: int) -> re.Match[str] | None:
    return next((token for token in _TOKEN.finditer(text, at) if token["close"] or token["open"]), None)


def _end_of_json(text: str) -> int:
    """Return the end of the JSON object or array at the beginning of a text; 0 if there is none."""
    start = _JSON_START.match(text)
    try:
        return json.JSONDecoder().raw_decode(text, start.end())[1] if start else 0
    except (ValueError, RecursionError):
        return 0
