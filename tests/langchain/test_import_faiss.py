"""Folders of LangChain's FAISS store: what is imported, and that no code in a pickle is executed."""

import json
import os
import pickle  # noqa: TID251 - to write the files of old folders
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_pickles import SAVED, docstore_pickle

from ragkit import Document, Index
from ragkit.embedders import HashingEmbedder
from ragkit.errors import DataFileError, InvalidInputError
from ragkit_pipelines.langchain.docstore_pickle import read_docstore
from ragkit_pipelines.langchain.import_faiss import import_faiss
from ragkit_pipelines.langchain.importing import similarity

DOCUMENTS = [
    Document("dim the lamp", id="a", metadata={"lang": "en", "n": 1}),
    Document("play a song", id="b", metadata={"tags": ["x", "y"], "f": 0.5, "none": None, "deep": {"a": [1]}}),
    Document("ouvre la porte — été", id="c", metadata=None),
]


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(SAVED, tmp_path / "old"))


def test_everything_is_imported(folder, tmp_path):
    report = import_faiss(folder, tmp_path / "new", embedder="hash:16")
    assert (report.documents, report.dim, report.metric, report.kind, report.left_out) == (
        3, 16, "cosine", "IndexFlatL2", 0,
    )  # fmt: skip
    assert report.similarity > 0.9999
    with Index.open(tmp_path / "new") as index:
        assert index.get(["a", "b", "c"]) == DOCUMENTS
        vectors = HashingEmbedder(16).embed_documents([document.text for document in DOCUMENTS])
        scores, keys = index.search_vectors(vectors, 1)
        assert keys.tolist() == [[0], [1], [2]]
        assert np.allclose(scores, 1)
        assert index.search("play a song", k=1)[0].id == "b"
        index.verify()


def test_neither_langchain_nor_its_community_package_is_imported(tmp_path):
    code = (
        "import sys\nfrom ragkit_pipelines.langchain.import_faiss import import_faiss\n"
        f"import_faiss({str(SAVED)!r}, {str(tmp_path / 'new')!r})\n"
        "print([name for name in sys.modules if name.startswith('langchain')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line(tmp_path):
    def run(*words):
        command = [sys.executable, "-m", "ragkit_pipelines.cli", "index", "import-langchain", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run(SAVED, "--out", tmp_path / "new", "--embedder", "hash:16")
    assert done.returncode == 0, done.stderr
    assert "3 documents of 16 dimensions from IndexFlatL2, metric cosine" in done.stdout
    done = run(SAVED, "--out", tmp_path / "other", "--json")
    assert json.loads(done.stdout)["similarity"] is None
    done = run(tmp_path, "--out", tmp_path / "third")
    assert done.returncode == 2
    assert "index.pkl: cannot be read" in done.stderr


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("module", ["langchain.schema", "langchain.schema.document", "langchain.docstore.document"])
def test_stores_of_older_versions(tmp_path, protocol, module):
    modules = {"langchain.docstore.in_memory": "InMemoryDocstore", module: "Document"}
    state = {
        "__dict__": {"page_content": "text", "metadata": {"n": 1}},
        "__fields_set__": {"page_content", "metadata"},
        "__private_attribute_values__": {},
    }
    path = tmp_path / "index.pkl"
    path.write_bytes(docstore_pickle(state, protocol, modules))
    assert read_docstore(path) == ([Document("text", id="a", metadata={"n": 1})], 1)


class Payload:
    """An object that executes a command when it is unpickled."""

    def __init__(self, function, *given) -> None:
        self.function, self.given = function, given

    def __reduce__(self) -> tuple:
        return self.function, self.given


def in_metadata(payload):
    """Return a valid store that contains a payload in its metadata."""
    good = (SAVED / "index.pkl").read_bytes()
    inner = pickle.dumps(payload, protocol=4)
    inner = inner[inner.index(b"\x95") + 9 : -1] if b"\x95" in inner[:3] else inner[2:-1]
    without_frame = good[:2] + good[11:]
    return without_frame.replace(b"G?\xe0\x00\x00\x00\x00\x00\x00", inner, 1)


def payloads(mark):
    command = f"touch {mark}"
    yield "system", pickle.dumps(Payload(os.system, command))
    yield "system", in_metadata(Payload(os.system, command))
    yield "builtins.eval", pickle.dumps(Payload(eval, f"open({str(mark)!r}, 'w')"))  # noqa: S307
    yield "builtins.getattr", pickle.dumps(Payload(getattr, Payload(__import__, "os"), "system"))
    yield "subprocess.Popen", pickle.dumps((Payload(subprocess.Popen, ["touch", str(mark)]), {}))
    yield "system", b"(S'" + command.encode() + b"'\nios\nsystem\n."  # an INST opcode
    yield (
        "Document.__init__.__globals__",
        (b"\x80\x04\x8c\x1dlangchain_core.documents.base\x8c\x1dDocument.__init__.__globals__\x93."),
    )
    yield "fractions", pickle.dumps(Fraction(1, 2))  # harmless classes are rejected too


def test_a_malicious_pickle_is_rejected_and_not_executed(folder, tmp_path):
    mark = tmp_path / "mark"
    cases = list(payloads(mark))
    pickle.loads(cases[0][1])  # noqa: S301
    assert mark.exists()  # the payload works if it is loaded
    mark.unlink()
    for named, content in cases:
        (folder / "index.pkl").write_bytes(content)
        with pytest.raises(DataFileError, match=named):
            import_faiss(folder, tmp_path / "new")
        assert not mark.exists()
        assert not (tmp_path / "new").exists()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6), st.integers(0, 10_000))
