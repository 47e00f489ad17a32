"""An encoder with a classification head and the interface of a language model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit._files import read_arrays
from ragkit._text import refuse_bare_string
from ragkit.embedders import load_embedder
from ragkit.errors import IntegrityError, InvalidInputError
from ragkit.models._base import ModelBase
from ragkit.models._encoder import log_softmax
from ragkit.models._prompts import checked_prompts, prompt_text
from ragkit.models._sampling import Sampling
from ragkit.protocols import AnyPrompt, Capabilities, Embedder
from ragkit.records import Completion, Usage

if TYPE_CHECKING:
    from ragkit.finetuning._manifest import Manifest

HEAD = "head.npz"


class EncoderClassifier(ModelBase):
    """A classifier that answers with the most probable label of a linear head on embeddings.

    The prompt is the input without instructions. `generate` returns the label, `score` the log-probabilities of labels.

    Attributes:
        embedder: The encoder.
        labels: The c labels.
        weight: Weights of the head, f32[c, d].
        bias: Bias of the head, f32[c].
    """

    def __init__(
        self,
        embedder: Embedder,
        labels: Sequence[str],
        weight: NDArray[np.float32],
        bias: NDArray[np.float32],
        *,
        name: str,
        fingerprint: str,
    ) -> None:
        """Combine an embedder and a head."""
        self.embedder, self.labels, self.weight, self.bias = embedder, tuple(labels), weight, bias
        self._name, self._fingerprint = name, fingerprint

    @classmethod
    def load(cls, folder: Path, manifest: Manifest) -> EncoderClassifier:
        """Load a classifier from an output folder of `ragkit.finetune`.

        Returns:
            The classifier.

        Raises:
            IntegrityError: If the head is missing or damaged, or the embedder differs from the one used for training.
        """
        source = f"st:{folder / 'model'}" if manifest.form == "model" else manifest.base
        embedder = load_embedder(source)
        if manifest.form != "model" and embedder.fingerprint != manifest.base_fingerprint:
            raise IntegrityError(
                f"{folder} was fitted on {manifest.base} with fingerprint {manifest.base_fingerprint}, "
                f"but what is there now has {embedder.fingerprint}; train again or bring the old embedder back"
            )
        if manifest.form == "adapter":
            from ragkit.embedders._sentence_transformer import SentenceTransformerEmbedder
            from ragkit.finetuning._encoder import load_adapted

            assert isinstance(embedder, SentenceTransformerEmbedder)  # noqa: S101 - no other has adapters
            embedder = load_adapted(embedder, folder / "model")
        try:
            arrays = read_arrays(folder / HEAD)
            weight, bias = arrays["weight"], arrays["bias"]
        except (OSError, ValueError, KeyError, MemoryError) as error:
            raise IntegrityError(f"{folder / HEAD} is missing or damaged ({error}); train again") from error
        labels = manifest.labels or ()
        expected = (len(labels), embedder.dim)
        numbers = weight.dtype == bias.dtype == np.float32
        if not labels or not numbers or weight.shape != expected or bias.shape != expected[:1]:
            raise IntegrityError(
                f"{folder / HEAD} must hold float32 numbers, found {weight.dtype} of shape {weight.shape}, "
                f"expected {expected}; train again"
            )
        return cls(embedder, labels, weight, bias, name=f"hf:{folder}", fingerprint=f"classifier:{manifest.run}")

    @property
    @override
    def capabilities(self) -> Capabilities:
        return Capabilities(score=True)

    @override
    def _complete(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        texts = [prompt_text(prompt) for prompt in prompts]
        best = self._log_probabilities(texts).argmax(axis=1)
        return [
            Completion(text=self.labels[row], usage=Usage(prompt_tokens=self.count_tokens(text)))
            for text, row in zip(texts, best.tolist(), strict=True)
        ]

    @override
    def score(
        self,
        prompts: Sequence[AnyPrompt],
        choices: Sequence[str],
        *,
        end_of_turn: bool = False,
    ) -> NDArray[np.float64]:
        """Compute the log-probabilities of labels.

        Args:
            prompts: n inputs without instructions.
            choices: c labels, all of which the classifier was trained on; surrounding whitespace is ignored.
            end_of_turn: Has no effect because each label is a whole answer.

        Returns:
            f64[n, c], in nats.

        Raises:
            InvalidInputError: If a choice is not one of the labels.
        """
        refuse_bare_string("choices", choices)
        places = {label: place for place, label in enumerate(self.labels)}
        unknown = [choice for choice in choices if choice.strip() not in places]
        if unknown:
            raise InvalidInputError(
                f"{unknown[0]!r} is not among the {len(self.labels)} labels this classifier was trained on"
            )
        scores = self._log_probabilities([prompt_text(prompt) for prompt in checked_prompts(prompts)])
        return scores[:, [places[choice.strip()] for choice in choices]]

    def _log_probabilities(self, texts: list[str]) -> NDArray[np.float64]:
        # As in training; the embedder may use a different prompt for queries.
        return log_softmax((self.embedder.embed_documents(texts) @ self.weight.T + self.bias).astype(np.float64))
