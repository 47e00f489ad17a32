"""The index beside raw FAISS and other stores on it: batches, single queries, filters, memory, building, growth.

One thread; ways take turns in one run and medians count. Peers are measured where they are installed
(``pip install langchain-community txtai faiss-haystack``). Results go to ``results/``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")

import faiss  # noqa: TID253
import numpy as np
from numpy.typing import NDArray

from ragkit import Document, Index

HERE = Path(__file__).parent
DIM, K, ROUNDS = 384, 10, 5
Vectors = NDArray[np.float32]


def random_vectors(count: int, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal(size=(count, DIM), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def in_turn(ways: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds of each way; they take turns, so that a slow moment of the machine meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, work in ways.items():
            started = perf_counter()
            work()
            times[name].append(perf_counter() - started)
    return {name: median(measured[1:]) for name, measured in times.items()}


@contextmanager
def tuned_faiss() -> Iterator[None]:
    before = faiss.cvar.distance_compute_blas_threshold
    faiss.cvar.distance_compute_blas_threshold = 1
    try:
        yield
    finally:
        faiss.cvar.distance_compute_blas_threshold = before


def documents(count: int) -> list[Document]:
    return [
        Document(f"text number {n}, with a few more words in it", id=f"id{n}", metadata={"part": n % 100, "lang": "en"})
        for n in range(count)
    ]


class Given:
    """Vectors that were computed before: a query is the number of its row."""

    name, fingerprint, dim = "given", "given", DIM

    def __init__(self, vectors: Vectors) -> None:
        self.vectors = vectors

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        return self.vectors[: len(texts)]

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self.vectors[[int(text) for text in texts]]


def searching(folder: Path, rows: int) -> dict[str, object]:
    vectors, queries = random_vectors(rows), random_vectors(1000, seed=1)
    index = Index.create(folder / "search", embedder=Given(queries))
    index.add(documents(rows), vectors=vectors)
    raw = faiss.IndexFlatIP(DIM)
    raw.add(vectors)
    scores, keys = index.search_vectors(queries, K)
    raw_scores, raw_rows = raw.search(queries, K)
    assert np.allclose(scores, raw_scores, atol=2e-6)
    assert np.mean(keys == raw_rows) > 0.999  # all but a few whose order float32 cannot tell
    facts: dict[str, object] = {"rows": rows}

    def raw_tuned(count: int) -> None:
        with tuned_faiss():
            raw.search(queries[:count], K)

    for count in (1, 8, 32, 64, 256, 1000):
        seconds = in_turn(
            {
                "ours": lambda n=count: index.search_vectors(queries[:n], K),  # type: ignore[misc]
                "raw": lambda n=count: raw.search(queries[:n], K),  # type: ignore[misc]
                "raw tuned": lambda n=count: raw_tuned(n),  # type: ignore[misc]
            }
        )
        best = min(seconds["raw"], seconds["raw tuned"])
        facts[f"batch_{count}"] = {
            "ours_ms": 1000 * seconds["ours"] / count,
            "raw_ms": 1000 * seconds["raw"] / count,
            "raw_tuned_ms": 1000 * seconds["raw tuned"] / count,
            "ratio": seconds["ours"] / best,
            "ratio_default": seconds["ours"] / seconds["raw"],
        }
    texts = [str(n) for n in range(100)]
    seconds = in_turn(
        {
            "texts": lambda: index.search(texts, K),
            "vectors": lambda: index.search_vectors(queries[:100], K),
        }
    )
    facts["texts_ms_more"] = 1000 * (seconds["texts"] - seconds["vectors"]) / len(texts)
    facts["filter"] = filtering(index, queries)
    index.close()
    facts["peers"] = peers(vectors, queries)
    return facts


def filtering(index: Index, queries: Vectors) -> dict[str, float]:
    started = perf_counter()
    found = index.search_vectors(queries[:1], K, where={"part": 7})[1]
    first = perf_counter() - started
    assert all(d is not None and d.metadata and d.metadata["part"] == 7 for d in index.get_by_keys(found))
    started = perf_counter()
    index.index_field("part")
    making = perf_counter() - started
    started = perf_counter()
    index.search_vectors(queries[:1], K, where={"part": 8})
    indexed = perf_counter() - started
    seconds = in_turn(
        {
            "filtered": lambda: index.search_vectors(queries, K, where={"part": 7}),
            "whole": lambda: index.search_vectors(queries, K),
        }
    )
    return {
        "ratio": seconds["filtered"] / seconds["whole"],
        "first_use_ms": 1000 * first,
        "first_use_indexed_ms": 1000 * indexed,
        "index_field_s": making,
    }


def peers(vectors: Vectors, queries: Vectors) -> dict[str, float]:
    """Milliseconds a query through other stores, the same vectors, where they are installed."""
    found: dict[str, float] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from langchain_community.vectorstores import FAISS
            from langchain_core.embeddings import Embeddings
        except ImportError:
            pass
        else:

            class Fixed(Embeddings):
                def embed_documents(self, texts: list[str]) -> list[list[float]]:
                    raise NotImplementedError

                def embed_query(self, text: str) -> list[float]:
                    return queries[int(text)].tolist()

            pairs = ((f"text {n}", vector) for n, vector in enumerate(vectors))
            store = FAISS.from_embeddings(pairs, Fixed(), distance_strategy="MAX_INNER_PRODUCT")
            retriever = store.as_retriever(search_kwargs={"k": K})
            asked = [str(n) for n in range(50)]
            found["langchain retriever.batch"] = 1000 * in_turn({"it": lambda: retriever.batch(asked)}, 3)["it"] / 50
        try:
            from txtai import Embeddings as Txtai
        except ImportError:
            pass
        else:
            txtai = Txtai(
                transform=lambda texts: np.stack([queries[int(text)] for text in texts]),
                dimensions=DIM,
                method="external",
                backend="faiss",
                faiss={"components": "IDMap,Flat"},
                content=False,
            )
            txtai.index([(n, vector, None) for n, vector in enumerate(vectors)])
            asked = [str(n) for n in range(1000)]
            found["txtai batchsearch"] = 1000 * in_turn({"it": lambda: txtai.batchsearch(asked, K)}, 3)["it"] / 1000
        try:
            from haystack.dataclasses import Document as HaystackDocument
            from haystack_integrations.document_stores.faiss import FAISSDocumentStore
        except ImportError:
            pass
        else:
            haystack = FAISSDocumentStore(index_string="Flat", embedding_dim=DIM)
            for start in range(0, len(vectors), 10_000):
                part = vectors[start : start + 10_000].tolist()
                haystack.write_documents(
                    [HaystackDocument(content=f"text {start + n}", embedding=row) for n, row in enumerate(part)]
                )
            listed = queries[:50].tolist()
            work = {"it": lambda: [haystack.search(row, K) for row in listed]}
            found["haystack FAISS search"] = 1000 * in_turn(work, 3)["it"] / 50
    return found


def single(rows: int = 1000) -> dict[str, float]:
    """Microseconds of one query on a small index, where only overhead shows."""
    vectors, query = random_vectors(rows), random_vectors(1, seed=1)
    index = Index.create(None, embedder=None, dim=DIM)
    index.add([str(n) for n in range(rows)], vectors=vectors)
    raw = faiss.IndexFlatIP(DIM)
    raw.add(vectors)
    seconds = in_turn(
        {
            "ours": lambda: [index.search_vectors(query, K) for _ in range(2000)],
            "raw": lambda: [raw.search(query, K) for _ in range(2000)],
        }
    )
    ours, theirs = (1e6 * seconds[name] / 2000 for name in ("ours", "raw"))
    return {"rows": rows, "ours_us": ours, "raw_us": theirs, "more_us": ours - theirs}


def building(folder: Path, rows: int) -> dict[str, float]:
    """Building beside raw FAISS that also writes, syncs and checksums the same bytes."""
    vectors, made = random_vectors(rows), documents(rows)

    def ours() -> None:
        shutil.rmtree(folder / "build", ignore_errors=True)
        with Index.create(folder / "build", embedder=None, dim=DIM) as index:
            index.add(made, vectors=vectors)

    def raw() -> None:
        index = faiss.IndexFlatIP(DIM)
        index.add(vectors)
        content = vectors.tobytes()
        zlib.crc32(content)
        write(folder / "raw.bin", content)

    def raw_and_documents() -> None:
        raw()
        (folder / "raw.sqlite").unlink(missing_ok=True)
        base = sqlite3.connect(folder / "raw.sqlite")
        base.execute("PRAGMA synchronous = FULL")
        base.execute("CREATE TABLE d (key INTEGER PRIMARY KEY, id TEXT UNIQUE, text TEXT, metadata TEXT)")
        values = ((n, each.id, each.text, json.dumps(each.metadata)) for n, each in enumerate(made))
        base.executemany("INSERT INTO d VALUES (?, ?, ?, ?)", values)
        base.commit()
        base.close()

    seconds = in_turn({"ours": ours, "raw": raw, "raw and documents": raw_and_documents}, 3)
    return {
        "rows": rows,
        "ours_s": seconds["ours"],
        "raw_s": seconds["raw"],
        "raw_and_documents_s": seconds["raw and documents"],
        "ratio": seconds["ours"] / seconds["raw"],
        "ratio_documents": seconds["ours"] / seconds["raw and documents"],
    }


def write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


MEMORY = """
import json, resource, sys
from time import perf_counter
import faiss, numpy as np
from ragkit import Index
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
queries = np.random.default_rng(1).normal(size=(256, 384)).astype(np.float32)
warm = Index.create(None, embedder=None, dim=384)
warm.add([str(n) for n in range(99)], vectors=np.random.default_rng(0).normal(size=(99, 384)))
warm.search_vectors(queries, 10)
before = resident()
started = perf_counter()
index = Index.open(sys.argv[1], read_only=True)
opened = perf_counter() - started
after_open = resident() - before
started = perf_counter()
index.search_vectors(queries, 10)
first = perf_counter() - started
started = perf_counter()
index.search_vectors(queries, 10)
print(json.dumps({"open_s": opened, "open_bytes": after_open, "resident_bytes": resident() - before,
                  "first_search_ms": 1000 * first / 256, "search_ms": 1000 * (perf_counter() - started) / 256,
                  "vector_bytes": index.stats().rows * 384 * 4}))
