"""Measure what the checks of an index cost: opening, the first search (cold) and later ones (warm), with and without.

``python benchmarks/reliability/check_costs.py --make`` writes the index, which takes 1.7 GB, and
``python benchmarks/reliability/check_costs.py`` measures and writes ``results/check_costs.json``. Every measurement is
made in a process of its own. "Disk": the files of the index are dropped from the page cache first. "Memory": they are
in it. The figures are the best of several rounds, which other processes disturb least.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xxhash
from damaged_folders import processor

from ragkit import Document, Index
from ragkit.index._array_file import Blocks
from ragkit.index._database import Database

RESULTS = Path(__file__).resolve().parent / "results" / "check_costs.json"
ROWS, DIM, BATCH = 1_000_000, 384, 20_000
WARM = 10


def make(folder: Path) -> None:
    """Write an index of random vectors, with a short text each."""
    rng = np.random.default_rng(0)
    with Index.create(folder, embedder=None, dim=DIM, factory="flat") as index:
        for start in range(0, ROWS, BATCH):
            vectors = rng.standard_normal((BATCH, DIM), dtype=np.float32)
            texts = [Document(f"document {n}", id=str(n)) for n in range(start, start + BATCH)]
            index.add(texts, vectors=vectors, batch_size=BATCH)


def drop_from_page_cache(folder: Path) -> None:
    """Let the next reads of all files come from the disk."""
    os.sync()
    for path in folder.iterdir():
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def one(folder: Path, *, checked: bool) -> dict[str, float]:
    """Open the index and search it, in this process.

    Returns:
        Seconds of opening, of the first search and of a later one (the median).
    """
    import faiss  # noqa: F401 - whose import is not what is measured

    if not checked:
        Blocks._check = lambda _self, _blocks: None  # type: ignore[method-assign]
        Database.check = lambda _self, _stored: None  # type: ignore[method-assign]
    queries = np.random.default_rng(1).standard_normal((WARM + 1, DIM), dtype=np.float32)

    def search(number: int) -> None:
        _, keys = index.search_vectors(queries[number : number + 1], 10)
        index.get_by_keys(keys)

    started = time.perf_counter()
    index = Index.open(folder, device="cpu", read_only=True)
    opened = time.perf_counter() - started
    first, *later = [_seconds(lambda number=number: search(number)) for number in range(WARM + 1)]
    index.close()
    return {"open": opened, "cold": first, "warm": statistics.median(later)}


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def speeds() -> list[dict[str, object]]:
    """Gigabytes per second of checksums over blocks that are in memory but not in the processor's cache."""
    data = memoryview(np.random.default_rng(0).integers(0, 256, 2**28, dtype=np.uint8))
    functions: dict[str, Callable[[memoryview], object]] = {
        "xxhash xxh3_64": xxhash.xxh3_64_intdigest,
        "xxhash xxh64": xxhash.xxh64_intdigest,
        "zlib crc32": zlib.crc32,
    }
    found: list[dict[str, object]] = []
    for name, function in functions.items():
        for rows in (64, 256, 1024, 4096):
            size = rows * DIM * 4

            def over(function: Callable[[memoryview], object] = function, size: int = size) -> None:
                for start in range(0, len(data), size):
                    function(data[start : start + size])

            speed = len(data) / _seconds(over) / 1e9
            found.append({"checksum": name, "rows": rows, "block_bytes": size, "gb_per_second": round(speed, 2)})
    return found


def main() -> None:
    """Make the index, or measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "ragkit-check-costs")
    parser.add_argument("--make", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--disk-rounds", type=int, default=2, help="these take seconds each")
    parser.add_argument("--one", choices=["checked", "unchecked"], help="measure once, in this process")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.make:
        make(given.folder)
        return
    if given.one:
        print(json.dumps(one(given.folder, checked=given.one == "checked")))
        return
    runs: dict[str, list[dict[str, float]]] = {}
    for place, rounds in (("disk", given.disk_rounds), ("memory", given.rounds)):
        for _ in range(rounds):
            for mode in ("unchecked", "checked"):
                if place == "disk":
                    drop_from_page_cache(given.folder)
                line = [sys.executable, __file__, "--folder", str(given.folder), "--one", mode]
                done = subprocess.run(line, capture_output=True, text=True, check=True)
                runs.setdefault(f"{place}, {mode}", []).append(json.loads(done.stdout))
    seconds = {
        name: {part: round(min(run[part] for run in each), 5) for part in each[0]} for name, each in runs.items()
    }
    result = {
        "machine": {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version()},
        "rows": ROWS,
        "dim": DIM,
        "rounds": {"disk": given.disk_rounds, "memory": given.rounds},
        "seconds": seconds,
        "ratios": {
            f"{place}, {part}": round(seconds[f"{place}, checked"][part] / seconds[f"{place}, unchecked"][part], 3)
            for place in ("disk", "memory")
            for part in ("open", "cold", "warm")
        },
        "runs": runs,
        "checksums": speeds(),
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({"seconds": seconds, "ratios": result["ratios"]}, indent=1))


if __name__ == "__main__":
    main()
