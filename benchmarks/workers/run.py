"""What a pool costs beside one process, and how fast passages are embedded: the rates that docs/scale.md plans with."""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from random import Random
from time import perf_counter, process_time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from ragkit import Batch, EmbedTexts, Index, WorkerPool
from ragkit.extras import is_installed

RESULTS = Path(__file__).parent / "results" / "workers.json"
SENTENCE = "the lamp in the hall was dim when a song about the rain came on and nobody asked what time it was"
WORDS = SENTENCE.split()


def passages(count: int) -> list[str]:
    rng = Random(0)
    return [" ".join(rng.choices(WORDS, k=60)) for _ in range(count)]


def batches(texts: list[str], size: int) -> list[Batch]:
    parts = [texts[start : start + size] for start in range(0, len(texts), size)]
    return [Batch([f"{place}.{n}" for n in range(len(part))], part) for place, part in enumerate(parts)]


def measured(pool: WorkerPool, work: EmbedTexts, given: list[Batch]) -> tuple[float, dict[str, bytes]]:
    """Seconds with shards on disk, and the shards."""
    with tempfile.TemporaryDirectory() as folder:
        started = perf_counter()
        pool.map_batches(work, given, folder=folder)
        seconds = perf_counter() - started
        return seconds, {path.name: path.read_bytes() for path in Path(folder).glob("*.shard")}


def engines(count: int) -> dict[str, object]:
    given = batches(passages(count), 1024)
    work = EmbedTexts("hash:384")
    inline, expected = measured(WorkerPool("inline"), work, given)
    found: dict[str, object] = {"passages": count, "inline_s": inline}
    for name, workers in (("process", 1), ("process", 2), ("ray", 1), ("ray", 2)):
        if name == "ray" and not is_installed("ray"):
            continue
        seconds, shards = measured(WorkerPool(name, workers=workers), work, given)  # type: ignore[arg-type]
        found[f"{name}_{workers}"] = {
            "seconds": seconds,
            "of_inline": seconds / inline,
            "same_bytes": shards == expected,
        }
    return found


def minilm(count: int) -> dict[str, float]:
    """Seconds of the processor, which do not depend on what else the machine does; run with OMP_NUM_THREADS=1."""
    given = batches(passages(count), 64)
    function = EmbedTexts("minilm").start()
    function([given[0].items[0]])  # loads the model
    started = process_time()
    measured(WorkerPool("inline"), EmbedTexts("minilm"), given)
    return {"passages": count, "words_a_passage": 60, "passages_a_cpu_second": count / (process_time() - started)}


def stored(count: int) -> dict[str, float]:
    with (
        tempfile.TemporaryDirectory() as folder,
        Index.create(f"{folder}/i", embedder="hash:384", dtype="float16") as index,
    ):
        index.add(passages(count), pool=WorkerPool("process"))
        size = index.stats().bytes
    return {"passages": count, "bytes_a_passage": size / count, "text_bytes": sum(map(len, passages(count))) / count}


def main() -> None:
    """Measure and write the results."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    result = {
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "engines": engines(count),
        "minilm": minilm(512),
        "stored": stored(count // 5),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
