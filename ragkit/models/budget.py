"""Limits on what calls may take, kept before they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit.errors import BudgetExceededError, InvalidInputError
from ragkit.models.base import ModelBase, Sampling, prompt_text
from ragkit.models.pricing import Prices
from ragkit.protocols import AnyPrompt, Capabilities, LanguageModel
from ragkit.records import Completion, Usage

_AROUND = 16  # tokens that a model may put around a prompt


@dataclass(slots=True)
class Budget:
    """What may be spent; any number of models and threads can share one.

    The most that a call can take is reserved before it is made, and what it did not take is given back afterwards, so
    the limits hold whatever happens at once. A call that failed may have been paid for and keeps its reservation.

    Attributes:
        calls: Calls at the most; None for no limit.
        tokens: Tokens read and written at the most.
        money: US dollars at the most.
        seconds: Seconds from the first call on in which calls may begin.
    """

    calls: int | None = None
    tokens: int | None = None
    money: float | None = None
    seconds: float | None = None
    _spent: dict[str, float] = field(default_factory=lambda: {"calls": 0.0, "tokens": 0.0, "money": 0.0}, repr=False)
    _begun: float | None = field(default=None, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def __post_init__(self) -> None:
        for name in ("calls", "tokens", "money", "seconds"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise InvalidInputError(f"`{name}` must be 0 or more, or None; got {value!r}")

    @property
    def spent(self) -> dict[str, float]:
        """What is spent or reserved: calls, tokens and money."""
        with self._lock:
            return dict(self._spent)

    def reserve(self, *, calls: int, tokens: int, money: float | None) -> None:
        """Set aside what some calls can take at the most; all of it or nothing.

        Args:
            calls: How many.
            tokens: Their tokens, all together.
            money: Their cost; None where the price is not known.

        Raises:
            BudgetExceededError: If it is not there.
            InvalidInputError: If money is limited and the price is not known.
        """
        if money is None and self.money is not None:
            raise InvalidInputError(
                "the budget limits money, but the model's price is not known; give it in Prices(own={…})"
            )
        asked = {"calls": float(calls), "tokens": float(tokens), "money": money or 0.0}
        with self._lock:
            now = monotonic()
            if self.seconds is not None and self._begun is not None and now - self._begun > self.seconds:
                raise BudgetExceededError("seconds", now - self._begun, self.seconds)
            for name, amount in asked.items():
                limit = getattr(self, name)
                if limit is not None and self._spent[name] + amount > limit * (1 + 1e-12):
                    raise BudgetExceededError(name, self._spent[name] + amount, limit)
            self._begun = now if self._begun is None else self._begun
            for name, amount in asked.items():
                self._spent[name] += amount

    def settle(self, *, tokens: int, money: float) -> None:
        """Give back what was reserved and not taken."""
        with self._lock:
            self._spent["tokens"] -= tokens
            self._spent["money"] -= money


class BudgetedModel(ModelBase):
    """A model whose calls stay within a budget; a call that does not fit is not made."""

    def __init__(self, model: LanguageModel, budget: Budget, *, prices: Prices | None = None) -> None:
        """Put a budget before a model.

        Args:
            model: The model.
            budget: What it may spend.
            prices: Prices by model, for a budget of money; local models cost nothing.
        """
        self.model, self.budget, self.prices = model, budget, prices or Prices()

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

    @override
    def count_tokens(self, text: str) -> int:
        return self.model.count_tokens(text)

    @override
    def score(self, prompts: Sequence[AnyPrompt], choices: Sequence[str]) -> NDArray[np.float64]:
        longest = max((self.model.count_tokens(choice) for choice in choices), default=0)
        most = [self._most(prompt, longest) for prompt in prompts]
        calls = len(prompts) * len(choices)
        self._reserve(calls, [usage for usage in most for _ in choices])
        return self.model.score(prompts, choices)

    @override
    def _complete(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        most = [self._most(prompt, sampling.max_tokens) for prompt in prompts]
        reserved = self._reserve(len(prompts), most)
        answers = self.model.generate(
            list(prompts),
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            stop=sampling.stop,
            seed=sampling.seed,
        )
        took = sum(answer.usage.prompt_tokens + answer.usage.completion_tokens for answer in answers)
        costs = [answer.cost for answer in answers]
        known = sum(cost for cost in costs if cost is not None)
        money = reserved - known if None not in costs else 0.0
        self.budget.settle(tokens=sum(u.prompt_tokens + u.completion_tokens for u in most) - took, money=money)
        return answers

    def _reserve(self, calls: int, most: Sequence[Usage]) -> float:
        costs = [self._cost(usage) for usage in most]
        money = None if None in costs else sum(cost for cost in costs if cost is not None)
        self.budget.reserve(
            calls=calls, tokens=sum(usage.prompt_tokens + usage.completion_tokens for usage in most), money=money
        )
        return money or 0.0

    def _cost(self, usage: Usage) -> float | None:
        if self.model.name == "tiny" or self.model.name.startswith(("hf:", "replay:", "scripted")):
            return 0.0
        return self.prices.cost(self.model.name, usage)

    def _most(self, prompt: AnyPrompt, max_tokens: int) -> Usage:
        """The most that a call can take: never fewer tokens than bytes allow where the count is an estimate."""
        text = prompt_text(prompt)
        exact = self.model.capabilities.window is not None
        read = self.model.count_tokens(text) if exact else len(text.encode())
        return Usage(prompt_tokens=read + _AROUND, completion_tokens=max_tokens)