def test_a_damaged_pickle_is_an_error_or_documents(changes, length):
    content = bytearray((SAVED / "index.pkl").read_bytes())
    for index, byte in changes:
        content[index % len(content)] = byte
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"ragkit-damaged-{os.getpid()}.pkl"  # noqa: S108
    path.write_bytes(content[: length % (len(content) + 1) or None])
    try:
        documents, left_out = read_docstore(path)
    except DataFileError:
        return
    finally:
        path.unlink()
    assert all(isinstance(document.text, str) for document in documents)
    assert left_out >= 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps([1, 2]),
        pickle.dumps(({}, {})),
        b"\x80\x04P1\n.",
        b"\x80\x04]r\xff\xff\xff\x7f.",  # a memo of 2**31 entries, which must not be allocated
        (SAVED / "index.pkl").read_bytes()[:-30],
    ],
)
def test_invalid_files(folder, tmp_path, content):
    (folder / "index.pkl").write_bytes(content)
    with pytest.raises(DataFileError, match=r"index\.pkl"):
        import_faiss(folder, tmp_path / "new")


def test_vectors_and_documents_must_match(folder, tmp_path):
    index = faiss.IndexFlatL2(16)
    index.add(np.zeros((2, 16), dtype=np.float32))
    faiss.write_index(index, str(folder / "index.faiss"))
    with pytest.raises(DataFileError, match="2 vectors for 3 documents"):
        import_faiss(folder, tmp_path / "new")
    (folder / "index.faiss").write_bytes(b"IxF2" + b"\xff" * 60)
    with pytest.raises(DataFileError, match=r"index\.faiss"):
        import_faiss(folder, tmp_path / "new")
    (folder / "index.faiss").unlink()
    with pytest.raises(DataFileError, match=r"index\.faiss"):
        import_faiss(folder, tmp_path / "new")


def test_zero_vectors_of_empty_texts_are_equal():
    embedder = HashingEmbedder(16)
    texts = ["", "dim the lamp"]
    documents, vectors = [Document(text) for text in texts], embedder.embed_documents(texts)
    assert not vectors[0].any()
    assert similarity(embedder, documents, vectors) == pytest.approx(1)


def test_another_embedder_is_rejected(tmp_path):
    with pytest.raises(InvalidInputError, match="hash:32"):
        import_faiss(SAVED, tmp_path / "new", embedder="hash:32")

    class Other(HashingEmbedder):
        def embed_documents(self, texts):
            return -super().embed_documents(texts)

    class Broken(HashingEmbedder):
        def embed_documents(self, texts):
            return np.full_like(super().embed_documents(texts), np.nan)

    for embedder, cosine in ((Other(16), "-1.000"), (Broken(16), "nan")):
        with pytest.raises(InvalidInputError, match=f"cosine {cosine}"):
            import_faiss(SAVED, tmp_path / "new", embedder=embedder)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mine").write_text("kept")
    with pytest.raises(InvalidInputError, match="is not empty"):
        import_faiss(SAVED, tmp_path / "new")
    assert (tmp_path / "new" / "mine").read_text() == "kept"


@pytest.mark.parametrize(
    ("factory", "metric", "expected"),
    [("Flat", faiss.METRIC_L2, "l2"), ("Flat", faiss.METRIC_INNER_PRODUCT, "ip"), ("IVF1,Flat", faiss.METRIC_L2, "l2")],
)
def test_metrics_and_kinds_of_indexes(folder, tmp_path, factory, metric, expected):
    vectors = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32) * 3
    old = faiss.index_factory(16, factory, metric)
    old.train(vectors)
    old.add(vectors)
    faiss.write_index(old, str(folder / "index.faiss"))
    report = import_faiss(folder, tmp_path / "new")
    assert report.metric == expected
    with Index.open(tmp_path / "new") as index:
        assert np.allclose(index.get_vectors_by_keys([0, 1, 2]), vectors)
    assert import_faiss(folder, tmp_path / "cosine", metric="cosine").metric == "cosine"
