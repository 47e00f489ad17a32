"""What answers and training cost, in money and in floating-point operations, and from which volume training pays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Literal

from ragkit.errors import InvalidInputError
from ragkit.models.middleware import LayeredModel
from ragkit.records import Usage

if TYPE_CHECKING:
    from ragkit.models.pricing import Price
    from ragkit.protocols import LanguageModel
    from ragkit_pipelines.compare.results import Row

TrainingMethod = Literal["full", "lora", "qlora", "prompt-tuning"]
# Training in units of a forward pass: a pass back through the activations, and one for the weights where they move.
_PASSES: dict[str, int] = {"full": 3, "lora": 2, "qlora": 2, "prompt-tuning": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptShape:
    """Tokens of one question as it is asked in use.

    Attributes:
        system: Tokens of the instruction, the same for every question.
        demonstrations: Tokens of all examples shown.
        query: Tokens of the question.
        output: Tokens of the answer.
        same_demonstrations: Whether every question is shown the same examples. Examples that are chosen for each
            question change the beginning of the prompt, so that a prompt cache keeps at most the instruction.
    """

    system: int = 0
    demonstrations: int = 0
    query: int
    output: int
    same_demonstrations: bool = True

    def __post_init__(self) -> None:
        for name in ("system", "demonstrations", "query", "output"):
            if getattr(self, name) < 0:
                raise InvalidInputError(f"`{name}` must be a number of tokens, 0 or more; got {getattr(self, name)}")

    @property
    def prefix(self) -> int:
        """Tokens with which every prompt begins alike."""
        return self.system + (self.demonstrations if self.same_demonstrations else 0)

    @property
    def prompt(self) -> int:
        """Tokens of the whole prompt."""
        return self.system + self.demonstrations + self.query

    def usage(self, *, prompt_cache: bool = False, least_prefix: int = 1024) -> Usage:
        """The tokens as a provider bills them.

        Args:
            prompt_cache: Whether the beginning that all prompts share comes from a cache.
            least_prefix: Tokens below which providers cache nothing.

        Returns:
            Tokens of one answer.
        """
        cached = self.prefix if prompt_cache and self.prefix >= least_prefix else 0
        return Usage(prompt_tokens=self.prompt, cached_tokens=cached, completion_tokens=self.output)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """What the operations of a model depend on (Kaplan et al., 2020).

    Attributes:
        parameters: Parameters without the input embeddings.
        layers: Layers; 0 leaves attention out.
        width: Width of the hidden states.
        encoder_decoder: Whether each token passes through one half of the parameters only.
    """

    parameters: float
    layers: int = 0
    width: int = 0
    encoder_decoder: bool = False

    def forward(self, tokens: float, *, context: float | None = None) -> float:
        """Operations to read or write tokens.

        Args:
            tokens: Number of tokens.
            context: Tokens that each of them attends to; all ``tokens`` if None. Causal masks are not counted off.

        Returns:
            Floating-point operations.
        """
        attended = tokens if context is None else context
        each = (1 if self.encoder_decoder else 2) * self.parameters
        return tokens * (each + 4 * self.layers * self.width * attended)

    def answer(self, shape: PromptShape, *, prompt_cache: bool = False, reuse: float = float("inf")) -> float:
        """Operations of one answer.

        Args:
            shape: Its tokens.
            prompt_cache: Whether the shared beginning is read once for many questions.
            reuse: Questions that one reading serves.

        Returns:
            Floating-point operations.
        """
        whole = shape.prompt + shape.output
        if not prompt_cache:
            return self.forward(whole)
        rest = whole - shape.prefix
        return self.forward(rest, context=whole) + self.forward(shape.prefix) / reuse

    def training(self, tokens: float, *, length: float = 0, method: TrainingMethod = "lora") -> float:
        """Operations of training.

        Args:
            tokens: Tokens of all rows, times epochs, times trials.
            length: Tokens of a row, for attention.
            method: Methods that leave the base as it is need no gradients of its weights.

        Returns:
            Floating-point operations.

        Raises:
            InvalidInputError: If the method is unknown.
        """
        if method not in _PASSES:
            raise InvalidInputError(f"`method` must be one of {list(_PASSES)}, got {method!r}")
        return _PASSES[method] * self.forward(tokens, context=length)


def size_of(model: LanguageModel | None) -> ModelSize | None:
    """The size of a local model.

    Args:
        model: A language model.

    Returns:
        Its size; None for a model whose weights are not at hand.
    """
    while isinstance(model, LayeredModel):
        model = model.model
    module = getattr(model, "module", None)
    if module is None:
        return None
    from ragkit.finetuning.flops import weights_of

    weights, layers = weights_of(module)
    return ModelSize(parameters=weights, layers=layers, width=module.config.get_text_config().hidden_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upfront:
    """What is paid before the first answer, in US dollars.

    Attributes:
        tokens: Tokens of the training rows, one epoch.
        price: Of a million training tokens.
        epochs: Passes over the rows.
        trials: Runs that were made to find the settings, besides the last one.
        labels: Rows that were labelled for it.
        label_price: Of one label.
        hosting: Of keeping the tuned model at hand, for the time in which the answers are given.
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
        """US dollars in all."""
        training = self.tokens * self.epochs * self.price / 1e6 * (1 + self.trials)
        return training + self.labels * self.label_price + self.hosting


