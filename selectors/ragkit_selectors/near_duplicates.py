"""Find all pairs of texts with nearly the same words, without comparing every text with every other."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain, combinations
from math import ceil, comb
from typing import NamedTuple

import numpy as np

from ragkit._progress import progress
from ragkit._text import words

_MOST_PAIRS = 1_000_000  # that are listed
_FEW_CANDIDATES = 10  # mean number of pairs per text that are compared quickly
_MOST_WORDS = 3  # in a key
_MOST_KEYS = 50  # mean number per text
_STEP = 1000  # texts between two updates of the progress bar


class Pair(NamedTuple):
    """Two rows that are duplicates or near-duplicates.

    Attributes:
        first: Index of the earlier row in the pool.
        second: Index of the later row in the pool, or of a test row.
        similarity: Jaccard similarity of their words, 1 for duplicates.
    """

    first: int
    second: int
    similarity: float


def near_duplicates(
    texts: Sequence[str], wholes: Sequence[str], near: float, most_candidates: int | None
) -> list[Pair] | None:
    """Find all pairs of different texts with a similarity of at least ``near`` by prefix filtering.

    Two such sets of words share one of the ``size - ceil(near * size) + 1`` rarest words of each (Chaudhuri et al.,
    2006), two of a prefix that is one word longer, and so on (Wang et al., 2012). From the first word that they share,
    enough words are left in both (Xiao et al., 2008). Many rows of a large pool share one rare word, so the keys of the
    search are groups of two or three rare words if that saves comparisons.

    Args:
        texts: The texts.
        wholes: Their folded forms; texts with the same form are duplicates, which are not reported.
        near: Minimum Jaccard similarity.
        most_candidates: Maximum mean number of pairs per text that are compared; None for no limit.

    Returns:
        The pairs; None if a limit was exceeded, which happens if the same few words occur in nearly all texts.
    """
    sets = _numbered(texts)
    shared, repeated, candidates = 1, *_repeated(sets, near, 1)
    for longer in range(2, _MOST_WORDS + 1):
        if candidates <= _FEW_CANDIDATES * len(sets) or _number_of_keys(sets, near, longer) > _MOST_KEYS * len(sets):
            break
        found, fewer = _repeated(sets, near, longer)
        if fewer < candidates:
            shared, repeated, candidates = longer, found, fewer
    # Counted in advance, because a search that is abandoned later takes minutes for large pools.
    if most_candidates is not None and candidates > most_candidates * len(sets):
        return None
    pairs: list[Pair] = []
    with progress("searching for near-duplicates", len(sets)) as advance:
        for place, others in enumerate(_candidates(sets, near, shared, repeated)):
            pairs.extend(_similar(sets, wholes, place, others, near))
            if most_candidates is not None and len(pairs) > _MOST_PAIRS:
                return None
            if place % _STEP == _STEP - 1:
                advance(_STEP)
    return pairs


def _numbered(texts: Sequence[str]) -> list[list[int]]:
    """Return the different words of each text as numbers in ascending order, in which rare words come first."""
    sets = [frozenset(words(text)) for text in texts]
    frequency = Counter(chain.from_iterable(sets))
    number = {word: place for place, word in enumerate(sorted(frequency, key=lambda word: (frequency[word], word)))}
    return [sorted(map(number.__getitem__, held)) for held in sets]


def _least(size: int, near: float) -> int:
    """Return how many words a set of this size at least shares with each similar set."""
    return ceil(near * size - 1e-9)


def _keys(held: Sequence[int], near: float, shared: int) -> Iterator[tuple[int, int]]:
    """Yield the keys of a set with the number of its words from the first word of the key on.

    Similar sets have a key of ``shared`` words in common, or one of as many words as the larger one has to share.
    """
    size, least = len(held), _least(len(held), near)
    for count in range(max(1, min(least, shared)), shared + 1):
        prefix = held[: size - least + count]
        for place, first in enumerate(prefix):
            for rest in combinations(prefix[place + 1 :], count - 1):
                yield size - place, hash((first, *rest))


def _number_of_keys(sets: Sequence[Sequence[int]], near: float, shared: int) -> int:
    return sum(comb(len(held) - _least(len(held), near) + shared, shared) for held in sets)


def _repeated(sets: Sequence[Sequence[int]], near: float, shared: int) -> tuple[set[int], int]:
    """Return the keys that several sets have, and the number of pairs of sets with the same key."""
    keys = np.fromiter((key for held in sets for _, key in _keys(held, near, shared)), dtype=np.int64)
    found, counts = np.unique(keys, return_counts=True)
    return set(found[counts > 1].tolist()), int((counts * (counts - 1) // 2).sum())


def _candidates(sets: Sequence[Sequence[int]], near: float, shared: int, repeated: set[int]) -> Iterator[set[int]]:
    """Yield for each set the earlier sets that may be similar."""
    # For each key, the sets by their number of words from its first word on, and their number of words.
    seen: defaultdict[int, defaultdict[tuple[int, int], list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, held in enumerate(sets):
        size, others = len(held), set[int]()
        for left, key in _keys(held, near, shared):
            if key not in repeated:
                continue
            for (other_left, other_size), rows in seen[key].items():
                if min(left, other_left) >= near / (1 + near) * (size + other_size) - 1e-9:
                    others.update(rows)
            seen[key][left, size].append(place)
        others.discard(place)  # two of its keys can have the same hash
        yield others


def _similar(
    sets: Sequence[Sequence[int]], wholes: Sequence[str], place: int, others: set[int], near: float
) -> Iterator[Pair]:
    held = set(sets[place])
    for other in sorted(others):
        if wholes[other] != wholes[place]:
            common = len(held.intersection(sets[other]))
            similarity = common / (len(held) + len(sets[other]) - common)
            if similarity >= near:
                yield Pair(other, place, similarity)
