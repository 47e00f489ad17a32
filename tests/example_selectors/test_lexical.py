"""Jaccard and BM25 against plain Python, by id, order and value."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit._text import words
from ragkit.records import Example
from ragkit_selectors import BM25Selector, JaccardSelector, PoolSelector

WORD = st.sampled_from(["a", "b", "c", "A", "lamp", "b,", "ß", "", "?", "{x}", "🙂", "x\ny"])
TEXT = st.lists(WORD, max_size=6).map(" ".join)
POOL = st.lists(TEXT, min_size=1, max_size=25)


def pool_of(texts: list[str]):
    return [Example(text, "out") for text in texts]


def naive_jaccard(texts: list[str], query: str, mode: Literal["folded", "split"]):
    def as_set(text: str):
        return set(text.split(" ")) if mode == "split" else set(words(text))

    asked = as_set(query)
    scores = []
    for text in texts:
        union = asked | as_set(text)
        scores.append(len(asked & as_set(text)) / len(union) if union else 0.0)
    return scores


def naive_bm25(texts: list[str], query: str, k1: float = 1.2, b: float = 0.75):
    docs = [words(text) for text in texts]
    n, mean = len(docs), sum(map(len, docs)) / len(docs)
    scores = []
    for doc in docs:
        total = 0.0
        for word in dict.fromkeys(words(query)):  # a repeated word counts once
            tf, df = doc.count(word), sum(word in other for other in docs)
            if tf:
                idf = math.log(1 + (n - df + 0.5) / (df + 0.5))
                total += idf * tf / (tf + k1 * (1 - b + b * len(doc) / mean))
        scores.append(total)
    return scores


def naive_order(scores: list[float], k: int):
    return sorted(range(len(scores)), key=lambda row: (-scores[row], row))[:k]


@settings(max_examples=200, deadline=None)
@given(texts=POOL, query=TEXT, mode=st.sampled_from(["folded", "split"]), data=st.data())
def test_jaccard_equals_the_naive_loop(
    texts: list[str], query: str, mode: Literal["folded", "split"], data: st.DataObject
):
    k = data.draw(st.integers(0, len(texts)))
    expected = naive_jaccard(texts, query, mode)
    selection = JaccardSelector(pool_of(texts), mode=mode).select(query, k)
    order = naive_order(expected, k)
    assert [hit.id for hit in selection.hits] == [str(row) for row in order]
    assert [hit.score for hit in selection.hits] == [expected[row] for row in order]
    assert [example.input for example in selection] == [texts[row] for row in order]
    assert [hit.rank for hit in selection.hits] == list(range(1, k + 1))


@settings(max_examples=200, deadline=None)
@given(
    texts=POOL,
    query=TEXT,
    k1=st.sampled_from([0, 0.9, 1.5]),
    b=st.sampled_from([0, 0.75, 1.0]),
    data=st.data(),
)
def test_bm25_equals_the_formula(texts: list[str], query: str, k1: float, b: float, data: st.DataObject):
    k = data.draw(st.integers(0, len(texts)))
    expected = naive_bm25(texts, query, k1, b)
    selector = BM25Selector(pool_of(texts), k1=k1, b=b, analyzer=None)
    assert selector.scores(query) == pytest.approx(expected, abs=2e-9)
    order = naive_order([round(score, 9) for score in expected], k)
    assert [hit.id for hit in selector.select(query, k).hits] == [str(row) for row in order]


@pytest.mark.parametrize("pair", [["x y z", "u v w"], ["u v w", "x y z"]])
def test_bm25_ties_do_not_depend_on_the_order_of_addition(pair: list[str]):
    # u is as rare as x, v as y, w as z; but the query adds the two examples' parts up in opposite orders.
    others = ["y v o", *["z w o"] * 9, *["o o o"] * 8]  # sizes at which float64 sums differ
    assert [hit.id for hit in BM25Selector(pool_of([*pair, *others])).select("x y z w v u", 2).hits] == ["0", "1"]


def test_bm25_known_value():
    hit = BM25Selector(pool_of(["dim the lamp"])).select("lamp", k=1).hits[0]
    assert hit.score == pytest.approx(math.log(4 / 3) / 2.2, abs=1e-9)
    assert hit.why == {"matched": ["lamp"], "bm25": hit.score}


@pytest.mark.parametrize("texts", [["", "?!"], ["", "lamp"], ["lamp"], ["x " * 3000]])
@pytest.mark.parametrize("query", ["", "?!", "unknown", "lamp"])
def test_bm25_where_words_are_missing(texts: list[str], query: str):
    assert BM25Selector(pool_of(texts)).scores(query) == pytest.approx(
        naive_bm25(texts, query) if any(words(text) for text in texts) else [0.0] * len(texts), abs=2e-9
    )


def test_jaccard_says_why():
    hit = JaccardSelector(pool_of(["The lamp, please", "x"])).select("please dim THE zz", k=1).hits[0]
    assert hit.why == {"matched": ["please", "the"], "jaccard": 2 / 5}
    split = JaccardSelector(pool_of(["The lamp, please", "x"]), mode="split").select("please dim THE zz", k=1).hits[0]
    assert split.why == {"matched": ["please"], "jaccard": 1 / 6}


def test_jaccard_of_nothing():
    assert JaccardSelector(pool_of([""])).scores("").tolist() == [0.0]
    assert JaccardSelector(pool_of([""]), mode="split").scores("").tolist() == [1.0]


def banking77():
    root = Path(__file__).parents[2]
    path = Path(os.environ.get("RAGKIT_DATA", root / ".." / "shared" / "data")) / "classification" / "banking77.jsonl"
    if not path.exists():
        pytest.skip(f"no {path}; set RAGKIT_DATA to the folder of test data")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    by_split = {name: [row for row in rows if row["split"] == name] for name in ("train", "test")}
    return by_split["train"], by_split["test"][::3]


@pytest.mark.parametrize(
    ("build", "floor"),
    [
        (BM25Selector, 0.95),
        (JaccardSelector, 0.93),
        (lambda pool: JaccardSelector(pool, mode="split"), 0.89),
    ],
    ids=["bm25", "jaccard", "jaccard-split"],
)
def test_gold_label_among_eight_on_banking77(
    build: Callable[..., PoolSelector], floor: float, record_property: Callable[[str, object], None]
):
    train, test = banking77()
    selections = build(train).select_many([row["input"] for row in test], k=8)
    found = sum(row["output"] in {e.output for e in chosen} for row, chosen in zip(test, selections, strict=True))
    record_property("recall", found / len(test))
    assert found / len(test) >= floor
    assert found / len(test) < 0.97  # more would mean that test rows stand in the pool
