"""The base class of models that wrap another model and pass on what they do not change."""

from __future__ import annotations

from collections.abc import Callable

from typing_extensions import override

from ragkit.models._base import ModelBase
from ragkit.models._results import price_of
from ragkit.models._sampling import Sampling
from ragkit.protocols import AnyPrompt, Capabilities, LanguageModel
from ragkit.records import Usage


class ModelWrapper(ModelBase):
    """A model with the name, prices, capabilities and token counts of another model, which need not be a `ModelBase`.

    Attributes:
        model: The wrapped model.
    """

    model: LanguageModel

    @property
    @override
    def name(self) -> str:
        return self.model.name

    @property
    @override
    def fingerprint(self) -> str:
        return self.model.fingerprint

    @property
    @override
    def capabilities(self) -> Capabilities:
        return self.model.capabilities

    @property
    def retries(self) -> bool:
        """Whether the wrapped model retries transient errors, which makes retries by the caller unnecessary."""
        return getattr(self.model, "retries", False)

    @property
    @override
    def max_reasoning_tokens(self) -> int:
        return int(getattr(self.model, "max_reasoning_tokens", 0))

    @property
    @override
    def requests_logprobs(self) -> bool:
        return bool(getattr(self.model, "requests_logprobs", False))

    @override
    def cost_of(self, usage: Usage) -> float | None:
        return price_of(self.model, usage)

    @override
    def max_prompt_tokens(self, prompt: AnyPrompt) -> int:
        return int(getattr(self.model, "max_prompt_tokens", super().max_prompt_tokens)(prompt))

    @override
    def count_prompt_tokens(self, prompt: AnyPrompt) -> int:
        count: Callable[[AnyPrompt], int] = getattr(self.model, "count_prompt_tokens", super().count_prompt_tokens)
        return count(prompt)

    @override
    def count_tokens(self, text: str) -> int:
        return self.model.count_tokens(text)

    @override
    def _check(self, sampling: Sampling) -> None:
        check: Callable[[Sampling], None] = getattr(self.model, "_check", super()._check)
        check(sampling)
