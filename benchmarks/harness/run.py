"""What the comparison itself costs beside the calls it makes, and what a kill costs it.

    python benchmarks/harness/run.py                       everything
    python benchmarks/harness/run.py kills bootstrap       some of it; the other results are kept

``local``      The CPU seconds of a `compare` outside of its calls to the model, relative to those inside, with ``tiny``
               and ``smollm2``. Selecting examples is timed separately and subtracted. Imports are not counted.
``http``       The seconds of a `compare` relative to those of the same calls, on a server that takes a fixed time for
               each answer, with eight calls at once.
``sweep``      20 strategies again from stored results, in a fresh process, with imports and loading of the models.
``bootstrap``  10,000 draws over 20 strategies, 5 seeds and 3,000 items, with all 190 differences.
``kills``      A comparison over HTTP is killed with signal 9 at 20 random calls and run again. A call is finished once
               its answer is stored. The server counts the requests.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter, process_time
from typing import Any

os.environ.update(OMP_WAIT_POLICY="PASSIVE", HF_HUB_OFFLINE="1", OPENAI_API_KEY="none")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import httpx
import numpy as np

from ragkit import Example, Task, compare, load_model
from ragkit.comparison import PairedBootstrap, support_requests
from ragkit.models import AnswerCache
from ragkit.models._sampling import Sampling
from ragkit.models._wrapper import ModelWrapper
from ragkit.protocols import AnyPrompt, LanguageModel
from ragkit.records import Completion
from ragkit.selectors import load_selector
from ragkit.tiny.domains import HOME, task_of

HERE = Path(__file__).parent
RESULTS = HERE / "results/harness.json"
LATENCY = 0.2  # seconds that the server takes for an answer; a hosted model takes longer
SWEEP = (
    "majority",
    *(f"copy:{name}" for name in ("random", "jaccard", "bm25", "tfidf", "ngram", "embedding")),
    *(f"vote:{name}" for name in ("random", "jaccard", "bm25", "tfidf", "ngram", "embedding")),
    *(f"vote:{name}@4" for name in ("jaccard", "bm25", "embedding")),
    "zero-shot",
    *(f"few-shot:{name}@2" for name in ("random", "jaccard", "bm25")),
)
ASKED = ("zero-shot", "few-shot:random@2", "few-shot:jaccard@2")


class Recorder(ModelWrapper):
    """Records the calls of a model, and their CPU seconds."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.calls: list[tuple[list[AnyPrompt], dict[str, Any]]] = []
        self.cpu = 0.0

    def _complete(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        self.calls.append((list(prompts), sampling.options()))
        started = process_time()
        try:
            return list(self.model.generate(list(prompts), **sampling.options()))
        finally:
            self.cpu += process_time() - started


@dataclass(frozen=True)
class Seconds:
    """What some work took."""

    wall: float
    cpu: float


def timed(work: Callable[[], object]) -> Seconds:
    wall, cpu = perf_counter(), process_time()
    work()
    return Seconds(perf_counter() - wall, process_time() - cpu)


def in_a_new_folder(task: Task, strategy: str, model: LanguageModel) -> None:
    with tempfile.TemporaryDirectory() as folder:
        compare(task, [strategy], model=model, embedder="hash:64", out=folder)


def choose(task: Task, strategy: str) -> None:
    """Choose the examples of all test rows, as the strategy does."""
    if strategy == "zero-shot":
        return
    selector, _, k = strategy.removeprefix("few-shot:").partition("@")
    load_selector(selector, task.examples, seed=0).select_many([row.input for row in task.test], int(k or 8))


def overhead_of(task: Task, strategy: str, model: LanguageModel, rounds: int) -> dict[str, Any]:
    """Compare the CPU seconds of a comparison outside and inside of its calls, after one run that imports.

    Both are parts of the same run, so their ratio does not depend on what other programs do between two runs.
    """
    in_a_new_folder(task, strategy, model)
    measured: list[tuple[float, float, float]] = []
    for _ in range(rounds):
        recorder = Recorder(model)
        whole = timed(lambda recorder=recorder: in_a_new_folder(task, strategy, recorder)).cpu  # type: ignore[misc]
        measured.append((recorder.cpu, whole, timed(lambda: choose(task, strategy)).cpu))
    inside, whole, chosen = (median(each) for each in zip(*measured, strict=True))
    outside = median(total - calls - own for calls, total, own in measured)
    return {
        "strategy": strategy, "calls": len(task.test), "rounds": rounds, "clock": "cpu", "bare_s": round(inside, 3),
        "whole_s": round(whole, 3), "selection_s": round(chosen, 3), "more_s": round(outside, 3),
        "overhead": round(median((total - calls - own) / calls for calls, total, own in measured), 4),
    }  # fmt: skip


def waiting_overhead_of(task: Task, strategy: str, model: LanguageModel, rounds: int) -> dict[str, Any]:
    """Compare the wall seconds of a comparison with those of the same calls, in turn and in changing order.

    The model is given all prompts at once, and divides them among its threads.
    """
    recorder = Recorder(model)
    in_a_new_folder(task, strategy, recorder)
    choose(task, strategy)
    prompts, options = [prompt for each, _ in recorder.calls for prompt in each], recorder.calls[0][1]

    def bare() -> None:
        model.generate(prompts, **options)

    def whole() -> None:
        in_a_new_folder(task, strategy, model)

    taken: dict[Callable[[], None], list[Seconds]] = {bare: [], whole: []}
    chosen = []
    for number in range(rounds):
        for work in (whole, bare) if number % 2 else (bare, whole):
            taken[work].append(timed(work))
        chosen.append(timed(lambda: choose(task, strategy)).wall)
    bare_s, whole_s = (median(each.wall for each in times) for times in taken.values())
    more = whole_s - median(chosen) - bare_s
    return {
        "strategy": strategy, "calls": len(task.test), "rounds": rounds, "clock": "wall", "bare_s": round(bare_s, 3),
        "whole_s": round(whole_s, 3), "selection_s": round(median(chosen), 3), "more_s": round(more, 3),
        "overhead": round(more / bare_s, 4),
    }  # fmt: skip


def local(rounds: int) -> dict[str, Any]:
    """Two models: with `tiny`, a call takes a few milliseconds, which no model that people use does."""
    support = support_requests()
    tasks = {
        "tiny": task_of(HOME, Random(0), pool=200, test=200),
        "smollm2": replace(support, test=list(support.test)[:40]),
    }
    return {
        "measured": [
            {"model": name, **overhead_of(task, strategy, load_model(name), rounds)}
            for name, task in tasks.items()
            for strategy in ("zero-shot", "few-shot:bm25")
        ]
    }


def http(rounds: int) -> dict[str, Any]:
    with serving(LATENCY) as address:
        model = load_model("openai:test", base_url=f"{address}/v1")
        measured = [waiting_overhead_of(parities(rows), "few-shot:random@2", model, rounds) for rows in (100, 1000)]
    return {"measured": measured, "latency_s": LATENCY, "at_once": 8}


def parities(rows: int) -> Task:
    """Whether a number is odd; the server guesses."""
    numbers = Random(0).sample(range(10_000, 99_999), rows + 50)
    examples = [Example(f"number {number}", "odd" if number % 2 else "even") for number in numbers]
    return Task("Odd or even?", examples[:50], examples[50:], metric="accuracy", labels=("even", "odd"), name="parity")


@contextmanager
def serving(seconds: float) -> Iterator[str]:
    process = subprocess.Popen([sys.executable, HERE / "server.py", str(seconds)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def sweep(rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--sweep-in", folder]
        times = []
        for _ in range(rounds + 1):
            before, started = os.times(), perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            after = os.times()
            cpu = after.children_user + after.children_system - before.children_user - before.children_system
            times.append((perf_counter() - started, cpu))
        rows = json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))["rows"]
        assert len(rows) == len(SWEEP) == 20
        assert not any(row["error"] for row in rows)
    return {
        "strategies": len(rows),
        "test_rows": rows[0]["n"],
        "first_run_s": round(times[0][0], 2),
        "again_s": round(median(wall for wall, _ in times[1:]), 2),
        "again_cpu_s": round(median(cpu for _, cpu in times[1:]), 2),
        "again_each": [{"wall_s": round(wall, 2), "cpu_s": round(cpu, 2)} for wall, cpu in times[1:]],
    }


def sweep_in(folder: Path) -> None:
    compare(task_of(HOME, Random(0), pool=200, test=100), SWEEP, model="tiny", out=folder)


def bootstrap(rounds: int) -> dict[str, Any]:
    scores = np.random.default_rng(0).integers(0, 2, (20, 5, 3000))
    PairedBootstrap(scores[:, :, :10]).difference(0, 1)  # scipy is imported here
    times = []
    for _ in range(rounds):
        wall, cpu = perf_counter(), process_time()
        boot = PairedBootstrap(scores)
        for a in range(20):
            for b in range(a):
                boot.difference(a, b)
        times.append((perf_counter() - wall, process_time() - cpu))
    return {
        "rounds": rounds,
        "wall_s": round(median(wall for wall, _ in times), 3),
        "cpu_s": round(median(cpu for _, cpu in times), 3),
    }


def kills(points: int) -> dict[str, Any]:
    """Kill a comparison at random calls and go on; compare with one that ran through."""
    rows = 60
    total = rows * len(ASKED)
    rng = Random(0)
    runs = []
    with serving(0.05) as address, tempfile.TemporaryDirectory() as scratch:
        through = Path(scratch) / "through"
        # Outside a git repository: a commit while this runs would be a difference of its own.
        subprocess.run(killed_command(address, through, rows), check=True, stdout=subprocess.DEVNULL, cwd=scratch)
        assert sum(asked(address).values()) == total
        expected = without_seconds(through)
        for number, point in enumerate(sorted(rng.sample(range(1, total), points))):
            runs.append(one_kill(address, Path(scratch) / str(number), rows, point, expected))
    return {
        "calls": total,
        "kills": len(runs),
        "finished_calls_repeated": sum(run["finished_repeated"] for run in runs),
        "calls_under_way_asked_again": sum(run["under_way_again"] for run in runs),
        "most_under_way_asked_again": max(run["under_way_again"] for run in runs),
        "same_result": sum(run["same_result"] for run in runs),
        "runs": runs,
    }


def killed_command(address: str, folder: Path, rows: int) -> list[str]:
    return [
        sys.executable,
        str(Path(__file__).resolve()),
        "--killed-in",
        str(folder),
        "--address",
        address,
        "--rows",
        str(rows),
    ]


def killed_in(folder: Path, address: str, rows: int) -> None:
    model = load_model("openai:test", base_url=f"{address}/v1")
    compare(parities(rows), ASKED, model=model, embedder="hash:64", out=folder)


def one_kill(address: str, folder: Path, rows: int, point: int, expected: object) -> dict[str, Any]:
    """Kill once `point` calls are answered, look at what was kept, and run again."""
    httpx.post(f"{address}/forget").raise_for_status()
    command = killed_command(address, folder, rows)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder.parent)
    while sum(asked(address, "answered").values()) < point:
        assert process.poll() is None, "the run was over before it could be killed"
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.2)  # what the server still has under way
    before = asked(address)
    kept = AnswerCache(folder / "answers.sqlite")
    finished = len(kept)
    kept.close()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder.parent)
    total = rows * len(ASKED)
    # Prompts differ, so each is one call. Those kept are not asked again, if and only if the rest is all that is asked.
    after = asked(address)
    again = sum((after - before).values())
    return {
        "answered_when_killed": point,
        "asked_before": sum(before.values()),
        "kept": finished,
        "asked_after": again,
        "finished_repeated": again - (total - finished),
        "under_way_again": sum(count > 1 for count in after.values()),
        "same_result": without_seconds(folder) == expected,
    }


