"""What happens to an index when processes die, disks fill up and bytes change."""

import shutil
import sqlite3
import threading
import warnings
from contextlib import closing
from functools import partial

import numpy as np
import pytest
from exact_scores import clear_order
from faults import cut, flipped, killed, no_file_past, torn
from index_writer import VECTORS, after, everything, finished, write_for_ever, wrong_vectors

from ragkit import Document, Index
from ragkit.errors import CorruptIndexError, RagkitError, RagkitWarning
from ragkit.index import _store as store

RNG = np.random.default_rng(0)


def test_nothing_committed_is_lost_when_a_process_is_killed(tmp_path):
    folder = tmp_path / "i"
    Index.create(folder, embedder=None, dim=8).close()
    state, delays = {}, np.random.default_rng(1).uniform(0.0, 0.03, size=200)
    times_under_way = 0
    for turn, delay in enumerate(delays.tolist()):
        changes, under_way = finished(killed(partial(write_for_ever, folder, turn), delay))
        for change in changes:
            state = after(state, change)
        with Index.open(folder, verify=True) as index:
            found = everything(index)
            assert len(index) == len(found)
            assert not wrong_vectors(index, found)
        if under_way:  # all of it or nothing
            times_under_way += 1
            assert found in (state, after(state, under_way))
            state = found
        assert found == state
    assert times_under_way > 50


@pytest.mark.parametrize("what", ["add", "delete", "compact", "index_field"])
def test_a_stop_right_after_a_commit_loses_nothing(tmp_path, monkeypatch, what):
    index = Index.create(tmp_path / "i", embedder=None, dim=8)
    index.add([Document(f"first {n}", id=f"a{n}", metadata={"n": n}) for n in range(9)], vectors=VECTORS[:9])
    index.delete(["a3"])

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # committed, but this process does not know it yet
        patch.setattr(store, "load_state", stopped)
        changes = {
            "add": lambda: index.add([Document("second", id="b")], vectors=VECTORS[9:10]),
            "delete": lambda: index.delete(["a0"]),
            "compact": index.compact,
            "index_field": lambda: index.index_field("n"),
        }
        with pytest.raises(KeyboardInterrupt):
            changes[what]()
    index.add([Document("third", id="c")], vectors=VECTORS[10:11])
    index.delete(["a1"])
    index.verify()
    expected = {f"a{n}" for n in (0, 2, 4, 5, 6, 7, 8)} - ({"a0"} if what == "delete" else set())
    expected |= {"b", "c"} if what == "add" else {"c"}
    assert set(everything(index)) == expected
    _, keys = index.search_vectors(VECTORS[:9], 1)
    nearest = [document.id for document in index.get_by_keys(keys) if document]
    assert all(nearest[n] == f"a{n}" for n in range(9) if f"a{n}" in expected)
    index.close()
    with Index.open(tmp_path / "i", verify=True) as again:
        assert set(everything(again)) == expected


def test_a_full_disk_loses_nothing(tmp_path):
    folder = tmp_path / "i"
    index = Index.create(folder, embedder=None, dim=512)
    vectors = RNG.normal(size=(2000, 512)).astype(np.float32)
    index.add([str(n) for n in range(100)], vectors=vectors[:100])
    with no_file_past(1_000_000):
        with pytest.raises(OSError, match="File too large"):
            index.add([f"new {n}" for n in range(1000)], vectors=vectors[:1000])
        with pytest.raises(OSError, match="File too large"):
            index.add([f"more {n}" for n in range(1000)], vectors=vectors[:1000], batch_size=200)
        done = len(index)
        assert 100 <= done < 1100
        assert len(index.search_vectors(vectors[:1], done)[1][0]) == done
        index.verify()
    index.add([f"new {n}" for n in range(1000)], vectors=vectors[:1000])
    index.verify()
    index.close()
    with Index.open(folder, verify=True) as again:
        assert len(again) == done + 1000


def test_a_full_disk_is_an_error_of_the_system_in_every_part(tmp_path):
    with Index.create(tmp_path / "i", embedder=None, dim=8) as index:
        index.add([Document("a", id="a")], vectors=VECTORS[:1])
        with no_file_past(max(path.stat().st_size for path in index.path.iterdir())):
            with pytest.raises(OSError, match="make room and do it again, nothing of it is stored"):
                index.add([Document("x" * 100_000, id="b")], vectors=VECTORS[1:2])
            with pytest.raises(OSError, match="make room"):
                index.index_field("n" * 5000)
        index.verify()
        assert everything(index) == {"a": "a"}


