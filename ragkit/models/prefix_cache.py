"""KV caches of prompt prefixes, which are computed once and shared by several prompts."""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from ragkit.protocols import AnyPrompt
from ragkit.records import Chat, Message

LEAST = 32  # minimum number of shared tokens for which a separate forward pass pays off


class Prefix:
    """The KV cache of a prefix, for one row.

    Attributes:
        ids: Token ids of the prefix.
        bytes: Size in memory.
    """

    def __init__(self, ids: list[int], cache: Any) -> None:
        """Wrap the cache after a forward pass over ``ids``."""
        self.ids = ids
        self._cache = cache
        self.bytes = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)

    def left_padded(self, padding: Sequence[int], room: int) -> Any:
        """Return the cache for a batch with padding before the prefix, as required by sliding windows over columns.

        The cache has one column per token of the prefix, so the last tokens of the prefix are missing in a padded row.
        They are recomputed together with the tokens that follow the prefix.

        Args:
            padding: Number of padding columns of each row, whose keys and values are zeros.
            room: Number of tokens that will be appended.

        Returns:
            A cache that can be modified.
        """
        cache, width = grown(self._cache, len(padding), room), len(self.ids)
        for layer in cache.layers:
            for states in (layer.keys, layer.values):
                for row, shift in enumerate(padding):
                    kept = max(0, width - shift)
                    states[row, :, width - kept :] = states[row, :, :kept].clone()
                    states[row, :, : width - kept] = 0
        return cache


class Prefixes:
    """A least-recently-used cache of prefixes.

    Attributes:
        most_bytes: Maximum total size in memory.
    """

    def __init__(self, most_bytes: int = 2**30) -> None:
        """Create an empty cache."""
        self.most_bytes = most_bytes
        self._kept: OrderedDict[tuple[str | None, tuple[int, ...]], Prefix] = OrderedDict()

    def longest(self, adapter: str | None, ids: Sequence[int]) -> Prefix | None:
        """Find the longest cached prefix of a prompt.

        Args:
            adapter: The adapter with which it was computed.
            ids: Token ids of the prompt.

        Returns:
            The prefix, or None if no prefix of ``ids`` is cached.
        """
        whole = tuple(ids)
        found = [key for key in self._kept if key[0] == adapter and key[1] == whole[: len(key[1])]]
        if not found:
            return None
        key = max(found, key=lambda each: len(each[1]))
        self._kept.move_to_end(key)
        return self._kept[key]

    def clear(self) -> None:
        """Remove all prefixes."""
        self._kept.clear()

    def put(self, adapter: str | None, prefix: Prefix) -> None:
        """Add a prefix, and evict the least recently used ones if the cache is full."""
        if prefix.bytes > self.most_bytes:
            return
        self._kept[adapter, tuple(prefix.ids)] = prefix
        while sum(kept.bytes for kept in self._kept.values()) > self.most_bytes:
            self._kept.popitem(last=False)


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """A cache layer with a preallocated buffer, which avoids a copy for each generated token."""

    def __init__(self, keys: Any, values: Any, rows: int, room: int) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._room = [_with_room(part, rows, room) for part in (keys, values)]
        self.keys, self.values = (buffer[:, :, : keys.shape[2]] for buffer in self._room)

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        start, end = self.keys.shape[2], self.keys.shape[2] + key_states.shape[2]
        for buffer, states in zip(self._room, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._room)
        return self.keys, self.values

    def keep(self, start: int, columns: Any) -> None:
        """Remove the tokens from ``start`` on, except some columns, which move to ``start`` in their order."""
        end = start + len(columns)
        for buffer in self._room:
            buffer[:, :, start:end] = buffer[:, :, columns]
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._room)


def grown(cache: Any, copies: int, room: int) -> Any:
    """Copy a cache with each row repeated and space for more tokens.

    Args:
        cache: A cache of all keys and values.
        copies: Number of consecutive copies of each row.
        room: Number of tokens that will be appended.

    Returns:
        The new cache.
    """
    fresh = copy.copy(cache)
    fresh.layers = [_RoomyLayer(layer.keys, layer.values, copies, room) for layer in cache.layers]
    return fresh


def _with_room(states: Any, copies: int, room: int) -> Any:
    rows, heads, length, size = states.shape
    buffer = states.new_empty(rows * copies, heads, length + room, size)
    buffer[:, :, :length] = states.repeat_interleave(copies, dim=0) if copies > 1 and rows > 1 else states
    return buffer


def is_plain(config: Any) -> bool:
    """Return whether all layers have full attention and cache all keys and values."""
    return attention_windows(config) == {"full_attention": None}


def attention_windows(config: Any) -> dict[str, int | None] | None:
    """Return the attention types of a model whose layers store only keys and values of earlier tokens.

    Returns:
        The size of the sliding window by attention type, with None for full attention. The result is None if there are
        other types, such as layers with a recurrent state, or if layers share keys and values.
    """
    text = config.get_text_config(decoder=True)
    if set(getattr(text, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}:
        return None
    if getattr(text, "attention_chunk_size", None):
        return None
    windows: dict[str, int | None] = {}
    for layer in DynamicCache(config=config).layers:
        kind, window = "full_attention", None
        if type(layer) is DynamicSlidingWindowLayer:
            kind, window = "sliding_attention", layer.sliding_window
        elif type(layer) is not DynamicLayer:
            return None
        if windows.setdefault(kind, window) != window:
            return None
    return windows or None


def empty_cache(config: Any) -> Any:
    """Create a cache that keeps all keys and values, including those outside a sliding window.

    Returns:
        The cache; None if `attention_windows` returns None, in which case the model must create its own.
    """
    return DynamicCache() if attention_windows(config) else None


def shared_length(rows: Sequence[Sequence[int]]) -> int:
    """Return the length of the common prefix of all rows, excluding at least one token of each row."""
    shortest = min(map(len, rows)) - 1
    first = torch.tensor(rows[0][:shortest])
    for row in rows[1:]:
        differs = (first != torch.tensor(row[: len(first)])).nonzero()
        first = first[: int(differs[0])] if len(differs) else first
    return len(first)


def named_prefixes(prompts: Sequence[AnyPrompt]) -> dict[AnyPrompt | None, list[int]]:
    """Group the prompts of a call by the prefix that they specify.

    If only one of several prompts specifies a prefix, a separate forward pass does not pay off, and the prompt runs in
    a batch.

    Args:
        prompts: The prompts.

    Returns:
        Indices of prompts by a prompt that ends after the prefix; the key None contains those without a shared prefix.
    """
    named = [_named_prefix(prompt) for prompt in prompts]
    counts = Counter(named)
    places: dict[AnyPrompt | None, list[int]] = {}
    for place, name in enumerate(named):
        places.setdefault(name if counts[name] > 1 or len(named) == 1 else None, []).append(place)
    return places


def _named_prefix(prompt: AnyPrompt) -> AnyPrompt | None:
    """Return a prompt that begins with the reusable prefix of ``prompt`` and contains no text after it."""
    if isinstance(prompt, Chat):
        return _without_last_turn(prompt)
    if isinstance(prompt, str) or not prompt.prefix or not prompt.suffix:
        return None
    chat = None if prompt.chat is None or prompt.form == "text" else _without_last_turn(prompt.chat)
    return replace(prompt, suffix="", chat=chat)


def _without_last_turn(chat: Chat) -> Chat | None:
    return Chat((*chat.messages[:-1], Message("user", ""))) if len(chat.messages) > 1 else None
