"""Separation of the reasoning of a model from its answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
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


# Beginnings of opening tags, for text that arrives in pieces.
_PARTIAL_OPEN = re.compile(r"(?:<[\w:|]*(?:\s[^<>]*)?|<\|\w+\|>\w*(?:<[\w|]*)?|\[\w*|◁\w*)")
_LONGEST_OPEN = 100


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


class Separated(NamedTuple):
    """A completion in two parts.

    Attributes:
        reasoning: The reasoning before the answer; empty if there is none.
        answer: The rest.
        truncated: Whether the completion ends inside its reasoning.
    """

    reasoning: str
    answer: str
    truncated: bool = False


def separate_reasoning(text: str, *, begun: bool = False, truncated: bool = False) -> Separated:
    """Separate the reasoning with which a completion begins from the answer.

    Args:
        text: A completion.
        begun: Whether the prompt may end with an opening tag, so that a closing tag ends the reasoning.
        truncated: Whether the completion was truncated.

    Returns:
        Both parts. In contrast to `without_reasoning`, tags after the beginning of the answer are ordinary text.
    """
    opening = re.match(rf"\s*(?:{_OPEN})", text, re.IGNORECASE)
    if opening is None and not begun:
        return Separated("", text)
    start = opening.end() if opening else 0
    end = _CLOSING.search(text, start)
    if end is not None:
        return Separated(text[start : end.start()].strip(), text[end.end() :].lstrip())
    if opening or truncated:
        return Separated(text[start:].strip(), "", truncated=True)
    return Separated("", text)


def answer_pieces(
    pieces: Iterable[str], *, begun: bool = False, truncated: Callable[[], bool] = lambda: False
) -> Iterator[str]:
    """Yield the pieces of a completion without the reasoning with which it begins; see `separate_reasoning`."""
    held, decided = "", False
    for piece in pieces:
        if decided:
            yield piece
            continue
        held += piece
        if not begun and not _may_reason(held):
            yield held
            decided = True
        elif _CLOSING.search(held) and (answer := separate_reasoning(held, begun=begun).answer):
            yield answer
            decided = True
    if not decided and (rest := separate_reasoning(held, begun=begun, truncated=truncated()).answer):
        yield rest


def _may_reason(text: str) -> bool:
    """Whether a text may be the beginning of a completion that begins with reasoning."""
    start = text.lstrip()[:_LONGEST_OPEN]
    opened = re.match(_OPEN, start, re.IGNORECASE) is not None
    return not start or opened or (len(start) < _LONGEST_OPEN and _PARTIAL_OPEN.fullmatch(start) is not None)


def _next_tag(text: str, at: int) -> re.Match[str] | None:
    return next((token for token in _TOKEN.finditer(text, at) if token["close"] or token["open"]), None)


def _end_of_json(text: str) -> int:
    """Return the end of the JSON object or array at the beginning of a text; 0 if there is none."""
    start = _JSON_START.match(text)
    try:
        return json.JSONDecoder().raw_decode(text, start.end())[1] if start else 0
    except (ValueError, RecursionError):
        return 0
