"""How long a pool takes, simulated: the model behind the hours in docs/scale.md, and how far it is from the clock.

The simulation follows `WorkerPool.stream` event by event: batches are read ahead a bounded way, each worker has one in
hand, and one process sends, keeps and gives back in order. Its four numbers are measured one by one (a batch in a
worker, a start, what the one process does for a batch before and after), never fitted to the runs that it predicts.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import tempfile
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

RESULTS = Path(__file__).parent / "results" / "simulation.json"
AHEAD = 4  # batches that a pool reads ahead for each worker
_READY, _ENDED, _DIED = range(3)


@dataclass(frozen=True, slots=True)
class Rates:
    """What a batch costs, in seconds by the clock.

    Attributes:
        work: A worker's, from receiving the items to having the results as bytes.
        start: From asking for a worker to its being ready.
        send: The one process's before a batch is under way.
        keep: The one process's for a batch that has come back: writing it down, giving it on.
    """

    work: float
    start: float
    send: float
    keep: float


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a simulated run took.

    Attributes:
        seconds: By the clock, from the call to the last batch given back.
        attempts: Batches that workers began, those that died with a worker included.
        writer_busy: Share of the time in which the one process had something to do.
    """

    seconds: float
    attempts: int
    writer_busy: float


def simulate(batches: int, workers: int, rates: Rates, *, dies_every: float | None = None, seed: int = 0) -> Simulated:
    """Run a pool on paper.

    Args:
        batches: How many.
        workers: How many, all asked for at once.
        rates: What a batch costs.
        dies_every: Mean seconds that a worker lives, exponentially distributed, None for ever; it is replaced, and its
            batch tried again.
        seed: For when workers die.

    Returns:
        What it took.
    """
    rng = Random(seed)
    events = [(rates.start, _READY, worker, -1) for worker in range(workers)]
    clock = busy = 0.0
    idle: deque[int] = deque()
    waiting: deque[int] = deque()
    ended: set[int] = set()
    first = read = attempts = 0
    while first < batches:
        while read < batches and read - first < AHEAD * workers:
            waiting.append(read)
            read += 1
        while idle and waiting:
            worker, place = idle.popleft(), waiting.popleft()
            clock, busy, attempts = clock + rates.send, busy + rates.send, attempts + 1
            death = rng.expovariate(1 / dies_every) if dies_every else math.inf
            kind = _DIED if death < rates.work else _ENDED
            heapq.heappush(events, (clock + min(death, rates.work), kind, worker, place))
        at, kind, worker, place = heapq.heappop(events)
        clock = max(clock, at)
        if kind == _DIED:
            waiting.appendleft(place)
            heapq.heappush(events, (clock + rates.start, _READY, worker, -1))
            continue
        idle.append(worker)
        if kind == _ENDED:
            clock, busy = clock + rates.keep, busy + rates.keep
            ended.add(place)
            while first in ended:
                ended.remove(first)
                first += 1
    return Simulated(clock, attempts, busy / clock)


def measured_rates(count: int, size: int) -> Rates:
    """Measure each number alone, by medians over batches."""
    from run import batches, passages

    from ragkit.workers import EmbedTexts, WorkerPool
    from ragkit.workers._batches import decode_results, encode_items, key_of, run_on
    from ragkit.workers._shards import Shards

    given, work = batches(passages(count), size), EmbedTexts("hash:384")
    function = work.start()
    seconds: dict[str, list[float]] = {"work": [], "send": [], "keep": []}
    with tempfile.TemporaryDirectory() as folder:
        shards = Shards(Path(folder))
        for batch in given:
            begin = perf_counter()
            items = encode_items(batch)
            key = key_of(work.fingerprint, items)
            shards.read(key)
            sent = perf_counter()
            results = run_on(function, items)
            back = perf_counter()
            shards.write(key, results)
            decode_results(results)
            seconds["send"].append(sent - begin)
            seconds["work"].append(back - sent)
            seconds["keep"].append(perf_counter() - back)
    middle = {name: median(values) for name, values in seconds.items()}
    starts = []
    for _ in range(5):
        began = perf_counter()
        WorkerPool("process", workers=1).map_batches(work, given[:1])
        starts.append(perf_counter() - began - middle["work"])
    return Rates(start=median(starts), **middle)


def by_the_clock(count: int, size: int, workers: int, rounds: int) -> float:
    from run import batches, passages

    from ragkit.workers import EmbedTexts, WorkerPool

    given = batches(passages(count), size)
    seconds = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            began = perf_counter()
            WorkerPool("process", workers=workers).map_batches(EmbedTexts("hash:384"), given, folder=folder)
            seconds.append(perf_counter() - began)
    return median(seconds)


def node_of_a_billion(start: float) -> list[dict[str, float | None]]:
    """One of four nodes of docs/scale.md: 250 million passages through MiniLM; one process adds them to its index."""
    workers = json.loads((RESULTS.parent / "workers.json").read_text())
    large = json.loads((RESULTS.parents[2] / "index" / "results" / "large.json").read_text())
    passages, size = 250_000_000, 4096
    added = max(large["flat"]["points"], key=lambda point: point["rows"])
    rates = Rates(
        work=size / workers["minilm"]["passages_a_cpu_second"],
        start=start,
        send=0.0,
        keep=size * added["build"]["add_cpu_s"] / added["rows"],
    )
    cases: list[dict[str, float | None]] = []
    for count, hours in ((64, None), (64, 6.0), (64, 1.0), (512, None), (2048, None), (4096, None)):
        ran = simulate(-(-passages // size), count, rates, dies_every=hours and hours * 3600)
        cases.append({"workers": count, "dies_every_hours": hours, **asdict(ran), "hours": ran.seconds / 3600})
        print(cases[-1], flush=True)
    return cases


def minilm_start() -> float:
    """Seconds until a process has loaded MiniLM and answered one text."""
    from ragkit.workers import Batch, EmbedTexts, WorkerPool

    began = perf_counter()
    WorkerPool("process", workers=1).map_batches(EmbedTexts("minilm"), [Batch(["a"], ["dim the lamp"])])
    return perf_counter() - began


def main() -> None:
    """Measure the rates, predict small runs, run them, and write both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=1024, help="passages a batch")
    given = parser.parse_args()
    rates = measured_rates(50_000, given.size)
    points = []
    for count in (10_000, 30_000, 100_000):
        for workers in (1, 2):
            predicted = simulate(math.ceil(count / given.size), workers, rates).seconds
            clock = by_the_clock(count, given.size, workers, given.rounds)
            points.append({"passages": count, "workers": workers, "predicted_s": predicted, "measured_s": clock})
            print(points[-1], f"{predicted / clock:.2f}", flush=True)
    result = {
        "machine": {"cores": os.cpu_count()},
        "batch": given.size,
        "rounds": given.rounds,
        "rates": asdict(rates),
        "points": points,
        "minilm_start_s": (start := minilm_start()),
        "node_of_a_billion": node_of_a_billion(start),
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
