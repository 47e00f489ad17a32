"""Log-likelihoods of choices after prompts, computed by a local model.

The choices form a trie of tokens. The prompts are prefilled once, and the trie is then evaluated with their KV cache.
Each token attends to the prompt and to its own ancestors (tree attention, as in SpecInfer, Miao et al. 2024). A prefix
that several choices share is therefore computed once, and the last token of a choice needs no forward pass. Log-softmax
is computed in float32. The trie is evaluated in parts, because the logits of all its tokens over a large vocabulary
take more memory than the model itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jinja2 import TemplateError
from numpy.typing import NDArray

from ragkit.errors import UnsupportedError
from ragkit.models.batches import batches_by_length
from ragkit.models.prefix_cache import Prefix, attention_windows, grown
from ragkit.models.tries import Trie

if TYPE_CHECKING:
    from ragkit.models.local import LocalModel

_MOST_LOGITS = 2**26  # per pass: 256 MiB in float32
_MOST_NODES = 1024  # per pass, because attention between unrelated nodes is computed and masked

Rows = Sequence[Sequence[int]]


def takes_tree_masks(model: LocalModel) -> bool:
    """Return whether a model supports `log_likelihoods`, which needs shared KV caches and custom attention masks.

    Args:
        model: Any local model.

    Returns:
        False if, for example, layers have a recurrent state, or the attention kernel does not accept masks.
    """
    config = model.module.config.get_text_config(decoder=True)
    return (
        attention_windows(config) is not None
        and config._attn_implementation in {"eager", "sdpa"}
        and not getattr(config, "alibi", False)  # derives positions from a binary mask
        and {"past_key_values", "position_ids"} <= model._takes
    )


def log_likelihoods(model: LocalModel, rows: Rows, tails: Rows, prefix: Prefix | None) -> NDArray[np.float64]:
    """Score all choices after each prompt with one prefill of the prompts; the caller holds the model's lock.

    Args:
        model: A model for which `takes_tree_masks` is true.
        rows: Token ids of n prompts.
        tails: Token ids of c choices; an empty one has log-likelihood 0.
        prefix: Prefilled common prefix of all rows, if there is one.

    Returns:
        f64[n, c], in nats.
    """
    ids, mask = model.padded(rows, left=True)
    skipped = 0 if prefix is None else len(prefix.ids)
    padding = (mask == 0).sum(1).tolist()
    cache = None if prefix is None else prefix.left_padded(padding, ids.shape[1] - skipped)
    prefilled = model.forward(ids[:, skipped:], mask, cache)
    trie = Trie.of(tails)
    values = np.zeros((len(rows), len(trie.tokens)))
    first = np.flatnonzero(trie.parents < 0)
    values[:, first] = _log_probabilities(prefilled.logits[:, -1:], np.zeros_like(first), trie.tokens[first])
    most = max(1, min(_MOST_NODES, _MOST_LOGITS // (len(rows) * prefilled.logits.shape[-1])))
    for nodes, logits in _passes(model, trie, mask, prefilled.past_key_values, most):
        children = np.flatnonzero(np.isin(trie.parents, nodes))
        parents = np.searchsorted(nodes, trie.parents[children])
        values[:, children] = _log_probabilities(logits, parents, trie.tokens[children])
    return trie.sums(values)


def _passes(model: LocalModel, trie: Trie, mask: Any, cache: Any, most: int) -> Iterator[tuple[NDArray[np.int64], Any]]:
    """Evaluate the nodes that have children, in preorder and at most ``most`` at a time.

    Later nodes need only the ancestors of the next node, so all other nodes are removed from the KV cache.

    Yields:
        Nodes, and their logits float[n, nodes, vocabulary].
    """
    inner, width = trie.inner, mask.shape[1]
    if not len(inner):
        return
    cache = grown(cache, 1, min(len(inner), most + int(trie.depths.max(initial=0))))
    cached = inner[:0]
    for nodes in np.array_split(inner, -(-len(inner) // most)):
        ancestors = np.flatnonzero(trie.ends[cached] > nodes[0])
        for layer in cache.layers:
            layer.keep(width, width + torch.from_numpy(ancestors))
        cached = np.append(cached[ancestors], nodes)
        ids, depths = (torch.from_numpy(each[nodes]).to(mask.device) for each in (trie.tokens, trie.depths))
        positions = mask.sum(1, keepdim=True) + depths
        masks = _tree_masks(model, trie, mask, cached, nodes)
        yield nodes, model.forward(ids.repeat(len(mask), 1), masks, cache, keep=0, positions=positions).logits


def _tree_masks(model: LocalModel, trie: Trie, mask: Any, cached: NDArray[np.int64], nodes: NDArray[np.int64]) -> Any:
    """Return additive attention masks float[n, 1, nodes, prompt + cached], by attention type if there are two."""
    on_path = torch.from_numpy(trie.on_path(nodes, cached)).to(mask.device)
    prompt = mask.bool()[:, None, None].expand(-1, 1, len(nodes), -1)
    sees = torch.cat([prompt, on_path.expand(len(mask), 1, -1, -1)], dim=-1)
    # Rows end in the same column, so token distances equal column distances, with one column per trie level.
    columns = np.append(np.arange(mask.shape[1]), mask.shape[1] + trie.depths[cached])
    distances = torch.from_numpy(columns[-len(nodes) :, None] - columns).to(mask.device)
    dtype = model.module.dtype
    masks = {
        kind: torch.zeros(sees.shape, dtype=dtype, device=mask.device).masked_fill_(
            ~(sees if window is None else sees & (distances < window)), torch.finfo(dtype).min
        )
        for kind, window in (attention_windows(model.module.config) or {}).items()
    }
    return masks if len(masks) > 1 else next(iter(masks.values()))


def _log_probabilities(logits: Any, places: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the log-probabilities f64[n, e] of tokens from logits float[n, positions, vocabulary]."""
    where, chosen = (torch.from_numpy(each).to(logits.device) for each in (places, tokens))
    norms = torch.stack([row.float().logsumexp(-1) for row in logits])
    found: NDArray[np.float64] = (logits[:, where, chosen].double() - norms[:, where].double()).cpu().numpy()
    return found


