"""What a pool costs beside one process, and how fast passages are embedded: the rates that docs/scale.md plans with.

Engines take turns, so that a slow moment of the machine meets all of them, and medians count. Beside wall seconds stand
CPU seconds of all processes that an engine has, which other work on the machine changes little.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter, process_time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from ragkit import Index
from ragkit._extras import is_installed
from ragkit.workers import Batch, EmbedTexts, WorkerPool

RESULTS = Path(__file__).parent / "results" / "workers.json"
SENTENCE = "the lamp in the hall was dim when a song about the rain came on and nobody asked what time it was"
WORDS = SENTENCE.split()
TICKS = os.sysconf("SC_CLK_TCK")


def passages(count: int, words: int = 60) -> list[str]:
    rng = Random(0)
    return [" ".join(rng.choices(WORDS, k=words)) for _ in range(count)]


def batches(texts: list[str], size: int) -> list[Batch]:
    parts = [texts[start : start + size] for start in range(0, len(texts), size)]
    return [Batch([f"{place}.{n}" for n in range(len(part))], part) for place, part in enumerate(parts)]


class CpuSeconds:
    """CPU seconds of this process and of all that come from it, read ten times a second while they live."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}
        self._first = self._read()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            self._last |= self._read()

    def _read(self) -> dict[int, int]:
        parents, ticks = {}, {}
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    stat = Path(entry.path, "stat").read_text(encoding="utf-8")
                except OSError:  # it has just ended
                    continue
                fields = stat.rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
                ticks[int(entry.name)] = int(fields[11]) + int(fields[12])
        own, grown = {os.getpid()}, True
        while grown:
            more = {one for one, parent in parents.items() if parent in own} - own
            own |= more
            grown = bool(more)
        return {one: ticks[one] for one in own}

    def end(self) -> float:
        self._stop.set()
        self._thread.join()
        self._last |= self._read()
        return sum(value - self._first.get(one, 0) for one, value in self._last.items()) / TICKS


def once(pool: WorkerPool, work: EmbedTexts, given: list[Batch]) -> dict[str, object]:
    """Seconds with shards on disk, and a hash of the shards."""
    with tempfile.TemporaryDirectory() as folder:
        cpu, started = CpuSeconds(), perf_counter()
        pool.map_batches(work, given, folder=folder)
        seconds = perf_counter() - started
        spent = cpu.end()
        digest = hashlib.sha256()
        for path in sorted(Path(folder).glob("*.shard")):
            digest.update(path.name.encode() + path.read_bytes())
        return {"seconds": seconds, "cpu_s": spent, "shards": digest.hexdigest()}


def engines(
    embedder: str, count: int, size: int, *, rounds: int, workers: tuple[int, ...], words: int = 60
) -> dict[str, object]:
    """Every engine in turn, its start included; Ray also on a cluster that runs already."""
    given, work = batches(passages(count, words), size), EmbedTexts(embedder)
    pools = {"inline": WorkerPool("inline")}
    pools |= {f"process_{n}": WorkerPool("process", workers=n) for n in workers}
    if is_installed("ray"):
        pools |= {f"ray_{n}": WorkerPool("ray", workers=n) for n in workers}
    ways: dict[str, Callable[[], dict[str, object]]] = {
        name: lambda pool=pool: once(pool, work, given)  # type: ignore[misc]
        for name, pool in pools.items()
    }
    if is_installed("ray"):
        ways["ray_2_on_a_running_cluster"] = lambda: on_running_cluster(work, given)
    runs: dict[str, list[dict[str, object]]] = {name: [] for name in ways}
    for place in range(rounds):
        for name, way in ways.items():
            runs[name].append(way())
            print(embedder, place, name, runs[name][-1], flush=True)

    def middle(name: str, what: str) -> float:
        return median(float(run[what]) for run in runs[name])  # type: ignore[arg-type]

    found: dict[str, object] = {"embedder": embedder, "passages": count, "words": words}
    found |= {"batch": size, "rounds": rounds}
    found["inline_s"], found["inline_cpu_s"] = middle("inline", "seconds"), middle("inline", "cpu_s")
    for name in ways:
        if name != "inline":
            found[name] = {
                "seconds": middle(name, "seconds"),
                "cpu_s": middle(name, "cpu_s"),
                "of_inline": middle(name, "seconds") / middle("inline", "seconds"),
                "cpu_of_inline": middle(name, "cpu_s") / middle("inline", "cpu_s"),
                "same_bytes": {run["shards"] for run in runs[name]} == {run["shards"] for run in runs["inline"]},
            }
    return found


def on_running_cluster(work: EmbedTexts, given: list[Batch]) -> dict[str, object]:
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init("local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        return once(WorkerPool("ray", workers=2), work, given)
    finally:
        ray.shutdown()


def minilm(count: int) -> dict[str, float]:
    """Passages a second of the processor, which do not depend on what else the machine does."""
    given = batches(passages(count), 64)
    function = EmbedTexts("minilm").start()
    function([given[0].items[0]])  # loads the model
    started = process_time()
    WorkerPool("inline").map_batches(EmbedTexts("minilm"), given)
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=["engines", "engines_minilm", "minilm", "stored"])
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--minilm-passages", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    result = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    result["machine"] = {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    parts: dict[str, Callable[[], object]] = {
        "engines": lambda: engines("hash:384", given.passages, 1024, rounds=given.rounds, workers=(1, 2)),
        "engines_minilm": lambda: engines("minilm", given.minilm_passages, 256, rounds=1, workers=(2,), words=12),
        "minilm": lambda: minilm(512),
        "stored": lambda: stored(8000),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    for name in given.only:
        result[name] = parts[name]()
        print(json.dumps({name: result[name]}, indent=1), flush=True)
        RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
