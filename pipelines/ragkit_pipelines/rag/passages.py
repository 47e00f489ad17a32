"""Passages put into a prompt: as many as fit, numbered, and between marks that no text in the prompt contains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import NamedTuple
from warnings import warn

from ragkit.errors import TruncationWarning
from ragkit.records import Hit

_LEAST = 16  # tokens of a passage below which cutting it is of no use


class Packed(NamedTuple):
    """What is shown.

    Attributes:
        hits: The passages, the first perhaps shorter than it was.
        dropped: Ids of those that are not shown, with the reason.
    """

    hits: tuple[Hit, ...]
    dropped: tuple[tuple[str, str], ...]


def pack(hits: Sequence[Hit], limit: int, count: Callable[[str], int]) -> Packed:
    """Take the passages that fit, the best first; only the first one is cut, where nothing would fit otherwise.

    Args:
        hits: The passages, the best first.
        limit: Tokens that they may take together, their marks included.
        count: Counts the tokens of a text.

    Returns:
        What is shown and what is not.
    """
    kept: list[Hit] = []
    dropped: list[tuple[str, str]] = []
    used = 0
    for hit in hits:
        size = count(_shown(0, hit.text, "0" * 8))
        if used + size <= limit:
            kept.append(hit)
            used += size
        else:
            dropped.append((hit.id, f"{size} tokens do not fit what is left of {limit}"))
    if hits and not kept:
        cut = _cut(hits[0], limit - count(_shown(0, "", "0" * 8)), count)
        if cut is not None:
            kept, dropped = [cut], dropped[1:]
            warn(TruncationWarning(f"the first passage was cut to fit {limit} tokens"), stacklevel=4)
    if kept and dropped:
        warn(TruncationWarning(f"{len(dropped)} of {len(hits)} passages do not fit {limit} tokens"), stacklevel=4)
    return Packed(tuple(kept), tuple(dropped))


def _cut(hit: Hit, limit: int, count: Callable[[str], int]) -> Hit | None:
    """The beginning of a passage, to the end of a word; None where too little is left."""
    if limit < _LEAST:
        return None
    text = hit.text
    while text and (size := count(text)) > limit:
        text = text[: min(len(text) - 1, int(len(text) * limit / size))]
        text = text[: text.rfind(" ")] if " " in text else text
    span = None if hit.span is None else (hit.span[0], hit.span[0] + len(text))
    return replace(hit, text=text, span=span) if text.strip() else None


def render(hits: Sequence[Hit], others: Sequence[str]) -> str:
    """Number the passages and put each between marks of its own.

    The marks hold a word that stands neither in a passage nor in the other texts of the prompt, so nothing in them can
    close a passage or open another one. The texts themselves are not changed.

    Args:
        hits: The passages.
        others: The other texts that come from outside, such as the question.

    Returns:
        The passages as text.
    """
    word = unused_word([*(hit.text for hit in hits), *others])
    return "\n\n".join(_shown(number, hit.text, word) for number, hit in enumerate(hits, 1))


def unused_word(texts: Sequence[str]) -> str:
    """A word of 8 letters and digits that stands in none of the texts; the same texts give the same word.

    Returns:
        The word.
    """
    together = "\0".join(texts)
    turn = 0
    while True:
        word = blake2b(f"{turn}\0{together}".encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
        if word not in together.lower():
            return word
        turn += 1


def _shown(number: int, text: str, word: str) -> str:
    return f"<passage-{word} number={number}>\n{text}\n</passage-{word}>"
