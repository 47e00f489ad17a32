"""Texts that say almost the same."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from math import ceil

from ragkit.errors import InvalidInputError
from ragkit.records import Document
from ragkit.text import refuse_bare_string, words

Pair = tuple[int, int, float]


def near_duplicates(documents: Sequence[Document | str], *, threshold: float = 0.8, words_each: int = 3) -> list[Pair]:
    """Find all pairs of texts whose runs of words overlap, by the Jaccard coefficient.

    Exact, without comparing every text with every other: two texts that are alike enough share one of their rarest
    runs (Chaudhuri et al., 2006; Bayardo et al., 2007). Case and punctuation do not count.

    Args:
        documents: Documents or texts.
        threshold: From which coefficient on two texts are a pair, above 0 and at most 1.
        words_each: Words of a run, at least 1; a shorter text is one run.

    Returns:
        Places of the two, the earlier first, and the coefficient; in the order of places.

    Raises:
        InvalidInputError: If an argument is out of its range.

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
    held: dict[str, list[int]] = defaultdict(list)  # the earlier texts that have a run among their rarest
    pairs: list[Pair] = []
    for place, own in enumerate(runs):
        rarest = sorted(own, key=lambda run: (frequency[run], run))
        # Of two sets with at least this coefficient, the first so many runs of each have one in common.
        prefix = rarest[: len(own) - ceil(threshold * len(own) - 1e-9) + 1] if own else []
        for other in sorted({earlier for run in prefix for earlier in held[run]}):
            small, large = sorted((len(own), len(runs[other])))
            if small < threshold * large - 1e-9:
                continue
            shared = len(own & runs[other])
            likeness = shared / (len(own) + len(runs[other]) - shared)
            if likeness >= threshold - 1e-9:
                pairs.append((other, place, likeness))
        for run in prefix:
            held[run].append(place)
    return sorted(pairs)


def _runs(text: str, size: int) -> frozenset[str]:
    found = words(text)
    if not found:
        return frozenset()
    return frozenset(" ".join(found[at : at + size]) for at in range(max(1, len(found) - size + 1)))
