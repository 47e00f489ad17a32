"""The simulation of a pool, where its seconds can be had by hand."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "workers"))
from simulation import Rates, simulate


def test_one_worker_does_one_after_another():
    ran = simulate(10, 1, Rates(work=2.0, start=5.0, send=0.1, keep=0.3))
    # The first batch waits for the worker; while one is in hand nothing else can be done.
    assert ran.seconds == pytest.approx(5.0 + 10 * (0.1 + 2.0 + 0.3))
    assert ran.attempts == 10
    assert ran.writer_busy == pytest.approx(10 * 0.4 / ran.seconds)


@pytest.mark.parametrize(("batches", "workers", "rounds"), [(8, 4, 2), (9, 4, 3), (3, 8, 1)])
def test_workers_share_the_batches(batches, workers, rounds):
    assert simulate(batches, workers, Rates(2.0, 5.0, 0.0, 0.0)).seconds == pytest.approx(5.0 + rounds * 2.0)


def test_with_many_workers_the_one_process_is_the_limit():
    ran = simulate(1000, 500, Rates(work=1.0, start=0.0, send=0.01, keep=0.03))
    assert ran.seconds == pytest.approx(1000 * 0.04, rel=0.05)
    assert ran.writer_busy > 0.95


def test_workers_that_die_cost_attempts_and_nothing_else():
    rates = Rates(work=10.0, start=1.0, send=0.0, keep=0.0)
    ran = simulate(400, 4, rates, dies_every=100.0)
    # An attempt ends well with probability exp(-work / life); the tries are geometric.
    assert ran.attempts / 400 == pytest.approx(2.718281828 ** (10 / 100), rel=0.05)
    assert ran.seconds > simulate(400, 4, rates).seconds
    assert ran == simulate(400, 4, rates, dies_every=100.0)
