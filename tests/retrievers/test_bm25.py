"""BM25 beside bm25s and rank_bm25, in step with an index that changes, and kept in a file."""

import errno

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi

from ragkit import BM25Retriever, Document, Index
from ragkit._lexical.bm25 import BM25
from ragkit._lexical.postings import PostingLists
from ragkit._text import words
from ragkit.errors import InvalidInputError, RagkitWarning

WORD = st.sampled_from(["lamp", "lamps", "red", "song", "dim", "the", "a", "réd", "東京"])
TEXT = st.lists(WORD, max_size=8).map(" ".join)


def bm25s_scores(texts, query, k1, b):
    vocabulary = {word: n for n, word in enumerate(sorted({word for text in texts for word in words(text)}))}
    oracle = bm25s.BM25(k1=k1, b=b, method="lucene", dtype="float64")
    ids = [[vocabulary[word] for word in words(text)] for text in texts]
    oracle.index(bm25s.tokenization.Tokenized(ids=ids, vocab=vocabulary), show_progress=False)
    asked = [vocabulary[word] for word in dict.fromkeys(words(query)) if word in vocabulary]
    return oracle.get_scores_from_ids(asked) if asked else np.zeros(len(texts))


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(TEXT.filter(str.strip), min_size=1, max_size=12),
    query=TEXT,
    k1=st.sampled_from([0.5, 1.2, 2.0]),
    b=st.sampled_from([0.0, 0.75, 1.0]),
)
def test_scores_are_those_of_bm25s(texts, query, k1, b):
    expected = bm25s_scores(texts, query, k1, b)
    lists = PostingLists(words)
    lists.add(texts)
    assert np.allclose(BM25(lists, k1=k1, b=b).scores(query), expected, atol=1e-6)


def test_scores_are_those_of_rank_bm25_with_the_rarity_of_lucene():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice([f"w{n}" for n in range(200)], size=rng.integers(3, 12))) for _ in range(300)]
    oracle = BM25Okapi([text.split() for text in texts], k1=1.2, b=0.75)
    retriever = BM25Retriever([Document(text, id=str(n)) for n, text in enumerate(texts)], analyzer=None)
    for query in ("w3 w8", "w100 w101 w102"):
        expected = sum(
            oracle.get_scores([word]) / oracle.idf[word] / (1 + 1.2) * np.log(1 + np.exp(oracle.idf[word]))
            for word in query.split()
        )
        for hit in retriever.retrieve(query, 300):
            assert hit.score == pytest.approx(expected[int(hit.id)], abs=1e-6)


CHANGE = st.one_of(
    st.tuples(st.just("add"), st.lists(st.tuples(st.integers(0, 9), TEXT), min_size=1, max_size=5)),
    st.tuples(st.just("delete"), st.lists(st.integers(0, 9), max_size=4)),
    st.tuples(st.sampled_from(["compact", "reopen", "save"]), st.none()),
)


