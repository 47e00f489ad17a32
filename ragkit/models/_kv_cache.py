"""KV caches that can be copied, repeated for several rows and cut back, and which models support that."""

from __future__ import annotations

import copy
from typing import Any

from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """A cache layer with a preallocated buffer, which avoids a copy for each generated token."""

    def __init__(self, keys: Any, values: Any, copies: int, room: int) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._buffers = [_with_room(states, copies, room) for states in (keys, values)]
        self._show(keys.shape[2])

    def _show(self, length: int) -> None:
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        start, end = self.keys.shape[2], self.keys.shape[2] + key_states.shape[2]
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
        self._show(end)
        return self.keys, self.values

    def keep(self, start: int, columns: Any) -> None:
        """Remove the tokens from ``start`` on, except some columns, which move to ``start`` in their order."""
        end = start + len(columns)
        for buffer in self._buffers:
            buffer[:, :, start:end] = buffer[:, :, columns]
        self._show(end)


def _with_room(states: Any, copies: int, room: int) -> Any:
    rows, heads, length, size = states.shape
    buffer = states.new_empty(rows * copies, heads, length + room, size)
    buffer[:, :, :length] = states.repeat_interleave(copies, dim=0) if copies > 1 and rows > 1 else states
    return buffer


def grown(cache: Any, copies: int, room: int) -> Any:
    """Copy a cache of all keys and values, with ``copies`` of each row and space for ``room`` more tokens."""
    fresh = copy.copy(cache)
    fresh.layers = [_RoomyLayer(layer.keys, layer.values, copies, room) for layer in cache.layers]
    return fresh


def empty_cache(config: Any) -> Any:
    """Return a cache that keeps all keys and values, even outside sliding windows; None if the model makes its own."""
    return DynamicCache() if attention_windows(config) else None


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
