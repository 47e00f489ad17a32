"""TF-IDF, n-grams, containment, BM25 and fusion against independent code."""

from fractions import Fraction

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from rank_bm25 import BM25Okapi
from sklearn.feature_extraction.text import TfidfVectorizer

from ragkit._text import normalised, words
from ragkit.errors import InvalidInputError, UnknownSpecError
from ragkit.records import Example
from ragkit_selectors import (
    BM25Selector,
    ContainmentSelector,
    HybridSelector,
    NgramSelector,
    TfidfSelector,
    load_selector,
)

WORD = st.sampled_from(["a", "b", "c", "lamp", "Lamp", "lamps", "b,", "ß", "", "?", "x\ny", "dim"])
TEXT = st.lists(WORD, max_size=9).map(" ".join)
POOL = st.lists(TEXT, min_size=1, max_size=25)


def pool_of(texts):
    return [Example(text, "out") for text in texts]


@settings(max_examples=150, deadline=None)
@given(
    texts=POOL,
    query=TEXT,
    grams=st.sampled_from([("word", 1, 1), ("word", 1, 2), ("word", 2, 3), ("char", 3, 5), ("char", 1, 2)]),
    sublinear=st.booleans(),
)
def test_tfidf_equals_scikit_learn(texts, query, grams, sublinear):
    analyzer, low, high = grams
    vectorizer = TfidfVectorizer(
        analyzer="word" if analyzer == "word" else "char_wb",
        ngram_range=(low, high),
        preprocessor=normalised,
        token_pattern=r"\w+" if analyzer == "word" else None,
        sublinear_tf=sublinear,
    )
    try:
        expected = (vectorizer.fit_transform(texts) @ vectorizer.transform([query]).T).toarray()[:, 0]
    except ValueError:  # no token in the whole pool
        expected = np.zeros(len(texts))
    selector = TfidfSelector(pool_of(texts), grams=grams, sublinear=sublinear)
    assert selector.scores(query) == pytest.approx(expected, abs=1e-8)
    found = [int(hit.id) for hit in selector.select(query, len(texts)).hits]
    assert found == np.argsort(-selector.scores(query), kind="stable").tolist()


def naive_bleu(query, text):
    """The definition, written out: clipped precisions of 1 to 4 words, a tenth of a match for none."""
    hypothesis, reference = query.split(), text.split()
    if not hypothesis or not set(hypothesis) & set(reference):
        return 0.0
    logs = []
    for size in range(1, 5):
        mine = [tuple(hypothesis[at : at + size]) for at in range(len(hypothesis) - size + 1)]
        theirs = [tuple(reference[at : at + size]) for at in range(len(reference) - size + 1)]
        matched = sum(min(mine.count(run), theirs.count(run)) for run in set(mine))
        logs.append(np.log(float(Fraction(matched, max(1, len(mine)))) if matched else 0.1 / max(1, len(mine))))
    most = min(4, len(hypothesis))
    penalty = 1.0 if len(hypothesis) > len(reference) else np.exp(1 - len(reference) / len(hypothesis))
    return float(penalty * np.exp(sum(logs[:most]) / most))