def break_even(upfront: float, each_before: float, each_after: float) -> float | None:
    """Number of answers from which something paid up front is worth it.

    Args:
        upfront: What it costs, in any unit; below 0 where it saves at once.
        each_before: What an answer costs without it, in the same unit.
        each_after: What an answer costs with it.

    Returns:
        Number of answers, not rounded, 0 where it pays from the first; None where it never pays for good.
    """
    if each_before == each_after and upfront < 0:
        return 0.0
    return max(0.0, upfront / (each_before - each_after)) if each_before > each_after else None


@dataclass(frozen=True, slots=True)
class VolumeRange:
    """Break-even volumes over a range of prices.

    Attributes:
        low: Answers at the most favourable prices; None where training pays at none of them.
        high: Answers at the least favourable ones; None where there are prices at which training never pays.
    """

    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None:
            return "never"
        if self.high is None:
            return f"{self.low:,.0f} answers at the best prices, never at the worst"
        if round(self.low) == round(self.high):
            return f"{self.low:,.0f} answers"
        return f"{self.low:,.0f} to {self.high:,.0f} answers"


def break_even_range(
    prompted: PromptShape,
    tuned: PromptShape,
    *,
    base_prices: Sequence[Price],
    tuned_prices: Sequence[Price],
    upfront: Sequence[Upfront],
    prompt_cache: bool = False,
) -> VolumeRange:
    """Volume from which a tuned model is cheaper than a prompted one, over every combination of prices.

    One number would hide that the answer turns on prices which change every few months.

    Args:
        prompted: Tokens of an answer by prompting.
        tuned: Tokens of an answer by the tuned model.
        base_prices: Prices of the base model that are thought possible.
        tuned_prices: Those of the tuned model.
        upfront: What training may cost.
        prompt_cache: Whether the provider's prompt cache is used, by both.

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
        raise InvalidInputError("`base_prices`, `tuned_prices` and `upfront` need one entry each at least")
    return range_of(found)


def range_of(volumes: Sequence[float | None]) -> VolumeRange:
    """The range of some volumes.

    Args:
        volumes: What `break_even` gave for each combination of prices.

    Returns:
        The range.
    """
    known = [volume for volume in volumes if volume is not None]
    return VolumeRange(min(known, default=None), max(known) if len(known) == len(volumes) else None)


def per_thousand(row: Row, price: Price | None = None) -> float | None:
    """Money for a thousand answers like those of a row.

    Args:
        row: A row of a comparison.
        price: Price of its model; what the model's own answers cost if None.

    Returns:
        US dollars; None where the price is not known or nothing was answered.
    """
    if row.error is not None or not row.n:
        return None
    if price is None:
        return None if row.cost is None else 1000 * row.cost / row.n
    usage = Usage(
        prompt_tokens=row.prompt_tokens, cached_tokens=row.cached_tokens, completion_tokens=row.completion_tokens
    )
    return 1000 * price.cost(usage) / row.n
