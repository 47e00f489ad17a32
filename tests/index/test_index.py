"""An index against a dictionary and brute force; what it refuses; what it says."""

import errno
import json
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import numpy as np
import pytest
from exact_scores import exact_order, exact_scores
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document as LangChainDocument

from ragkit import Document, Index
from ragkit.embedders._hashing import HashingEmbedder
from ragkit.errors import IndexLockedError, IntegrityError, InvalidInputError, RecallWarning
from ragkit.index import _exact as exact
from ragkit.index import _lock as lock
from ragkit.index import _store as store
from ragkit.where import matches, parse_where

WORD = st.sampled_from(["a", "b", "lamp", "song", "dim", "é", ""])
TEXT = st.lists(WORD, max_size=4).map(" ".join)
METADATA = st.dictionaries(
    st.sampled_from(["lang", "n"]), st.one_of(st.sampled_from(["en", "fr"]), st.integers(0, 3)), max_size=2
)
IDS = st.sampled_from([f"i{n}" for n in range(9)])
ADD = st.tuples(st.just("add"), st.lists(st.tuples(IDS, TEXT, METADATA), min_size=1, max_size=6))
DELETE = st.tuples(st.just("delete"), st.lists(IDS, max_size=4))
OTHER = st.tuples(st.sampled_from(["compact", "reopen", "index_field"]), st.none())
WHERE = st.sampled_from(
    [
        None,
        {"lang": "en"},
        {"n": {"$gte": 1}},
        {"$or": [{"lang": "fr"}, {"n": {"$exists": False}}]},
        {"lang": {"$ne": "en"}},
        {"n": {"$in": []}},
    ]
)


def brute_force(model, embedder, metric, query, k, where):
    rows = [(key, own, text) for own, (key, text, metadata) in model.items()
            if where is None or matches(parse_where(where), metadata)]  # fmt: skip
    rows.sort()
    if not rows:
        return []
    vectors = embedder.embed_documents([text for _, _, text in rows])
    scores = exact_scores(vectors, embedder.embed_queries([query])[0], euclidean=metric == "l2")
    order = np.argsort(-scores, kind="stable")[:k]
    return [(rows[place][1], float(scores[place])) for place in order]


