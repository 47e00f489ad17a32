"""Ten million vectors on one machine: seconds and memory of building and searching, beside a hundred thousand.

Vectors are 384 numbers in half precision, made by a seed: some thousand directions with noise around them, so that
they have neighbours as texts do. Every size is built and searched in processes of its own, whose memory is read from
Linux: what is anonymous is theirs alone, what is file-backed is the mapped file, which the system takes back when it
needs the room. Answers are compared with a brute-force search in NumPy that shares no code with the index.

    nice -n 10 python benchmarks/index/large.py --rows 100000 1000000 10000000

Ten million take 10 GB of disk under --scratch while they are measured, 18 GB with an approximate part.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from itertools import pairwise
from pathlib import Path
from time import perf_counter, process_time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from ragkit import Document, Index

RESULTS = Path(__file__).parent / "results" / "large.json"
DIM, K, QUERIES, CHUNK = 384, 10, 256, 100_000
DIRECTIONS, NOISE = 20_000, 0.8
CLOSE = 2e-6  # scores nearer than this are a tie: sums of 384 products in float32 differ by as much
Vectors = NDArray[np.float32]


def directions() -> Vectors:
    return unit(np.random.default_rng(0).standard_normal(size=(DIRECTIONS, DIM), dtype=np.float32))


def made(count: int, seed: int, around: Vectors) -> Vectors:
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(size=(count, DIM), dtype=np.float32)
    noise *= NOISE / math.sqrt(DIM)
    noise += around[rng.integers(0, DIRECTIONS, count)]
    return unit(noise)


def unit(vectors: Vectors) -> Vectors:
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def queries(around: Vectors) -> Vectors:
    return made(QUERIES, 10**9, around)


class Memory:
    """The peaks of this process, read every fiftieth of a second."""

    def __init__(self) -> None:
        self.peaks = {"RssAnon": 0, "RssFile": 0, "VmHWM": 0}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self._look()

    def _look(self) -> None:
        with Path("/proc/self/status").open(encoding="utf-8") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name in self.peaks:
                    self.peaks[name] = max(self.peaks[name], int(value.split()[0]) * 1024)

    def end(self) -> dict[str, int]:
        self._stop.set()
        self._thread.join()
        self._look()
        return {
            "peak_bytes": self.peaks["VmHWM"],
            "peak_anonymous_bytes": self.peaks["RssAnon"],
            "peak_file_bytes": self.peaks["RssFile"],
        }


class Clock:
    """Wall and CPU seconds of the parts that are measured; making vectors is not among them."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> Clock:
        self._wall, self._cpu = perf_counter(), process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall += perf_counter() - self._wall
        self.cpu += process_time() - self._cpu


def build(folder: str, rows: int, factory: str) -> dict[str, object]:
    memory, adding, compacting, around = Memory(), Clock(), Clock(), directions()
    with Index.create(folder, embedder=None, dim=DIM, dtype="float16", factory=factory, device="cpu") as index:
        for start in range(0, rows, CHUNK):
            vectors = made(min(CHUNK, rows - start), start, around)
            with adding:
                index.add([Document("x", id=str(n)) for n in range(start, start + len(vectors))], vectors=vectors)
        if factory != "flat":
            with compacting:
                index.compact()
        facts = index.stats()
    found = {"add_s": adding.wall, "add_cpu_s": adding.cpu, "disk_bytes": facts.bytes, **memory.end()}
    if factory != "flat":
        found |= {"compact_s": compacting.wall, "compact_cpu_s": compacting.cpu, "built_as": facts.factory}
    return found


def search(folder: str, answers: str) -> dict[str, object]:
    asked, memory = queries(directions()), Memory()
    opening, first, again, single = Clock(), Clock(), Clock(), Clock()
    with opening:
        index = Index.open(folder, read_only=True, device="cpu")
    with first:
        index.search_vectors(asked, K)
    with again:
        scores, keys = index.search_vectors(asked, K)
    with single:
        for query in asked[:8]:
            index.search_vectors(query[None], K)
    documents = index.get_by_keys(keys[:, 0])
    assert [each.id for each in documents if each] == [str(key) for key in keys[:, 0].tolist()]
    index.close()
    np.savez(answers, scores=scores, keys=keys)
    return {
        "open_s": opening.wall,
        "first_batch_s": first.wall,
        "batch_s": again.wall,
        "batch_cpu_s": again.cpu,
        "ms_a_query_in_a_batch": 1000 * again.cpu / QUERIES,
        "ms_a_query_alone": 1000 * single.cpu / 8,
        **memory.end(),
    }


