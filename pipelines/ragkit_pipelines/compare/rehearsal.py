"""A stand-in for a model that costs money, to estimate the cost of a comparison without calling it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit.models._sampling import Sampling
from ragkit.models._wrapper import ModelWrapper
from ragkit.protocols import AnyPrompt, Capabilities, LanguageModel
from ragkit.records import Completion, Usage


class Rehearsal(ModelWrapper):
    """Answers without calls, with as many tokens as the model may generate, at the prices of the model."""

    def __init__(self, model: LanguageModel) -> None:
        """Stand in for a model."""
        self.model = model

    @property
    @override
    def fingerprint(self) -> str:
        return f"rehearsal:{self.model.fingerprint}"

    @property
    @override
    def capabilities(self) -> Capabilities:
        return replace(self.model.capabilities, batches=True)

    @override
    def _complete(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        text = max(sampling.choices, key=len) if sampling.choices else "answer"
        written = self.count_tokens(json.dumps({"answer": text})) if sampling.choices else sampling.max_tokens
        written += self.max_reasoning_tokens
        sizes = [self.count_prompt_tokens(prompt) for prompt in prompts]
        usages = [Usage(prompt_tokens=size, completion_tokens=written) for size in sizes]
        return [Completion(text=text, usage=usage, cost=self.cost_of(usage)) for usage in usages]

    @override
    def score(
        self, prompts: Sequence[AnyPrompt], choices: Sequence[str], *, end_of_turn: bool = False
    ) -> NDArray[np.float64]:
        return np.zeros((len(prompts), len(choices)))
