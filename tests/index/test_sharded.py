"""Several indexes give the answers of one, ties included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit import Document, Index
from ragkit.errors import IntegrityError, InvalidInputError
from ragkit.index import ShardedIndex

DIM = 3
# Small whole numbers: products are exact, and most of them are tied.
vectors = st.lists(st.integers(-2, 2), min_size=DIM, max_size=DIM)
rows = st.lists(st.tuples(vectors, st.integers(0, 2)), max_size=24)


@settings(max_examples=120, deadline=None)
@given(
    rows=rows,
    cuts=st.lists(st.integers(0, 24), max_size=3),
    queries=st.lists(vectors, min_size=1, max_size=6),
    k=st.integers(0, 30),
    metric=st.sampled_from(["ip", "l2", "cosine"]),
    where=st.sampled_from([None, {"n": 1}, {"n": {"$gte": 1}}, {"n": 9}]),
    gone=st.sets(st.integers(0, 23), max_size=5),
)
def test_shards_answer_as_one_index(rows, cuts, queries, k, metric, where, gone):
    documents = [Document(f"text {place}", id=f"d{place}", metadata={"n": n}) for place, (_, n) in enumerate(rows)]
    held = np.array([vector for vector, _ in rows], dtype=np.float32).reshape(-1, DIM)
    removed = [f"d{place}" for place in gone]
    borders = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    whole = Index.create(None, embedder=None, dim=DIM, metric=metric)
    parts = [Index.create(None, embedder=None, dim=DIM, metric=metric) for _ in borders[1:]]
    whole.add(documents, vectors=held)
    whole.delete(removed)
    for part, start, stop in zip(parts, borders, borders[1:], strict=False):
        part.add(documents[start:stop], vectors=held[start:stop])
        part.delete(removed)
    asked = np.array(queries, dtype=np.float32)
    with whole, ShardedIndex(parts) as sharded:
        scores, keys = whole.search_vectors(asked, k, where=where)
        found_scores, found_keys = sharded.search_vectors(asked, k, where=where)
        assert np.array_equal(found_scores, scores)
        assert sharded.get_by_keys(found_keys) == whole.get_by_keys(keys)
        names = [f"d{n}" for n in (*range(24), 3)]
        assert sharded.get(names) == whole.get(names)
        assert len(sharded) == len(whole)
        sharded.verify()


TEXTS = [f"{verb} the {thing}" for verb in ("dim", "find", "play", "dim") for thing in ("lamp", "song", "lamp")]


def test_folders_are_opened_and_texts_are_found(tmp_path):
    documents = [Document(text, id=f"d{n}", metadata={"n": n}) for n, text in enumerate(TEXTS)]
    with Index.create(tmp_path / "whole", embedder="hash:64") as whole:
        whole.add(documents)
        for number, start in enumerate((0, 5, 9)):
            with Index.create(tmp_path / str(number), embedder="hash:64") as part:
                part.add(documents[start : (5, 9, 12)[number]])
        with ShardedIndex.open([tmp_path / "0", tmp_path / "1", tmp_path / "2"]) as sharded:
            for k in (1, 4, 20):
                for where in (None, {"n": {"$lt": 7}}):
                    asked = ["dim the lamp", "a song", "", "zebra"]
                    found, expected = sharded.search(asked, k, where=where), whole.search(asked, k, where=where)
                    assert found == expected
            assert sharded.search("dim the lamp", 2) == whole.search("dim the lamp", 2)
            assert sharded.search([]) == []


def test_what_does_not_go_together_is_refused(tmp_path):
    for name, size in (("a", 8), ("b", 16)):
        Index.create(tmp_path / name, embedder=f"hash:{size}").close()
    with pytest.raises(InvalidInputError, match=r"has dim 8, but .*b has 16"):
        ShardedIndex.open([tmp_path / "a", tmp_path / "b"])
    with Index.create(tmp_path / "c", embedder="hash:8", metric="ip"):
        pass
    with pytest.raises(InvalidInputError, match=r"has metric 'cosine', but .*c has 'ip'"):
        ShardedIndex.open([tmp_path / "a", tmp_path / "c"])
    with pytest.raises(InvalidInputError, match="holds no index"):
        ShardedIndex.open([tmp_path / "a", tmp_path / "nowhere"])
    with pytest.raises(InvalidInputError, match="`shards` is empty"):
        ShardedIndex([])


def test_an_id_in_two_shards_is_told():
    parts = [Index.create(None, embedder="hash:8") for _ in range(2)]
    for part in parts:
        part.add([Document("lamp", id="a")])
    with ShardedIndex(parts) as sharded:
        with pytest.raises(IntegrityError, match="'a' is the id of documents in several shards"):
            sharded.search("lamp")
        with pytest.raises(IntegrityError, match="'a' is the id of a document in"):
            sharded.verify()


def test_hits_know_their_place_as_those_of_one_index():
    piece = Document("lamp", id="a", metadata={"source": "s", "start": 3, "end": 7})
    with Index.create(None, embedder="hash:16") as whole, Index.create(None, embedder="hash:16") as part:
        whole.add([piece])
        part.add([piece])
        assert ShardedIndex([part]).search("lamp") == whole.search("lamp")
        assert ShardedIndex([part]).search("lamp")[0].span == (3, 7)
        for call in (ShardedIndex([part]).search, ShardedIndex([part]).get):
            with pytest.raises(InvalidInputError, match="must be a text, got int"):
                call([1])