@settings(max_examples=120, deadline=None)
@given(
    changes=st.lists(st.one_of(ADD, ADD, DELETE, OTHER), max_size=8),
    metric=st.sampled_from(["cosine", "ip", "l2"]),
    query=TEXT,
    k=st.integers(0, 8),
    where=WHERE,
    batch=st.integers(1, 4),
)
def test_equals_a_dictionary_and_brute_force(tmp_path_factory, changes, metric, query, k, where, batch):
    folder = tmp_path_factory.mktemp("index") / "i"
    embedder = HashingEmbedder(32)
    index = Index.create(folder, embedder="hash:32", metric=metric)
    model, key = {}, 0
    for what, values in changes:
        if what == "add":
            documents = [Document(text, id=own, metadata=metadata) for own, text, metadata in values]
            assert index.add(documents, batch_size=batch) == [own for own, _, _ in values]
            for start in range(0, len(values), batch):
                # Of two with one id in a batch the later counts; a changed text gets a new place, a changed label not.
                part = {own: (text, metadata) for own, text, metadata in values[start : start + batch]}
                order = sorted(
                    part, key=lambda own: max(n for n, v in enumerate(values[start : start + batch]) if v[0] == own)
                )
                for own in order:
                    text, metadata = part[own]
                    if own in model and model[own][1] == text:
                        model[own] = (model[own][0], text, metadata)
                    else:
                        model[own], key = (key, text, metadata), key + 1
        elif what == "delete":
            assert index.delete(values) == len(set(values) & model.keys())
            model = {own: value for own, value in model.items() if own not in values}
        elif what == "compact":
            index.compact()
        elif what == "index_field":
            index.index_field("lang")
        else:
            index.close()
            index = Index.open(folder, verify=True)
    assert len(index) == len(model)
    hits = index.search(query, k, where=where)
    expected = brute_force(model, embedder, metric, query, k, where)
    assert [hit.id for hit in hits] == [own for own, _ in expected]
    assert [hit.score for hit in hits] == [score for _, score in expected]
    assert [(hit.rank, hit.text) for hit in hits] == [(n, model[hit.id][1]) for n, hit in enumerate(hits, 1)]
    assert [dict(hit.metadata or {}) for hit in hits] == [model[hit.id][2] for hit in hits]
    assert {document.id: document.text for document in index.get(list(model))} == {o: v[1] for o, v in model.items()}
    scores, keys = index.search_vectors(embedder.embed_queries([query]), k, where=where)
    assert [document.id for document in index.get_by_keys(keys) if document] == [own for own, _ in expected]
    assert np.isneginf(scores[0, len(expected) :]).all()
    index.verify()
    index.close()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 99),
    n=st.integers(1, 300),
    m=st.integers(1, 9),
    k=st.integers(1, 40),
    half=st.booleans(),
    euclidean=st.booleans(),
)
def test_exact_search_equals_numpy_with_ties_and_gaps(seed, n, m, k, half, euclidean):
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-1, 2, size=(n, 3)).astype(np.float16 if half else np.float32)  # few values, so many ties
    queries = rng.integers(-1, 2, size=(m, 3)).astype(np.float32)
    dead = rng.random(n) < rng.choice([0.0, 0.5, 0.95, 1.0])
    exact_scores = (
        -((queries[:, None] - vectors[None].astype(np.float64)) ** 2).sum(axis=2)
        if euclidean
        else queries @ vectors.T.astype(np.float64)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_PIECE", 50)
        scores, rows = exact.nearest(queries, vectors, k, euclidean=euclidean, dead=dead if dead.any() else None)
    for query in range(m):
        order = [row for row in np.argsort(-exact_scores[query], kind="stable").tolist() if not dead[row]][:k]
        assert rows[query].tolist() == order + [-1] * (k - len(order))
        assert scores[query, : len(order)] == pytest.approx(exact_scores[query, order], abs=1e-5)


def test_documents_of_all_kinds_and_ids(tmp_path):
    with Index.create(tmp_path / "i", embedder="hash:32") as index:
        ids = index.add(
            [
                "plain",
                Document("own", id="x", metadata={"a": [1, None, "é"]}),
                LangChainDocument("lc", id="y", metadata={"b": 1}),
                LangChainDocument("lc without"),
            ]
        )
        assert len(set(ids)) == 4
        assert ids[1:3] == ["x", "y"]
        assert index.add(["plain"]) == ids[:1]  # named by its content, so the same again
        assert len(index) == 4
        (document,) = index.get(["x"])
        assert document == Document("own", id="x", metadata={"a": [1, None, "é"]})
        assert index.get(["nobody", "y", "x"])[1] == document
        assert index.add([Document("one", id="z"), Document("two", id="z")]) == ["z", "z"]
        assert index.get(["z"])[0].text == "two"
        assert index.get_by_keys(np.array([[-1, 10**6]])) == [None, None]
        assert index.search([], 3) == []
        assert index.search("plain", 0) == []


class Counting(HashingEmbedder):
    seen: list[str]

    def embed_documents(self, texts):
        self.seen += texts
        return super().embed_documents(texts)


def test_no_text_is_embedded_twice():
    embedder = Counting(32)
    embedder.seen = []
    index = Index.create(None, embedder=embedder)
    documents = [Document(f"text {n % 5}", id=str(n)) for n in range(20)]
    index.add(documents, batch_size=7)
    assert sorted(embedder.seen) == [f"text {n}" for n in range(5)]
    index.add([Document(each.text, id=each.id, metadata={"new": 1}) for each in documents])
    index.add([Document("text 3", id="other")])
    assert len(embedder.seen) == 5
    assert len(index.search("text 1", 50, where={"new": 1})) == 20
    report = index.sync([Document("text 3", id="other"), Document("fresh", id="f")])
    assert (report.new, report.removed) == (1, 20)
    assert {hit.id for hit in index.search("x", 9)} == {"other", "f"}


def test_an_interrupted_stream_goes_on():
    embedder = Counting(32)
    embedder.seen = []
    index = Index.create(None, embedder=embedder)

    def stream(fail):
        for n in range(3000):
            if n == 2500 and fail:
                raise OSError("connection lost")
            yield f"text {n}"

    with pytest.raises(OSError, match="connection lost"):
        index.add(stream(fail=True), batch_size=500)
    assert len(index) == 2500
    index.add(stream(fail=False), batch_size=500)
    assert len(index) == len(embedder.seen) == 3000


@pytest.mark.parametrize(
    ("documents", "vectors", "message"),
    [
        ("one text", None, "got one string"),
        (["fine", 3], None, r"documents\[1\] must be a Document, a string or a LangChain document, got int"),
        ([Document("a", id=3)], None, "`id` must be text, got int"),
        ([Document(None)], None, "`text` must be text, got NoneType"),
        ([Document("a", metadata=[1])], None, "`metadata` must be a mapping"),
        ([Document("a", metadata={"when": object()})], None, "metadata must be what JSON can hold"),
        ([Document("a", metadata={"x": float("nan")})], None, "metadata must be what JSON can hold"),
        (["\ud800"], None, "lone surrogate"),
        (["a", "b"], np.zeros((1, 4)), "`vectors` holds 1 rows for 2 documents"),
        (["a"], np.zeros((1, 3)), r"`vectors` must be numbers of shape \[n, 4\], got float64 of shape \(1, 3\)"),
        (["a"], np.zeros(4), "`vectors` must be numbers"),
        (["a"], np.array([["x"] * 4]), "`vectors` must be numbers"),
        (["a", "b"], np.array([[0, 0, 0, 1], [0, np.nan, 0, 0]]), r"`vectors`\[1\] holds NaN"),
        (["a"], np.array([[np.inf, 0, 0, 0]]), r"`vectors`\[0\] holds NaN or an infinite"),
    ],
)
def test_bad_input_changes_nothing(documents, vectors, message):
    index = Index.create(None, embedder="hash:4")
    index.add(["kept"])
    with pytest.raises(InvalidInputError, match=message):
        index.add(documents, vectors=vectors)
    assert [hit.text for hit in index.search("kept", 9)] == ["kept"]
    index.verify()
    assert index.add([]) == []


def test_bad_arguments(tmp_path):
    for arguments, message in (
        ({"metric": "manhattan"}, "`metric`"),
        ({"dtype": "int8"}, "`dtype`"),
        ({"embedder": None}, "`dim` must be a whole number"),
        ({"embedder": "hash:8", "dim": 9}, "`dim` is 9, but embedder 'hash:8' gives 8"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            Index.create(tmp_path / "i", **arguments)
    with pytest.raises(InvalidInputError, match="holds no index"):
        Index.open(tmp_path / "i")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    with pytest.raises(InvalidInputError, match="is not empty"):
        Index.create(tmp_path / "full", embedder="hash:8")
    index = Index.create(None, embedder="hash:8")
    for k in (-1, 1.5, True):
        with pytest.raises(InvalidInputError, match="`k`"):
            index.search("x", k)
    with pytest.raises(InvalidInputError, match=r"\$gtt"):
        index.search("x", 1, where={"a": {"$gtt": 1}})
    with pytest.raises(InvalidInputError, match="`queries`"):
        index.search_vectors(np.zeros((1, 9)), 1)
    bare = Index.create(None, embedder=None, dim=4)
    with pytest.raises(InvalidInputError, match="no embedder; give `vectors`"):
        bare.add(["x"])
    with pytest.raises(InvalidInputError, match="no embedder; use `search_vectors`"):
        bare.search("x")
    for size in (0, -1, 2.5, True):
        with pytest.raises(InvalidInputError, match="`batch_size` must be a whole number"):
            index.add(["x"], batch_size=size)
    with pytest.raises(InvalidInputError, match="holds 1 rows for documents without a length; pass a list"):
        index.add((text for text in ["x"]), vectors=np.ones((1, 8)))
    index.close()
    index.close()
    with pytest.raises(InvalidInputError, match="is closed"):
        index.search("x")


def test_another_embedder_is_refused(tmp_path):
    Index.create(tmp_path / "i", embedder="hash:32").close()
    with pytest.raises(InvalidInputError, match=r"made with embedder 'hash:32'.*'hash:64' gives other vectors"):
        Index.open(tmp_path / "i", embedder="hash:64")
    with Index.open(tmp_path / "i", embedder=HashingEmbedder(32)) as index:
        assert index.embedder.dim == 32
    with pytest.raises(InvalidInputError, match="holds an index already"):
        Index.create(tmp_path / "i", embedder="hash:32")
    Index.create(tmp_path / "i", embedder="hash:32", exist_ok=True).close()
    for other in ({"metric": "l2"}, {"dtype": "float16"}, {"factory": "HNSW8"}, {"dim": 33}):
        with pytest.raises(InvalidInputError, match="holds an index made with"):
            Index.create(tmp_path / "i", embedder="hash:32", exist_ok=True, **other)
    Index.create(tmp_path / "i", embedder="hash:32", dim=32, exist_ok=True).close()


def test_one_writer_many_readers(tmp_path):
    with Index.create(tmp_path / "i", embedder="hash:32") as writer:
        writer.add([Document("first", id="1")])
        with pytest.raises(IndexLockedError, match=f'"pid": {os.getpid()}'):
            Index.open(tmp_path / "i")
        with Index.open(tmp_path / "i", read_only=True) as one, Index.open(tmp_path / "i", read_only=True) as two:
            with pytest.raises(InvalidInputError, match="for reading only"):
                one.add(["x"])
            writer.add([Document("second", id="2")])
            assert [hit.id for hit in one.search("second", 1)] == ["2"]  # a reader sees the last commit
            writer.delete(["1"])
            writer.compact()
            assert [hit.id for hit in two.search("first", 9)] == ["2"]
    code = f"from ragkit import Index; import os; Index.open({str(tmp_path / 'i')!r}); os._exit(9)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": ":".join(filter(None, sys.path))}
        ).returncode
        == 9
    )
    Index.open(tmp_path / "i").close()  # a dead writer holds nothing


