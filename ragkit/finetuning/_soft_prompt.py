"""Inference with soft prompts (Lester et al., "The Power of Scale for Parameter-Efficient Prompt Tuning", EMNLP 2021).

PEFT inserts the virtual tokens before the padding, so its results depend on the other prompts of a batch. Here, virtual
tokens have their own ids after those of the vocabulary and are the first tokens of each prompt. Padding comes before
them and is masked as usual, and the prefix cache treats them like other tokens.
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
from ragkit.finetuning._adapter_files import weights_file
from ragkit.models._local import LocalModel
from ragkit.protocols import AnyPrompt


class SoftPromptModel(LocalModel):
    """A base model with a soft prompt: trained embeddings with which every prompt begins."""

    def __init__(self, module: Any, tokenizer: Any, vectors: Any, *, name: str, fingerprint: str, source: str) -> None:
        """Prepend embeddings, float[n, d], to the prompts of a newly loaded model, which is changed in place."""
        words = module.get_input_embeddings()
        first = max(words.weight.shape[0], module.get_output_embeddings().weight.shape[0])
        module.set_input_embeddings(_WithVectors(words, vectors, first))
        self.widening = module.register_forward_hook(_never_written(len(vectors)))
        super().__init__(module, tokenizer, name=name, fingerprint=fingerprint, source=source)
        self.virtual_ids = list(range(first, first + len(vectors)))

    @override
    def encode_prompt(self, prompt: AnyPrompt, *, max_tokens: int | None = None) -> list[int]:
        return self.virtual_ids + super().encode_prompt(prompt, max_tokens=max_tokens)


@contextmanager
def in_training(module: Any, base: LocalModel) -> Iterator[SoftPromptModel]:
    """Yield a model for inference with the soft prompt of a PEFT model in training, which is restored afterwards."""
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
    """Return the soft prompt that PEFT saved to a folder, float32[n, dimensions], with one row per virtual token.

    Raises:
        IntegrityError: If the file is damaged or belongs to another base model.
    """
    path = weights_file(folder)
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
    """An embedding with additional rows for virtual tokens, which the output layer does not have."""

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
    """Return a hook that adds columns with probability 0 to the logits for the virtual tokens."""

    def widen(_module: Any, _arguments: Any, output: Any) -> Any:
        output.logits = torch.nn.functional.pad(output.logits, (0, count), value=float("-inf"))
        return output

    return widen
