"""The loss of contrastive training, by which texts with the same label become similar, and others do not."""

from __future__ import annotations

from typing import Any

import torch


class PairTraining(torch.nn.Module):  # type: ignore[misc]
    """An encoder with the loss of all pairs of a batch."""

    def __init__(self, encoder: Any) -> None:
        """Wrap a model of sentence-transformers."""
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Any, attention_mask: Any, labels: Any) -> dict[str, Any]:
        """Encode a batch and compute its loss."""
        vectors = self.encoder({"input_ids": input_ids, "attention_mask": attention_mask})["sentence_embedding"]
        return {"loss": pair_loss(torch.nn.functional.normalize(vectors, dim=-1), labels)}


def pair_loss(vectors: Any, labels: Any) -> Any:
    """Return the mean squared difference of cosine similarities from 1 for equal labels, and from 0 for other labels.

    Tunstall et al. ("Efficient Few-Shot Learning Without Prompts", 2022) train on sampled pairs. Here, all pairs of a
    batch count, which costs one encoding per text instead of two per pair. Pairs with equal labels weigh as much as all
    others together.

    Args:
        vectors: f32[n, d], unit vectors.
        labels: i64[n].
    """
    first, second = torch.triu_indices(len(labels), len(labels), 1, device=vectors.device)
    similarities, equal = (vectors @ vectors.T)[first, second], labels[first] == labels[second]
    kinds = ((equal, 1.0), (~equal, 0.0))
    losses = [((similarities[kind] - target) ** 2).mean() for kind, target in kinds if kind.any()]
    return torch.stack(losses).mean() if losses else 0 * vectors.sum()  # a batch of one text has no pairs
