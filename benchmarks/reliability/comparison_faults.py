"""A comparison whose process is killed, whose folder is damaged, whose disk is full."""

from __future__ import annotations

import gc
import os
import shutil
import time
from collections import Counter
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
from faults import DAMAGES, killed, no_file_past
from tally import Tally

from ragkit import ScriptedModel, compare
from ragkit.errors import RagkitError
from ragkit.tiny.domains import HOME, task_of
from ragkit_pipelines.pearl.run.trace import text_hash

TASK = task_of(HOME, Random(0), pool=20, test=60)
STRATEGIES = ["zero-shot", "few-shot:jaccard", "copy:bm25"]
GROUP = 32  # prompts that go to a model together


def _compare(out: Path, log: Path, *, seconds: float = 0.0) -> list[tuple[object, ...]]:
    """Run it, and give its rows without their times."""

    def answer(prompt: str) -> str:
        file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{text_hash(prompt)}\n".encode())
        os.close(file)
        time.sleep(seconds)
        return prompt.rsplit("Output:", 2)[-2][:12] if prompt.count("Output:") > 1 else " none"

    model = ScriptedModel(answer)
    found = compare(TASK, STRATEGIES, model=model, embedder="hash:8", sizes=[10, None], seeds=[0, 1], out=out)
    if bad := [row.error for row in found.results.rows if row.error]:
        raise OSError(bad[0])
    return [
        (row.strategy, row.size, row.seed, row.correct, row.prompt_tokens, row.completion_tokens)
        for row in found.results.rows
    ] + [tuple(each.answers) for each in found.items.answers]


def _run_and_tell(out: Path, log: Path, report: int) -> None:
    os.write(report, b"begin\n")
    _compare(out, log, seconds=0.001)


def _asked(log: Path) -> Counter[str]:
    return Counter(log.read_text(encoding="utf-8").splitlines()) if log.exists() else Counter()


def killed_comparison(rng: np.random.Generator, folder: Path, tally: Tally) -> None:
    """Kill it again and again and let it go on; the result is that of a quiet run, and little is asked twice."""
    expected = _compare(folder / "quiet", folder / "log")
    once = sum(_asked(folder / "log").values())
    log, out = folder / "calls", folder / "out"
    kills = 5
    for _ in range(kills):
        killed(partial(_run_and_tell, out, log), float(rng.uniform(0.01, 0.6)))
        tally.count("comparison: process killed", "recovered")
    if _compare(out, log) != expected:
        tally.count("comparison: process killed", "wrong", "the rows are others than those of a quiet run")
    total = sum(_asked(log).values())
    if total > once + kills * GROUP:
        tally.count("comparison: process killed", "lost", f"{total} calls instead of {once} and {kills} groups")


def damaged_folder(rng: np.random.Generator, folder: Path, tally: Tally) -> None:
    """Change bytes of what a comparison keeps; it is an error, or the same result."""
    whole, out, log = folder / "whole", folder / "out", folder / "log"
    expected = _compare(whole, log)
    gc.collect()  # closes the cache, whose log then becomes part of it
    for name in ("results.json", "items.json", "report.md", "run.json"):
        (whole / name).unlink()
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file() and path.stat().st_size)
    for _ in range(20):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(whole, out)
        kind, name = str(rng.choice(list(DAMAGES))), files[int(rng.integers(len(files)))]
        (out / name).write_bytes(DAMAGES[kind]((out / name).read_bytes(), rng))
        before = sum(_asked(log).values())
        try:
            found = _compare(out, log)
            outcome = "wrong" if found != expected else "recovered"
            if outcome == "recovered" and sum(_asked(log).values()) == before:
                outcome = "recovered" if name.suffix == ".json" else "harmless"
        except (RagkitError, OSError):
            outcome = "noticed"
        tally.count(f"comparison: {kind}", outcome, name)


def full_disk(rng: np.random.Generator, folder: Path, tally: Tally) -> None:
    """Run on a disk that fills up; it is an error, and with room again it goes on to the right result."""
    expected = _compare(folder / "quiet", folder / "log")
    for turn in range(3):
        out, log = folder / f"out{turn}", folder / f"log{turn}"
        try:
            with no_file_past(int(rng.integers(1_000, 60_000))):
                outcome = "recovered" if _compare(out, log) == expected else "wrong"
        except (OSError, RagkitError):
            outcome = "noticed"
        if _compare(out, log) != expected:
            outcome = "wrong"
        tally.count("comparison: disk full", outcome)
