"""An index whose writer is killed, whose disk is full, whose files change, and that is read while it is written."""

from __future__ import annotations

import os
import shutil
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from faults import DAMAGES, killed, no_file_past
from index_writer import (
    VECTORS,
    State,
    after,
    everything,
    finished,
    make,
    next_change,
    write_for_ever,
    wrong_vectors,
)
from tally import Tally

from ragkit import Document, Index
from ragkit.errors import RagkitError, RagkitWarning

FACTORIES = ("Flat", "IVF2,Flat")


def _verdict(found: State, allowed: list[State]) -> str:
    """What a state is beside those that it may be."""
    if found in allowed:
        return "recovered"
    kept = set(allowed[0]).intersection(*allowed)  # what must be there, whichever of them it is
    return "lost" if kept - set(found) else "wrong"


def killed_writer(rng: np.random.Generator, folder: Path, tally: Tally) -> None:
    """Kill a writer again and again; what was committed must be there, what was under way whole or not at all."""
    path, state = folder / "i", {}
    Index.create(path, embedder=None, dim=8, factory=str(rng.choice(FACTORIES))).close()
    for _ in range(20):
        turn, delay = int(rng.integers(2**31)), float(rng.uniform(0.0, 0.05))
        changes, under_way = finished(killed(partial(write_for_ever, path, turn), delay))
        for change in changes:
            state = after(state, change)
        allowed = [state] if under_way is None else [state, after(state, under_way)]
        with Index.open(path, verify=True) as index:
            found = everything(index)
            verdict = _verdict(found, allowed)
            if verdict == "recovered" and (bad := wrong_vectors(index, found)):
                verdict = f"wrong vectors of {bad}"
        kind = "index: writer killed" + (f" in {under_way.split()[0]}" if under_way else " between changes")
        outcome = verdict if verdict in {"recovered", "lost"} else "wrong"
        tally.count(kind, outcome, f"{verdict}; turn {turn}, delay {delay}")
        state = found


def full_disk(rng: np.random.Generator, folder: Path, tally: Tally) -> None:
    """Write on a disk that fills up; a change that fails changes nothing, and the index goes on with room again."""
    path = folder / "i"
    state: State = {}
    with Index.create(path, embedder=None, dim=8, factory=str(rng.choice(FACTORIES))) as index:
        for round_number in range(12):
            largest = max(each.stat().st_size for each in path.iterdir())
            with no_file_past(largest + int(rng.integers(0, 30_000))):
                for step in range(6):
                    state = _change(index, next_change(rng, f"{round_number}.{step}"), state, tally)
            change = next_change(rng, f"{round_number}.again")
            make(index, change)  # with room again
            state = after(state, change)
            index.verify()
            if everything(index) != state or wrong_vectors(index, state):
                tally.count("index: disk full", "wrong", f"after room was made, round {round_number}")
                return
    with Index.open(path, verify=True) as again:
        if everything(again) != state:
            tally.count("index: disk full", "lost", "what was opened again is not what was written")


def _change(index: Index, change: str, state: State, tally: Tally) -> State:
    kind = f"index: disk full in {change.split()[0]}"
    try:
        make(index, change)
    except (OSError, RagkitError):
        found = everything(index)
        verdict = _verdict(found, [state, after(state, change)])
        tally.count(kind, "noticed" if verdict == "recovered" else verdict, change)
        return found
    return after(state, change)


def damaged_files(rng: np.random.Generator, folder: Path, tally: Tally) -> None:
    """Change bytes of a closed index; using it is an error, or gives what it gave before."""
    whole, path = folder / "whole", folder / "i"
    with Index.create(whole, embedder=None, dim=8, factory=str(rng.choice(FACTORIES))) as index:
        index.index_field("lang")
        index.add(
            [Document(f"text {n}", id=f"d{n}", metadata={"lang": "en" if n % 2 else "fr", "n": n}) for n in range(64)],
            vectors=VECTORS,
        )
        index.compact()
        index.delete(["d3", "d9"])
        index.add([Document("later", id="d70")], vectors=VECTORS[:1])
        expected = _answers(index)
    names = sorted(each.name for each in whole.iterdir() if each.stat().st_size)
    for _ in range(60):
        name, kind = str(rng.choice(names)), str(rng.choice(list(DAMAGES)))
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(whole, path)
        before = (path / name).read_bytes()
        data = DAMAGES[kind](before, rng)
        (path / name).write_bytes(data)
        outcome = "harmless"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", RagkitWarning)
                with Index.open(path) as index:
                    if _answers(index) != expected:
                        outcome = "wrong"
        except (RagkitError, RagkitWarning):
            outcome = "noticed"
        tally.count(f"index: {kind}", outcome, name)


