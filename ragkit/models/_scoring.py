"""Log-likelihoods of choices after prompts, computed by a local model.

The choices form a trie of tokens. The prompts are prefilled once, and the trie is then evaluated with their KV cache.
Each token attends to the prompt and to its own ancestors (tree attention, as in SpecInfer, Miao et al. 2024). A prefix
that several choices share is therefore computed once, and the last token of a choice needs no forward pass. Log-softmax
is computed in float32. The trie is evaluated in parts, because the logits of all its tokens over a large vocabulary
take more memory than the model itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ragkit.models._causal_module import CausalModule
from ragkit.models._kv_cache import attention_windows, grown
from ragkit.models._prefix_cache import Batch, batches_by_length
from ragkit.models._tries import Trie

_MOST_LOGITS = 2**26  # per pass: 256 MiB in float32
_MOST_POSITIONS = 512  # of a text per pass
_MOST_NODES = 1024  # per pass, because attention between unrelated nodes is computed and masked

Rows = Sequence[Sequence[int]]
Nodes = NDArray[np.int64]


def log_likelihoods(network: CausalModule, batch: Batch, tails: Rows, *, size: int) -> NDArray[np.float64]:
    """Score c choices, given as token ids, after each of the n prompts of a batch, under the model's lock.

    A network that does not take tree masks evaluates at most ``size`` rows per pass.

    Returns:
        f64[n, c], in nats; 0 for an empty choice.
    """
    if not network.takes_tree_masks:
        return log_likelihoods_uncached(network, batch.rows, tails, size=size)
    ids, mask = network.padded(batch.rows, left=True)
    skipped = len(batch.prefix)
    cache = batch.prefix.left_padded((mask == 0).sum(1).tolist(), ids.shape[1] - skipped)
    prefilled = network.forward(ids[:, skipped:], mask, cache)
    trie = Trie.of(tails)
    values = np.zeros((len(ids), len(trie.tokens)))
    first = np.flatnonzero(trie.parents < 0)
    values[:, first] = _log_probabilities(prefilled.logits[:, -1:], np.zeros_like(first), trie.tokens[first])
    most = max(1, min(_MOST_NODES, _MOST_LOGITS // (len(ids) * prefilled.logits.shape[-1])))
    for nodes, logits in _passes(network, trie, mask, prefilled.past_key_values, most):
        children = np.flatnonzero(np.isin(trie.parents, nodes))
        parents = np.searchsorted(nodes, trie.parents[children])
        values[:, children] = _log_probabilities(logits, parents, trie.tokens[children])
    return trie.sums(values)


def _passes(
    network: CausalModule, trie: Trie, mask: Any, cache: Any, most: int
) -> Iterator[tuple[NDArray[np.int64], Any]]:
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
        masks = _tree_masks(network, trie, mask, cached, nodes)
        yield nodes, network.forward(ids.repeat(len(mask), 1), masks, cache, keep=0, positions=positions).logits


def _tree_masks(network: CausalModule, trie: Trie, mask: Any, cached: Nodes, nodes: Nodes) -> Any:
    """Return additive attention masks float[n, 1, nodes, prompt + cached], by attention type if there are two."""
    on_path = torch.from_numpy(trie.on_path(nodes, cached)).to(mask.device)
    prompt = mask.bool()[:, None, None].expand(-1, 1, len(nodes), -1)
    sees = torch.cat([prompt, on_path.expand(len(mask), 1, -1, -1)], dim=-1)
    # Rows end in the same column, so token distances equal column distances, with one column per trie level.
    columns = np.append(np.arange(mask.shape[1]), mask.shape[1] + trie.depths[cached])
    distances = torch.from_numpy(columns[-len(nodes) :, None] - columns).to(mask.device)
    dtype = network.module.dtype
    masks = {
        kind: torch.zeros(sees.shape, dtype=dtype, device=mask.device).masked_fill_(
            ~(sees if window is None else sees & (distances < window)), torch.finfo(dtype).min
        )
        for kind, window in (attention_windows(network.module.config) or {}).items()
    }
    return masks if len(masks) > 1 else next(iter(masks.values()))


def _log_probabilities(logits: Any, places: Nodes, tokens: Nodes) -> NDArray[np.float64]:
    """Return the log-probabilities f64[n, e] of tokens from logits float[n, positions, vocabulary]."""
    where, chosen = (torch.from_numpy(each).to(logits.device) for each in (places, tokens))
    norms = torch.stack([row.float().logsumexp(-1) for row in logits])
    found: NDArray[np.float64] = (logits[:, where, chosen].double() - norms[:, where].double()).cpu().numpy()
    return found


def token_log_probabilities(
    network: CausalModule, row: Sequence[int], top: int
) -> Iterator[tuple[float, list[tuple[int, float]]]]:
    """Yield the log-probability of each token of a row after the first, under the model's lock.

    Args:
        network: The model.
        row: Token ids.
        top: Number of most probable tokens to return at each position.

    Yields:
        The log-probability of the token, and the most probable tokens with their log-probabilities, in nats.
    """
    ids, cache = torch.tensor([list(row)]).to(network.module.device), None
    size = max(1, min(_MOST_POSITIONS, _MOST_LOGITS // network.module.config.get_text_config().vocab_size))
    if not network.shares_caches:
        size = len(row)
    for start in range(0, len(row) - 1, size):
        end = min(start + size, len(row) - 1)
        made = network.forward(
            ids[:, start:end], None if cache is None else torch.ones_like(ids[:, :end]), cache, keep=0
        )
        cache = made.past_key_values
        for position, line in enumerate(made.logits[0, start - end :], start + 1):
            found = line.double().log_softmax(-1)
            values, tokens = found.topk(min(top, len(found)))
            yield float(found[row[position]]), list(zip(tokens.tolist(), values.tolist(), strict=True))


def log_likelihoods_uncached(
    network: CausalModule, rows: Sequence[list[int]], tails: Rows, *, size: int
) -> NDArray[np.float64]:
    """Score each choice after each prompt in a separate row, for models whose KV caches cannot be shared."""
    starts = np.repeat([len(row) - 1 for row in rows], len(tails))
    whole = [[*row, *tail] for row in rows for tail in tails]
    scores = np.zeros(len(whole))
    for batch in batches_by_length(whole, range(len(whole)), size):
        ids, mask = network.padded(batch.rows, left=False)
        begin = int(starts[batch.indices].min())  # earlier logits are not needed
        logits = network.forward(ids, mask, keep=ids.shape[1] - begin).logits[:, begin - ids.shape[1] :]
        for line, index in zip(logits, batch.indices, strict=True):
            tail, start = tails[index % len(tails)], int(starts[index]) - begin
            found = line[start : start + len(tail)].double().log_softmax(-1)
            chosen = torch.tensor(list(tail), dtype=torch.long, device=found.device)
            scores[index] = float(found.gather(-1, chosen[:, None]).sum())
    return scores.reshape(len(rows), len(tails))
