"""Pools: the same bytes on every engine, whatever dies on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from faults import no_file_past
from hypothesis import given, settings
from hypothesis import strategies as st
from worker_tasks import NoStart, Spill, Squares, noted

from ragkit._extras import is_installed
from ragkit.embedders import HashingEmbedder
from ragkit.errors import InvalidInputError, MissingExtraError, MissingResultsError, RagkitWarning, WorkerError
from ragkit.workers import Batch, EmbedTexts, Missing, WorkerPool

BATCHES = [Batch([f"n{n}", f"n{n + 1}"], [n, n + 1]) for n in range(0, 24, 2)]
EXPECTED = [[n**2, (n + 1) ** 2] for n in range(0, 24, 2)]


def values(done):
    return [each.results.ravel().tolist() for each in done]


def shards_of(folder):
    return {path.name: path.read_bytes() for path in Path(folder).glob("*.shard")}


@pytest.mark.parametrize("array", [True, False])
def test_processes_give_the_bytes_of_this_process(tmp_path, array):
    work = Squares(str(tmp_path), array=array)
    here = WorkerPool("inline").map_batches(work, iter(BATCHES), folder=tmp_path / "inline")
    there = WorkerPool("process", workers=2).map_batches(work, iter(BATCHES), folder=tmp_path / "process")
    assert shards_of(tmp_path / "inline") == shards_of(tmp_path / "process")
    assert len(shards_of(tmp_path / "inline")) == len(BATCHES)
    assert [each.ids for each in there] == [batch.ids for batch in BATCHES] == [each.ids for each in here]
    if array:
        assert values(there) == values(here) == EXPECTED
        assert there[0].results.dtype == np.float32
    else:
        assert [each.results for each in there] == [each.results for each in here]
        assert there[1].results == [{"n": 2, "square": 4.0}, {"n": 3, "square": 9.0}]


def test_workers_start_once_and_have_their_threads(tmp_path):
    before = dict(os.environ)
    WorkerPool("process", workers=2, threads=3).map_batches(Squares(str(tmp_path), seconds=0.05), BATCHES)
    assert noted(tmp_path, "start") == ["3 PASSIVE", "3 PASSIVE"]
    assert dict(os.environ) == before


@pytest.mark.parametrize("harm", ["exit", "kill", "raise"])
def test_what_fails_once_is_tried_again(tmp_path, harm):
    done = WorkerPool("process").map_batches(Squares(str(tmp_path), once=9, harm=harm), BATCHES)
    assert values(done) == EXPECTED
    assert sorted(noted(tmp_path, "batch"), key=int) == sorted([*(str(n) for n in range(0, 24, 2)), "8"], key=int)


@pytest.mark.parametrize(
    ("engine", "harm", "reason"),
    [
        ("process", "kill", "the worker died (killed by SIGKILL)"),
        ("process", "exit", "the worker died (exit code 7)"),
        ("process", "raise", "ValueError: this batch is not liked"),
        ("inline", "raise", "ValueError: this batch is not liked"),
        ("inline", "short", "InvalidInputError: the work gave 1 results for 2 items; give one for each"),
        ("inline", "object", "must give an array or JSON values"),
    ],
)
def test_what_fails_always_is_given_up_and_named(tmp_path, engine, harm, reason):
    pool, folder = WorkerPool(engine, attempts=2), tmp_path / "shards"
    with pytest.raises(
        MissingResultsError, match="2 results are missing, in 1 batches that failed 2 times: 'n8', 'n9'"
    ) as told:
        pool.map_batches(Squares(str(tmp_path), always=9, harm=harm), BATCHES, folder=folder)
    assert values(told.value.done) == EXPECTED[:4] + EXPECTED[5:]
    (missing,) = told.value.missing
    assert (missing.ids, missing.attempts) == (["n8", "n9"], 2)
    assert reason in missing.reason
    (line,) = (folder / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(line) == {"ids": ["n8", "n9"], "attempts": 2, "reason": missing.reason}
    assert noted(tmp_path, "batch").count("8") == 2

    (tmp_path / "notes").unlink()  # the harm is mended: only what was missing is done, and the file goes
    assert values(pool.map_batches(Squares(str(tmp_path)), BATCHES, folder=folder)) == EXPECTED
    assert noted(tmp_path, "batch") == ["8"]
    assert not (folder / "quarantine.jsonl").exists()


def test_a_stream_gives_what_is_missing_in_its_place_and_can_be_left(tmp_path):
    pool = WorkerPool("process", attempts=1)
    ended = list(pool.stream(Squares(str(tmp_path), always=0, harm="raise"), BATCHES))
    assert ended[0] == Missing(["n0", "n1"], "ValueError: this batch is not liked", 1)
    assert values(ended[1:]) == EXPECTED[1:]
    read = []
    stream = pool.stream(Squares(str(tmp_path)), (read.append(batch) or batch for batch in BATCHES * 50))
    assert values([next(stream)]) == EXPECTED[:1]
    stream.close()
    assert len(read) <= 9  # it reads a little ahead, never all


def test_workers_that_cannot_start_end_the_run(tmp_path):
    with pytest.raises(WorkerError, match="a worker cannot start: RuntimeError: there is no model"):
        WorkerPool("process").map_batches(NoStart(), BATCHES)
    with pytest.raises(WorkerError, match=r"3 workers died before they were ready \(exit code 3\)"):
        WorkerPool("process").map_batches(NoStart("exit"), BATCHES)


def test_finished_work_is_not_repeated_by_any_engine(tmp_path):
    folder = tmp_path / "shards"
    WorkerPool("inline").map_batches(Squares(str(tmp_path)), BATCHES[:5], folder=folder)
    (tmp_path / "notes").unlink()
    assert values(WorkerPool("process").map_batches(Squares(str(tmp_path)), BATCHES, folder=folder)) == EXPECTED
    assert sorted(map(int, noted(tmp_path, "batch"))) == list(range(10, 24, 2))
    (tmp_path / "notes").unlink()
    renamed = [Batch([f"other {name}" for name in batch.ids], batch.items) for batch in BATCHES]
    done = WorkerPool("process").map_batches(Squares(str(tmp_path)), renamed, folder=folder)
    assert done[0].ids == ["other n0", "other n1"]
    assert not (tmp_path / "notes").exists()  # no worker was even started
    WorkerPool("inline").map_batches(Squares(str(tmp_path), fingerprint="others"), BATCHES[:1], folder=folder)
    assert noted(tmp_path, "batch") == ["0"]


SCRIPT = """
import sys
from ragkit.workers import Batch, WorkerPool
from worker_tasks import Squares
if __name__ == "__main__":
    batches = [Batch([f"n{n}", f"n{n + 1}"], [n, n + 1]) for n in range(0, 24, 2)]
    pool = WorkerPool(sys.argv[1], workers=2)
    pool.map_batches(Squares(sys.argv[2], seconds=0.2, last=23), batches, folder=sys.argv[2] + "/shards")
