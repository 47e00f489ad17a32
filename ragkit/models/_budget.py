"""Budgets for model calls, which are enforced before a call is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from time import monotonic

from ragkit.errors import BudgetExceededError, InvalidInputError


@dataclass(slots=True)
class Budget:
    """Limits on calls, tokens, money and time, which any number of models and threads can share.

    The maximum cost of a call is reserved before the call, and the unused part is returned afterwards. Concurrent calls
    therefore cannot exceed the limits together. A failed call that may have been billed keeps its reservation.

    Attributes:
        calls: Maximum number of calls; None for no limit.
        tokens: Maximum number of prompt and completion tokens; None for no limit.
        money: Maximum cost in US dollars; None for no limit.
        seconds: Time after the first call, in seconds, during which further calls may start; None for no limit.
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
        """The calls, tokens and money that are spent or reserved."""
        with self._lock:
            return dict(self._spent)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until no further call may start, at least 0; None if there is no limit."""
        with self._lock:
            if self.seconds is None or self._begun is None:
                return self.seconds
            return max(0.0, self._begun + self.seconds - monotonic())

    def reserve(self, *, calls: int, tokens: int, money: float) -> None:
        """Reserve the maximum cost of some calls, either completely or not at all.

        Args:
            calls: Number of calls.
            tokens: Total number of tokens.
            money: Total cost in US dollars.

        Raises:
            BudgetExceededError: If a limit would be exceeded.
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
        """Return the unused part of a reservation; a negative amount is usage beyond the reservation."""
        with self._lock:
            self._spent["calls"] -= calls
            self._spent["tokens"] -= tokens
            self._spent["money"] -= money
