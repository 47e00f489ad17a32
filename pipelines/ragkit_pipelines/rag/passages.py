"""Passages in a prompt: as many as fit, numbered, and indented so that no text can imitate another part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple
from warnings import warn

from ragkit.errors import TruncationWarning
from ragkit.records import Hit

_MIN_TOKENS = 16  # a passage is not truncated to fewer tokens than this
_SHARE = 2  # a passage that does not fit is truncated if at least a half of it does


class Packed(NamedTuple):
    """The passages that fit into a prompt.

    Attributes:
        hits: The passages; the last one may be truncated.
        dropped: Ids of the passages that do not fit, with the reason.
        truncated: Ids of the passages that were truncated, with their number of tokens before.
    """

    hits: tuple[Hit, ...]
    dropped: tuple[tuple[str, str], ...]
    truncated: tuple[tuple[str, str], ...] = ()


def pack(hits: Sequence[Hit], limit: int, count: Callable[[str], int]) -> Packed:
    """Select the passages that fit into ``limit`` tokens, the best first.

    The first passage that does not fit is truncated if at least half of it remains, or if it is the best one. The
    others that do not fit are dropped.

    Args:
        hits: The passages.
        limit: Maximum number of tokens.
        count: The token counter.

    Returns:
        The passages in the prompt, and a record of the others; there is a warning if any was dropped or truncated.
    """
    kept: list[Hit] = []
    dropped: list[tuple[str, str]] = []
    cut: list[tuple[str, str]] = []
    used = 0
    for hit in hits:
        size = count(numbered(0, hit.text))
        free = limit - used
        part = None if size <= free or cut else _truncated(hit, free, count, least=0 if not kept else size // _SHARE)
        if size <= free:
            kept.append(hit)
            used += size
        elif part is not None:
            kept.append(part)
            tokens = count(numbered(0, part.text))
            cut.append((hit.id, f"truncated from {size} to {tokens} tokens"))
            used += tokens
        else:
            dropped.append((hit.id, f"{size} tokens exceed the remaining limit of {free}"))
    if kept and (cut or dropped):
        said = [f"{len(dropped)} of {len(hits)} passages do not fit into {limit} tokens"] if dropped else []
        said += [f"passage {name} was {reason}" for name, reason in cut]
        warn(TruncationWarning("; ".join(said)), stacklevel=4)
    return Packed(tuple(kept), tuple(dropped), tuple(cut))


def _truncated(hit: Hit, limit: int, count: Callable[[str], int], *, least: int) -> Hit | None:
    """Return the beginning of a passage, up to the end of a word; None if fewer than ``least`` tokens remain."""
    if limit < max(_MIN_TOKENS, least):
        return None
    text = hit.text
    while text and (size := count(numbered(0, text))) > limit:
        text = text[: min(len(text) - 1, int(len(text) * limit / size))]
        text = text[: text.rfind(" ")] if " " in text else text
    span = None if hit.span is None else (hit.span[0], hit.span[0] + len(text))
    return replace(hit, text=text, span=span) if text.strip() else None


def render(texts: Sequence[str]) -> str:
    """Number the passages, as ``[1] …``, each in a paragraph of its own; the first one is last, next to the question.

    Only the first line of a passage begins at the margin, after its number; the others are indented. The parts of the
    prompt begin at the margin, so no text can end its passage, begin another one, or imitate the question.

    Returns:
        The numbered passages.
    """
    return "\n\n".join(numbered(number, text) for number, text in reversed(list(enumerate(texts, 1))))


def numbered(number: int, text: str) -> str:
    """Return one passage with its number."""
    return f"[{number}] {indented(text)}"


def indented(text: str) -> str:
    """Indent all lines but the first one; every character that any program treats as a line break is one."""
    first, *rest = text.strip().splitlines() or [""]
    return "\n".join([first, *(f"  {line}" if line.strip() else "" for line in rest)])
