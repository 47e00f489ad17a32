"""Counts of faults by kind and by what became of them."""

from __future__ import annotations

from collections import Counter

OUTCOMES = ("lost", "wrong", "unexplained", "noticed", "recovered", "harmless")
BAD = OUTCOMES[:3]


class Tally:
    """What became of each fault that was injected.

    - lost: something that was committed, finished or paid for is gone.
    - wrong: something else than what must be there was given, and nothing said so.
    - unexplained: an error that is none of ragkit's and none of the system's, a hang, or a crash.
    - noticed: an error or a warning told of it, and what was done before it is whole.
    - recovered: the work went on to the right result.
    - harmless: what was damaged is not read.

    Attributes:
        counts: Outcomes by kind of fault.
        stories: What happened, for every bad outcome.
    """

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self.stories: list[str] = []

    def count(self, kind: str, outcome: str, story: object = "", *, times: int = 1) -> None:
        """Note what became of a fault, with the story where it is a bad one."""
        assert outcome in OUTCOMES, outcome
        self.counts.setdefault(kind, Counter())[outcome] += times
        if outcome in BAD:
            self.stories.append(f"{kind}: {outcome}: {story}")

    def add(self, counts: dict[str, dict[str, int]], stories: list[str]) -> None:
        """Add what another tally holds."""
        for kind, outcomes in counts.items():
            self.counts.setdefault(kind, Counter()).update(outcomes)
        self.stories += stories

    def table(self) -> dict[str, dict[str, int]]:
        """The number of faults injected and each outcome, by kind."""
        return {
            kind: {"injected": sum(found.values()), **{name: found[name] for name in OUTCOMES}}
            for kind, found in sorted(self.counts.items())
        }
