"""Damage at random to every kind of stored folder: the right answer, or an error of ragkit that names the file."""

import importlib
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from index_writer import VECTORS
from stored_folders import KINDS

from ragkit import Document, Index
from ragkit._files import read_arrays
from ragkit.errors import CorruptIndexError
from ragkit.index._array_file import BLOCK, Blocks, block_sums
from ragkit.index._checksum import checksum

FOLDER = Path(__file__).parents[2] / "benchmarks" / "reliability"
COPIES = {"adapter": 6, "comparison": 15}


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module("damaged_folders")


@pytest.mark.parametrize("name", KINDS)
def test_no_damage_gives_a_wrong_answer(script, name):
    found = script.run(name, COPIES.get(name, 40), 10_000)
    assert found["stories"] == []
    assert found["counts"]["noticed"] > 0


def test_the_script_sees_damage_that_is_not_checked(script, monkeypatch):
    monkeypatch.setattr(Blocks, "_check", lambda *_: None)
    assert script.run("index, exact", 60, 0)["stories"]


@pytest.fixture
def folder(tmp_path):
    with Index.create(tmp_path / "i", embedder=None, dim=8, factory="flat") as index:
        index.index_field("n")
        vectors = np.random.default_rng(0).normal(size=(3 * BLOCK, 8)).astype(np.float32)
        documents = [Document(f"text {n}", id=f"d{n}", metadata={"n": n % 5}) for n in range(3 * BLOCK)]
        index.add(documents, vectors=vectors)
    return tmp_path / "i"


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_only_the_blocks_that_are_read_are_checked(folder):
    flip(folder / "vectors-0.bin", 2 * BLOCK * 32 + 5)  # in the last of three blocks
    with Index.open(folder) as index:
        assert index.get_vectors(["d0", f"d{2 * BLOCK - 1}"]).any(axis=1).all()
        for read in (lambda: index.get_vectors([f"d{2 * BLOCK}"]), lambda: index.search_vectors(VECTORS[:1], 1)) * 2:
            with pytest.raises(CorruptIndexError) as caught:
                read()
            assert caught.value.path == folder / "vectors-0.bin"


def test_damage_is_not_sealed_by_a_later_commit(folder):
    with Index.open(folder) as index:
        index.add(["one more"], vectors=VECTORS[:1])  # the first of a new block
    flip(folder / "vectors-0.bin", 3 * BLOCK * 32)
    with Index.open(folder) as index:
        for write in (lambda: index.add(["another"], vectors=VECTORS[1:2]), index.compact):
            with pytest.raises(CorruptIndexError):
                write()
        assert len(index) == 3 * BLOCK + 1


@pytest.mark.parametrize(
    ("statement", "use"),
    [
        ("DELETE FROM documents WHERE id = 'd7'", lambda index: index.get(["d7"])),
        ("DELETE FROM documents WHERE id = 'd7'", lambda index: index.get_by_keys([7])),
        ("DELETE FROM documents WHERE id = 'd7'", lambda index: index.index_field("m")),
        ("DELETE FROM documents WHERE id = 'd7'", lambda index: index.add(["new"], vectors=VECTORS[:1]) and
         index.search_vectors(VECTORS[:1], 1, where={"m": {"$exists": False}})),
        ("DELETE FROM documents WHERE id = 'd7'", lambda index: index.add([Document("x", id="d7")],
                                                                          vectors=VECTORS[:1])),
        ("UPDATE documents SET text = 'other' WHERE id = 'd7'", lambda index: index.get(["d7"])),
        ("UPDATE documents SET row = 8 WHERE id = 'd7'", lambda index: index.get_vectors(["d7"])),
        ("UPDATE documents SET metadata = '{}' WHERE id = 'd7'", lambda index: index.keys({"n": 2, "m": None})),
        ("UPDATE documents SET hash = 1 WHERE id = 'd7'", lambda index: index.get(["d7"])),
        ("DELETE FROM facts WHERE document = 7", lambda index: index.keys({"n": 0})),
        ("UPDATE facts SET value = 0 WHERE document = 7", lambda index: index.keys({"n": {"$lt": 1}})),
        ("UPDATE facts SET document = 8 WHERE document = 7", lambda index: index.keys({"n": 2})),
        ("INSERT INTO dead VALUES (7)", len),
        ("DELETE FROM blocks WHERE file = 'ids-0'", lambda index: index.get(["missing"])),
        ("UPDATE blocks SET checksum = 'x' WHERE file = 'keys-0'", lambda index: index.keys()),
        ("UPDATE facts_of_index SET value = '12' WHERE name = 'rows'", len),
        ("DELETE FROM facts_of_index WHERE name = 'version'", len),
    ],
)  # fmt: skip
def test_a_changed_database_is_noticed(folder, statement, use):
    with closing(sqlite3.connect(folder / "index.sqlite")) as connection, connection:
        connection.execute(statement)
    with pytest.raises(CorruptIndexError) as caught, Index.open(folder) as index:
        use(index)
    assert caught.value.path.parent == folder


