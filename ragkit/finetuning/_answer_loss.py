"""The loss of answers, with logits only for learned tokens and one forward pass for the common prefix of a batch.

The rows of a batch usually share a prefix, such as a system message, an instruction, a list of labels or in-context
examples. It is computed once, as a batch of one, and its keys and values are expanded over the rows. The rest of each
row attends to them as to its own, and gradients flow back through the expansion. The loss and its gradients are
therefore the same as without sharing.
"""

from __future__ import annotations

from functools import wraps
from inspect import signature
from types import MethodType
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache

from ragkit.finetuning._encoding import IGNORED
from ragkit.models._kv_cache import is_plain

# Minimum number of saved tokens for which a separate forward pass pays off, measured on CPUs with SmolLM2. On a GPU,
# the time of smaller batches does not depend on the number of tokens.
_LEAST_SAVED = {"cpu": 64, "cuda": 4096}
# Tokens whose activations are in memory at once on a CPU. The parts of a larger batch are computed again one by one in
# the backward pass.
_MOST_TOKENS = 512


def add_answer_loss(model: Any) -> None:
    """Add a forward pass that returns the loss of each learned token to a causal model, with or without a PEFT adapter.

    It is called with ``labels`` and ``own``, the number of positions at the end of the rows that are computed for each
    row. All earlier positions must be equal in all rows and must not be learned. Rows with at most ``own`` tokens are
    computed completely. The result is float32[m], the loss of each of the m labels in the order of the rows. This is
    part of the model's forward pass so that it also works inside the wrappers of accelerate and of PEFT, which prepends
    soft prompts to the rows.
    """
    base = _base_of(model)
    plain = base.forward

    @wraps(type(base).forward)
    def forward(self: Any, *arguments: Any, own: int | None = None, **named: Any) -> Any:
        if own is None:
            return plain(*arguments, **named)
        states = {name: named[name] for name in ("input_ids", "inputs_embeds") if named.get(name) is not None}
        return _losses(self, plain, states, named["attention_mask"], named["labels"], own)

    base.forward = MethodType(forward, base)


def can_share(model: Any) -> bool:
    """Return whether a common prefix can be computed once for all rows without changing the result.

    This is the case if keys and values can be expanded, there is no dropout, and no adapter depends on the position in
    a row.
    """
    kinds = {str(getattr(config.peft_type, "value", config.peft_type)) for config in _adapters(model)}
    moved = any(getattr(config, "alora_invocation_tokens", None) for config in _adapters(model))
    dropout = any(isinstance(part, torch.nn.Dropout) and part.p > 0 for part in model.modules())
    config = _base_of(model).config.get_text_config()
    dropout |= bool(getattr(config, "attention_dropout", 0))
    takes_cache = {"past_key_values", "position_ids"} <= set(signature(_base_of(model).forward).parameters)
    return takes_cache and is_plain(config) and kinds <= {"LORA", "PROMPT_TUNING"} and not moved and not dropout


def shared_tokens(ids: Any, mask: Any, labels: Any) -> int:
    """Return the number of tokens at the beginning of a batch, int64[n, t], that can be computed once for all rows.

    These tokens are equal in all rows and neither learned nor directly before a learned token, whose loss needs their
    logits in every row. The result is 0 if sharing would not pay off.
    """
    same = ((ids == ids[:1]) & (mask == 1)).all(0)[:-1] & (labels[:, 1:] == IGNORED).all(0)
    shared = int(same.long().cumprod(0).sum())
    return shared if shared * (len(ids) - 1) >= _LEAST_SAVED.get(ids.device.type, 4096) else 0


def _base_of(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "peft_config") else model


def _adapters(model: Any) -> list[Any]:
    return list(getattr(model, "peft_config", {}).values())


def _losses(base: Any, plain: Any, states: dict[str, Any], mask: Any, labels: Any, own: int) -> Any:
    shared = max(0, labels.shape[1] - own)
    prefix = _prefix(base, {name: value[:1, :shared] for name, value in states.items()}) if shared else []
    positions = (mask.cumsum(1) - 1).clamp(min=0).long()[:, shared:]

    def losses(rows: slice) -> Any:
        rest: dict[str, Any] = {name: value[rows, shared:] for name, value in states.items()}
        if prefix:
            cache = DynamicCache(config=base.config.get_text_config())
            for layer, (keys, values) in enumerate(prefix):
                count = len(labels[rows])
                cache.update(keys.expand(count, -1, -1, -1), values.expand(count, -1, -1, -1), layer)
            rest |= {"past_key_values": cache, "position_ids": positions[rows]}
        return _losses_of(base, plain, rest, mask[rows], labels[rows, shared + 1 :])

    parts = _parts(len(labels), labels.shape[1] - shared) if labels.device.type == "cpu" else []
    if len(parts) < 2 or not torch.is_grad_enabled():
        return losses(slice(None))
    return torch.cat([checkpoint(losses, rows, use_reentrant=False) for rows in parts])


def _prefix(base: Any, states: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Keys and values of each layer for the tokens that all rows begin with."""
    cache = DynamicCache(config=base.config.get_text_config())
    base.base_model(**states, past_key_values=cache, use_cache=True)
    return [(layer.keys, layer.values) for layer in cache.layers]


def _parts(rows: int, tokens: int) -> list[slice]:
    """Divide the rows of a batch into parts whose activations fit into a bounded memory."""
    size = max(1, -(-rows // -(-rows * tokens // _MOST_TOKENS)))
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def _losses_of(base: Any, plain: Any, inputs: dict[str, Any], mask: Any, targets: Any) -> Any:
    learned = targets != IGNORED

    def only_learned(_head: Any, given: Any) -> Any:
        return (given[0][:, :-1][learned],)

    # The model's own forward pass computes the logits, because some models scale or cap them.
    hook = base.get_output_embeddings().register_forward_pre_hook(only_learned)
    try:
        logits = plain(**inputs, attention_mask=mask, use_cache="past_key_values" in inputs).logits
    finally:
        hook.remove()
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return torch.nn.functional.cross_entropy(logits, targets[learned], reduction="none")
