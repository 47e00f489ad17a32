"""Compaction that copies nothing where nothing was removed, and segments that keep to half precision."""

import errno
import os
from pathlib import Path

import faiss
import numpy as np
import pytest
from exact_scores import clear_order

from ragkit import Document, Index
from ragkit.errors import InvalidInputError, RagkitWarning
from ragkit.index import _factories as factories
from ragkit.index import _segment as segment
from ragkit.index._array_file import ArrayFile, forget

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(600, 8)).astype(np.float32)


def filled(path, **options):
    index = Index.create(path, embedder=None, dim=8, **options)
    index.add([Document(f"text {n}", id=f"d{n}") for n in range(400)], vectors=VECTORS[:400])
    return index


def answers(index, k=5):
    _, keys = index.search_vectors(VECTORS[:50], k)
    return [[each.id for each in index.get_by_keys(row) if each] for row in keys]


def nearest(count, k=5, left_out=()):
    kept = np.setdiff1d(np.arange(count), list(left_out))
    return [[f"d{n}" for n in row] for row in kept[clear_order(VECTORS[kept], VECTORS[:50], k)]]


def test_files_without_removed_rows_are_not_copied(tmp_path):
    with filled(tmp_path / "i") as index:
        before = (tmp_path / "i" / "vectors-0.bin").stat().st_ino
        index.compact()
        assert sorted(path.name for path in (tmp_path / "i").glob("*.bin")) == [
            "ids-1.bin",
            "keys-1.bin",
            "vectors-1.bin",
        ]
        assert (tmp_path / "i" / "vectors-1.bin").stat().st_ino == before
        index.verify()
        index.add([Document(f"text {n}", id=f"d{n}") for n in range(400, 600)], vectors=VECTORS[400:])
        index.verify()
        assert answers(index) == nearest(600)
        index.delete(["d0", "d7"])
        index.compact()
        assert (tmp_path / "i" / "vectors-2.bin").stat().st_ino != before
        index.verify()
        assert answers(index) == nearest(600, left_out=(0, 7))
    with Index.open(tmp_path / "i", verify=True) as index:
        assert answers(index) == nearest(600, left_out=(0, 7))


@pytest.mark.parametrize("works", [0, 1])
def test_where_there_are_no_links_files_are_copied(tmp_path, monkeypatch, works):
    real, calls = os.link, []

    def link(*names):
        calls.append(names)
        if len(calls) > works:
            raise OSError(errno.EPERM, "no links here")
        real(*names)

    with filled(tmp_path / "i") as index:
        before = (tmp_path / "i" / "vectors-0.bin").stat().st_ino
        monkeypatch.setattr(os, "link", link)
        index.compact()
        assert len(calls) == works + 1
        assert (tmp_path / "i" / "vectors-1.bin").stat().st_ino != before
        index.verify()
        assert answers(index) == nearest(400)


def test_a_link_that_a_crash_left_behind_is_never_written_through(tmp_path):
    with filled(tmp_path / "i") as index:
        for name in ("vectors", "keys"):  # as a compaction that was killed before its commit leaves them
            os.link(tmp_path / "i" / f"{name}-0.bin", tmp_path / "i" / f"{name}-1.bin")
        index.delete([f"d{n}" for n in range(300)])
        with Index.open(tmp_path / "i", read_only=True) as reader:
            index.compact()  # copies, as rows were removed
            assert reader._store.state.facts["generation"] == 0
            assert np.allclose(
                reader._store.state.vectors.all()[399], VECTORS[399] / np.linalg.norm(VECTORS[399]), atol=1e-6
            )
        index.verify()
        assert answers(index) == nearest(400, left_out=range(300))


def test_half_precision_stays_half_precision(tmp_path, monkeypatch):
    monkeypatch.setattr(factories, "FLAT_UP_TO", 300)
    with filled(tmp_path / "i", dtype="float16") as index:
        exact, _ = index.search_vectors(VECTORS[:50], 5)
        index.compact()
        assert index.stats().factory == "IVF10,SQfp16"
        assert index.tune(target_recall=1.0)["recall"] == 1.0
        scores, _ = index.search_vectors(VECTORS[:50], 5)
        assert np.abs(scores - exact).max() < 1e-6  # as stored: nothing is rounded a second time
    with Index.open(tmp_path / "i") as index:
        assert index.stats().factory == "IVF10,SQfp16"
        assert answers(index) == nearest(400)


def test_a_segment_that_cannot_be_written_leaves_the_index_as_it_was(tmp_path, monkeypatch):
    with filled(tmp_path / "i", factory="IVF4,Flat") as index:

        def full(_, name):
            (tmp_path / "i" / Path(name).name).write_bytes(b"half")
            raise RuntimeError("write error in file: No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(faiss, "write_index", full)
            with pytest.raises(OSError, match="No space left on device"):
                index.compact()
        assert not list((tmp_path / "i").glob("*.partial"))
        assert answers(index) == nearest(400)
        index.verify()
        index.compact()
        assert index.stats().factory == "IVF4,Flat"
        index.verify()
    path = tmp_path / "i" / "segment-1.faiss"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(RagkitWarning, match="is not the file that was written"), Index.open(tmp_path / "i") as index:
        assert answers(index) == nearest(400)


def test_memory_of_a_mapped_file_is_let_go(tmp_path):
    file = ArrayFile(tmp_path / "a.bin", (1024,), "float32")
    values = RNG.normal(size=(4096, 1024)).astype(np.float32)
    file.write(0, values)
    view = file.view(4096)

    def mapped():
        with Path("/proc/self/status").open(encoding="utf-8") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("RssFile")) * 1024

    before = mapped()
    assert np.array_equal(view, values)
    assert mapped() - before > 0.9 * values.nbytes
    forget(view)
    assert mapped() - before < 0.1 * values.nbytes
    assert np.array_equal(view, values)
    forget(values)  # no mapped array: nothing happens


@pytest.mark.parametrize("euclidean", [False, True])
@pytest.mark.parametrize("factory", ["IVF16,SQfp16", "IVF16,Flat", "IVF16,PQ4x4", "IVF16,PQ4x4fs", "OPQ4,IVF16,Flat"])
def test_a_segment_is_what_faiss_fills_row_by_row(factory, euclidean, monkeypatch):
    """Lists that get their memory first hold the same bytes as those that grow."""
    monkeypatch.setattr(segment, "_CHUNK", 250)
    made = segment.Segment.build(VECTORS, factory, euclidean=euclidean).index
    plain = faiss.clone_index(made)
    plain.reset()
    for start in range(0, len(VECTORS), 250):
        plain.add(VECTORS[start : start + 250])
    assert faiss.serialize_index(made).tobytes() == faiss.serialize_index(plain).tobytes()


def test_tuning_asks_something(tmp_path):
    with filled(tmp_path / "i", factory="IVF4,Flat") as index:
        index.compact()
        with pytest.raises(InvalidInputError, match="`queries` is empty"):
            index.tune(queries=np.zeros((0, VECTORS.shape[1])))
        assert index.stats().tuned is None