def _answers(index: Index) -> tuple[object, ...]:
    scores, keys = index.search_vectors(VECTORS[:9], 70)
    filtered = index.keys({"lang": "fr"}).tolist()
    return scores.tolist(), keys.tolist(), filtered, index.get([f"d{n}" for n in range(71)])


NAMES = [f"d{n}" for n in range(20)]


def _rewrite_for_ever(path: Path, report: int) -> None:
    """Write the same documents anew for ever, each time with the next number as their text."""
    index = Index.open(path)
    version = int(index.get(NAMES[:1])[0].text)
    for number in range(version + 1, 10**9):
        index.add([Document(str(number), id=name) for name in NAMES], vectors=VECTORS[: len(NAMES)])
        os.write(report, f"{number}\n".encode())
        if number % 9 == 0:
            index.compact()


def threads_of_one_process(rng: np.random.Generator, folder: Path, tally: Tally) -> None:
    """Search from several threads while another one adds, deletes and compacts on a disk that is full at times."""
    path, told, kind = folder / "i", list[str](), "index: threads read while one writes on a full disk"
    with Index.create(path, embedder=None, dim=8) as index:
        index.add([Document("0", id=name) for name in NAMES], vectors=VECTORS[: len(NAMES)])
        stop = threading.Event()
        threads = [threading.Thread(target=_read, args=(index, told.append, stop)) for _ in range(4)]
        for thread in threads:
            thread.start()
        number = 0
        for _ in range(12):
            room = max(each.stat().st_size for each in path.iterdir()) + int(rng.integers(0, 400_000))
            with no_file_past(room):
                for _ in range(8):
                    try:
                        index.add([Document(str(number + 1), id=name) for name in NAMES], vectors=VECTORS[:20])
                        number += 1
                        index.compact()
                    except (OSError, RagkitError):
                        number = int(index.get(NAMES[:1])[0].text)
                        tally.count(kind, "noticed")
            index.compact()
        stop.set()
        for thread in threads:
            thread.join()
    _count_reads(told, kind, tally)
    with Index.open(path, verify=True) as index:
        if {document.text for document in index.get(NAMES)} != {str(number)}:
            tally.count(kind, "lost", f"{number} was written last")


def _count_reads(told: list[str], kind: str, tally: Tally) -> None:
    """Count what readers told as one, or else each of what was not as it should be."""
    bad = [line for line in told if line != "ok"]
    for line in bad:
        tally.count(kind, line.split(":")[0], line)
    if told and not bad:
        tally.count(kind, "recovered")


def read_while_written(rng: np.random.Generator, folder: Path, tally: Tally) -> None:
    """Search from several threads while another process writes and is killed; every answer is of one commit."""
    path = folder / "i"
    with Index.create(path, embedder=None, dim=8) as index:
        index.add([Document("0", id=name) for name in NAMES], vectors=VECTORS[: len(NAMES)])
    for _ in range(5):
        reader_end, writer_end = os.pipe()
        reading = os.fork()
        if not reading:
            os.close(reader_end)
            try:
                _read_for_ever(path, writer_end)
            finally:
                os._exit(1)
        os.close(writer_end)
        lines = killed(partial(_rewrite_for_ever, path), float(rng.uniform(0.1, 0.6)))
        time.sleep(0.05)
        os.kill(reading, 15)
        os.waitpid(reading, 0)
        with os.fdopen(reader_end) as report:
            told = report.read().splitlines()  # a kill cuts no line, as each is one write
        _count_reads(told, "index: read while another process writes", tally)
        with Index.open(path, verify=True) as index:
            found = {int(document.text) for document in index.get(NAMES)}
        last = int(lines[-1]) if lines else 0
        fine = found in ({last}, {last + 1}) or not lines
        tally.count("index: writer killed under readers", "recovered" if fine else "lost", f"{found} after {last}")


def _read_for_ever(path: Path, report: int) -> None:
    with Index.open(path, read_only=True) as index:
        threads = [
            threading.Thread(
                target=_read, args=(index, lambda line: os.write(report, f"{line}\n".encode())), daemon=True
            )
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        threads[0].join()


def _read(index: Index, tell: Callable[[str], object], stop: threading.Event | None = None) -> None:
    """Search again and again; every answer has all documents, all of the same commit, and none older than before."""
    newest = 0
    while stop is None or not stop.is_set():
        try:
            rows = index.search_documents(VECTORS[:3], len(NAMES))
            texts = [{int(document.text) for *_, document in row} for row in rows]
        except Exception as error:  # noqa: BLE001 - told, whatever it is
            tell(f"unexplained: {error!r}")
            return
        if any(len(row) != len(NAMES) for row in rows) or any(text != texts[0] or len(text) > 1 for text in texts):
            tell(f"wrong: {texts}")
            return
        tell("ok" if min(texts[0]) >= newest else f"lost: {texts} after {newest}")
        newest = max(newest, *texts[0])
