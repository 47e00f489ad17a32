"""Reserving the maximum cost of a call in a budget before it is made, and returning the unused part afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragkit.errors import (
    AnswerFormError,
    EmptyAnswerError,
    InvalidInputError,
    ModelError,
    RagkitError,
    ReasoningTruncatedError,
    RefusalError,
)
from ragkit.models._base import ModelBase
from ragkit.models._budget import Budget
from ragkit.models._sampling import Sampling
from ragkit.protocols import AnyPrompt
from ragkit.records import Completion, Usage

Result = Completion | RagkitError
_WITH_COMPLETION = (RefusalError, AnswerFormError, EmptyAnswerError, ReasoningTruncatedError)


@dataclass(slots=True)
class Call:
    """The state of one prompt in the middleware.

    Attributes:
        prompt: The prompt.
        sampling: Its settings.
        key: Hash of the model, the prompt and the settings.
        attempts: Number of requests so far.
        tokens: Maximum tokens of one request, if the budget or the rate limit depends on them.
        money: Maximum cost of one request, if the budget limits it.
        result: The answer or the last error.
        final: Whether the last error is not retried, because the wrapped model has already retried it.
    """

    prompt: AnyPrompt
    sampling: Sampling
    key: bytes
    attempts: int = 0
    tokens: int = 0
    money: float = 0.0
    result: Result | None = None
    final: bool = False


class Reservations:
    """Reserves budget for the requests of calls. A request that may have been billed keeps what it may have cost."""

    def __init__(self, budget: Budget, model: ModelBase, *, sized: bool) -> None:
        """Set the budget; with ``sized``, the tokens of calls are counted even if the budget does not limit them."""
        self.budget, self._model = budget, model
        self._sized = sized or budget.tokens is not None or budget.money is not None

    def reserve(self, calls: Sequence[Call], choices: Sequence[int] = ()) -> list[Call]:
        """Reserve budget for one request of each call; a call beyond the budget gets its error as its result.

        Args:
            calls: The calls.
            choices: Tokens of each choice, if the calls score choices instead of generating an answer.

        Returns:
            The calls within the budget.
        """
        within = []
        for call in calls:
            try:
                if self._sized and not call.tokens:
                    self._size(call, choices)
                self.budget.reserve(calls=1, tokens=call.tokens, money=call.money)
                within.append(call)
            except RagkitError as error:
                call.result = error
        return within

    def _size(self, call: Call, choices: Sequence[int]) -> None:
        read = (len(choices) or 1) * self._model.max_prompt_tokens(call.prompt)
        written = sum(choices) if choices else call.sampling.max_tokens + self._model.max_reasoning_tokens
        call.tokens = read + written
        if self.budget.money is not None:
            cost = self._model.cost_of(Usage(prompt_tokens=read, completion_tokens=written))
            if cost is None:
                raise InvalidInputError(
                    f"the budget limits money, but the price of {self._model.name} is not known; load it with `prices`"
                )
            call.money = cost

    def settle(self, call: Call) -> None:
        """Return the unused part of the reservation for the last request of a call, according to its result."""
        result = call.result
        answer = result.completion if isinstance(result, _WITH_COMPLETION) else result
        if isinstance(answer, RagkitError):
            unpaid = not (isinstance(answer, ModelError) and answer.maybe_paid)
        else:
            unpaid = answer is not None and answer.cached
        if unpaid:
            self.budget.give_back(calls=1, tokens=call.tokens, money=call.money)
        elif isinstance(answer, Completion) and answer.usage.prompt_tokens:
            took = answer.usage.prompt_tokens + answer.usage.completion_tokens
            unspent = 0.0 if answer.cost is None else call.money - answer.cost
            self.budget.give_back(calls=0, tokens=call.tokens - took, money=unspent)
