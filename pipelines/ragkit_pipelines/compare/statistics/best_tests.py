"""Test the best strategy against the others: whether they are worse, and whether they are equivalent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ragkit_pipelines.compare.results import Difference, Pair, Row
from ragkit_pipelines.compare.statistics.tests import holm


class BestTests(NamedTuple):
    """The tests of the best strategy against the others.

    ``worse`` are the strategies shown to be worse by more than the margin; the rest is as in `Recommendation`.
    """

    worse: list[str]
    evidence: list[str]
    test: str
    corrected: Mapping[str, float]
    detectable: float | None = None
    significant: bool = False
    equivalence: Mapping[str, float] = {}


def tests_of_best(
    best: str,
    by_strategy: Mapping[str, Sequence[Row]],
    pairs: Sequence[Pair],
    against: Mapping[str, Difference],
    level: float,
    margin: float,
) -> BestTests:
    """Test the best strategy against the others."""
    own, others = by_strategy[best], [name for name in by_strategy if name != best]
    if not others:
        return BestTests([], ["no other strategy was compared"], "", {})
    within = {frozenset((each.a, each.b)): each.p for each in pairs if each.size == own[0].size}
    exact = len({row.seed for row in own}) == 1 and all(frozenset((best, name)) in within for name in others)
    p_values = [
        within[frozenset((best, name))] if exact else against[name].p if name in against else 1.0 for name in others
    ]
    test = "exact McNemar test" if exact else "paired bootstrap over seeds and items"
    adjusted = dict(zip(others, holm(p_values), strict=True))
    equal = [name for name, p in adjusted.items() if p >= level]
    lost = [name for name in others if name not in equal]
    worse = [name for name in lost if name not in against or _exceeds(against[name], best, margin)]
    equivalence = _equivalence(others, against)
    equivalents = _equivalents(best, equal, equivalence, level, margin)
    if not equal:
        only = "; one seed: retraining or resampling may give a different result" if exact else ""
        who = "the other strategy" if len(others) == 1 else f"each of the {len(others)} other strategies"
        p = f"Holm-corrected p <= {max(adjusted.values()):.2g}"
        said = [f"{best} is significantly better than {who} ({test}, {p}){only}", *equivalents]
        return BestTests(worse, said, test, adjusted, significant=True, equivalence=equivalence)
    p = f"Holm-corrected p >= {min(adjusted[name] for name in equal):.2g}"
    said = [f"{best} is not significantly better than {', '.join(equal)} ({test}, {p})", *equivalents]
    detectable = max((against[name].detectable for name in equal if name in against), default=1.0)
    if detectable >= 1:
        return BestTests(worse, said, test, adjusted, equivalence=equivalence)
    single = " in a single test" if len(others) > 1 else ""  # Holm's effect depends on the other p-values
    said.append(f"minimum detectable difference: {100 * detectable:.1f} points{single}")
    return BestTests(worse, said, test, adjusted, detectable, equivalence=equivalence)


def _equivalence(others: Sequence[str], against: Mapping[str, Difference]) -> dict[str, float]:
    """Return the Holm-corrected p-values of equivalence with the best strategy; empty if the margin is 0."""
    known = {name: against[name].p_equivalent for name in others if name in against}
    found = {name: p for name, p in known.items() if p is not None}
    return dict(zip(found, holm(list(found.values())), strict=True))


def _equivalents(
    best: str, equal: Sequence[str], equivalence: Mapping[str, float], level: float, margin: float
) -> list[str]:
    """Say which strategies are shown to be equivalent to the best one, and which are only not shown to be worse."""
    if not equivalence:
        return []
    how = "two one-sided tests with the paired bootstrap"
    shown = [name for name, p in equivalence.items() if p < level]
    open_ = [name for name in equal if name not in shown]
    said = []
    if shown:
        p = f"Holm-corrected p <= {max(equivalence[name] for name in shown):.2g}"
        verb = "is" if len(shown) == 1 else "are"
        said.append(f"{', '.join(shown)} {verb} shown to be equivalent to {best} within {points(margin)} ({how}, {p})")
    if open_:
        verb = "is" if len(open_) == 1 else "are"
        said.append(
            f"{', '.join(open_)} {verb} not shown to be worse than {best}, but not shown to be equivalent within "
            f"{points(margin)} either" + ("" if shown else f" ({how})")
        )
    return said


def _exceeds(difference: Difference, best: str, margin: float) -> bool:
    """Whether the interval of the best strategy's lead excludes leads within the margin."""
    return (difference.low if difference.a == best else -difference.high) > margin


def points(margin: float) -> str:
    """Format a margin in points, hundredths of the score."""
    return f"{100 * margin:g} point{'' if margin == 0.01 else 's'}"
