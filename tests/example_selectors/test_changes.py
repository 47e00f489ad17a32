"""A pool that changes chooses what a fresh one would; compiled code chooses what numpy does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit._lexical import postings, scorer, tie_breaking
from ragkit.errors import InvalidInputError
from ragkit.records import Example
from ragkit_selectors import (
    BM25Selector,
    ContainmentSelector,
    EmbeddingSelector,
    FixedSelector,
    HybridSelector,
    JaccardSelector,
    NgramSelector,
    RandomSelector,
    TfidfSelector,
    pool,
)

LEXICAL = {
    "jaccard": JaccardSelector,
    "split": lambda examples: JaccardSelector(examples, mode="split"),
    "containment": ContainmentSelector,
    "bm25": BM25Selector,
    "bm25 flat": lambda examples: BM25Selector(examples, k1=0, b=1),
    "tfidf": TfidfSelector,
    "tfidf char": lambda examples: TfidfSelector(examples, grams=("char", 2, 3), sublinear=True),
    "ngram": NgramSelector,
}
ALL = {
    **LEXICAL,
    "embedding": lambda examples: EmbeddingSelector(examples, embedder="hash:16"),
    "hybrid": lambda examples: HybridSelector(examples, {"bm25": 1, "embedding": 2}, embedder="hash:16", depth=3),
    "random": RandomSelector,
    "fixed": FixedSelector,
}
WORD = st.sampled_from(["a", "b", "c", "d", "lamp", "Lamp", "b,", "ß", "", "?", "🙂", "{x}"])
TEXT = st.lists(WORD, max_size=5).map(" ".join)
ADD = st.tuples(st.just("add"), st.lists(TEXT, min_size=1, max_size=6))
REMOVE = st.tuples(st.just("remove"), st.lists(st.integers(0, 60), max_size=8))
CHANGES = st.lists(st.one_of(ADD, REMOVE), max_size=8)


def chosen(selector, query, k):
    return [(hit.id, hit.score, dict(hit.why)) for hit in selector.select(query, k).hits]


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=40, deadline=None)
@given(first=st.lists(TEXT, min_size=1, max_size=12), changes=CHANGES, query=TEXT, k=st.integers(0, 6))
def test_a_changed_pool_equals_a_fresh_one(name, first, changes, query, k):
    build = ALL[name]
    with pytest.MonkeyPatch.context() as patch:
        # Small enough that merges and compactions happen within a few changes.
        patch.setattr(pool, "_COMPACT_FROM", 4)
        patch.setattr(postings, "_TAIL", 8)
        kept = {f"e{place}": text for place, text in enumerate(first)}
        selector = build([Example(text, "out", id=own) for own, text in kept.items()])
        serial = len(kept)
        for what, values in changes:
            selector.select(query, 1)  # fills what is kept between calls
            if what == "add":
                new = {f"e{serial + place}": text for place, text in enumerate(values)}
                serial += len(new)
                assert selector.add([Example(text, "out", id=own) for own, text in new.items()]) == list(new)
                kept |= new
            else:
                names = {f"e{number}" for number in values} & kept.keys()
                if len(names) < len(kept):
                    assert selector.remove([*sorted(names), "nobody"]) == len(names)
                    kept = {own: text for own, text in kept.items() if own not in names}
        fresh = build([Example(text, "out", id=own) for own, text in kept.items()])
        assert len(selector) == len(fresh) == len(kept)
        k = min(k, len(kept))
        assert chosen(selector, query, k) == chosen(fresh, query, k)
        some = list(kept)[: len(kept) - k]
        left = [hit.id for hit in selector.select(query, k, exclude=some).hits]
        assert left == [hit.id for hit in fresh.select(query, k, exclude=some).hits]


@pytest.mark.parametrize("name", [name for name in LEXICAL if name != "ngram"])
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXT, min_size=1, max_size=300), queries=st.lists(TEXT, min_size=1, max_size=70), data=st.data())
def test_compiled_code_equals_numpy(name, texts, queries, data):
    assert scorer.load_kernels() is not None
    selector = LEXICAL[name]([Example(text, "out") for text in texts])
    k = data.draw(st.integers(1, min(9, len(texts))))
    exclude = [str(row) for row in data.draw(st.sets(st.integers(0, len(texts) - 1), max_size=len(texts) - k))]
    plain = selector.select_many(queries, k, exclude=exclude)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scorer, "_LARGE", 0)
        selector.scorer.lists.merge()
        assert selector.select_many(queries, k, exclude=exclude) == plain
        assert [selector.select(query, k, exclude=exclude) for query in queries] == plain


@pytest.mark.parametrize("name", ["jaccard", "bm25", "tfidf"])
def test_a_large_skewed_pool_compiled_and_not(name):
    rng = np.random.default_rng(0)
    ranks = np.minimum(rng.zipf(1.3, size=(6000, 12)), 3000)  # common words that are pruned, rare ones that decide
    texts = [" ".join(f"w{rank}" for rank in row[: rng.integers(1, 13)]) for row in ranks]
    selector = LEXICAL[name]([Example(text, "out") for text in texts[:5500]])
    plain = selector._best(texts[5500:], 8, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scorer, "_LARGE", 0)
        compiled = selector._best(texts[5500:], 8, None)
    for text, slow, fast in zip(texts[5500:], plain, compiled, strict=True):
        scores = selector.scores(text)
        assert slow.rows.tolist() == fast.rows.tolist() == np.argsort(-scores, kind="stable")[:8].tolist()
        assert slow.scores.tolist() == fast.scores.tolist() == scores[slow.rows].tolist()


def test_an_error_changes_nothing():
    class Failing:
        name, fingerprint, dim, fail = "failing", "failing", 2, False

        def embed_documents(self, texts):
            if self.fail:
                raise RuntimeError("no connection")
            return np.ones((len(texts), 2), dtype=np.float32)

        embed_queries = embed_documents

    embedder = Failing()
    selector = EmbeddingSelector([Example("a", "x")], embedder=embedder)
    embedder.fail = True
    with pytest.raises(RuntimeError, match="no connection"):
        selector.add([Example("b", "x")])
    embedder.fail = False
    with pytest.raises(InvalidInputError, match=r"row 0 of the pool and examples\[1\] both have id '0'"):
        selector.add([Example("c", "x"), Example("d", "x", id="0")])
    with pytest.raises(InvalidInputError, match=r"examples\[1\]"):
        selector.add([Example("c", "x"), {"input": 3, "output": "x"}])
    assert len(selector) == 1
    assert selector.add([]) == []
    assert selector.add([{"input": "b", "output": "y"}]) == ["1"]
    assert [hit.id for hit in selector.select("b", 2).hits] == ["0", "1"]


def test_remove_refuses_what_cannot_be_meant():
    selector = JaccardSelector([Example("a", "x"), Example("b", "y")])
    with pytest.raises(InvalidInputError, match="`ids`"):
        selector.remove("01")
    with pytest.raises(InvalidInputError, match="every example would be removed"):
        selector.remove(["0", "1"])
    assert len(selector) == 2
    assert selector.remove(["0", "0", "7"]) == 1
    assert selector.add([Example("c", "z")]) == ["2"]  # an id is never given twice


def test_ids_are_not_given_again_where_the_rest_moved_up():
    selector = BM25Selector([Example(f"dim {n}", "x") for n in range(90)])
    selector.remove([str(n) for n in range(70)])
    assert len(selector.pool.entries) == 20
    assert selector.add([Example("dim the lamp", "x")]) == ["90"]
    assert selector.add([Example("dim the lamp", "x")]) == ["91"]


def test_a_selection_does_not_change_with_the_pool():
    selector = BM25Selector([Example("dim the lamp", "x"), Example("dim", "y")])
    selection = selector.select("dim", 2)
    selector.add([Example("dim dim", "z")])
    selector.remove(["0"])
    assert [(hit.id, hit.text, hit.why["matched"]) for hit in selection.hits] == [
        ("1", "dim", ["dim"]),
        ("0", "dim the lamp", ["dim"]),
    ]


def test_selectors_that_share_a_pool_change_together():
    shared = pool.Pool([Example(f"dim lamp {n}", "x") for n in range(3)])
    first, second = EmbeddingSelector(shared, embedder="hash:32"), EmbeddingSelector(shared, embedder="hash:16")
    assert first.add([Example("open the door", "y")]) == ["3"]
    for selector in (first, second):
        assert selector.select("open the door", 1)[0].output == "y"
        assert selector.vectors().shape[0] == 4


def test_the_rule_for_equal_scores_is_one_function(monkeypatch):
    rows, scores = np.arange(100), np.repeat([2.0, 1.0], 50)
    assert tie_breaking.top_k(rows, scores, 3).rows.tolist() == [0, 1, 2]
    monkeypatch.setattr(tie_breaking, "tie_break", lambda row: -row)
    assert tie_breaking.top_k(rows, scores, 3).rows.tolist() == [49, 48, 47]