def test_a_folder_that_cannot_be_written(tmp_path):
    folder = tmp_path / "i"
    with Index.create(folder, embedder="hash:32") as index:
        index.add(["x"])
    folder.chmod(0o555)
    try:
        with Index.open(folder, read_only=True) as index:
            assert [hit.text for hit in index.search("x", 1)] == ["x"]
    finally:
        folder.chmod(0o755)


def test_every_answer_is_that_of_one_commit():
    index = Index.create(None, embedder="hash:32")

    def documents(version):
        return [Document(f"lamp {n} of {version}", id=f"d{n}") for n in range(12)]

    index.add(documents(0))
    wrong, stop = [], threading.Event()

    def read():
        while not stop.is_set():
            hits = index.search("lamp", 20)
            if len(hits) != 12 or len({hit.text.split()[-1] for hit in hits}) != 1:
                wrong.append([hit.text for hit in hits])

    readers = [threading.Thread(target=read) for _ in range(12)]
    for reader in readers:
        reader.start()
    for version in range(1, 40):
        index.add(documents(version))
        if version % 10 == 0:
            index.compact()
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong
    assert {hit.text.split()[-1] for hit in index.search("lamp", 12)} == {"39"}


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize(
    "change",
    [
        lambda index: index.delete(["a"]),
        lambda index: index.add([Document("lamp", id="a", metadata={"n": 2}), Document("lamp lamp", id="c")]),
    ],
    ids=["delete", "relabel"],
)
def test_a_commit_while_documents_are_read(monkeypatch, change, place):
    changed = []

    def once():
        if not changed:
            changed.append(True)
            writer = threading.Thread(target=change, args=[index])
            writer.start()
            writer.join()

    with Index.create(None, embedder="hash:64") as index:
        index.add([Document("lamp", id="a", metadata={"n": 1}), Document("song", id="b")])
        read = index._store.database.by_keys

        def by_keys(keys):
            if place == "before":
                once()
            found = read(keys)
            once()
            return found

        monkeypatch.setattr(index._store.database, "by_keys", by_keys)
        found = [[(hit.id, hit.metadata) for hit in index.search("lamp", k=3)] for _ in range(2)]
        assert changed
        assert found[0] == found[1]
        left = dict(found[0])
        assert left == ({"b": None} if "c" not in left else {"a": {"n": 2}, "b": None, "c": None})


