"""Batches of rows of similar length, which need little padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import torch

from ragkit.finetuning._encoding import IGNORED

_SORTED_TOGETHER = 8  # number of batches whose rows are sorted together; more would reduce randomness


class LengthSampler(torch.utils.data.Sampler[int]):  # type: ignore[misc]
    """A sampler with a new random order in each epoch, in which rows of similar length are in the same batch.

    The rows are shuffled and split into groups of a few batches. Each group is sorted by length and split into batches,
    and the batches of all groups are shuffled. The order depends only on the seed and the epoch, so an interrupted run
    resumes with the same batches.
    """

    def __init__(self, lengths: Sequence[int], *, batch_size: int, seed: int) -> None:
        """Create a sampler from the lengths of all rows in tokens."""
        self.lengths, self.batch_size, self.seed, self.epoch = list(lengths), batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, on which the order depends; called by the trainer."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        rng = Random(f"{self.seed} {self.epoch}")
        order = rng.sample(range(len(self.lengths)), len(self.lengths))
        size, group = self.batch_size, self.batch_size * _SORTED_TOGETHER
        # The incomplete batch comes last, because the trainer splits the order into batches from the beginning.
        whole = len(order) - len(order) % size
        batches = []
        for start in range(0, whole, group):
            rows = sorted(order[start : min(start + group, whole)], key=lambda row: self.lengths[row])
            batches += [rows[place : place + size] for place in range(0, len(rows), size)]
        rng.shuffle(batches)
        yield from (row for batch in (*batches, order[whole:]) for row in batch)


class Collator:
    """A collator that pads the rows of a batch on the right."""

    def __init__(self, pad: int) -> None:
        """Create a collator from the id of the padding token."""
        self.pad = pad

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return ``input_ids``, ``attention_mask`` and ``labels``, int64[n, t], and ``weights`` if there are any."""
        batch = {
            "input_ids": _padded([row["input_ids"] for row in rows], self.pad),
            "attention_mask": _padded([[1] * len(row["input_ids"]) for row in rows], 0),
            "labels": _padded([row["labels"] for row in rows], IGNORED),
        }
        if any(row.get("weights") for row in rows):
            weights = [row.get("weights") or [1.0] * len(row["labels"]) for row in rows]
            batch["weights"] = _padded(weights, 1.0)
        return batch


def _padded(rows: Sequence[Sequence[float]], filler: float) -> Any:
    return torch.nn.utils.rnn.pad_sequence(list(map(torch.tensor, rows)), batch_first=True, padding_value=filler)
