"""Batches of prompts, and the prefixes that prompts share, which are prefilled once and cached for later calls."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ragkit.models._causal_module import CausalModule
from ragkit.models._kv_cache import grown
from ragkit.protocols import AnyPrompt
from ragkit.records import Chat, Message

MIN_SHARED = 32  # tokens for which a separate forward pass pays off
MAX_BATCH_TOKENS = 32_768  # including padding


class Prefix:
    """The KV cache of a prefix, for one row.

    Attributes:
        ids: Token ids of the prefix; empty if prompts share none.
        bytes: Size in memory.
    """

    def __init__(self, ids: list[int], cache: Any) -> None:
        """Wrap the cache after a forward pass over ``ids``."""
        self.ids, self._cache = ids, cache
        self.bytes = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers) if ids else 0

    def __len__(self) -> int:
        return len(self.ids)

    def extended(self, network: CausalModule, ids: list[int]) -> Prefix:
        """Prefill ``ids``, which begin with this prefix."""
        fresh = torch.tensor([ids[len(self) :]], device=network.module.device)
        mask = torch.ones(1, len(ids), dtype=torch.long, device=fresh.device)
        cache = self.left_padded([0], len(ids) - len(self))
        return Prefix(ids, network.forward(fresh, mask, cache).past_key_values)

    def left_padded(self, padding: Sequence[int], room: int) -> Any:
        """Return the cache for a batch with padding before the prefix, as required by sliding windows over columns.

        The cache has one column per token of the prefix, so the last tokens of the prefix are missing in a padded row.
        They are recomputed together with the tokens that follow the prefix.

        Args:
            padding: Number of padding columns of each row, whose keys and values are zeros.
            room: Number of tokens that will be appended.

        Returns:
            A cache that can be modified; None for an empty prefix.
        """
        if not self.ids:
            return None
        cache, width = grown(self._cache, len(padding), room), len(self)
        for layer in cache.layers:
            for states in (layer.keys, layer.values):
                for row, shift in enumerate(padding):
                    kept = max(0, width - shift)
                    states[row, :, width - kept :] = states[row, :, :kept].clone()
                    states[row, :, : width - kept] = 0
        return cache


NO_PREFIX = Prefix([], None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Prompts of similar length that run together.

    Attributes:
        indices: Indices of the prompts in the call.
        rows: Token ids of each prompt.
        prefix: Prefilled common prefix.
        cached: Number of tokens of each prompt that were not computed for it.
    """

    indices: list[int]
    rows: list[list[int]]
    prefix: Prefix = NO_PREFIX
    cached: list[int]


class PrefixCache:
    """A least-recently-used cache of prefixes.

    Attributes:
        max_bytes: Maximum total size in memory.
    """

    def __init__(self, max_bytes: int = 2**30) -> None:
        """Create an empty cache."""
        self.max_bytes = max_bytes
        self._kept: OrderedDict[tuple[str, tuple[int, ...]], Prefix] = OrderedDict()

    def longest(self, model: str, ids: Sequence[int]) -> Prefix:
        """Return the longest cached prefix of a prompt that was computed by a model, which can be empty."""
        whole = tuple(ids)
        found = [key for key in self._kept if key[0] == model and key[1] == whole[: len(key[1])]]
        if not found:
            return NO_PREFIX
        key = max(found, key=lambda each: len(each[1]))
        self._kept.move_to_end(key)
        return self._kept[key]

    def put(self, model: str, prefix: Prefix) -> None:
        """Add a prefix, and evict the least recently used ones if the cache is full."""
        if prefix.bytes > self.max_bytes:
            return
        self._kept[model, tuple(prefix.ids)] = prefix
        while sum(kept.bytes for kept in self._kept.values()) > self.max_bytes:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        """Remove all prefixes."""
        self._kept.clear()

    def shared(
        self, network: CausalModule, model: str, rows: list[list[int]], head: list[int] | None
    ) -> tuple[Prefix, int]:
        """Prefill the common prefix of some prompts, of which only the part within ``head`` is cached for later calls.

        Args:
            network: The network that computes the prefix.
            model: Fingerprint of the model.
            rows: Token ids of the prompts.
            head: Token ids of the prefix that the prompts specify; None if they specify none.

        Returns:
            The prefix, which can be empty, and the number of its tokens that were cached.
        """
        prefix, cached = NO_PREFIX, 0
        if head is not None and (length := shared_length([*rows, [*head, -1]])) >= MIN_SHARED:
            known = self.longest(model, rows[0][:length])
            prefix, cached = known, len(known)
            if cached < length:
                prefix = known.extended(network, rows[0][:length])
                self.put(model, prefix)
        length = shared_length(rows) if len(rows) > 1 else 0
        if length >= len(prefix) + MIN_SHARED:
            prefix = prefix.extended(network, rows[0][:length])
        return prefix, cached


def batches_by_length(
    rows: Sequence[list[int]], indices: Sequence[int], size: int, prefix: Prefix = NO_PREFIX, cached: int = 0
) -> Iterator[Batch]:
    """Group prompts of similar length, longest first, with at most `MAX_BATCH_TOKENS` tokens including padding.

    Args:
        rows: Token ids of all prompts of a call.
        indices: The prompts to group.
        size: Maximum number of prompts per batch.
        prefix: Prefilled common prefix.
        cached: Number of tokens of the prefix that were cached, from which the first prompt benefits.

    Yields:
        The batches. A prompt that exceeds the number of tokens is a batch of its own.
    """
    order = sorted(indices, key=lambda index: -len(rows[index]))
    while order:
        take = max(1, min(size, MAX_BATCH_TOKENS // max(1, len(rows[order[0]]))))
        some, order = order[:take], order[take:]
        yield Batch(
            indices=some,
            rows=[rows[index] for index in some],
            prefix=prefix,
            cached=[cached, *[len(prefix)] * (len(some) - 1)],
        )
        cached = len(prefix)


def shared_length(rows: Sequence[Sequence[int]]) -> int:
    """Return the length of the common prefix of all rows, excluding at least one token of each row."""
    shortest = min(map(len, rows)) - 1
    first = torch.tensor(rows[0][:shortest])
    for row in rows[1:]:
        differs = (first != torch.tensor(row[: len(first)])).nonzero()
        first = first[: int(differs[0])] if len(differs) else first
    return len(first)


def prompts_by_head(prompts: Sequence[AnyPrompt]) -> dict[AnyPrompt | None, list[int]]:
    """Return the indices of prompts by the prefix that they specify, as a prompt that ends after it, or None."""
    heads = [_head_of(prompt) for prompt in prompts]
    counts = Counter(heads)  # a separate forward pass for one of several prompts does not pay off
    groups: dict[AnyPrompt | None, list[int]] = {}
    for index, head in enumerate(heads):
        groups.setdefault(head if counts[head] > 1 or len(heads) == 1 else None, []).append(index)
    return groups


def _head_of(prompt: AnyPrompt) -> AnyPrompt | None:
    """Return a prompt that begins with the reusable prefix of ``prompt`` and contains no text after it."""
    if isinstance(prompt, Chat):
        return _without_last_turn(prompt)
    if isinstance(prompt, str) or not prompt.prefix or not prompt.suffix:
        return None
    chat = None if prompt.chat is None or prompt.form == "text" else _without_last_turn(prompt.chat)
    return replace(prompt, suffix="", chat=chat)


def _without_last_turn(chat: Chat) -> Chat | None:
    if len(chat.messages) < 2:
        return None
    return replace(chat, messages=(*chat.messages[:-1], Message("user", "")))
