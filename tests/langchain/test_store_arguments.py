"""Arguments of the vector store as LangChain's stores accept them, saving and merging, and metadata as text."""

from datetime import UTC, date, datetime
from pathlib import Path, PurePosixPath
from uuid import UUID

import numpy as np
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.documents.base import Blob
from langchain_core.indexing import InMemoryRecordManager, index

from ragkit import Document as RagkitDocument
from ragkit import Index
from ragkit.errors import IndexLockedError, InvalidInputError
from ragkit.langchain import RagkitEmbeddings, RagkitRetriever, RagkitVectorStore

TEXTS = ["dim the lamp", "play a song", "open the door"]
WHEN = datetime(2024, 5, 1, 12, 30, tzinfo=UTC)
OWN = UUID(int=7)


def texts(documents):
    return [document.page_content for document in documents]


def stored(store):
    return sorted((each.page_content, each.metadata) for each in store.similarity_search("x", k=99))


def test_iterators_and_numpy_integers():
    store = RagkitVectorStore.from_texts(iter(TEXTS), "hash:64", ({"n": n} for n in range(3)), iter("abc"))
    assert [each.id for each in store.get_by_ids(["a", "b", "c"])] == ["a", "b", "c"]
    assert stored(store) == sorted((text, {"n": n}) for n, text in enumerate(TEXTS))
    documents = (Document(text, metadata={"n": n}) for n, text in enumerate(TEXTS))
    assert stored(RagkitVectorStore.from_documents(documents, "hash:64")) == stored(store)
    k = np.int64(2)
    assert texts(store.similarity_search("dim a lamp", k)) == texts(store.similarity_search("dim a lamp", 2))
    assert len(store.similarity_search("x", k, lambda _: True)) == 2
    assert len(store.max_marginal_relevance_search("x", k, np.int32(3))) == 2
    assert len(store.as_retriever(k=k).invoke("x")) == 2
    assert len(store.as_retriever(search_kwargs={"k": k}).invoke("x")) == 2
    with pytest.raises(InvalidInputError, match="`k` must be an integer"):
        store.similarity_search("x", np.float64(2))


def test_functions_of_documents_and_of_metadata():
    store = RagkitVectorStore.from_texts(TEXTS, "hash:64", [{"n": n} for n in range(3)], ids=list("abc"))
    for function in (
        lambda document: document.metadata["n"] > 0 and document.page_content != "play a song" and document.id == "c",
        lambda metadata: metadata["n"] > 1 and "n" in metadata and metadata.get("m") is None,
        lambda metadata: dict(metadata.items()) == {"n": 2} and [*metadata.keys(), *metadata.values()] == ["n", 2],
    ):
        found = store.similarity_search("x", filter=function)
        assert found == [Document("open the door", id="c", metadata={"n": 2})]
        assert type(found[0]) is Document


def test_the_metric_of_from_texts():
    for metric in ("cosine", "ip", "l2"):
        assert RagkitVectorStore.from_texts(["a"], "hash:8", metric=metric).index.stats().metric == metric


def test_embeddings_that_were_computed_before():
    embeddings = RagkitEmbeddings("hash:32")
    pairs = list(zip(TEXTS, embeddings.embed_documents(TEXTS), strict=True))
    store = RagkitVectorStore.from_embeddings(iter(pairs), embeddings, [{"n": n} for n in range(3)], list("abc"))
    assert store.similarity_search("lamp") == RagkitVectorStore.from_texts(
        TEXTS, "hash:32", [{"n": n} for n in range(3)], list("abc")
    ).similarity_search("lamp")
    assert np.allclose(store.index.get_vectors(["b"])[0], pairs[1][1])
    assert store.add_embeddings([]) == []
    for wrong, says in (
        ([("a",)], "pairs of a text"),
        ([("a", [1.0]), ("b", [1.0, 2.0])], "the same length"),
        ([("a", [1.0])], "shape"),
        ([(b"a", [1.0] * 32)], r"`texts`\[0\] must be a text, got bytes"),
    ):
        with pytest.raises(InvalidInputError, match=says):
            store.add_embeddings(wrong)
    assert len(store.index) == 3


def test_saving_a_store_in_memory(tmp_path):
    store = RagkitVectorStore.from_texts(TEXTS, "hash:64", [{"n": n} for n in range(3)], metric="l2")
    store.save_local(tmp_path / "s")
    with RagkitVectorStore.load_local(tmp_path / "s", "hash:64", allow_dangerous_deserialization=True) as again:
        assert stored(again) == stored(store)
        assert again.index.stats().metric == "l2"
        again.save_local(tmp_path / "s")  # its own folder: everything is there
        with pytest.raises(IndexLockedError, match="open for writing"):
            store.save_local(tmp_path / "s")
    store.add_texts(["new"])
    store.save_local(tmp_path / "s")
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    with RagkitVectorStore.load_local(tmp_path / "s", read_only=True) as again:
        assert stored(again) == stored(store)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine").write_text("kept")
    with pytest.raises(InvalidInputError, match="neither an empty folder"):
        store.save_local(tmp_path / "other")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["mine"]
    (tmp_path / "faiss").mkdir()
    (tmp_path / "faiss" / "index.pkl").write_bytes(b"")
    with pytest.raises(InvalidInputError, match="import-langchain"):
        RagkitVectorStore.load_local(tmp_path / "faiss", "hash:64")