@settings(max_examples=150, deadline=None)
@given(texts=POOL, query=TEXT)
def test_ngram_equals_the_definition(texts, query):
    scores = NgramSelector(pool_of(texts)).scores(query)
    assert scores == pytest.approx([naive_bleu(query, text) for text in texts], abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(texts=POOL, query=TEXT, k=st.integers(1, 8))
def test_ngram_equals_nltk(texts, query, k):
    method = SmoothingFunction().method1
    expected = [
        float(sentence_bleu([text.split()], query.split(), smoothing_function=method, auto_reweigh=True))
        for text in texts
    ]
    selector = NgramSelector(pool_of(texts))
    assert selector.scores(query).tolist() == expected  # to the last bit, so that ties are the same
    k = min(k, len(texts))
    order = sorted(range(len(texts)), key=lambda row: (-expected[row], row))[:k]
    assert [int(hit.id) for hit in selector.select(query, k).hits] == order


@settings(max_examples=100, deadline=None)
@given(texts=POOL, query=TEXT, k=st.integers(1, 8))
def test_containment_equals_the_naive_loop(texts, query, k):
    asked = set(words(query))
    expected = [len(asked & set(words(text))) / len(asked) if asked else 0.0 for text in texts]
    k = min(k, len(texts))
    hits = ContainmentSelector(pool_of(texts)).select(query, k).hits
    assert [int(hit.id) for hit in hits] == sorted(range(len(texts)), key=lambda row: (-expected[row], row))[:k]
    assert [hit.score for hit in hits] == [expected[int(hit.id)] for hit in hits]


SENTENCES = [f"{verb} the {thing} in the {room} {n % 3}" for n, (verb, thing, room) in enumerate(
    (verb, thing, room)
    for verb in ("dim", "open", "close", "lock") for thing in ("lamp", "door", "blind") for room in ("hall", "attic")
)]  # fmt: skip


def test_bm25_equals_bm25s():
    index = bm25s.BM25(method="lucene", k1=1.2, b=0.75, dtype="float64")
    index.index([words(text) for text in SENTENCES], show_progress=False)
    selector = BM25Selector(pool_of(SENTENCES), analyzer=None)
    for query in ("open the door in the hall", "lock lock lamp", "1 attic"):
        asked = list(dict.fromkeys(words(query)))
        assert selector.scores(query) == pytest.approx(index.get_scores(asked).astype(float), abs=1e-6)


def test_bm25_ranks_rare_words_as_rank_bm25_does():
    # Okapi's other idf gives other values, but for words rarer than half the pool the same order.
    okapi = BM25Okapi([words(text) for text in SENTENCES])
    for query in ("open door", "lock blind", "blind"):
        expected = np.argsort(-okapi.get_scores(words(query)).round(9), kind="stable")[:4]
        hits = BM25Selector(pool_of(SENTENCES), k1=1.5, analyzer=None).select(query, 4).hits
        assert [int(hit.id) for hit in hits] == expected.tolist()


@pytest.mark.parametrize("fusion", ["rrf", "weighted"])
def test_hybrid_equals_the_formula(fusion):
    query, depth, weights = "open the lamp in the hall", 5, {"bm25": 1.0, "jaccard": 0.5, "embedding": 2.0}
    hybrid = HybridSelector(pool_of(SENTENCES), weights, embedder="hash:64", fusion=fusion, depth=depth)
    total = np.zeros(len(SENTENCES))
    for name, weight in weights.items():
        hits = load_selector(name, pool_of(SENTENCES), embedder="hash:64").select(query, depth).hits
        scores = [hit.score for hit in hits]
        for hit in hits:
            spread = (hit.score - min(scores)) / (max(scores) - min(scores)) if max(scores) > min(scores) else 1.0
            total[int(hit.id)] += weight * (1 / (60 + hit.rank) if fusion == "rrf" else spread)
    order = np.argsort(-total.round(9), kind="stable")
    hits = hybrid.select(query, len(SENTENCES)).hits
    assert [int(hit.id) for hit in hits] == order.tolist()
    assert [hit.score for hit in hits] == pytest.approx(total[order].tolist(), abs=1e-6)
    assert hits[0].why["bm25"] == load_selector("bm25", pool_of(SENTENCES)).scores(query)[int(hits[0].id)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": {}}, "`weights`"),
        ({"weights": {"bm25": 0}}, "`weights`"),
        ({"weights": {"hybrid": 1}}, "`weights`"),
        ({"fusion": "sum"}, "`fusion` must be one of"),
        ({"depth": 0}, "`depth`"),
    ],
)
def test_bad_hybrid_arguments(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        HybridSelector(pool_of(SENTENCES), **({"weights": {"bm25": 1}} | arguments))
    with pytest.raises(UnknownSpecError, match="Did you mean 'bm25'"):
        HybridSelector(pool_of(SENTENCES), {"bm52": 1})


@pytest.mark.parametrize("grams", [("letter", 1, 2), ("word", 0, 2), ("word", 3, 2)])
def test_bad_grams(grams):
    with pytest.raises(InvalidInputError, match="`grams`"):
        TfidfSelector(pool_of(SENTENCES), grams=grams)
