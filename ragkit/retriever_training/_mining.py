"""Mining of hard negatives: retrieved passages that are not judged relevant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING

from ragkit.errors import EmptyPoolError, InvalidInputError
from ragkit.evaluation._trec import Qrels
from ragkit.finetuning._settings import check_whole
from ragkit.index import Index
from ragkit.retriever_training._rows import TrainingPair
from ragkit.retrievers._dense import DenseRetriever

if TYPE_CHECKING:
    from ragkit.protocols import Retriever
    from ragkit.records import Hit

_BATCH = 256  # queries per batch


def mine_hard_negatives(
    index: Index,
    queries: Mapping[str, str],
    qrels: Qrels,
    *,
    retriever: Retriever | None = None,
    negatives: int = 1,
    skip: int = 0,
    margin: float = 0.05,
    fetch_k: int = 50,
    seed: int = 0,
) -> list[TrainingPair]:
    """Create training pairs from judged queries, with retrieved passages that are not relevant as negatives.

    Relevance judgements are never complete, so the best hits may be relevant even if they are not judged. Two rules
    reduce such false negatives: the first ``skip`` hits that are not judged relevant are skipped, and so are hits whose
    score is greater than the score of the pair's passage minus the fraction ``margin`` of it (Moreira et al.,
    NV-Retriever, arXiv 2407.15831, keep hits below 95% of it). If the passage is not among the hits, only ``skip``
    applies. If too few hits remain, passages are sampled at random from the index.

    Args:
        index: Index of the passages.
        queries: Query texts by id.
        qrels: Relevance grades by query and document; grades above 0 are relevant. Queries without judgements are
            skipped.
        retriever: Retriever of the candidates; dense retrieval from the index if None.
        negatives: Number of negatives per pair, at least 1.
        skip: Number of top candidates to skip.
        margin: Fraction of the passage's score, from 0 to 1; scores other than cosine similarities may need another
            value.
        fetch_k: Number of hits to retrieve per query.
        seed: Seed for the random passages.

    Returns:
        A pair for each query and each of its relevant passages, in the order of the judgements.

    Raises:
        EmptyPoolError: If no query has a relevant passage.
        InvalidInputError: If an argument is out of range, a judgement refers to a query or a passage that does not
            exist, or the index is too small.

    Examples:
        >>> index = Index.create(None, embedder="hash:256")
        >>> ids = index.add(["dim the lamp", "dim the red lamp", "play a song"])
        >>> mine_hard_negatives(index, {"q": "dim the lamp"}, {"q": {ids[0]: 1}})[0].negatives
        ('dim the red lamp',)
        >>> index.close()
    """
    check_whole(1, negatives=negatives, fetch_k=fetch_k)
    check_whole(0, skip=skip)
    if not 0 <= margin <= 1:
        raise InvalidInputError(f"`margin` must be from 0 to 1, got {margin!r}")
    relevant = _relevant(queries, qrels)
    named = {passage for passages in relevant.values() for passage in passages}
    texts = {document.id: document.text for document in index.get(named)}
    for query, passages in relevant.items():
        for passage in passages:
            if passage not in texts:
                raise InvalidInputError(
                    f"query {query!r} names passage {passage!r}, which the index does not hold; do the ids match?"
                )
    found = hits_of(retriever or DenseRetriever(index), [queries[name] for name in relevant], fetch_k)
    rng, pairs = Random(seed), []
    for (name, passages), hits in zip(relevant.items(), found, strict=True):
        own = {texts[passage] for passage in passages}
        for passage in passages:
            mined = _mined(hits, passage, passages, own, skip=skip, margin=margin)[:negatives]
            mined += _drawn(index, {*own, *mined}, negatives - len(mined), rng)
            pairs.append(TrainingPair(queries[name], texts[passage], tuple(mined)))
    return pairs


def hits_of(retriever: Retriever, queries: Sequence[str], k: int) -> Iterator[list[Hit]]:
    """Yield the ``k`` hits of each query, retrieved in batches to limit the number of hits in memory."""
    for start in range(0, len(queries), _BATCH):
        yield from retriever.retrieve(queries[start : start + _BATCH], k)


def _mined(
    hits: Sequence[Hit], passage: str, passages: Sequence[str], own: set[str], *, skip: int, margin: float
) -> list[str]:
    """Return the distinct texts of the hits that can be negatives, hardest first."""
    score = next((hit.score for hit in hits if hit.id == passage), None)
    candidates = [hit for hit in hits if hit.id not in passages and hit.text.strip() and hit.text not in own][skip:]
    if score is not None:
        candidates = [hit for hit in candidates if hit.score <= score - margin * abs(score)]
    return list(dict.fromkeys(hit.text for hit in candidates))


def _drawn(index: Index, taken: set[str], count: int, rng: Random) -> list[str]:
    """Sample texts at random from the index, except those in ``taken``."""
    drawn: list[str] = []
    if count < 1:
        return drawn
    keys = index.keys().tolist()
    rng.shuffle(keys)
    for start in range(0, len(keys), 64):
        for document in index.get_by_keys(keys[start : start + 64]):
            if document is not None and document.text.strip() and document.text not in {*taken, *drawn}:
                drawn.append(document.text)
            if len(drawn) == count:
                return drawn
    raise InvalidInputError(
        f"the index has {len(index)} passages, too few for the negatives of a pair; lower `negatives` or add passages"
    )


def _relevant(queries: Mapping[str, str], qrels: Qrels) -> dict[str, list[str]]:
    judged = {query: [passage for passage, grade in grades.items() if grade > 0] for query, grades in qrels.items()}
    relevant = {query: passages for query, passages in judged.items() if passages}
    if not relevant:
        raise EmptyPoolError("mine_hard_negatives: no judgement is above 0, so it")
    unknown = [query for query in relevant if query not in queries]
    if unknown:
        raise InvalidInputError(
            f"{len(unknown)} judged queries have no text, the first {unknown[0]!r}; give all of them in `queries`"
        )
    return relevant