def test_a_folder_has_one_writer_and_many_readers(tmp_path):
    with RagkitVectorStore.from_texts(TEXTS, "hash:64", path=tmp_path / "s") as store:
        with pytest.raises(IndexLockedError, match="open it read_only"):
            RagkitVectorStore("hash:64", path=tmp_path / "s")
        with RagkitVectorStore("hash:64", path=tmp_path / "s", read_only=True) as reader:
            store.add_texts(["new"])
            assert len(reader.similarity_search("x", k=9)) == 4
            with pytest.raises(InvalidInputError, match="reading only"):
                reader.add_texts(["no"])
    with pytest.raises(InvalidInputError, match="closed"):
        store.similarity_search("x")
    store.close()
    with pytest.raises(InvalidInputError, match="`read_only` needs the `path`"):
        RagkitVectorStore("hash:64", read_only=True)
    with pytest.raises(InvalidInputError, match="no index"):
        RagkitVectorStore(path=tmp_path / "t", read_only=True)
    assert not (tmp_path / "t").exists()


def test_merging():
    store = RagkitVectorStore.from_texts(["one", "two"], "hash:64", [{"n": 1}, {"n": 2}], list("ab"))
    other = RagkitVectorStore.from_texts(["three", "four"], "hash:64", [{"n": 3}, {"n": 4}], list("bc"))
    store.merge_from(other)
    assert stored(store) == [("four", {"n": 4}), ("one", {"n": 1}), ("three", {"n": 3})]
    assert len(other.index) == 2
    assert np.array_equal(store.index.get_vectors(["c"]), other.index.get_vectors(["c"]))
    for wrong, says in (
        (RagkitVectorStore("hash:32"), "fingerprint is 'hash:64"),
        (RagkitVectorStore("hash:64", metric="l2"), "metric is 'cosine' here and 'l2'"),
        (other.index, "got Index"),
    ):
        with pytest.raises(InvalidInputError, match=says):
            store.merge_from(wrong)


def test_dates_uuids_and_paths_as_text():
    held = {"when": WHEN, "day": [date(2024, 5, 2)], "own": {"id": OWN}, "file": Path("/a/b"), "n": 1}
    store = RagkitVectorStore("hash:64", metadata_conversion="text")
    document = Document("dim", id="a", metadata=held)
    store.add_documents([document, RagkitDocument("play", "b", {"when": WHEN.replace(year=2025)})])
    text = {"when": "2024-05-01T12:30:00+00:00", "day": ["2024-05-02"], "own": {"id": str(OWN)}, "file": "/a/b", "n": 1}
    assert store.get_by_ids(["a"]) == [Document("dim", id="a", metadata=text)]
    assert document == Document("dim", id="a", metadata=held)
    for asked in ({"when": WHEN}, {"when": {"$lt": WHEN.replace(month=6)}}, {"file": [PurePosixPath("/a/b")]}):
        assert [each.id for each in store.similarity_search("x", filter=asked)] == ["a"]
        assert [each.id for each in store.as_retriever(search_kwargs={"filter": asked}).invoke("x")] == ["a"]
    plain = RagkitVectorStore("hash:64")
    for name, value in (("when", WHEN), ("own", [OWN]), ("file", {"a": Path("x")}), ("day", date(2024, 1, 1))):
        with pytest.raises(
            InvalidInputError, match=rf'\[0\]: metadata\[.{name}.\] is of type \w+, .*conversion="text"'
        ):
            plain.add_texts(["a"], [{name: value}])
    with pytest.raises(InvalidInputError, match="of type complex"):
        store.add_texts(["a"], [{"when": WHEN, "z": 1j}])
    with pytest.raises(InvalidInputError, match=r'must be "text" or None'):
        RagkitVectorStore("hash:64", metadata_conversion="iso")
    endless = [WHEN]
    endless.append(endless)
    with pytest.raises(InvalidInputError, match="nested too deeply"):
        store.add_texts(["a"], [{"x": endless}])
    assert len(plain.index) == 0
    assert len(store.index) == 2