def test_the_checksums_of_facts_follow_every_change(folder):
    with Index.open(folder) as index:
        index.add([Document("other", id="d1", metadata={"n": [1, 2.5, None, "x"]})], vectors=VECTORS[:1])
        index.add([Document("text 2", id="d2", metadata={"n": True})], vectors=VECTORS[1:2])
        index.delete(["d3", "d4"])
        index.compact()
        index.delete(["d1"])
    with Index.open(folder, verify=True) as index:
        expected = [n for n in range(3 * BLOCK) if n % 5 == 2 and n != 2]
        assert [each.id for each in index.get_by_keys(index.keys({"n": 2}))] == [f"d{n}" for n in expected]


def test_ids_are_found_by_their_hashes_however_many_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr("ragkit.index._snapshot._UNSORTED", 10)
    vectors = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    with Index.create(tmp_path / "i", embedder=None, dim=8) as index:
        for start in range(0, 300, 30):  # each batch replaces half of the one before
            names = [f"d{n}" for n in range(start // 2, start // 2 + 30)]
            index.add([Document(f"{start}", id=name) for name in names], vectors=vectors[start : start + 30])
        index.verify()
        assert len(index) == 165
        assert {each.id: each.text for each in index.get([f"d{n}" for n in range(165)])} == {
            f"d{n}": str(30 * min(n // 15, 9)) for n in range(165)
        }


def test_checksums_of_blocks_do_not_depend_on_how_rows_were_added():
    rows = np.random.default_rng(0).integers(0, 2**60, 3 * BLOCK + 7)
    expected = {n: checksum(rows[n * BLOCK : (n + 1) * BLOCK].tobytes()) for n in range(4)}
    assert dict(block_sums(rows)) == expected
    found = {}
    for start, stop in ((0, 5), (5, BLOCK), (BLOCK, BLOCK + 9), (BLOCK + 9, 3 * BLOCK), (3 * BLOCK, len(rows))):
        found |= dict(block_sums(rows[start:stop], start, rows[start - start % BLOCK : start]))
    assert found == expected


def test_an_index_of_the_first_format_is_refused(folder):
    copy = folder.with_name("old")
    shutil.copytree(folder, copy)
    with closing(sqlite3.connect(copy / "index.sqlite")) as connection, connection:
        connection.execute("UPDATE facts_of_index SET value = '1' WHERE name = 'format'")
    with pytest.raises(Exception, match="create a new index and add its documents again"):
        Index.open(copy)


def test_every_byte_of_an_archive_of_arrays_is_checked(tmp_path):
    path, rng = tmp_path / "a.npz", np.random.default_rng(0)
    np.savez(path, weight=np.arange(12, dtype=np.float32).reshape(3, 4), bias=np.arange(3))
    whole, noticed = path.read_bytes(), 0
    expected = read_arrays(path)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            found = read_arrays(path)
        except ValueError:
            noticed += 1
            continue
        for name in found:  # a changed name in the directory of the archive leaves an array out
            assert np.array_equal(found[name], expected.get(name, found[name])), place
    assert noticed > len(whole) / 2