def test_a_search_between_a_commit_and_its_state_waits_for_the_state(monkeypatch):
    committed, go_on, found = threading.Event(), threading.Event(), []
    with Index.create(None, embedder="hash:64") as index:
        index.add([Document("lamp", id="a", metadata={"n": 1}), Document("song", id="b")])
        load = store.load_state

        def late(*arguments):
            committed.set()
            go_on.wait(10)
            return load(*arguments)

        monkeypatch.setattr(store, "load_state", late)
        new = [Document("lamp", id="a", metadata={"n": 2}), Document("lamp lamp", id="c")]
        writer = threading.Thread(target=index.add, args=[new])
        reader = threading.Thread(target=lambda: found.extend(index.search("lamp", k=3)))
        writer.start()
        assert committed.wait(10)
        reader.start()
        reader.join(0.3)  # what it reads is of the new commit, what it knows of the old one
        go_on.set()
        reader.join()
        writer.join()
    assert {hit.id: hit.metadata for hit in found} == {"a": {"n": 2}, "b": None, "c": None}


@pytest.mark.parametrize("factory", ["IVF8,Flat", "HNSW16", "IVF4,SQ8", "OPQ4,IVF4,PQ4x4", "SQfp16"])
def test_approximate_indexes(tmp_path, factory):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(1200, 16)).astype(np.float32)
    documents = [Document(str(n), id=str(n), metadata={"part": n % 3}) for n in range(1200)]
    with Index.create(tmp_path / "i", embedder=None, dim=16, factory=factory) as index:
        index.add(documents[:1000], vectors=vectors[:1000])
        index.compact()
        assert (index.stats().factory, index.stats().built) == (factory, 1000)
        found = index.tune(target_recall=0.9, k=10) if "PQ" not in factory else index.tune(target_recall=0.2, k=10)
        assert found["recall"] >= (0.9 if "PQ" not in factory else 0.2)
        index.add(documents[1000:], vectors=vectors[1000:])
        index.delete([str(n) for n in range(0, 1200, 7)])
        live = np.array([n for n in range(1200) if n % 7])
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        shares = []
        for where in (None, {"part": 1}, {"part": {"$in": [0, 2]}}):
            allowed = live if where is None else np.array([n for n in live if (n % 3 == 1) == (where == {"part": 1})])
            _, keys = index.search_vectors(vectors[:50], 10, where=where)
            got = [{document.id for document in index.get_by_keys(row) if document} for row in keys]
            assert all(len(each) == 10 and {int(own) for own in each} <= set(allowed.tolist()) for each in got)
            right = [set(map(str, allowed[np.argsort(-(unit[allowed] @ unit[q]))[:10]])) for q in range(50)]
            shares.append(np.mean([len(a & b) / 10 for a, b in zip(got, right, strict=True)]))
        assert min(shares) > (0.8 if "PQ" not in factory else 0.2)
    with Index.open(tmp_path / "i", verify=True) as index:
        again = index.search_vectors(vectors[:50], 10)[1]
        index.compact()
        assert (index.stats().built, index.stats().rows) == (len(live), len(live))
        index.verify()
        assert again.shape == (50, 10)