"""


def growth(folder: Path, most: int) -> list[dict[str, float]]:
    points = []
    sizes = [rows for rows in (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000) if rows <= most]
    for rows in sizes:
        path = folder / f"growth-{rows}"
        started = perf_counter()
        with Index.create(path, embedder=None, dim=DIM, factory="flat") as index:
            step = 100_000
            for start in range(0, rows, step):
                names = [Document("x", id=str(n)) for n in range(start, start + step)]
                index.add(names, vectors=random_vectors(step, seed=start))
        built = perf_counter() - started
        done = subprocess.run([sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True)
        point = {"rows": rows, "build_s": built, **json.loads(done.stdout)}
        point["resident_of_vectors"] = point["resident_bytes"] / point["vector_bytes"]
        points.append(point)
        print(point, flush=True)
        shutil.rmtree(path)
    return points


def plot(points: list[dict[str, float]]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(10, 3))
    named = (
        ("build_s", "seconds to build"),
        ("search_ms", "ms a query, batch of 256"),
        ("resident_bytes", "bytes resident"),
    )
    for one, (name, label) in zip(axes, named, strict=True):
        one.plot([p["rows"] for p in points], [p[name] for p in points], marker="o")
        one.set(xscale="log", yscale="log", xlabel="vectors", ylabel=label)
        one.grid(visible=True, which="both", alpha=0.3)
    figure.tight_layout()
    figure.savefig(HERE / "results/growth.svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=["search", "single", "build", "growth"])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--most", type=int, default=1_000_000, help="largest index of the growth curve")
    given = parser.parse_args()
    faiss.omp_set_num_threads(1)
    out = HERE / "results/index.json"
    out.parent.mkdir(exist_ok=True)
    facts = json.loads(out.read_text()) if out.is_file() else {}
    facts["machine"] = {
        "processor": platform.processor() or platform.machine(),
        "threads": 1,
        "faiss": faiss.__version__,
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * resource.getpagesize() / 2**30),
    }
    with tempfile.TemporaryDirectory(dir=HERE) as scratch:
        folder = Path(scratch)
        if "single" in given.only:
            facts["single"] = single()
        if "search" in given.only:
            facts["search"] = searching(folder, given.rows)
        if "build" in given.only:
            facts["build"] = building(folder, given.rows)
        print(json.dumps({name: value for name, value in facts.items() if name != "growth"}, indent=1), flush=True)
        if "growth" in given.only:
            facts["growth"] = growth(folder, given.most)
            plot(facts["growth"])
    out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
