"""The Ray engine on a cluster of two nodes: the same bytes as in this process, also when workers and nodes die."""

import os
import resource
import signal
import sys
import threading
import time

import numpy as np
import pytest
from worker_tasks import NoStart, Spill, Squares, noted

from ragkit.errors import MissingResultsError, WorkerError
from ragkit.workers import Batch, WorkerPool

ray = pytest.importorskip("ray", reason='Ray is not installed; run pip install -e ".[ray]"')
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

BATCHES = [Batch([f"n{n}", f"n{n + 1}"], [n, n + 1]) for n in range(0, 24, 2)]
EXPECTED = [[n**2, (n + 1) ** 2] for n in range(0, 24, 2)]


def values(done):
    return [each.results.ravel().tolist() for each in done]


def shards_of(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.shard")}


@pytest.fixture
def cluster(monkeypatch):
    """A head without processors and two nodes with one each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.nodes = [made.add_node(num_cpus=1), made.add_node(num_cpus=1)]
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


def test_ray_gives_the_bytes_of_this_process_whatever_dies(tmp_path, cluster):
    pool = WorkerPool("ray", workers=2, address=cluster.address)
    WorkerPool("inline").map_batches(Squares(str(tmp_path)), BATCHES, folder=tmp_path / "inline")
    for harm in ("exit", "kill", "raise"):
        notes = tmp_path / harm
        notes.mkdir()
        done = pool.map_batches(Squares(str(notes), once=9, harm=harm), BATCHES, folder=notes / "shards")
        assert values(done) == EXPECTED
        assert [each.ids for each in done] == [batch.ids for batch in BATCHES]
        assert shards_of(notes / "shards") == shards_of(tmp_path / "inline")
        assert noted(notes, "start")[0] == "1 PASSIVE"
    assert not ray.is_initialized()


def test_a_batch_that_always_kills_its_worker_is_named(tmp_path, cluster):
    pool, folder = WorkerPool("ray", attempts=2, address=cluster.address), tmp_path / "shards"
    with pytest.raises(MissingResultsError, match="'n8', 'n9'") as told:
        pool.map_batches(Squares(str(tmp_path), always=9, harm="exit"), BATCHES, folder=folder)
    assert values(told.value.done) == EXPECTED[:4] + EXPECTED[5:]
    assert "the worker died (ActorDiedError" in told.value.missing[0].reason
    (tmp_path / "notes").unlink()
    assert values(WorkerPool("inline").map_batches(Squares(str(tmp_path)), BATCHES, folder=folder)) == EXPECTED
    assert noted(tmp_path, "batch") == ["8"]


def test_a_node_that_goes_takes_nothing_with_it(tmp_path, cluster):
    def remove_a_node():
        while len(shards_of(tmp_path / "shards")) < 3:
            time.sleep(0.05)
        cluster.remove_node(cluster.nodes[0], allow_graceful=False)

    remover = threading.Thread(target=remove_a_node)
    remover.start()
    pool = WorkerPool("ray", workers=2, address=cluster.address)
    done = pool.map_batches(Squares(str(tmp_path), seconds=0.5), BATCHES, folder=tmp_path / "shards")
    remover.join()
    assert values(done) == EXPECTED
    WorkerPool("inline").map_batches(Squares(str(tmp_path)), BATCHES, folder=tmp_path / "inline")
    assert shards_of(tmp_path / "shards") == shards_of(tmp_path / "inline")


def test_a_full_disk_on_one_node(tmp_path, cluster):
    WorkerPool("inline").map_batches(Squares(str(tmp_path)), BATCHES, folder=tmp_path / "inline")
    full = cluster.nodes[0].node_id
    pool = WorkerPool("ray", workers=2, address=cluster.address)
    folder = tmp_path / "shards"
    done = pool.map_batches(Spill(str(tmp_path), node=full), BATCHES, folder=folder)
    assert noted(tmp_path, "full")  # it was tried there, and the other node did it
    assert values(done) == EXPECTED
    assert shards_of(folder) == shards_of(tmp_path / "inline")
    assert not (folder / "quarantine.jsonl").exists()


def test_a_full_disk_where_shards_are_kept(tmp_path, cluster):
    large = Batch([str(n) for n in range(3000)], list(range(3000)))
    batches, folder = [*BATCHES[:3], large, *BATCHES[3:]], tmp_path / "shards"
    pool = WorkerPool("ray", workers=2, address=cluster.address)
    pool.map_batches(Squares(str(tmp_path)), BATCHES[:2], folder=folder)  # Ray's own files are open from here on
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with ray.init(cluster.address, log_to_driver=False, logging_level="ERROR"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # no file of this process grows past that
            with pytest.raises(OSError, match="File too large"):
                pool.map_batches(Squares(str(tmp_path)), batches, folder=folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    kept = shards_of(folder)
    assert len(kept) >= 2
    assert not list(folder.glob("*.partial"))
    done = pool.map_batches(Squares(str(tmp_path)), batches, folder=folder)
    assert values(done) == [*EXPECTED[:3], [float(np.float32(n) ** 2) for n in range(3000)], *EXPECTED[3:]]
    assert kept.items() <= shards_of(folder).items()


def test_work_that_cannot_start_ends_the_run_on_a_cluster_started_here(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    with pytest.raises(WorkerError, match="a worker cannot start: RuntimeError: there is no model"):
        WorkerPool("ray").map_batches(NoStart(), BATCHES)
    with pytest.raises(WorkerError, match="3 workers died before they were ready"):
        WorkerPool("ray").map_batches(NoStart("exit"), BATCHES)
    assert values(WorkerPool("ray", workers=1).map_batches(Squares(str(tmp_path)), BATCHES[:2])) == EXPECTED[:2]
    assert not ray.is_initialized()
