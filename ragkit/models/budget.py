"""Limits on what calls may take, kept before they are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from time import monotonic

from ragkit.errors import BudgetExceededError, InvalidInputError


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

    def reserve(self, *, calls: int, tokens: int, money: float) -> None:
        """Set aside what some calls can take at the most; all of it or nothing.

        Args:
            calls: How many.
            tokens: Their tokens, all together.
            money: Their cost.

        Raises:
            BudgetExceededError: If it is not there.
        """
        asked = {"calls": float(calls), "tokens": float(tokens), "money": money}
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

    def give_back(self, *, calls: int, tokens: int, money: float) -> None:
        """Give back what was reserved and not taken; what was taken beyond the reservation is given as less than 0."""
        with self._lock:
            self._spent["calls"] -= calls
            self._spent["tokens"] -= tokens
            self._spent["money"] -= money
