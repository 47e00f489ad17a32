"""Copies of an index: saved in a folder, pickled, and made by ``copy.deepcopy``."""

import copy
import pickle  # noqa: TID251 - what users do with an index

import numpy as np
import pytest

from ragkit import Document, Index
from ragkit.embedders import HashingEmbedder
from ragkit.errors import IndexLockedError, InvalidInputError

DOCUMENTS = [Document(f"the word {n}", f"d{n}", {"n": n, "tags": ["a"]} if n % 2 else None) for n in range(50)]


@pytest.fixture
def index():
    with Index.create(None, embedder="hash:32", metric="ip", dtype="float16") as made:
        made.add(DOCUMENTS)
        made.delete(["d3", "d4"])
        made.index_field("n")
        yield made


def content(index):
    keys = index.keys()
    return index.get_by_keys(keys), index.get_vectors_by_keys(keys)


def same(one, other):
    (documents, vectors), (expected, stored) = content(one), content(other)
    settings = [(each.stats().metric, each.stats().dtype, each.stats().dim) for each in (one, other)]
    return documents == expected and np.array_equal(vectors, stored) and settings[0] == settings[1]


def test_saving(index, tmp_path):
    index.save(tmp_path / "a" / "s")
    with Index.open(tmp_path / "a" / "s", verify=True) as again:
        assert same(again, index)
        assert again.search("the word 7", k=1, where={"n": 7})[0].id == "d7"
        again.save(tmp_path / "a" / "s")  # its own folder
        again.add(["more"])
        again.save(tmp_path / "t")
        with pytest.raises(IndexLockedError):
            index.save(tmp_path / "a" / "s")
    with Index.open(tmp_path / "t") as other:
        assert len(other) == 49
    index.save(tmp_path / "t")
    with Index.open(tmp_path / "t", verify=True) as other:
        assert same(other, index)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "t"]


def test_a_folder_with_other_files_is_not_replaced(index, tmp_path):
    index.save(tmp_path / "s")
    (tmp_path / "s" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "s", tmp_path / "file"):
        with pytest.raises(InvalidInputError, match="neither an empty folder nor one with only an index"):
            index.save(path)
    assert (tmp_path / "s" / "notes.txt").read_text() == (tmp_path / "file").read_text() == "mine"
    with Index.open(tmp_path / "s") as kept:
        assert same(kept, index)


def test_the_old_index_is_kept_if_saving_fails(index, tmp_path, monkeypatch):
    index.save(tmp_path / "s")

    def fails(*_):
        raise OSError("no space left")

    monkeypatch.setattr("ragkit.index._copying.add_all", fails)
    with pytest.raises(OSError, match="no space"):
        index.save(tmp_path / "s")
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    with Index.open(tmp_path / "s", verify=True) as kept:
        assert same(kept, index)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])  # noqa: S301
def test_copies(index, tmp_path, copied):
    assert index.is_stored is False
    with copied(index) as again:
        assert same(again, index)
        again.add(["only here"])
        assert len(index) == 48
    index.save(tmp_path / "s")
    with Index.open(tmp_path / "s") as stored, copied(stored) as reader:
        assert stored.is_stored
        assert reader.read_only
        stored.add(["new"])
        assert len(reader.search("new", k=60)) == 49


def test_another_version_of_the_embedder_is_rejected():
    class Own(HashingEmbedder):
        version = "1"

        @property
        def fingerprint(self):
            return f"own:{Own.version}"

    with Index.create(None, embedder=Own(8)) as index:
        index.add(["a"])
        kind, arguments = index.__reduce__()
        assert len(kind(*arguments)) == 1
        Own.version = "2"
        with pytest.raises(InvalidInputError, match=r"\(own:2\) than where the index was pickled \(own:1\)"):
            kind(*arguments)
