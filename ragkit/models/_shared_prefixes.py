"""Prefixes that several prompts of a batch share, which the prompt caches of providers store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b

from ragkit.protocols import AnyPrompt
from ragkit.records import Chat, Prompt

_LEAST_CHARACTERS = 4_000  # providers cache prefixes of at least 1,024 tokens


def prefix_key(prompt: AnyPrompt) -> bytes | None:
    """Return a hash of everything before the query of a prompt; None if that is too short to be cached."""
    if isinstance(prompt, str):
        return None
    chat = prompt if isinstance(prompt, Chat) else prompt.chat
    if isinstance(prompt, Prompt) and (chat is None or prompt.form == "text"):
        return None  # the whole text is one user message
    assert chat is not None  # noqa: S101 - for the type checker
    parts = [f"{len(turn.content)}:{turn.role}:{turn.content}" for turn in chat.messages[:-1]]
    if sum(map(len, parts)) < _LEAST_CHARACTERS:
        return None
    return blake2b("".join(parts).encode(errors="surrogatepass"), digest_size=16).digest()


def shared_prefixes(prompts: Sequence[AnyPrompt]) -> list[bytes | None]:
    """Return the key of the prefix of each prompt, or None if no other prompt has the same prefix."""
    keys = [prefix_key(prompt) for prompt in prompts]
    counts = Counter(keys)
    return [key if key is not None and counts[key] > 1 else None for key in keys]


def leaders_first(keys: Sequence[bytes | None]) -> tuple[list[int], list[int]]:
    """Split indices into two waves: the first one of each shared prefix, and those that can use its cache.

    Returns:
        The indices of both waves. Prompts without a shared prefix are in the first, and prompts with equal prefixes
        are neighbours in the second.
    """
    seen: set[bytes] = set()
    first, second = list[int](), list[int]()
    for index, key in enumerate(keys):
        (second if key in seen else first).append(index)
        if key is not None:
            seen.add(key)
    order = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    return first, sorted(second, key=lambda index: order[keys[index]])
