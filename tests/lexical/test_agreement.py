"""Selectors and retrievers score alike: the same ids, order and scores on the same texts, also after changes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit import BM25Retriever, BM25Selector, Document, Example, Index
from ragkit._lexical import postings, scorer
from ragkit.retrievers import _bm25 as bm25
from ragkit_selectors import pool

WORD = st.sampled_from(
    ["lamp", "lamps", "Lamp", "dim", "dimmed", "the", "a", "b", "cafe\u0301", "café", "东京", "京", "?"]
)
TEXT = st.lists(WORD, max_size=7).map(" ".join)
ADD = st.tuples(st.just("add"), st.lists(TEXT, min_size=1, max_size=6))
REMOVE = st.tuples(st.just("remove"), st.lists(st.integers(0, 40), max_size=6))
SETTINGS = [
    {},
    {"k1": 0.6, "b": 1.0, "analyzer": None},
    {"k1": 0, "b": 0, "analyzer": "german"},
    {"analyzer": str.split},
]


def selected(selector, query, k, exclude=()):
    return [(hit.id, hit.score) for hit in selector.select(query, k, exclude=exclude).hits if hit.score > 0]


def retrieved(retriever, query, k, where=None):
    return [(hit.id, hit.score) for hit in retriever.retrieve(query, k, where=where)]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("arguments", SETTINGS, ids=str)
@settings(max_examples=25, deadline=None)
@given(
    first=st.lists(TEXT, min_size=1, max_size=12),
    changes=st.lists(st.one_of(ADD, REMOVE), max_size=6),
    query=TEXT,
    k=st.integers(1, 9),
)
def test_a_selector_and_a_retriever_give_the_same(arguments, compiled, first, changes, query, k):
    with pytest.MonkeyPatch.context() as patch:
        # Small enough that lists are merged and compacted within a few changes.
        patch.setattr(pool, "_COMPACT_FROM", 4)
        patch.setattr(bm25, "_LOOSE", 0)
        patch.setattr(postings, "_TAIL", 8)
        patch.setattr(scorer, "_LARGE", 0 if compiled else 10**9)
        kept = {f"e{place}": text for place, text in enumerate(first)}
        selector = BM25Selector([Example(text, "", id=own) for own, text in kept.items()], **arguments)
        retriever = BM25Retriever([Document(text, id=own) for own, text in kept.items()], **arguments)
        serial = len(kept)
        for what, values in changes:
            selected(selector, query, 1), retrieved(retriever, query, 1)  # fills what is cached between calls
            if what == "add":
                new = {f"e{serial + place}": text for place, text in enumerate(values)}
                serial += len(new)
                selector.add([Example(text, "", id=own) for own, text in new.items()])
                retriever.add([Document(text, id=own) for own, text in new.items()])
                kept |= new
            else:
                names = sorted({f"e{number}" for number in values} & kept.keys())
                if len(names) < len(kept):
                    assert selector.remove(names) == retriever.delete(names) == len(names)
                    kept = {own: text for own, text in kept.items() if own not in names}
        k = min(k, len(kept))
        expected = retrieved(retriever, query, k)
        assert selected(selector, query, k) == expected
        fresh = BM25Retriever([Document(text, id=own) for own, text in kept.items()], **arguments)
        assert retrieved(fresh, query, k) == expected


@pytest.mark.parametrize("arguments", SETTINGS, ids=str)
def test_the_same_over_an_index_with_filters(arguments):
    texts = {f"d{n}": f"{verb} the {thing}s {n % 4}" for n, (verb, thing) in enumerate(
        (verb, thing) for verb in ("dim", "dimmed", "open", "lock") for thing in ("lamp", "door", "blind")
    )}  # fmt: skip
    metadata = {own: {"odd": n % 2 == 1} for n, own in enumerate(texts)}
    selector = BM25Selector(
        [Example(text, "", id=own, metadata=metadata[own]) for own, text in texts.items()], **arguments
    )
    with Index.create(None, embedder="hash:8") as index:
        index.add([Document(text, id=own, metadata=metadata[own]) for own, text in texts.items()])
        over_index = BM25Retriever(index, **arguments)
        in_memory = BM25Retriever(index.get(list(texts)), **arguments)
        for change in ([], ["d3", "d4"], ["d0"]):
            selector.remove(change), index.delete(change), in_memory.delete(change)
            for where in (None, {"odd": True}):
                for query in ("dim the lamps", "lock lock door 2", "the", "unknown"):
                    hits = selector.select(query, 4, where=where).hits
                    expected = [(hit.id, hit.score) for hit in hits if hit.score > 0]
                    assert retrieved(over_index, query, 4, where) == retrieved(in_memory, query, 4, where) == expected


def test_equal_scores_are_in_the_order_of_the_texts():
    texts = ["b lamp", "x", "a lamp", "c lamp", "d lamp"]
    selector = BM25Selector([Example(text, "", id=text) for text in texts])
    retriever = BM25Retriever([Document(text, id=text) for text in texts])
    assert [own for own, _ in selected(selector, "lamps", 3)] == ["b lamp", "a lamp", "c lamp"]
    assert selected(selector, "lamps", 5) == retrieved(retriever, "lamps", 10)