def test_names_that_are_no_text_any_more_are_damage(tmp_path):
    with Index.create(tmp_path / "i", embedder=None, dim=8) as index:
        index.add(["a"], vectors=VECTORS[:1])
    path = tmp_path / "i" / "index.sqlite"
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE dead (row", b"CREATE TABLE dea\xed \xed\xed\xed"))
    with pytest.raises(CorruptIndexError) as caught:
        Index.open(tmp_path / "i")
    assert caught.value.path == path


def test_no_damage_stays_unnoticed(tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "i"
    with Index.create(whole, embedder=None, dim=8, factory="IVF2,Flat") as index:
        index.index_field("lang")
        documents = [
            Document(f"text {n}", id=f"d{n}", metadata={"lang": "en" if n % 2 else "fr", "n": n}) for n in range(64)
        ]
        index.add(documents, vectors=VECTORS)
        index.compact()
        index.delete(["d3", "d9"])
        index.add([Document("later", id="d70")], vectors=VECTORS[:1])
        expected = (index.search_vectors(VECTORS[:9], 70), index.get([f"d{n}" for n in range(71)]))
    names = sorted(path.name for path in whole.iterdir() if path.stat().st_size)
    assert {name.split("-")[0] for name in names} == {"ids", "index.sqlite", "keys", "segment", "vectors"}
    noticed = 0
    for trial in range(1000):
        rng = np.random.default_rng(trial)
        name = names[trial % len(names)]
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        path = folder / name
        damage = cut if trial % 10 == 0 else torn if trial % 10 == 1 else flipped
        path.write_bytes(damage(path.read_bytes(), rng))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", RagkitWarning)
                with Index.open(folder) as index:
                    found = (index.search_vectors(VECTORS[:9], 70), index.get([f"d{n}" for n in range(71)]))
        except (RagkitError, RagkitWarning):
            noticed += 1
            continue
        assert found[1] == expected[1], (trial, name)
        assert np.array_equal(found[0][1], expected[0][1]), (trial, name)
    assert noticed > 500


def test_a_damaged_cache_is_passed_over(tmp_path):
    with Index.create(tmp_path / "i", embedder=None, dim=8, factory="IVF2,Flat") as index:
        index.add([str(n) for n in range(64)], vectors=VECTORS)
        index.compact()
    path = tmp_path / "i" / "segment-1.faiss"
    path.write_bytes(path.read_bytes()[:-1])
    with Index.open(tmp_path / "i") as index:
        with pytest.warns(RagkitWarning, match="search is exact until `compact` rebuilds"):
            found = index.search_vectors(VECTORS[:5], 3)
        assert np.array_equal(found[1], clear_order(VECTORS, VECTORS[:5], 3))
        with pytest.raises(CorruptIndexError, match=r"segment-1\.faiss"):
            index.verify()
        index.compact()
        index.verify()
        assert index.stats().factory == "IVF2,Flat"


def test_a_removed_row_that_cannot_be_is_damage(tmp_path):
    with Index.create(tmp_path / "i", embedder=None, dim=8) as index:
        index.add(["a"], vectors=VECTORS[:1])
    for wrong in (99, 2**62):
        with closing(sqlite3.connect(tmp_path / "i" / "index.sqlite")) as connection, connection:
            connection.execute("DELETE FROM dead")
            connection.execute("INSERT INTO dead VALUES (?)", [wrong])
        with pytest.raises(CorruptIndexError):
            Index.open(tmp_path / "i")


def test_a_reader_that_opens_while_another_compacts(tmp_path, monkeypatch):
    with Index.create(tmp_path / "i", embedder=None, dim=8) as index:
        index.add([str(n) for n in range(9)], vectors=VECTORS[:9])
        index.delete([index.get_by_keys([0])[0].id])
        load, calls = store.load_state, []

        def late(folder, database, last):
            calls.append(folder)
            if len(calls) == 1:  # what the reader has seen is gone before it opens the files
                thread = threading.Thread(target=index.compact)
                thread.start()
                thread.join()
            return load(folder, database, last)

        monkeypatch.setattr(store, "load_state", late)
        with Index.open(tmp_path / "i", read_only=True) as reader:
            assert len(reader) == 8
            assert reader._store.state.facts["generation"] == 1