@settings(max_examples=30, deadline=None)
@given(changes=st.lists(CHANGE, max_size=8), query=TEXT, where=st.sampled_from([None, {"even": True}]))
def test_it_keeps_step_with_the_index(changes, query, where, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bm25") / "i"
    index = Index.create(folder, embedder="hash:8")
    retriever, model = BM25Retriever(index, analyzer=None), {}
    for kind, what in changes:
        if kind == "add":
            index.add([Document(text, id=f"d{n}", metadata={"even": n % 2 == 0}) for n, text in what])
            for n, text in what:
                if model.get(n) != text:
                    model.pop(n, None)
                model[n] = text
            retriever.retrieve("lamp")
        elif kind == "delete":
            index.delete([f"d{n}" for n in what])
            model = {n: text for n, text in model.items() if n not in what}
        elif kind == "compact":
            index.compact()
        elif kind == "save":
            retriever.retrieve("lamp")
            retriever.save()
        else:
            index.close()
            index = Index.open(folder)
            retriever = BM25Retriever(index, analyzer=None)
    fresh = BM25Retriever([Document(text, id=f"d{n}", metadata={"even": n % 2 == 0}) for n, text in model.items()],
                          analyzer=None)  # fmt: skip
    found, expected = (
        {hit.id: round(hit.score, 6) for hit in each.retrieve(query, 20, where=where)} for each in (retriever, fresh)
    )
    assert found == expected
    scores = [hit.score for hit in retriever.retrieve(query, 20, where=where)]
    assert scores == sorted(scores, reverse=True)
    index.close()


def test_the_lists_are_read_from_their_file(tmp_path, monkeypatch):
    with Index.create(tmp_path / "i", embedder="hash:8") as index:
        index.add([Document(f"lamp number {n}", id=str(n)) for n in range(50)])
        expected = BM25Retriever(index).retrieve("number 7", 3)
    assert list((tmp_path / "i").glob("bm25-*.npz"))

    def never(*_):
        raise AssertionError("texts were read again")

    with Index.open(tmp_path / "i", read_only=True) as index:
        monkeypatch.setattr(PostingLists, "add", never)
        assert BM25Retriever(index).retrieve("number 7", 3) == expected


def test_a_damaged_file_is_made_again(tmp_path):
    with Index.create(tmp_path / "i", embedder="hash:8") as index:
        index.add(["a lamp", "a song"])
        expected = BM25Retriever(index).retrieve("lamp")
        (file,) = (tmp_path / "i").glob("bm25-*.npz")
        whole = file.read_bytes()
        for broken in (b"", whole[:100], whole[: len(whole) // 2] + b"\0" * 40 + whole[len(whole) // 2 + 40 :]):
            file.write_bytes(broken)
            assert BM25Retriever(index).retrieve("lamp") == expected
        index.verify()


def test_documents_of_its_own():
    retriever = BM25Retriever(["a red lamp", Document("a song", id="s")])
    assert retriever.add(["a blue lamp"])
    assert {hit.text for hit in retriever.retrieve("lamps")} == {"a red lamp", "a blue lamp"}
    assert retriever.delete(["s", "nobody"]) == 1
    assert retriever.retrieve("song") == []
    assert BM25Retriever([]).retrieve("song") == []


@pytest.mark.parametrize("arguments", [{"k1": -1}, {"k1": float("nan")}, {"b": 1.1}, {"b": -0.1}])
def test_numbers_out_of_range_are_refused(arguments):
    with pytest.raises(InvalidInputError, match=f"`{next(iter(arguments))}` must be"):
        BM25Retriever([], **arguments)


def test_a_cache_that_cannot_be_written_is_no_reason_not_to_answer(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with Index.create(tmp_path / "i", embedder=None, dim=1, metric="ip") as index:
        retriever = BM25Retriever(index)
        index.add(["a lamp", "a song"], vectors=np.zeros((2, 1)))
        monkeypatch.setattr(np, "savez", full)
        with pytest.warns(RagkitWarning, match="the BM25 cache could not be written"):
            assert [hit.text for hit in retriever.retrieve("lamp")] == ["a lamp"]
        assert [hit.text for hit in retriever.retrieve("song")] == ["a song"]  # and says so once
        with pytest.raises(OSError, match="No space left"):
            retriever.save()
        assert not [path for path in index.path.iterdir() if path.name.startswith("bm25")]
        monkeypatch.undo()
        retriever.save()
        assert [path.suffix for path in index.path.iterdir() if path.name.startswith("bm25")] == [".npz"]


def test_whoever_reads_the_index_reads_its_cache(tmp_path):
    with Index.create(tmp_path / "i", embedder="hash:8") as index:
        index.add(["dim the lamp", "open the door"])
        BM25Retriever(index).retrieve("lamp", 1)
    modes = {path.name: path.stat().st_mode for path in (tmp_path / "i").iterdir()}
    (cache,) = (name for name in modes if name.startswith("bm25"))
    assert modes[cache] == modes["index.sqlite"]
