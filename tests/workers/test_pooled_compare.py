"""A comparison on workers: the results of one process but for seconds, whatever dies on the way."""

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import run as ragkit
from worker_tasks import note, noted

from ragkit import Example, Task, compare
from ragkit.errors import InvalidInputError, RagkitWarning, WorkerError
from ragkit.models._budget import Budget
from ragkit.workers import WorkerPool
from ragkit_pipelines.compare import CompareOptions
from ragkit_pipelines.compare.strategies.base import Outcome

WORDS = {"bank": ("card", "cash", "loan"), "food": ("cake", "soup", "rice")}
POOL = [Example(f"my {word} number {n}", label, metadata={"n": n}) for label in WORDS for word in WORDS[label]
        for n in range(4)]  # fmt: skip
TEST = [Example(f"the {word} please", label) for label in WORDS for word in WORDS[label]]
TASK = Task("Which is it?", POOL, TEST, "accuracy", labels=("bank", "food"))
SECONDS = {"seconds", "fit_seconds"}


@dataclass(frozen=True)
class Harmful:
    """Answers right, once it has killed as many workers as it is told to."""

    folder: str
    deaths: int
    name: str = "harmful"

    def run(self, setting):
        note(self.folder, f"run {len(setting.pool)}-{setting.seed}")
        if len(noted(self.folder, "run")) <= self.deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        return Outcome([row.output for row in setting.task.test], cost=0.0)


def without_seconds(value):
    if isinstance(value, dict):
        return {name: without_seconds(each) for name, each in value.items() if name not in SECONDS}
    return [without_seconds(each) for each in value] if isinstance(value, list) else value


def written(folder, *names):
    """The files of a comparison, their bytes but for seconds and the checksums over them."""
    contents = [json.loads((Path(folder) / name).read_text()) for name in names]
    for content in contents:
        content.pop("checksum", None)
        content.pop("recommendation", None)  # depends on seconds
    return [json.dumps(without_seconds(content)) for content in contents]


@pytest.mark.parametrize(
    ("names", "model"),
    [
        pytest.param(["majority", "tfidf", "vote:jaccard", "copy:random"], None, id="without a model"),
        pytest.param(["vote:embedding", "few-shot:random", "classifier-head", "lora"], "tiny", id="tiny",
                     marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_processes_give_the_results_of_this_process(tmp_path, names, model):
    asked = {"model": model, "embedder": "hash:64", "sizes": [6, 24, None], "seeds": [0]}
    here = compare(TASK, names, **asked, out=tmp_path / "here")
    there = compare(
        TASK, names, **asked, out=tmp_path / "there", options=CompareOptions(workers=WorkerPool("process", workers=2))
    )
    assert not any(row.error for row in there.results.rows)
    assert len(there.cells) == len(names) * 2  # 24 is the whole pool
    files = ("results.json", "items.json", "run.json")
    assert written(tmp_path / "there", *files) == written(tmp_path / "here", *files)
    assert [cell.model_dump(exclude={"row"}) for cell in there.cells] == [
        cell.model_dump(exclude={"row"}) for cell in here.cells
    ]
    assert not (tmp_path / "there" / "quarantine.jsonl").exists()


def test_a_worker_that_dies_is_replaced_and_nothing_finished_is_repeated(tmp_path):
    pool, strategies = WorkerPool("process", workers=2), ["majority", Harmful(str(tmp_path), deaths=1)]
    asked = {"embedder": "hash:64", "sizes": [6, None], "out": tmp_path / "out"}
    found = compare(TASK, strategies, **asked, options=CompareOptions(workers=pool))
    assert [(row.strategy, row.size, row.score) for row in found.results.rows][1::2] == [
        ("harmful", 6, 1.0),
        ("harmful", 24, 1.0),
    ]
    assert len(noted(tmp_path, "run")) == 3
    again = compare(TASK, strategies, **asked, options=CompareOptions(workers=pool))
    assert again.results == found.results  # seconds too: all of it was kept
    assert compare(TASK, strategies, **asked).results == found.results  # by any engine
    assert len(noted(tmp_path, "run")) == 3


def test_what_kills_every_worker_is_named_and_tried_again_by_the_next_call(tmp_path):
    pool, strategies = WorkerPool("process", attempts=2), [Harmful(str(tmp_path), deaths=2), "majority"]
    asked = {"embedder": "hash:64", "out": tmp_path / "out"}
    with pytest.warns(RagkitWarning, match="1 of 2 results are missing: harmful, pool 24, seed 0. The first reason"):
        found = compare(TASK, strategies, **asked, options=CompareOptions(workers=pool))
    harmful, majority = found.results.rows
    assert harmful.error == "WorkerError: the worker died (killed by SIGKILL), 2 times"
    assert (majority.error, majority.score) == (None, 0.5)
    (line,) = (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(line) == {"ids": ["harmful, pool 24, seed 0"], "attempts": 2,
                                "reason": "the worker died (killed by SIGKILL)"}  # fmt: skip
    mended = compare(TASK, strategies, **asked, options=CompareOptions(workers=pool))
    assert (mended.results.rows[0].error, mended.results.rows[0].score) == (None, 1.0)
    assert not (tmp_path / "out" / "quarantine.jsonl").exists()


def test_what_cannot_be_sent_to_a_worker_is_refused(tmp_path):
    pool = WorkerPool("process")
    with pytest.raises(InvalidInputError, match="`budget`"):
        compare(
            TASK,
            ["majority"],
            embedder="hash:64",
            budget=Budget(calls=1),
            options=CompareOptions(workers=pool),
            out=tmp_path / "a",
        )
    with pytest.raises(InvalidInputError, match="`embedder` must be a spec"):
        compare(TASK, ["majority"], embedder=object(), options=CompareOptions(workers=pool), out=tmp_path / "a")
    assert not (tmp_path / "a").exists()
    by_lambda = Task("", POOL, TEST, lambda answer, expected: 1.0, labels=("bank", "food"))
    with pytest.raises(WorkerError, match="the work cannot be sent to a process"):
        compare(by_lambda, ["majority"], embedder="hash:64", options=CompareOptions(workers=pool))


def test_the_command_line_compares_in_processes(tmp_path):
    rows = [
        {"input": row.input, "output": row.output, "split": split}
        for split, part in (("train", POOL), ("test", TEST))
        for row in part
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["compare", "--data", tmp_path / "rows.jsonl", "--strategies", "majority,vote:jaccard", "--embedder",
               "hash:64", "--sizes", "6,all", "--metric", "accuracy"]  # fmt: skip
    here = ragkit(*command, "--out", tmp_path / "here", "--json")
    there = ragkit(*command, "--out", tmp_path / "there", "--json", "--engine", "process", "--workers", 2)
    assert (here.returncode, there.returncode) == (0, 0), there.stderr
    assert without_seconds(json.loads(there.stdout)) == without_seconds(json.loads(here.stdout))
    again = ragkit("compare", "resume", tmp_path / "there", "--yes", "--json", "--engine", "process")
    assert json.loads(again.stdout) == json.loads(there.stdout)
    refused = ragkit(*command, "--out", tmp_path / "x", "--engine", "threads")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "`engine` must be one of" in refused.stderr
