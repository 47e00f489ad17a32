"""The parameters that providers accept, from LangChain's model profiles and from a table of our own.

LangChain's provider packages ship a profile for each model (`chat_model.profile`), which says whether the model accepts
a temperature and whether it reasons. The table contains what the profiles omit: parameter names that differ between
providers, stop sequences and seeds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_SEEDS = {
    "openai": "seed", "azure_openai": "seed", "mistralai": "random_seed", "google_genai": "seed", "groq": "seed",
    "xai": "seed", "together": "seed", "openrouter": "seed", "ollama": "seed", "vllm": "seed", "llamacpp": "seed",
}  # fmt: skip
_LIMITS = {"google_genai": "max_output_tokens", "google_vertexai": "max_output_tokens"}
# Maximum number of stop sequences in a request.
_MOST_STOPS = {"openai": 4, "azure_openai": 4, "google_genai": 5, "google_vertexai": 5, "deepseek": 16, "cohere": 5}
# What OpenAI's reasoning models accept neither with nor without a profile.
_NO_SAMPLING = frozenset({"temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs"})
_REASONING_NAME = re.compile(r"(?:o\d|gpt-(?:[6-9]|5(?!.*-chat)))")
_KINDS = {
    "AzureChatOpenAI": "azure_openai", "BaseChatOpenAI": "openai", "ChatAnthropic": "anthropic",
    "ChatGoogleGenerativeAI": "google_genai", "ChatMistralAI": "mistralai",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The parameters that a model accepts.

    Attributes:
        limit: The provider's name of `max_tokens`.
        seed: The provider's name of `seed`; None if it has none.
        rejected: Parameters that the model does not accept.
        most_stops: Maximum number of stop sequences; None for no limit.
        blank_stops: Whether stop sequences may consist of white space.
        reasons: Whether the model may reason before it answers; None if unknown.
        efforts: The levels of reasoning effort; empty if unknown.
    """

    limit: str = "max_tokens"
    seed: str | None = None
    rejected: frozenset[str] = frozenset()
    most_stops: int | None = None
    blank_stops: bool = True
    reasons: bool | None = None
    efforts: tuple[str, ...] = ()

    def stops(self, stop: Sequence[str]) -> list[str]:
        """Return the stop sequences that can be sent; ragkit applies all of them to the answer."""
        return [text for text in stop if self.blank_stops or text.strip()][: self.most_stops]


def parameters_of(chat_model: Any, spec: str | None) -> Parameters:
    """Return the parameters that a LangChain chat model accepts.

    Args:
        chat_model: The chat model, without bindings.
        spec: Its spec, ``"<provider>:<model>"``; None if the caller created the chat model.

    Returns:
        The parameters; everything that is unknown counts as accepted.
    """
    kinds = [kind.__name__ for kind in type(chat_model).__mro__]
    provider = spec.partition(":")[0] if spec else next((_KINDS[kind] for kind in kinds if kind in _KINDS), "")
    model = str(getattr(chat_model, "model_name", None) or getattr(chat_model, "model", None) or "")
    found = getattr(chat_model, "profile", None)
    profile: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    rejected = _rejected(provider, model, profile)
    return Parameters(
        limit=_LIMITS.get(provider, "max_tokens"),
        seed=_SEEDS.get(provider) if spec else None,
        rejected=rejected,
        most_stops=_MOST_STOPS.get(provider),
        blank_stops=provider != "anthropic",
        reasons=profile.get("reasoning_output", True if "stop" in rejected else None),
        efforts=tuple(profile.get("reasoning_effort_levels") or ()),
    )


def _rejected(provider: str, model: str, profile: Mapping[str, Any]) -> frozenset[str]:
    rejected = frozenset({"temperature", "top_p"}) if profile.get("temperature") is False else frozenset[str]()
    if provider in {"openai", "azure_openai"}:
        reasons = profile.get("reasoning_output")
        if reasons or (reasons is None and _REASONING_NAME.match(model)):
            rejected |= {"stop"}
            # Models whose reasoning can be switched off accept a temperature then; an error tells otherwise.
            rejected |= _NO_SAMPLING if profile.get("temperature") is not True else frozenset()
    if provider == "anthropic":
        rejected |= {"presence_penalty", "frequency_penalty", "logprobs"}
    if profile.get("structured_output") is False:
        rejected |= {"schema"}
    return rejected