def brute_force(rows: int, spare: int = 40) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The best rows of each query and their scores in double precision, from vectors that are made anew."""
    around = directions()
    asked = queries(around)
    scores, places = np.zeros((QUERIES, 0)), np.zeros((QUERIES, 0), dtype=np.int64)
    for start in range(0, rows, CHUNK):
        vectors = made(min(CHUNK, rows - start), start, around).astype(np.float16).astype(np.float32)
        rough = asked @ vectors.T
        best = np.argpartition(-rough, spare, axis=1)[:, :spare]
        exact = np.einsum("qd,qkd->qk", asked.astype(np.float64), vectors[best].astype(np.float64))
        scores, places = np.concatenate([scores, exact], axis=1), np.concatenate([places, best + start], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :spare]
        scores, places = np.take_along_axis(scores, order, axis=1), np.take_along_axis(places, order, axis=1)
    return scores, places


def compared(answers: str, truth: tuple[NDArray[np.float64], NDArray[np.int64]]) -> dict[str, object]:
    """How the answers of the index differ from the true ones."""
    found = np.load(answers)
    scores, places = truth
    same = found["keys"] == places[:, :K]
    wrong = missed = 0
    for line, (got, at) in enumerate(zip(found["keys"], found["scores"], strict=True)):
        own = dict(zip(places[line].tolist(), scores[line].tolist(), strict=True))
        true = [own.get(int(key), -np.inf) for key in got]
        wrong += sum(abs(one - said) > CLOSE for one, said in zip(true, at, strict=True) if one > -np.inf)
        missed += sum(one < scores[line, K - 1] - CLOSE for one in true)
    return {
        "queries": QUERIES,
        "places": int(same.size),
        "places_as_brute_force": int(same.sum()),
        "neighbours_missed": int(missed),
        "scores_wrong": int(wrong),
        "recall": 1 - missed / same.size,
    }


def in_a_process(*arguments: object) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def growth(points: list[dict[str, object]]) -> dict[str, float]:
    """By what power of the rows each figure grows from one size to the next; 1 is in proportion."""
    named = (("build", "add_cpu_s"), ("search", "batch_cpu_s"), ("search", "peak_bytes"), ("build", "disk_bytes"))
    found = {}
    for before, after in pairwise(points):
        for part, name in named:
            ratio = after[part][name] / before[part][name]  # type: ignore[index]
            power = math.log(ratio) / math.log(after["rows"] / before["rows"])  # type: ignore[operator]
            found[f"{part} {name} {before['rows']}-{after['rows']}"] = round(power, 3)
    return found


def main() -> None:
    """Measure each size and write the results after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--factory", default="flat", help="flat, auto or a FAISS factory string")
    parser.add_argument("--scratch", type=Path, help="folder with room for the index; a temporary one if not given")
    given = parser.parse_args()
    result = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    result["machine"] = {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * resource.getpagesize(),
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "shared": "other work ran beside this: CPU seconds count, wall seconds are what they were",
    }
    result["vectors"] = {"dim": DIM, "dtype": "float16", "directions": DIRECTIONS, "noise": NOISE, "k": K}
    points = {point["rows"]: point for point in result.get(given.factory, {}).get("points", [])}
    for rows in given.rows:
        with tempfile.TemporaryDirectory(dir=given.scratch) as scratch:
            folder, answers = f"{scratch}/index", f"{scratch}/answers.npz"
            point: dict[str, object] = {"rows": rows, "build": in_a_process("build", folder, rows, given.factory)}
            point["search"] = in_a_process("search", folder, answers)
            shutil.rmtree(folder)
            point["checked"] = compared(answers, brute_force(rows))
        print(json.dumps(point, indent=1), flush=True)
        points[rows] = point
        in_order = [points[each] for each in sorted(points)]
        result[given.factory] = {"points": in_order, "grows_with_power": growth(in_order)}
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["build"]:
        print(json.dumps(build(sys.argv[2], int(sys.argv[3]), sys.argv[4])))
    elif sys.argv[1:2] == ["search"]:
        print(json.dumps(search(sys.argv[2], sys.argv[3])))
    else:
        main()
