"""Features of a question that tell whether a plan helps, and which actions it may need."""

from __future__ import annotations

from ragkit._text import words

_OPENINGS = ("who", "what", "when", "where", "which", "why", "how", "is", "does")
_COUNTING = frozenset({"many", "number", "often", "times", "count", "long", "much", "old"})
_COMPARING = frozenset(
    {"differ", "difference", "compare", "between", "than", "most", "best", "relation", "relationship"}
)
_EXCLUDING = frozenset({"not", "except", "never", "neither"})


def question_features(question: str) -> dict[str, float]:
    """Compute the features of a question."""
    said = words(question)
    features = {f"has {word}": float(word in said) for word in _OPENINGS}
    features["counts"] = float(bool(_COUNTING.intersection(said)))
    features["compares"] = float(bool(_COMPARING.intersection(said)))
    features["excludes"] = float(bool(_EXCLUDING.intersection(said)))
    features["length"] = min(len(said), 40) / 20
    return features


def similarity(question: str, other: str) -> float:
    """Return how similar two questions are: above all whether they begin with the same words."""
    ours, theirs = words(question), words(other)
    begin = [2.0, 1.0][: min(len(ours), len(theirs))]
    same = sum(weight for weight, mine, yours in zip(begin, ours, theirs, strict=False) if mine == yours)
    return same + len({*ours} & {*theirs}) / max(1, len({*ours} | {*theirs}))