def test_auto_becomes_approximate_and_recall_is_watched(monkeypatch):
    from ragkit.index import _factories as factories

    monkeypatch.setattr(factories, "FLAT_UP_TO", 500)
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(20, 16))
    index = Index.create(None, embedder=None, dim=16)
    near = (centres[rng.integers(0, 20, 2000)] + 0.05 * rng.normal(size=(2000, 16))).astype(np.float32)
    index.add([str(n) for n in range(2000)], vectors=near)
    assert index.stats().factory == "flat"
    assert index.tune()["recall"] == 1.0  # exact
    index.compact()
    assert index.stats().factory == "IVF51,Flat"
    tuned = index.tune(target_recall=0.95)
    assert tuned["recall"] >= 0.95
    assert index.stats().tuned == tuned
    far = rng.normal(size=(8000, 16)).astype(np.float32)  # other data, for which so few lists are not enough
    index.add([f"far {n}" for n in range(8000)], vectors=far)
    with pytest.warns(RecallWarning, match="call `tune` again"):
        index.compact()
    hopeless = Index.create(None, embedder=None, dim=16, factory="PQ4x4")
    hopeless.add([str(n) for n in range(1000)], vectors=far[:1000])
    hopeless.compact()
    with pytest.warns(RecallWarning, match="use another `factory`"):
        hopeless.tune(target_recall=0.99)
    with pytest.raises(InvalidInputError, match="`target_recall`"):
        index.tune(target_recall=1.5)
    broken = Index.create(None, embedder=None, dim=16, factory="IVF2,Flat")
    broken.add(["x"], vectors=far[:1])
    with pytest.raises(InvalidInputError, match="FAISS cannot build 'IVF2,Flat' over 1 vectors of 16"):
        broken.compact()


