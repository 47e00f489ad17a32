"""The forward pass of a causal transformers model over rows of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch

from ragkit.models._kv_cache import attention_windows, empty_cache


class CausalModule:
    """A transformers or PEFT model and the facts about it that inference needs; it is run under the model's lock.

    Attributes:
        module: The transformers or PEFT model.
        shares_caches: Whether KV caches can be shared between prompts and repeated.
        takes_tree_masks: Whether several continuations of a prompt can be evaluated in one row, which needs shared KV
            caches and an attention kernel that accepts custom masks.
    """

    def __init__(self, module: Any, tokenizer: Any) -> None:
        """Wrap a model; its tokenizer knows the padding token."""
        self.module, self._tokenizer = module, tokenizer
        plain = module.get_base_model() if hasattr(module, "get_base_model") else module
        self._takes = {"input_ids", "attention_mask", *signature(plain.forward).parameters}
        self.shares_caches = (
            attention_windows(plain.config) is not None and {"past_key_values", "position_ids"} <= self._takes
        )
        text = plain.config.get_text_config(decoder=True)
        self.takes_tree_masks = (
            self.shares_caches
            and text._attn_implementation in {"eager", "sdpa"}
            and not getattr(text, "alibi", False)  # derives positions from a binary mask
        )

    @property
    def window(self) -> int | None:
        """The context window: the smaller of the limits that the model and the tokenizer specify, or None."""
        limits = [getattr(self.module.config, "max_position_embeddings", None), self._tokenizer.model_max_length]
        return min((size for size in limits if size and size < 10**9), default=None)

    @property
    def end_ids(self) -> list[int]:
        """The tokens at which generation stops."""
        ends = self.module.generation_config.eos_token_id
        return ends if isinstance(ends, list) else [] if ends is None else [ends]

    @property
    def pad_id(self) -> int:
        """The token for padding, which is masked, so any token works."""
        known = (self._tokenizer.pad_token_id, self._tokenizer.eos_token_id, *sorted(self.end_ids))
        return next((int(token) for token in known if token is not None), 0)

    def padded(self, rows: Sequence[Sequence[int]], *, left: bool) -> tuple[Any, Any]:
        """Pad rows of token ids to the same length, and return ids and attention mask, both int64[n, width]."""
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.pad_id)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for index, row in enumerate(rows):
            columns = slice(width - len(row), None) if left else slice(None, len(row))
            ids[index, columns] = torch.tensor(row)
            mask[index, columns] = 1
        return ids.to(self.module.device), mask.to(self.module.device)

    def forward(self, ids: Any, mask: Any = None, cache: Any = None, *, keep: int = 1, positions: Any = None) -> Any:
        """Run a forward pass. Positions do not count padding.

        Args:
            ids: New tokens, int64[n, t].
            mask: Attention mask, int64[n, past + t]; None for all ones. With ``positions``, an additive mask for the
                attention scores, float[n, 1, t, past + t], or a dictionary of such masks by attention type.
            cache: KV cache of the earlier tokens.
            keep: Number of last positions for which logits are needed; 0 for all. Models without this option return
                all logits.
            positions: int64[n, t], if they do not follow from the mask.

        Returns:
            The output of transformers, which contains the logits and the KV cache.
        """
        cache = empty_cache(self.module.config) if cache is None else cache
        arguments: dict[str, Any] = {"input_ids": ids, "past_key_values": cache, "use_cache": True}
        if mask is not None:
            arguments["attention_mask"] = mask
            if positions is None:
                positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
            arguments["position_ids"] = positions
        arguments["logits_to_keep"] = keep
        return self.module(**{name: value for name, value in arguments.items() if name in self._takes})
