"""Encoders as language models that select the choice whose embedding is most similar to the prompt's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit._text import refuse_bare_string
from ragkit.embedders import load_embedder
from ragkit.errors import UnsupportedError
from ragkit.models._base import ModelBase
from ragkit.models._devices import AnyDtype
from ragkit.models._prompts import checked_prompts, prompt_text
from ragkit.models._sampling import Sampling
from ragkit.protocols import AnyPrompt, Capabilities, Embedder
from ragkit.records import Completion, Usage


def load_encoder(spec: str, *, dtype: AnyDtype = "auto") -> EncoderModel:
    """Load an embedder as a language model; the precision ``"auto"`` is ``"float32"``."""
    return EncoderModel(load_embedder(spec, dtype="float32" if dtype == "auto" else dtype))


class EncoderModel(ModelBase):
    """A zero-shot classifier that selects among choices with an embedder and cannot generate text.

    Probabilities are the softmax of cosine similarities multiplied by `scale`. `generate` requires `choices`; ties are
    resolved in favour of the first choice.

    Attributes:
        embedder: The encoder.
        scale: Factor for cosine similarities; sentence encoders are usually trained with 20.

    Examples:
        >>> from ragkit import load_embedder
        >>> model = EncoderModel(load_embedder("hash:256"))
        >>> model.generate("dim the lamp", choices=["dim lamp", "lock the door"]).text
        'dim lamp'
    """

    def __init__(self, embedder: str | Embedder, *, scale: float = 20.0) -> None:
        """Wrap an embedder, which can be given by its spec."""
        self.embedder = load_embedder(embedder)
        self.scale = scale

    @property
    @override
    def name(self) -> str:
        return self.embedder.name

    @property
    @override
    def fingerprint(self) -> str:
        return f"encoder:{self.embedder.fingerprint}:{self.scale:g}"

    @property
    @override
    def capabilities(self) -> Capabilities:
        return Capabilities(score=True, choices=True)

    @override
    def _complete(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        if sampling.choices is None:
            raise UnsupportedError(f"{self.name} is an encoder, which writes nothing; give it `choices`")
        best = self.score(prompts, sampling.choices).argmax(axis=1).tolist()
        return [
            Completion(text=sampling.choices[row], usage=Usage(prompt_tokens=self.count_tokens(prompt_text(prompt))))
            for prompt, row in zip(prompts, best, strict=True)
        ]

    @override
    def score(
        self,
        prompts: Sequence[AnyPrompt],
        choices: Sequence[str],
        *,
        end_of_turn: bool = False,
    ) -> NDArray[np.float64]:
        """Compute the log-probability of each choice relative to the other choices.

        Args:
            prompts: n prompts.
            choices: c texts; surrounding whitespace is ignored.
            end_of_turn: Has no effect because each choice is a whole answer.

        Returns:
            f64[n, c], in nats; the probabilities of a row sum to 1.
        """
        refuse_bare_string("choices", choices)
        texts = [prompt_text(prompt) for prompt in checked_prompts(prompts)]
        if not texts or not choices:
            return np.zeros((len(texts), len(choices)))
        asked = self.embedder.embed_queries(texts).astype(np.float64)
        logits = self.scale * asked @ self.embedder.embed_documents([choice.strip() for choice in choices]).T
        return log_softmax(logits)


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log-probabilities of the columns in each row."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    normalised: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised
