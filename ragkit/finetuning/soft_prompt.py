"""Soft prompts in use (Lester et al., "The Power of Scale for Parameter-Efficient Prompt Tuning", EMNLP 2021).

PEFT puts the virtual tokens before the padding, so that what it computes depends on a prompt's neighbours in a batch.
Here they are tokens with ids of their own, past the vocabulary, which stand at the beginning of each prompt: padding
comes before them and is masked like everywhere else, and a cache of prompt prefixes holds them like other tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from typing_extensions import override

from ragkit.errors import IntegrityError
from ragkit.models.local import LocalModel
from ragkit.protocols import AnyPrompt

WEIGHTS = "adapter_model.safetensors"


class SoftPromptModel(LocalModel):
    """A base model whose every prompt begins with trained vectors."""

    def __init__(self, module: Any, tokenizer: Any, vectors: Any, *, name: str, fingerprint: str, source: str) -> None:
        """Put vectors, float[n, d], before the prompts of a freshly loaded model, which is changed in place."""
        words = module.get_input_embeddings()
        first = max(words.weight.shape[0], module.get_output_embeddings().weight.shape[0])
        module.set_input_embeddings(_WithVectors(words, vectors, first))
        self.widening = module.register_forward_hook(_never_written(len(vectors)))
        super().__init__(module, tokenizer, name=name, fingerprint=fingerprint, source=source)
        self.virtual_ids = list(range(first, first + len(vectors)))

    @override
    def encode_prompt(self, prompt: AnyPrompt) -> list[int]:
        return self.virtual_ids + super().encode_prompt(prompt)


@contextmanager
def in_training(module: Any, base: LocalModel) -> Iterator[SoftPromptModel]:
    """Use a soft prompt that PEFT is training, in the form that it has in use.

    Args:
        module: PEFT's model; it is the same again after the block.
        base: The model that is trained; its tokenizer is used.

    Yields:
        The model with the vectors that it has now.
    """
    inner = module.get_base_model()
    words = inner.get_input_embeddings()
    vectors = module.get_prompt_embedding_to_save(module.active_adapter).detach()
    model = SoftPromptModel(inner, base.tokenizer, vectors, name=base.name, fingerprint="training", source=base.source)
    try:
        yield model
    finally:
        model.widening.remove()
        inner.set_input_embeddings(words)


def read_vectors(folder: str | Path, dimensions: int) -> Any:
    """Read what PEFT's prompt tuning stored.

    Args:
        folder: Folder of the adapter.
        dimensions: Length of the base's embeddings.

    Returns:
        float32[n, d], one row a virtual token.

    Raises:
        IntegrityError: If the file is damaged or made for another base.
    """
    path = Path(folder) / WEIGHTS
    try:
        vectors = load_file(path)["prompt_embeddings"]
    except (OSError, KeyError, SafetensorError) as error:
        raise IntegrityError(f"{path} is missing or damaged ({error}); train again") from error
    if vectors.dim() != 2 or vectors.shape[1] != dimensions:
        raise IntegrityError(
            f"{path} holds vectors of shape {tuple(vectors.shape)}, the base's have {dimensions} numbers; "
            "the soft prompt belongs to another base"
        )
    return vectors.float()


class _WithVectors(torch.nn.Module):  # type: ignore[misc]
    """An embedding with more rows, which are not those of the head."""

    def __init__(self, words: Any, vectors: Any, first: int) -> None:
        super().__init__()
        self.words, self.first = words, first
        self.vectors = torch.nn.Parameter(vectors.to(words.weight.dtype), requires_grad=False)

    @property
    def weight(self) -> Any:
        return self.words.weight

    def forward(self, ids: Any) -> Any:
        virtual = ids >= self.first
        found = self.words(ids.masked_fill(virtual, 0))
        return torch.where(virtual[..., None], self.vectors[(ids - self.first).clamp(min=0)], found)


def _never_written(count: int) -> Any:
    """A hook that gives the virtual tokens columns in the logits, of probability 0."""

    def widen(_module: Any, _arguments: Any, output: Any) -> Any:
        output.logits = torch.nn.functional.pad(output.logits, (0, count), value=float("-inf"))
        return output

    return widen
