"""Costs of calls, by the user's prices or those of genai-prices; unknown costs are None, never 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ragkit._extras import is_installed
from ragkit.errors import InvalidInputError
from ragkit.records import Usage

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Prices in US dollars per million tokens.

    Attributes:
        input: Price of prompt tokens.
        output: Price of completion tokens.
        cached: Price of prompt tokens that the provider has cached; the same as `input` if None.
        training: Price of training tokens, which are counted in every epoch; None if unknown.
        reasoning: Price of reasoning tokens; the same as `output` if None.
        cache_write: Price of prompt tokens that the provider stores in its prompt cache; the same as `input` if None.
    """

    input: float
    output: float
    cached: float | None = None
    training: float | None = None
    reasoning: float | None = None
    cache_write: float | None = None

    def __post_init__(self) -> None:
        for name in ("input", "output", "cached", "training", "reasoning", "cache_write"):
            value = getattr(self, name) or 0.0
            if not 0 <= value < float("inf"):
                raise InvalidInputError(f"`{name}` must be a price of 0 or more, got {value!r}")

    def cost(self, usage: Usage) -> float:
        """Compute the cost of a call.

        Args:
            usage: Token usage of the call.

        Returns:
            US dollars.
        """
        cached = self.input if self.cached is None else self.cached
        reasoning = self.output if self.reasoning is None else self.reasoning
        stored = self.input if self.cache_write is None else self.cache_write
        read = usage.prompt_tokens - usage.cached_tokens - usage.cache_written_tokens
        written = usage.completion_tokens - usage.reasoning_tokens
        prompt = read * self.input + usage.cached_tokens * cached + usage.cache_written_tokens * stored
        return (prompt + written * self.output + usage.reasoning_tokens * reasoning) / _MILLION


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of models.

    Attributes:
        own: Custom prices by spec, such as ``{"openai:my-model": Price(input=1, output=2)}``; they take precedence.

    Examples:
        >>> prices = Prices({"openai:mine": Price(input=1.0, output=2.0)})
        >>> prices.cost("openai:mine", Usage(prompt_tokens=1000, completion_tokens=100))
        0.0012
        >>> print(prices.cost("openai:unheard-of", Usage(prompt_tokens=1)))
        None
    """

    own: Mapping[str, Price] = field(default_factory=dict)

    def cost(self, spec: str, usage: Usage) -> float | None:
        """Compute the cost of a call.

        Args:
            spec: ``"<provider>:<model>"``.
            usage: Token usage of the call.

        Returns:
            US dollars; None if the price is unknown.
        """
        if spec in self.own:
            return self.own[spec].cost(usage)
        if not is_installed("genai_prices"):
            return None
        import genai_prices

        provider, _, model = spec.partition(":")
        told = genai_prices.Usage(
            input_tokens=usage.prompt_tokens,
            cache_read_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_written_tokens,
            output_tokens=usage.completion_tokens,
        )
        try:
            return float(
                genai_prices.calc_price(told, model, provider_id=_PROVIDERS.get(provider, provider)).total_price
            )
        except LookupError:
            return None

    def training_cost(self, spec: str, tokens: int) -> float | None:
        """Compute the cost of fine-tuning at a vendor.

        Args:
            spec: ``"<provider>:<model>"`` of the base model.
            tokens: Number of training tokens, which are counted in every epoch.

        Returns:
            US dollars; None if `own` does not contain the price.
        """
        price = self.own[spec].training if spec in self.own else None
        return None if price is None else tokens * price / _MILLION


_PROVIDERS = {"google_genai": "google", "google_vertexai": "google", "mistralai": "mistral", "azure_openai": "azure",
              "bedrock": "aws", "xai": "x-ai"}  # fmt: skip