def log_likelihoods_uncached(model: LocalModel, rows: Rows, tails: Rows) -> NDArray[np.float64]:
    """Score each choice after each prompt in a separate row, for models whose KV caches cannot be shared.

    Args:
        model: Any local model.
        rows: Token ids of n prompts.
        tails: Token ids of c choices.

    Returns:
        f64[n, c], in nats.
    """
    pairs = [(list(row), list(tail)) for row in rows for tail in tails]
    whole = [row + tail for row, tail in pairs]
    scores = np.zeros(len(pairs))
    for places in batches_by_length(whole, model.batch_size):
        ids, mask = model.padded([whole[place] for place in places], left=False)
        begin = min(len(pairs[place][0]) for place in places) - 1  # earlier logits are not needed
        logits = model.forward(ids, mask, keep=ids.shape[1] - begin).logits[:, begin - ids.shape[1] :]
        for line, place in zip(logits, places, strict=True):
            row, tail = pairs[place]
            start = len(row) - 1 - begin
            found = line[start : start + len(tail)].double().log_softmax(-1)
            scores[place] = float(found.gather(-1, torch.tensor(tail, device=found.device)[:, None]).sum())
    return scores.reshape(len(rows), len(tails))


def end_of_turn_id(model: LocalModel) -> int:
    """Return the token that ends an answer of the model.

    If generation stops at several tokens, it is the end-of-turn token of the chat template. Without a chat template, it
    is the tokenizer's ``eos_token_id`` if generation stops there, otherwise the first. The probabilities of several
    tokens are not summed, because scores of different models would then have different meanings.

    Args:
        model: Any local model.

    Returns:
        A token id.

    Raises:
        UnsupportedError: If the model has no token at which generation stops.
    """
    said = model.module.generation_config.eos_token_id
    ends = said if isinstance(said, list) else [said] if said is not None else []
    if not ends:
        raise UnsupportedError(
            f"{model.name} has no end-of-turn token (`eos_token_id` of its generation config is not set); "
            "score without `end_of_turn`"
        )
    if len(ends) > 1 and model.tokenizer.chat_template:
        turns = [{"role": "user", "content": "Question"}, {"role": "assistant", "content": "Answer"}]
        with model.encoding, suppress(ValueError, TemplateError):  # a template may reject the conversation
            rest = model.tokenizer.apply_chat_template(turns, tokenize=False).rpartition("Answer")[2]
            written = model.tokenizer(rest, add_special_tokens=False, split_special_tokens=False)["input_ids"]
            ends = [token for token in written if token in ends][:1] or ends
    eos = model.tokenizer.eos_token_id
    return int(eos if eos in ends else ends[0])
