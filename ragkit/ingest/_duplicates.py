"""Detection of near-duplicate texts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from math import ceil

from ragkit._text import refuse_bare_string, words
from ragkit.errors import InvalidInputError
from ragkit.records import Document

Pair = tuple[int, int, float]


def near_duplicates(documents: Sequence[Document | str], *, threshold: float = 0.8, words_each: int = 3) -> list[Pair]:
    """Find all pairs of texts with similar sets of word n-grams, measured by the Jaccard coefficient.

    The search is exact, but does not compare all pairs: two texts that are similar enough share one of their rarest
    n-grams (Chaudhuri et al., 2006; Bayardo et al., 2007). Case and punctuation are ignored.

    Args:
        documents: Documents or texts.
        threshold: Minimum coefficient of a pair, above 0 and at most 1.
        words_each: Words per n-gram, at least 1; a shorter text is one n-gram.

    Returns:
        Indices of the two texts, the earlier first, and the coefficient; sorted by indices.

    Raises:
        InvalidInputError: If an argument is invalid.

    Examples:
        >>> near_duplicates(["dim the red lamp now", "Dim the red lamp, now!", "play a song"])
        [(0, 1, 1.0)]
    """
    if not 0 < threshold <= 1 or type(words_each) is not int or words_each < 1:
        raise InvalidInputError(
            f"`threshold` must be above 0 and at most 1 and `words_each` at least 1, got {threshold!r}, {words_each!r}"
        )
    refuse_bare_string("documents", documents)
    runs = [_runs(each if isinstance(each, str) else each.text, words_each) for each in documents]
    frequency = Counter(run for own in runs for run in own)
    held: dict[str, list[int]] = defaultdict(list)  # earlier texts by their rarest n-grams
    pairs: list[Pair] = []
    for place, own in enumerate(runs):
        rarest = sorted(own, key=lambda run: (frequency[run], run))
        # If two sets reach the threshold, their prefixes of this length have an n-gram in common.
        prefix = rarest[: len(own) - ceil(threshold * len(own) - 1e-9) + 1] if own else []
        for other in sorted({earlier for run in prefix for earlier in held[run]}):
            small, large = sorted((len(own), len(runs[other])))
            if small < threshold * large - 1e-9:
                continue
            shared = len(own & runs[other])
            similarity = shared / (len(own) + len(runs[other]) - shared)
            if similarity >= threshold - 1e-9:
                pairs.append((other, place, similarity))
        for run in prefix:
            held[run].append(place)
    return sorted(pairs)


def _runs(text: str, size: int) -> frozenset[str]:
    found = words(text)
    if not found:
        return frozenset()
    return frozenset(" ".join(found[at : at + size]) for at in range(max(1, len(found) - size + 1)))