def test_a_time_weighted_retriever():
    retrievers = pytest.importorskip("langchain_classic.retrievers", reason="langchain-classic is not installed")
    store = RagkitVectorStore("hash:64", metadata_conversion="text")
    retriever = retrievers.TimeWeightedVectorStoreRetriever(vectorstore=store, decay_rate=0.01, k=1)
    retriever.add_documents([Document("dim the lamp"), Document("play a song")])
    assert retriever.invoke("a song")[0].page_content == "play a song"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda s: s.add_documents([Blob.from_data(b"png")]),
            r"\[0\] must be a LangChain Document .* got Blob; for an im",
        ),
        (
            lambda s: s.add_documents([Document("a"), b"png"]),
            r"documents\[1\] must be a LangChain Document .* got bytes",
        ),
        (lambda s: s.add_documents(Document("a")), "must be a sequence of documents, got one Document"),
        (lambda s: s.add_documents("text"), "must be a sequence of documents, got one str"),
        (lambda s: s.add_texts(["a", b"b"]), r"`texts`\[1\] must be a text, got bytes"),
        (lambda s: s.add_texts(["a"], ["n"]), r"`metadatas`\[0\] must be a mapping, got str"),
        (lambda s: s.as_retriever().invoke({"question": "x"}), r"must be text, got dict; .* itemgetter"),
        (lambda s: s.as_retriever().batch(["x", 3]), "must be text, got int"),
        (lambda s: s.similarity_search("x", filter={"n": {"$like": 1}}), r"unknown operator '\$like'"),
        (lambda s: s.similarity_search("x", filter={"$and": {"n": 1}}), r"\$and takes a list of filters"),
        (lambda s: s.similarity_search("x", fetch_k=0), "`fetch_k` must be an integer of at least 1"),
        (lambda s: RagkitVectorStore(index=s.index, read_only=True), "omit `embedding`, `path` and `read_only`"),
    ],
)
def test_invalid_input(call, says):
    store = RagkitVectorStore.from_texts(TEXTS, "hash:64")
    with pytest.raises(InvalidInputError, match=says):
        call(store)
    assert len(store.index) == 3


def test_nothing_is_left_of_a_store_that_cannot_be_filled(tmp_path):
    with pytest.raises(InvalidInputError, match="`metadatas`"):
        RagkitVectorStore.from_texts(["a", "b"], "hash:64", [{}], path=tmp_path / "s")
    with RagkitVectorStore("hash:64", path=tmp_path / "s") as store:  # its lock was released
        assert len(store.index) == 0


def test_empty_batches_and_empty_stores():
    store = RagkitVectorStore("hash:64")
    assert store.add_texts([]) == store.add_documents([]) == store.add_documents(iter(())) == []
    assert store.similarity_search("x") == store.max_marginal_relevance_search("x") == []
    assert store.similarity_search_with_relevance_scores("x", filter=lambda _: True) == []
    assert store.as_retriever().batch(["x", "y"]) == [[], []]
    assert store.as_retriever().batch([]) == []
    store.merge_from(RagkitVectorStore("hash:64"))
    assert len(store.index) == 0


def test_record_managers_of_two_namespaces():
    """Documents are identified by a hash of their content, so the same document is stored once."""
    store, first, second = RagkitVectorStore("hash:64"), InMemoryRecordManager("one"), InMemoryRecordManager("two")
    documents = [Document(text, metadata={"source": text}) for text in TEXTS]
    for records in (first, second):
        records.create_schema()
        told = index(documents[:2], records, store, cleanup="full", source_id_key="source", key_encoder="sha256")
        assert told["num_added"] == 2
        assert len(store.index) == 2
    index([documents[2]], second, store, cleanup="full", source_id_key="source", key_encoder="sha256")
    assert texts(store.similarity_search("x", k=9)) == [TEXTS[2]]
    told = index(documents[:2], first, store, cleanup="full", source_id_key="source", key_encoder="sha256")
    assert told["num_skipped"] == 2  # LangChain asks its records, not the store


class Heard(BaseCallbackHandler):
    """Keeps the starts of retrievers."""

    def __init__(self) -> None:
        self.starts = []

    def on_retriever_start(self, serialized, query, *, tags=None, metadata=None, name=None, **_):
        self.starts.append((name, query, tags, metadata["m"]))


def test_settings_of_a_retriever(capsys):
    heard, other = Heard(), Heard()
    store = RagkitVectorStore.from_texts(TEXTS, "hash:64")
    retriever = store.as_retriever(name="mine", tags=["t"], metadata={"m": 1}, callbacks=[heard], verbose=True, k=1)
    assert texts(retriever.invoke("lamp", {"callbacks": [other]})) == ["dim the lamp"]
    assert heard.starts == other.starts == [("mine", "lamp", ["t"], 1)]
    retriever.batch(["lamp", "song"])
    assert [query for _, query, *_ in heard.starts] == ["lamp", "lamp", "song"]
    assert "mine" not in retriever.model_copy(update={"name": None}).model_dump_json()


def test_a_retriever_opens_the_path_of_an_index(tmp_path):
    with Index.create(tmp_path / "s", embedder="hash:64") as made:
        made.add(TEXTS)
        retriever = RagkitRetriever(index=tmp_path / "s", k=1)
        assert texts(retriever.invoke("a song")) == ["play a song"]
        assert retriever.index.read_only
        retriever.index.close()
