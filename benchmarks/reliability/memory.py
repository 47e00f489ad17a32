"""Does memory grow where the data do not? A million adds, deletes, replacements and searches on one index.

After the first fifth the index holds as many documents as in the end: each round adds new ones, replaces some and
deletes as many as it added, and compacts now and then. Resident memory is read from the system after each round.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from time import perf_counter

os.environ.update(OMP_WAIT_POLICY="PASSIVE", OMP_NUM_THREADS="1")

import numpy as np

from ragkit import Document, Index

RESULTS = Path(__file__).parent / "results" / "memory.json"
DIM, BATCH = 64, 1000


def resident() -> dict[str, int]:
    """Bytes of memory that this process holds: its own, and pages of files that it has mapped."""
    found = {}
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name in {"RssAnon", "RssFile"}:
            found[name] = 1024 * int(value.split()[0])
    return found


def churn(folder: Path, adds: int, live: int) -> dict[str, object]:
    """Add, replace, delete and search, and note memory.

    Args:
        folder: Where the index lies.
        adds: Documents added in all, replacements among them.
        live: Documents that the index holds once it is full.

    Returns:
        Operations and memory, a row a round.
    """
    rng, rounds = np.random.default_rng(0), []
    done = {"adds": 0, "deletes": 0, "searches": 0}
    with Index.create(folder / "i", embedder=None, dim=DIM) as index:
        newest = 0
        while done["adds"] < adds:
            started, made = perf_counter(), 0
            while made < live and done["adds"] < adds:
                names = [f"d{newest + n}" for n in range(BATCH - BATCH // 5)]
                names += [f"d{int(n)}" for n in rng.integers(max(0, newest - live // 2), newest + 1, size=BATCH // 5)]
                names = list(dict.fromkeys(names))
                newest += BATCH - BATCH // 5
                vectors = rng.normal(size=(len(names), DIM)).astype(np.float32)
                documents = [Document(f"text of {name} {newest}", id=name, metadata={"n": newest}) for name in names]
                index.add(documents, vectors=vectors)
                index.search_vectors(vectors, k=5)
                index.search_documents(vectors[:20], k=5, where={"n": {"$gte": newest - 5000}})
                done["searches"] += len(names) + 20
                done["adds"] += len(names)
                made += len(names)
                if (excess := len(index) - live) > 0:
                    old = [f"d{n}" for n in range(newest - live - 2 * excess - BATCH, newest - live)]
                    done["deletes"] += index.delete([name for name in old if name not in names])
            index.compact()
            gc.collect()
            size = index.stats().bytes
            row = {**done, **resident(), "documents": len(index), "bytes": size, "seconds": perf_counter() - started}
            rounds.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    return {"rounds": rounds, **growth(rounds)}


def growth(rounds: list[dict[str, float]]) -> dict[str, float]:
    """How memory of the process's own changed from the first fifth of the rounds to the last.

    Returns:
        Means of both, their ratio, and bytes an operation in between.
    """
    fifth = max(1, len(rounds) // 5)
    early, late = rounds[fifth : 2 * fifth], rounds[-fifth:]
    before, after = (float(np.mean([row["RssAnon"] for row in part])) for part in (early, late))
    operations = sum(late[-1][name] - early[-1][name] for name in ("adds", "deletes", "searches"))
    return {
        "early_bytes": before,
        "late_bytes": after,
        "ratio": after / before,
        "bytes_an_operation": (after - before) / max(1, operations),
    }


def main() -> None:
    """Measure, write the results, and exit with 1 where memory grew by more than a tenth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adds", type=int, default=1_000_000)
    parser.add_argument("--live", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = churn(Path(folder), given.adds, given.live)
    machine = {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    given.out.parent.mkdir(exist_ok=True)
    given.out.write_text(json.dumps({"machine": machine, "dim": DIM, **found}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in found.items() if name != "rounds"}, indent=1))
    sys.exit(float(str(found["ratio"])) > 1.1)


if __name__ == "__main__":
    main()