def test_half_precision(tmp_path):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 32)).astype(np.float32)
    with Index.create(tmp_path / "i", embedder=None, dim=32, dtype="float16") as index:
        index.add([str(n) for n in range(300)], vectors=vectors)
        assert (tmp_path / "i" / "vectors-0.bin").stat().st_size == 300 * 32 * 2
        scores, keys = index.search_vectors(vectors[:20], 5)
        assert keys[:, 0].tolist() == list(range(20))
        assert scores[:, 0] == pytest.approx(np.ones(20), abs=2e-3)


def test_the_switch_of_faiss_is_put_back():
    import faiss

    before = faiss.cvar.distance_compute_blas_threshold
    index = Index.create(None, embedder=None, dim=8)
    index.add([str(n) for n in range(50)], vectors=np.random.default_rng(0).normal(size=(50, 8)))
    index.search_vectors(np.ones((16, 8)), 3)
    assert faiss.cvar.distance_compute_blas_threshold == before


def test_the_manifest_is_plain(tmp_path):
    with Index.create(tmp_path / "i", embedder="hash:32") as index:
        index.add(["x"])
    import sqlite3

    with sqlite3.connect(tmp_path / "i" / "index.sqlite") as base:
        facts = {name: json.loads(value) for name, value in base.execute("SELECT * FROM facts_of_index")}
        assert (facts["format"], facts["embedder"], facts["dim"], facts["rows"]) == (2, "hash:32", 32, 1)
        base.execute("UPDATE facts_of_index SET value = '1' WHERE name = 'format'")
    base.close()
    with pytest.raises(IntegrityError, match="create a new index and add its documents again"):
        Index.open(tmp_path / "i")


def test_vectors_by_key_and_documents_of_vectors():
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((50, 8)).astype(np.float32)
    with Index.create(None, embedder=None, dim=8, metric="l2") as index:
        assert index.get_vectors_by_keys([0, -1]).tolist() == [[0.0] * 8] * 2
        assert index.search_documents(vectors[:2]) == [[], []]
        index.add([Document(f"text {n}", id=str(n)) for n in range(50)], vectors=vectors)
        index.delete([str(n) for n in range(0, 50, 2)])
        index.compact()
        keys = index.search_vectors(vectors[:3], 5)[1]
        odd = np.arange(1, 50, 2)
        nearest = odd[[exact_order(vectors[odd], query, euclidean=True)[:5] for query in vectors[:3]]]
        found = index.search_documents(vectors[:3], 5)
        assert [[int(document.id) for _, _, document in row] for row in found] == nearest.tolist()
        assert [[key for key, _, _ in row] for row in found] == keys.tolist()
        assert np.array_equal(index.get_vectors_by_keys(keys), vectors[nearest.ravel()])
        assert not index.get_vectors_by_keys([0, 999, -1]).any()


def test_what_was_read_lately_is_never_stale_nor_shared(tmp_path):
    with Index.create(tmp_path / "i", embedder="hash:64") as index:
        index.add([Document("lamp", id="a", metadata={"n": 1}), Document("song", id="b", metadata={"deep": [1]})])
        reader = Index.open(tmp_path / "i", read_only=True)
        for name, key, field in (("lamp", 0, "n"), ("song", 1, "deep")):
            first = index.search(name, k=1)[0].metadata
            first["more"] = 2
            read = index.get_by_keys([key])[0].metadata
            read["more"] = 3
            if field == "deep":
                first[field].append(2)
            assert set(index.search(name, k=1)[0].metadata) == set(index.get_by_keys([key])[0].metadata) == {field}
            assert index.search(name, k=1)[0].metadata == reader.search(name, k=1)[0].metadata
        index.add([Document("lamp", id="a", metadata={"n": 2})])
        assert [each.search("lamp", k=1)[0].metadata for each in (index, reader)] == [{"n": 2}] * 2
        index.delete(["a"])
        assert [[hit.id for hit in each.search("lamp")] for each in (index, reader)] == [["b"]] * 2
        reader.close()


