"""Log-likelihoods of choices after prompts, by a local model.

Logits become float64 only where they are needed: those of all places and all words of a large vocabulary take more
memory than the model itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ragkit.models.batches import MOST_TOKENS, batches_by_length
from ragkit.models.prefixes import Prefix, grown

if TYPE_CHECKING:
    from ragkit.models.local import LocalModel

_MOST_LOGITS = 2**26  # that are there at once: half a gigabyte in float64

Rows = Sequence[Sequence[int]]


def log_likelihoods(model: LocalModel, rows: Rows, tails: Rows, prefix: Prefix | None) -> NDArray[np.float64]:
    """Read each row once, then all choices after it; the caller holds the model's lock.

    Args:
        model: A model that `is_plain`.
        rows: Token ids of n prompts.
        tails: Token ids of c choices; an empty one has log-likelihood 0.
        prefix: What all rows begin with, where it is computed already.

    Returns:
        f64[n, c], in nats.
    """
    ids, mask = model.padded(rows, left=True, after=prefix)
    skipped = 0 if prefix is None else len(prefix.ids)
    cache = None if prefix is None else prefix.for_rows(len(rows), ids.shape[1] - skipped)
    read = model.forward(ids[:, skipped:], mask, cache)
    lines = read.logits[:, -1].double().log_softmax(-1)
    scores = lines[:, torch.tensor([tail[0] if tail else 0 for tail in tails], device=lines.device)]
    scores[:, [place for place, tail in enumerate(tails) if not tail]] = 0.0
    # What follows the first token, as many choices at a time as memory allows.
    longer = sorted((place for place, tail in enumerate(tails) if len(tail) > 1), key=lambda place: -len(tails[place]))
    while longer:
        width = len(tails[longer[0]]) - 1
        tokens = len(rows) * (ids.shape[1] + width)
        logits = len(rows) * width * lines.shape[1]
        most = max(1, min(MOST_TOKENS // tokens, _MOST_LOGITS // logits))
        some, longer = longer[:most], longer[most:]
        after, kept = model.padded([tails[place] for place in some], left=False)
        after, kept = after.repeat(len(rows), 1), kept.repeat(len(rows), 1)
        cached = grown(read.past_key_values, len(some), width)
        whole = torch.cat([mask.repeat_interleave(len(some), dim=0), kept[:, :-1]], dim=1)
        found = model.forward(after[:, :-1], whole, cached, keep=0).logits.double().log_softmax(-1)
        chosen = found.gather(-1, after[:, 1:, None])[..., 0].masked_fill(kept[:, 1:] == 0, 0.0)
        scores[:, some] += chosen.sum(1).reshape(len(rows), len(some))
    found_here: NDArray[np.float64] = scores.cpu().numpy()
    return found_here


def each_read_anew(model: LocalModel, rows: Rows, tails: Rows) -> NDArray[np.float64]:
    """The same where a cache cannot be shared: each row is read anew with each choice.

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
        begin = min(len(pairs[place][0]) for place in places) - 1  # the places before tell of no choice
        logits = model.forward(ids, mask, keep=ids.shape[1] - begin).logits[:, begin - ids.shape[1] :]
        for line, place in zip(logits, places, strict=True):
            row, tail = pairs[place]
            start = len(row) - 1 - begin
            told = line[start : start + len(tail)].double().log_softmax(-1)
            scores[place] = float(told.gather(-1, torch.tensor(tail, device=told.device)[:, None]).sum())
    return scores.reshape(len(rows), len(tails))
