"""The progress of the calls of a model, for progress bars and estimates; `ragkit._observation` traces calls instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from ragkit.models._reservations import Call
from ragkit.records import Completion, Usage


@dataclass(frozen=True, slots=True)
class Answered:
    """Some calls that were answered, or failed.

    Attributes:
        calls: Number of calls, including cached ones.
        cached: Number of calls with cached responses.
        usage: Tokens of the calls that were not cached.
    """

    calls: int
    cached: int = 0
    usage: Usage = field(default_factory=Usage)


# Receives the number of calls of a batch; its block lasts as long as the batch, and receives the answered calls.
CallProgress = Callable[[int], AbstractContextManager[Callable[[Answered], None]]]


def no_progress(_calls: int) -> AbstractContextManager[Callable[[Answered], None]]:
    """Report nothing."""
    return nullcontext(_ignore)


def answered(calls: Sequence[Call]) -> Answered:
    """Describe calls that have their results."""
    done = [call.result for call in calls if isinstance(call.result, Completion)]
    fresh = [completion.usage for completion in done if not completion.cached]
    return Answered(len(calls), cached=len(done) - len(fresh), usage=sum(fresh, Usage()))


def _ignore(_answered: Answered) -> None:
    pass
