"""Files of LangChain's in-memory store, and dates, UUIDs and paths in the pickle file of its FAISS store."""

import json
import pickle  # noqa: TID251 - to write the files of old folders
import shutil
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path, PurePosixPath, PureWindowsPath
from uuid import UUID

import numpy as np
import pytest
from command_line import run
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_pickles import SAVED, docstore_pickle

from ragkit import Document, Index
from ragkit.embedders import HashingEmbedder
from ragkit.errors import DataFileError, InvalidInputError
from ragkit.langchain import RagkitEmbeddings
from ragkit_pipelines.langchain.docstore_pickle import read_docstore
from ragkit_pipelines.langchain.import_faiss import import_faiss
from ragkit_pipelines.langchain.import_in_memory import import_in_memory

TEXTS = ["dim the lamp", "play a song — été"]
METADATA = [{"n": 1, "deep": {"a": [1, None]}}, {"lc": 1, "in": {"lc": 2, "x": [0.5]}, "list": [{"lc": 3}]}]


@pytest.fixture
def dump(tmp_path):
    store = InMemoryVectorStore.from_texts(TEXTS, RagkitEmbeddings("hash:32"), METADATA, ids=["a", "b"])
    store.dump(str(tmp_path / "dump.json"))
    return tmp_path / "dump.json"


def test_everything_is_imported(dump, tmp_path):
    report = import_in_memory(dump, tmp_path / "new", embedder="hash:32")
    assert (report.documents, report.dim, report.metric, report.kind) == (2, 32, "cosine", "InMemoryVectorStore")
    assert report.similarity > 0.9999
    with Index.open(tmp_path / "new") as index:
        expected = [Document(text, own, held) for text, own, held in zip(TEXTS, "ab", METADATA, strict=True)]
        assert index.get(["a", "b"]) == expected
        assert np.allclose(index.get_vectors(["a", "b"]), HashingEmbedder(32).embed_documents(TEXTS))


def test_the_command_line(dump, tmp_path):
    done = run("index", "import-langchain", dump, "--out", tmp_path / "new", "--embedder", "hash:32")
    assert done.returncode == 0, done.stderr
    assert "2 documents of 32 dimensions from InMemoryVectorStore" in done.stdout


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda _: "{", "is not valid JSON"),
        (lambda _: "[]", "must be a JSON object of documents"),
        (lambda _: "{}", "at least one document"),
        (lambda held: json.dumps({**held, "c": 3}), "the entry 'c' must have `text`"),
        (lambda held: json.dumps({"a": {**held["a"], "vector": [1.0]}, "b": held["b"]}), "the same length"),
        (lambda held: json.dumps({"a": {**held["a"], "vector": ["x"] * 32}}), "lists of numbers"),
        (lambda held: json.dumps({"a": {**held["a"], "vector": [float("nan")] * 32}}), "finite numbers"),
        (lambda held: json.dumps({"a": {**held["a"], "text": None}}), "`text`"),
    ],
)
def test_invalid_files(dump, tmp_path, change, says):
    dump.write_text(change(json.loads(dump.read_text())))
    with pytest.raises(DataFileError, match=says):
        import_in_memory(dump, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(DataFileError, match="cannot be read"):
        import_in_memory(tmp_path / "missing.json", tmp_path / "new")


VALUES = {
    "when": datetime(2024, 5, 1, 12, 30, 15, 123456, tzinfo=timezone(timedelta(hours=-2))),
    "utc": [datetime(1, 2, 3, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999)],
    "day": date(2024, 2, 29),
    "time": time(1, 2, 3, 4),
    "own": UUID("12345678-1234-5678-1234-567812345678"),
    "file": Path("/a/b c"),
    "windows": PureWindowsPath("C:/a/b"),
    "n": 1,
}


@pytest.fixture
def folder(tmp_path):
    """A folder whose only document has such metadata."""
    shutil.copytree(SAVED, tmp_path / "old")
    state = {"__dict__": {"page_content": "dim the lamp", "metadata": VALUES}}
    (tmp_path / "old" / "index.pkl").write_bytes(docstore_pickle(state))
    return tmp_path / "old"


@pytest.mark.parametrize("protocol", [4, 5])
def test_dates_uuids_and_paths_are_read(tmp_path, protocol):
    path = tmp_path / "index.pkl"
    path.write_bytes(docstore_pickle({"__dict__": {"page_content": "dim", "metadata": VALUES}}, protocol))
    (document,), _ = read_docstore(path)
    assert document.metadata == {**VALUES, "file": PurePosixPath("/a/b c")}


def test_dates_uuids_and_paths_as_text(folder, tmp_path):
    import faiss

    index = faiss.IndexFlatL2(16)
    index.add(HashingEmbedder(16).embed_documents(["dim the lamp"]))
    faiss.write_index(index, str(folder / "index.faiss"))
    with pytest.raises(InvalidInputError, match=r"document 'a': metadata\['when'\] is of type datetime, .*=.text."):
        import_faiss(folder, tmp_path / "new", embedder="hash:16")
    assert not (tmp_path / "new").exists()
    done = run("index", "import-langchain", folder, "--out", tmp_path / "new", "--metadata-conversion", "text")
    assert done.returncode == 0, done.stderr
    with Index.open(tmp_path / "new") as made:
        assert made.get(["a"])[0].metadata == {
            "when": "2024-05-01T12:30:15.123456-02:00",
            "utc": ["0001-02-03T00:00:00+00:00", "9999-12-31T23:59:59.999999"],
            "day": "2024-02-29",
            "time": "01:02:03.000004",
            "own": "12345678-1234-5678-1234-567812345678",
            "file": "/a/b c",
            "windows": "C:\\a\\b",
            "n": 1,
        }
    with pytest.raises(InvalidInputError, match="`metadata_conversion`"):
        import_faiss(folder, tmp_path / "other", metadata_conversion="iso")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\x07\xe8\x02\x1d", b"\x07\xe8\x02\x1e"),  # 30 February
        (b"\x07\xe8\x05\x01\x0c\x1e\x0f", b"\x07\xe8\x0d\x01\x0c\x1e\x0f"),  # month 13
        (b"\x01\x02\x03\x00\x00\x04", b"\x01\x62\x03\x00\x00\x04"),  # minute 98
    ],
)
def test_damaged_values(tmp_path, old, new):
    path = tmp_path / "index.pkl"
    content = docstore_pickle({"__dict__": {"page_content": "dim", "metadata": VALUES}})
    assert old in content
    path.write_bytes(content.replace(old, new))
    with pytest.raises(DataFileError, match=r"a value of type (date|datetime|time) is damaged"):
        read_docstore(path)


def test_metadata_that_is_nested_too_deeply(tmp_path):
    deep = []
    for _ in range(300):
        deep = [deep]
    path = tmp_path / "index.pkl"
    path.write_bytes(docstore_pickle({"__dict__": {"page_content": "dim", "metadata": {"x": deep}}}))
    with pytest.raises(DataFileError, match="nested more than 100 deep"):
        read_docstore(path)


def test_the_classes_of_such_values_are_not_called(tmp_path):
    """A pickle can call any of these classes with any arguments; only the recorded arguments are checked."""
    path = tmp_path / "index.pkl"
    for content in (b"cdatetime\ndatetime\n(S'x'\ntR.", b"cpathlib\nPosixPath\n(I1\ntR.", pickle.dumps(UUID(int=1))):
        path.write_bytes(content)
        with pytest.raises(DataFileError, match="contains other objects"):
            read_docstore(path)