"""


def alive(process):
    """Children of a process that are alive."""
    return Path(f"/proc/{process}/task/{process}/children").read_text(encoding="utf-8").split()


@pytest.mark.parametrize(
    ("engine", "how"), [("inline", signal.SIGKILL), ("process", signal.SIGKILL), ("process", signal.SIGINT)]
)
def test_a_stopped_run_goes_on_and_leaves_no_worker(tmp_path, engine, how):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    run = subprocess.Popen(
        [sys.executable, script, engine, tmp_path], env=environment, stderr=subprocess.PIPE, start_new_session=True
    )
    while len(shards_of(tmp_path / "shards")) < 3:
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.01)
    workers = alive(run.pid)
    if how == signal.SIGINT:
        os.killpg(run.pid, how)  # as a terminal does
    else:
        run.kill()
    run.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while any(
        Path(f"/proc/{each}/cmdline").exists() and Path(f"/proc/{each}/cmdline").read_bytes() for each in workers
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    finished = shards_of(tmp_path / "shards")
    assert 3 <= len(finished) <= len(BATCHES)  # a busy machine may finish all of them before it stops
    (tmp_path / "notes").unlink(missing_ok=True)
    done = WorkerPool("process").map_batches(Squares(str(tmp_path)), BATCHES, folder=tmp_path / "shards")
    assert values(done) == EXPECTED
    assert len(noted(tmp_path, "batch")) == len(BATCHES) - len(finished)
    assert shards_of(tmp_path / "shards").items() >= finished.items()


@pytest.mark.parametrize("engine", ["inline", "process"])
def test_a_full_disk_loses_nothing_that_was_finished(tmp_path, engine):
    folder = tmp_path / "shards"
    large = Batch([str(n) for n in range(3000)], list(range(3000)))
    batches = [*BATCHES[:3], large, *BATCHES[3:]]
    with no_file_past(10_000), pytest.raises(OSError, match="File too large"):
        WorkerPool(engine).map_batches(Squares(str(tmp_path)), batches, folder=folder)
    kept = shards_of(folder)
    assert not list(folder.glob("*.partial"))
    (tmp_path / "notes").unlink()
    done = WorkerPool(engine).map_batches(Squares(str(tmp_path)), batches, folder=folder)
    assert values(done) == [*EXPECTED[:3], [float(np.float32(n) ** 2) for n in range(3000)], *EXPECTED[3:]]
    assert len(noted(tmp_path, "batch")) == len(batches) - len(kept)


def test_a_worker_without_room_does_not_use_up_the_attempts_of_all_batches(tmp_path):
    pool = WorkerPool("process", workers=2)
    done = pool.map_batches(Spill(str(tmp_path)), BATCHES, folder=tmp_path / "shards")
    assert values(done) == EXPECTED
    assert 1 <= len(noted(tmp_path, "full")) <= len(BATCHES)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:60] + b"x" + data[61:]]
)
def test_a_damaged_shard_is_made_again(tmp_path, damage):
    folder = tmp_path / "shards"
    pool = WorkerPool("inline")
    pool.map_batches(Squares(str(tmp_path)), BATCHES[:1], folder=folder)
    (path,) = folder.glob("*.shard")
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    with pytest.warns(RagkitWarning, match="is damaged; its batch is worked on again"):
        assert values(pool.map_batches(Squares(str(tmp_path)), BATCHES[:1], folder=folder)) == EXPECTED[:1]
    assert path.read_bytes() == whole


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class Same:
    fingerprint = "same"

    def start(self):
        return lambda items: items


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(json_values, max_size=4), max_size=4))
def test_values_go_through_unchanged(items):
    batches = [Batch([str(n) for n in range(len(each))], each) for each in items]
    assert [each.results for each in WorkerPool("inline").map_batches(Same(), batches)] == items


def test_embedding_in_workers_gives_the_embedders_vectors():
    texts = [["dim the lamp", "play a song"], ["what is the time"], []]
    batches = [Batch([str(n) for n in range(len(each))], each) for each in texts]
    done = WorkerPool("process").map_batches(EmbedTexts("hash:64"), batches)
    for each, asked in zip(done, texts, strict=True):
        assert np.array_equal(each.results, HashingEmbedder(64).embed_documents(asked))
    with pytest.raises(WorkerError, match="is hash:64:v2 in this worker, expected another"):
        WorkerPool("process").map_batches(EmbedTexts("hash:64", expected="another"), batches)


def test_wrong_arguments_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="`engine` must be one of"):
        WorkerPool("threads")
    with pytest.raises(InvalidInputError, match="`workers` must be a whole number of at least 1, got 0"):
        WorkerPool("process", workers=0)
    with pytest.raises(InvalidInputError, match="`address` is that of a Ray cluster"):
        WorkerPool("process", address="auto")
    with pytest.raises(InvalidInputError, match="1 ids for 2 items"):
        Batch(["a"], [1, 2])
    with pytest.raises(InvalidInputError, match="must be JSON values"):
        WorkerPool("inline").map_batches(Same(), [Batch(["a"], [object()])])
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInputError, match="cannot be made a folder of shards"):
        WorkerPool("inline").map_batches(Same(), [], folder=tmp_path / "file")


@pytest.mark.skipif(is_installed("ray"), reason="Ray is installed")
def test_ray_that_is_missing_is_named():
    with pytest.raises(MissingExtraError, match=r'pip install "ragkit-py\[ray\]"'):
        WorkerPool("ray")
