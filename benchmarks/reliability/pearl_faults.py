"""PEARL whose process is killed, whose trace is damaged, whose disk is full."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from faults import DAMAGES, killed, no_file_past
from recorded_pearl import CountingModel, by_step, quick
from tally import Tally

from ragkit.errors import RagkitError
from ragkit.pearl import Pearl, Run, Trace
from ragkit_pipelines.pearl.run.trace import text_hash

PLAN = """New actions:
- None

1. a = ABOUT(CTX, "a") : Step A
2. b = ABOUT(CTX, "b") : Step B
3. c = COMPARE(CTX, a, "c") : Step C
4. d = COMPARE(CTX, b, "c") : Step D"""
QUESTIONS = [f"question {n}?" for n in range(12)]
TEXTS = [f"text {n}" for n in range(12)]
SLOW = 0.002


def _answer(prompt: str) -> str:
    return PLAN if prompt.endswith("?\n\n") else by_step(prompt) + " and more" * 40


def _run(path: Path | Trace, model: CountingModel, concurrency: int) -> list[Run]:
    return Pearl(model, executor=quick(concurrency=concurrency)).batch(QUESTIONS, TEXTS, trace=path)


def _run_and_tell(path: Path, concurrency: int, report: int) -> None:
    def told(prompt: str) -> str:
        os.write(report, (text_hash(prompt) + "\n").encode())
        return _answer(prompt)

    _run(path, CountingModel(told, seconds=SLOW), concurrency)


def _held(path: Path) -> set[str]:
    """Hashes of the prompts whose answers stand in whole lines of a trace."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    rows = map(json.loads, lines)
    return {row["prompt"] for row in rows if row["event"] == "call"}


def killed_run(rng: np.random.Generator, folder: Path, tally: Tally) -> None:
    """Kill a batch again and again and let it go on; no answer that was written is asked for again."""
    path, expected = folder / "trace.jsonl", [run.answer for run in _run(folder / "w", CountingModel(_answer), 1)]
    for _ in range(6):
        held, concurrency = _held(path), int(rng.choice([1, 4, 8]))
        lines = killed(partial(_run_and_tell, path, concurrency), float(rng.uniform(0.0, 0.1)))
        again = held & set(lines)
        unwritten = len(set(lines) - _held(path))
        outcome = "lost" if again or unwritten > concurrency else "recovered"
        tally.count("pearl: process killed", outcome, f"{len(again)} asked again, {unwritten} not written")
    held, model = _held(path), CountingModel(_answer)
    answers = [run.answer for run in _run(path, model, 4)]
    if answers != expected:
        tally.count("pearl: process killed", "wrong", f"{answers} instead of {expected}")
    if again := held & {text_hash(prompt) for prompt in model.asked}:
        tally.count("pearl: process killed", "lost", f"{len(again)} asked again in the end")


def damaged_trace(rng: np.random.Generator, folder: Path, tally: Tally) -> None:
    """Change bytes of a trace; it is an error, or the answers are right."""
    path = folder / "trace.jsonl"
    expected = _run(path, CountingModel(_answer), 1)
    last = Pearl(CountingModel(_answer), executor=quick()).resume(path).answer
    whole = path.read_bytes()
    for _ in range(25):
        kind = str(rng.choice(list(DAMAGES)))
        path.write_bytes(DAMAGES[kind](whole, rng))
        outcome = "harmless"
        try:
            model = CountingModel(_answer)
            resumed = Pearl(model, executor=quick()).resume(path)
            runs = _run(path, model, 1)
            if model.asked:
                outcome = "recovered"
            answered = [run.question for run in expected].index(resumed.question) >= 0
            same = [run.answer for run in runs] == [run.answer for run in expected]
            if not same or not answered or resumed.answer != last:  # all questions have the same steps and answer
                outcome = "wrong"
        except RagkitError:
            outcome = "noticed"
        tally.count(f"pearl: trace, {kind}", outcome)


def full_disk(rng: np.random.Generator, folder: Path, tally: Tally) -> None:
    """Run on a disk that fills up; it is an error, and with room again the same trace goes on."""
    path = folder / "trace.jsonl"
    expected = [run.answer for run in _run(folder / "whole.jsonl", CountingModel(_answer), 1)]
    size = (folder / "whole.jsonl").stat().st_size
    for _ in range(4):
        path.unlink(missing_ok=True)
        concurrency, outcome = int(rng.choice([1, 4])), "harmless"
        with Trace(path) as trace:
            try:
                with no_file_past(int(rng.integers(500, size))):
                    runs = _run(trace, CountingModel(_answer), concurrency)
                    done = [run.answer for run in runs if run.status == "done"]
                    outcome = "recovered" if len(done) == len(runs) else "noticed"
                    if set(done) - set(expected):
                        outcome = "wrong"
            except (OSError, RagkitError):
                outcome = "noticed"
            with suppress(RagkitError):
                _run(trace, CountingModel(_answer), concurrency)  # with room again, on the trace that is open
        held, model = _held(path), CountingModel(_answer)
        answers = [run.answer for run in _run(path, model, concurrency)]
        if answers != expected:
            outcome = "wrong"
        elif held & {text_hash(prompt) for prompt in model.asked}:
            outcome = "lost"
        tally.count("pearl: disk full", outcome, f"{answers}")
