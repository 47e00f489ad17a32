"""Costs of prediction and training in money and FLOPs, and the volume from which training is cheaper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Literal

from ragkit.errors import InvalidInputError
from ragkit.models._middleware import LayeredModel
from ragkit.models._results import price_of
from ragkit.records import Usage

if TYPE_CHECKING:
    from ragkit.models._prices import Price
    from ragkit.protocols import LanguageModel
    from ragkit_pipelines.compare.results import Row

TrainingMethod = Literal["full", "lora", "qlora", "prompt-tuning"]
# Training in units of a forward pass: one more for the gradients of the activations, one for those of the weights.
_PASSES: dict[str, int] = {"full": 3, "lora": 2, "qlora": 2, "prompt-tuning": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptShape:
    """Number of tokens of one query, by part of the prompt.

    Attributes:
        system: Tokens of the instruction, which all prompts share.
        demonstrations: Tokens of all in-context examples.
        query: Tokens of the query.
        output: Tokens of the answer.
        same_demonstrations: Whether all prompts share the same examples. If examples are selected per query, a prompt
            cache can only store the instruction.
    """

    system: int = 0
    demonstrations: int = 0
    query: int
    output: int
    same_demonstrations: bool = True

    def __post_init__(self) -> None:
        for name in ("system", "demonstrations", "query", "output"):
            if getattr(self, name) < 0:
                raise InvalidInputError(f"`{name}` must be a number of tokens of at least 0, got {getattr(self, name)}")

    @property
    def prefix(self) -> int:
        """Tokens of the common prefix of all prompts."""
        return self.system + (self.demonstrations if self.same_demonstrations else 0)

    @property
    def prompt(self) -> int:
        """Tokens of the whole prompt."""
        return self.system + self.demonstrations + self.query

    def usage(self, *, prompt_cache: bool = False, least_prefix: int = 1024) -> Usage:
        """Return the tokens as a provider bills them.

        Args:
            prompt_cache: Whether the common prefix comes from a prompt cache.
            least_prefix: Length of the shortest prefix that providers cache.

        Returns:
            The usage of one prediction.
        """
        cached = self.prefix if prompt_cache and self.prefix >= least_prefix else 0
        return Usage(prompt_tokens=self.prompt, cached_tokens=cached, completion_tokens=self.output)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """The dimensions of a model that determine its FLOPs (Kaplan et al., 2020).

    Attributes:
        parameters: Number of parameters without the input embeddings.
        layers: Number of layers; with 0, attention is not counted.
        width: Dimension of the hidden states.
        encoder_decoder: Whether each token passes through only half of the parameters.
    """

    parameters: float
    layers: int = 0
    width: int = 0
    encoder_decoder: bool = False

    def forward(self, tokens: float, *, context: float | None = None) -> float:
        """Return the FLOPs of a forward pass.

        Args:
            tokens: Number of tokens.
            context: Number of tokens that each token attends to; ``tokens`` if None. Causal masks are not deducted.

        Returns:
            FLOPs.
        """
        attended = tokens if context is None else context
        each = (1 if self.encoder_decoder else 2) * self.parameters
        return tokens * (each + 4 * self.layers * self.width * attended)

    def answer(self, shape: PromptShape, *, prompt_cache: bool = False, reuse: float = float("inf")) -> float:
        """Return the FLOPs of one prediction.

        Args:
            shape: Its tokens.
            prompt_cache: Whether the common prefix is prefilled once and reused from the KV cache.
            reuse: Number of predictions that reuse it.

        Returns:
            FLOPs.
        """
        whole = shape.prompt + shape.output
        if not prompt_cache:
            return self.forward(whole)
        rest = whole - shape.prefix
        return self.forward(rest, context=whole) + self.forward(shape.prefix) / reuse

    def training(self, tokens: float, *, length: float = 0, method: TrainingMethod = "lora") -> float:
        """Return the FLOPs of training.

        Args:
            tokens: Tokens of all rows, times epochs, times trials.
            length: Tokens per row, for attention.
            method: Training method; methods that freeze the base model need no gradients of its weights.

        Returns:
            FLOPs.

        Raises:
            InvalidInputError: If the method is unknown.
        """
        if method not in _PASSES:
            raise InvalidInputError(f"`method` must be one of {list(_PASSES)}, got {method!r}")
        return _PASSES[method] * self.forward(tokens, context=length)


def size_of(model: LanguageModel | None) -> ModelSize | None:
    """Return the size of a local model, or None if the weights are not available."""
    while isinstance(model, LayeredModel):
        model = model.model
    module = getattr(model, "module", None)
    if module is None:
        return None
    from ragkit.finetuning._flops import weights_of

    weights, layers = weights_of(module)
    return ModelSize(parameters=weights, layers=layers, width=module.config.get_text_config().hidden_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upfront:
    """Costs before the first prediction, in US dollars.

    Attributes:
        tokens: Tokens of the training rows, one epoch.
        price: Price of a million training tokens.
        epochs: Number of epochs.
        trials: Number of training runs to find the settings, not counting the final one.
        labels: Number of rows that were labelled for training.
        label_price: Price of one label.
        hosting: Price of hosting the tuned model over the period of the predictions.
    """

    tokens: float
    price: float
    epochs: float = 1
    trials: int = 0
    labels: int = 0
    label_price: float = 0.0
    hosting: float = 0.0

    @property
    def money(self) -> float:
        """Total in US dollars."""
        training = self.tokens * self.epochs * self.price / 1e6 * (1 + self.trials)
        return training + self.labels * self.label_price + self.hosting


def break_even(upfront: float, each_before: float, each_after: float) -> float | None:
    """Return the number of predictions from which an upfront cost pays off: 0 if immediately, None if it never does."""
    if each_before == each_after and upfront < 0:
        return 0.0
    return max(0.0, upfront / (each_before - each_after)) if each_before > each_after else None


@dataclass(frozen=True, slots=True)
class VolumeRange:
    """Break-even volumes over a range of prices.

    Attributes:
        low: Predictions at the best prices; None if training never pays off.
        high: Predictions at the worst prices; None if training does not pay off at these prices.
    """

    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None:
            return "never"
        if self.high is None:
            return f"{self.low:,.0f} predictions at the best prices, never at the worst"
        if round(self.low) == round(self.high):
            return f"{self.low:,.0f} predictions"
        return f"{self.low:,.0f} to {self.high:,.0f} predictions"


def break_even_range(
    prompted: PromptShape,
    tuned: PromptShape,
    *,
    base_prices: Sequence[Price],
    tuned_prices: Sequence[Price],
    upfront: Sequence[Upfront],
    prompt_cache: bool = False,
) -> VolumeRange:
    """Compute the volumes from which a tuned model is cheaper than a prompted one, over all combinations of prices.

    The result is a range, because prices change every few months.

    Args:
        prompted: Tokens of a prediction by prompting.
        tuned: Tokens of a prediction by the tuned model.
        base_prices: Possible prices of the base model.
        tuned_prices: Possible prices of the tuned model.
        upfront: Possible upfront costs of training.
        prompt_cache: Whether both use the prompt cache of the provider.

    Returns:
        The range.

    Raises:
        InvalidInputError: If a list of prices is empty.
    """
    found = [
        break_even(
            fixed.money,
            base.cost(prompted.usage(prompt_cache=prompt_cache)),
            own.cost(tuned.usage(prompt_cache=prompt_cache)),
        )
        for base, own, fixed in product(base_prices, tuned_prices, upfront)
    ]
    if not found:
        raise InvalidInputError("`base_prices`, `tuned_prices` and `upfront` must each have at least one entry")
    return range_of(found)


def range_of(volumes: Sequence[float | None]) -> VolumeRange:
    """Return the range of some results of `break_even`, one per combination of prices."""
    known = [volume for volume in volumes if volume is not None]
    return VolumeRange(min(known, default=None), max(known) if len(known) == len(volumes) else None)


def cache_saving(model: LanguageModel, usages: Sequence[Usage]) -> float | None:
    """Return the US dollars that the prompt cache of a provider saved on some calls, net of the cost of storing.

    Returns:
        The difference to the cost without a prompt cache, which may be negative; None if the price is unknown.
    """
    total = 0.0
    for usage in usages:
        cost = price_of(model, usage)
        without = price_of(model, replace(usage, cached_tokens=0, cache_written_tokens=0))
        if cost is None or without is None:
            return None
        total += without - cost
    return total


def per_thousand(row: Row, price: Price | None = None) -> float | None:
    """Return the US dollars for 1,000 predictions like those of a row; None if unknown, or if the strategy failed."""
    if row.error is not None or not row.n:
        return None
    if price is None:
        return None if row.cost is None else 1000 * row.cost / row.n
    usage = Usage(
        prompt_tokens=row.prompt_tokens, cached_tokens=row.cached_tokens, completion_tokens=row.completion_tokens
    )
    return 1000 * price.cost(usage) / row.n