def asked(address: str, what: str = "asked") -> Counter[str]:
    return Counter(httpx.get(f"{address}/asked").json()[what])


def without_seconds(folder: Path) -> object:
    """All that a comparison wrote for programs, but for measured seconds."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    for row in results["rows"]:
        del row["seconds"], row["fit_seconds"]
    return results, json.loads((folder / "items.json").read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("local", "http", "sweep", "bootstrap", "kills")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(parts)}; all if none is named")
    parser.add_argument("--rounds", type=int, default=5, help="times that each thing is measured")
    parser.add_argument("--points", type=int, default=20, help="kills")
    for name, kind in (("--sweep-in", Path), ("--killed-in", Path), ("--address", str), ("--rows", int)):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)  # what this script starts itself with
    given = parser.parse_args()
    if unknown := set(given.parts) - set(parts):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; expected some of {', '.join(parts)}")
    if given.rounds < 1 or given.points < 1:
        parser.error("--rounds and --points must be 1 or more")
    if given.sweep_in:
        sweep_in(given.sweep_in)
        return
    if given.killed_in:
        killed_in(given.killed_in, given.address, given.rows)
        return
    facts: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    for part in given.parts or parts:
        load = os.getloadavg()[0]
        measured = {
            "local": lambda: local(given.rounds),
            "http": lambda: http(given.rounds),
            "sweep": lambda: sweep(given.rounds),
            "bootstrap": lambda: bootstrap(given.rounds),
            "kills": lambda: kills(given.points),
        }[part]()
        facts[part] = {"load": round(load, 1), **measured}
        print(part, json.dumps({name: value for name, value in facts[part].items() if name != "runs"}, indent=1))
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