def test_documents_that_were_read_are_kept_up_to_a_size(monkeypatch):
    from ragkit.index import _documents as documents

    monkeypatch.setattr(documents, "_MOST", 50)
    with Index.create(None, embedder="hash:64") as index:
        index.add([Document(f"word{n} " * 5, id=str(n)) for n in range(20)])
        for _ in range(2):
            for n in range(20):
                assert index.search(f"word{n}", k=1)[0].id == str(n)
                assert len(index._recent._kept[1]) <= 3


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_what_half_precision_cannot_hold_is_refused(metric):
    with Index.create(None, embedder=None, dim=2, dtype="float16", metric=metric) as index:
        index.add([Document("kept", id="a")], vectors=np.array([[65504.0, 1.0]]))
        for size in (1, 2):
            with pytest.raises(InvalidInputError, match=rf"`vectors`\[{size - 1}\] holds a number above 65504"):
                index.add(["x"] * size, vectors=np.array([[1.0, 1.0]] * (size - 1) + [[-7e4, 1.0]]))
        assert index.search_vectors(np.array([[7e4, 1.0]]), 2)[1].tolist() == [[0, -1]]  # only asked, never stored


@pytest.mark.parametrize("factory", ["nonsense", "PQ7", "IVF8,", 7, None])
def test_a_factory_that_cannot_be_is_refused_before_there_are_documents(tmp_path, factory):
    with pytest.raises(InvalidInputError, match="`factory` must be"):
        Index.create(tmp_path / "i", embedder=None, dim=16, factory=factory)
    assert not (tmp_path / "i").exists()


def test_ids_and_queries_that_are_no_texts():
    with Index.create(None, embedder="hash:16") as index:
        index.add([Document("lamp", id="1"), Document("song", id="2")])
        for call in (index.get, index.delete, index.get_vectors, index.search):
            for wrong, message in (([1], "must be a text, got int"), (5, "must be a sequence of texts, got int")):
                with pytest.raises(InvalidInputError, match=message):
                    call(wrong)
        for call in (index.get, index.delete, index.get_vectors):
            with pytest.raises(InvalidInputError, match="got one string"):
                call("1")
        half = "\ud800"
        assert [document.text for document in index.get([half, "2"])] == ["song"]
        assert index.delete([half]) == 0
        assert not index.get_vectors([half]).any()
        found = index.search((text for text in ["lamp", "song"]), 1)
        assert [[hit.id for hit in hits] for hits in found] == [["1"], ["2"]]
        assert len(index) == 2
        for wrong in ({"k": -1}, {"where": {"a": {"$gtt": 1}}}):
            with pytest.raises(InvalidInputError):
                index.search([], **wrong)
        assert index.search([]) == []


def test_making_an_index_that_was_stopped_half_way_begins_anew(tmp_path):
    for content in (b"", sqlite_of_no_tables(tmp_path / "bare")):
        folder = tmp_path / f"i{len(content)}"
        folder.mkdir()
        (folder / "index.sqlite").write_bytes(content)
        (folder / "writer.lock").touch()
        with Index.create(folder, embedder="hash:16") as index:
            index.add(["lamp"])
        with Index.open(folder, verify=True) as index:
            assert len(index) == 1
        with pytest.raises(InvalidInputError, match="holds an index already"):
            Index.create(folder, embedder="hash:16")


def sqlite_of_no_tables(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    return path.read_bytes()


def test_an_index_with_an_embedder_is_not_one_without(tmp_path):
    Index.create(tmp_path / "i", embedder="hash:8").close()
    with pytest.raises(InvalidInputError, match="made with embedder='hash:8', not None"):
        Index.create(tmp_path / "i", embedder=None, dim=8, exist_ok=True)


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    Index.create(tmp_path / "i", embedder="hash:8").close()

    def refused(path, *_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(lock.os, "open", refused)
        with pytest.raises(PermissionError, match="Permission denied; open the index with read_only=True"):
            Index.open(tmp_path / "i")
        with Index.open(tmp_path / "i", read_only=True) as index:
            assert len(index) == 0


def test_an_index_that_is_closed_while_it_is_read():
    index = Index.create(None, embedder="hash:8")
    index.add(["lamp"])
    database, keys = index._store.database, index.keys()
    rows = database.connection.execute("SELECT key FROM documents")

    def read():
        with index._store.reading():
            index.close()
            return list(rows)  # of a connection that is gone

    for call in (read, read, lambda: database.by_keys(keys)):
        with pytest.raises(InvalidInputError, match="is closed; open it again"):
            call()
