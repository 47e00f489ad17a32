"""Mined negatives against a brute-force search in numpy."""

import numpy as np
import pytest
from exact_scores import exact_scores
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit import BM25Retriever, Document, Index
from ragkit.embedders import HashingEmbedder
from ragkit.errors import EmptyPoolError, InvalidInputError
from ragkit.retriever_training import TrainingPair, mine_hard_negatives

VERBS = ("dim", "light", "warm", "cool", "open", "close")
THINGS = ("lamp", "fan", "heater", "oven", "door", "window", "radio", "screen")
TEXTS = {f"d{place}": text for place, text in enumerate(f"{verb} the {thing}" for verb in VERBS for thing in THINGS)}
QUERIES = {"q0": "dim the old lamp", "q1": "open a window", "q2": "light fan"}
QRELS = {"q0": {"d0": 1, "d3": 0}, "q1": {"d37": 1, "d36": 2}, "q2": {"d9": 1}}


@pytest.fixture(scope="module")
def index():
    with Index.create(None, embedder="hash:512") as made:
        made.add([Document(text, id=name) for name, text in TEXTS.items()])
        yield made


def expected(query, passage, relevant, *, negatives, skip, margin, fetch_k):
    """Texts of the best documents by cosine that may be taken; equal scores in the order of the documents."""
    embedder, names = HashingEmbedder(512), list(TEXTS)
    vectors = embedder.embed_documents(list(TEXTS.values()))
    cosines = exact_scores(vectors, embedder.embed_queries([QUERIES[query]])[0]).astype(np.float64)
    order = np.argsort(-cosines, kind="stable")[:fetch_k]
    own = cosines[names.index(passage)] if passage in {names[at] for at in order} else np.inf
    left = [at for at in order if names[at] not in relevant][skip:]
    return [TEXTS[names[at]] for at in left if cosines[at] <= own - margin * abs(own)][:negatives]


@settings(max_examples=40, deadline=None)
@given(
    negatives=st.integers(1, 6), skip=st.integers(0, 3), margin=st.sampled_from([0.0, 0.05, 0.3, 0.9]),
    fetch_k=st.sampled_from([8, 20, 48]),
)  # fmt: skip
def test_negatives_are_those_of_a_brute_force_search(index, negatives, skip, margin, fetch_k):
    how = {"negatives": negatives, "skip": skip, "margin": margin, "fetch_k": fetch_k}
    pairs = mine_hard_negatives(index, QUERIES, QRELS, **how)
    judged = [(query, passage) for query, grades in QRELS.items() for passage, grade in grades.items() if grade]
    assert [(pair.query, pair.passage) for pair in pairs] == [(QUERIES[q], TEXTS[p]) for q, p in judged]
    for pair, (query, passage) in zip(pairs, judged, strict=True):
        relevant = {name for name, grade in QRELS[query].items() if grade}
        mined = expected(query, passage, relevant, **how)
        assert list(pair.negatives[: len(mined)]) == mined
        assert len(set(pair.negatives)) == negatives  # filled up by chance
        assert not set(pair.negatives) & {TEXTS[name] for name in relevant}


def test_another_retriever_and_chance_by_seed(index):
    found = mine_hard_negatives(index, QUERIES, QRELS, retriever=BM25Retriever(index), margin=0.0)
    hits = BM25Retriever(index).retrieve(QUERIES["q0"], 50)
    score = next(hit.score for hit in hits if hit.id == "d0")
    assert found[0].negatives == (next(hit.text for hit in hits if hit.id != "d0" and hit.score <= score),)
    drawn = [mine_hard_negatives(index, QUERIES, QRELS, margin=1.0, negatives=5, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_copy_of_the_passage_is_no_negative():
    with Index.create(None, embedder="hash:512") as index:
        index.add([Document("dim the lamp", id="a"), Document("dim the lamp", id="copy"), Document("a song", id="b")])
        assert mine_hard_negatives(index, {"q": "lamp"}, {"q": {"a": 1}}) == [
            TrainingPair("lamp", "dim the lamp", ("a song",))
        ]
        with pytest.raises(InvalidInputError, match="too few for the negatives"):
            mine_hard_negatives(index, {"q": "lamp"}, {"q": {"a": 1}}, negatives=2)


@pytest.mark.parametrize(
    ("queries", "qrels", "arguments", "error", "message"),
    [
        ({}, {}, {}, EmptyPoolError, "no judgement is above 0"),
        (QUERIES, {"q0": {"d0": 0}}, {}, EmptyPoolError, "no judgement is above 0"),
        (QUERIES, {"q9": {"d0": 1}}, {}, InvalidInputError, "1 judged queries have no text, the first 'q9'"),
        (QUERIES, {"q0": {"d99": 1}}, {}, InvalidInputError, "names passage 'd99', which the index does not hold"),
        (QUERIES, QRELS, {"negatives": 0}, InvalidInputError, "`negatives` must be a whole number of at least 1"),
        (QUERIES, QRELS, {"skip": -1}, InvalidInputError, "`skip` must be a whole number"),
        (QUERIES, QRELS, {"margin": 2}, InvalidInputError, "`margin` must be from 0 to 1"),
        (QUERIES, QRELS, {"fetch_k": True}, InvalidInputError, "`fetch_k` must be"),
    ],
)
def test_what_makes_no_sense_is_refused(index, queries, qrels, arguments, error, message):
    with pytest.raises(error, match=message):
        mine_hard_negatives(index, queries, qrels, **arguments)
