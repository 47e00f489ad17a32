"""Threads, shared limits on concurrent calls, and cancellation."""

import subprocess
import sys
from concurrent.futures import Future
from threading import Event

import pytest

from ragkit.models._concurrency import Cancellation, Slots, in_parallel, in_thread


def test_parallel_results_keep_the_order_of_the_items():
    assert in_parallel(lambda n: n * n, range(50), threads=7) == [n * n for n in range(50)]
    assert in_parallel(str, [], threads=3) == []


def test_the_first_error_does_not_wait_for_items_that_hang():
    released, finished = Event(), []

    def work(item):
        if item == "fails":
            raise OSError(item)
        released.wait(20)
        finished.append(item)

    try:
        with pytest.raises(OSError, match="fails"):
            in_parallel(work, ["hangs", "fails"], threads=2)
        assert not finished
    finally:
        released.set()


def test_a_program_ends_while_a_call_hangs():
    code = "from threading import Event; from ragkit.models._concurrency import in_thread; in_thread(Event().wait)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_a_cancelled_waiter_gives_its_turn_to_the_next():
    slots, off, never = Slots(1), Cancellation(), Cancellation()

    def enter(cancellation):
        with slots.slot(cancellation) as acquired:
            return acquired

    with slots.slot(never) as acquired:
        cancelled, waiting = in_thread(lambda: enter(off)), in_thread(lambda: enter(never))
        off.cancel()
        assert (acquired, cancelled.result(60), waiting.done()) == (True, False, False)
    assert waiting.result(60)
    assert not enter(off)
    assert enter(never)


def test_waiting_ends_with_the_future_the_time_or_the_cancellation():
    off = Cancellation()
    done: Future[int] = Future()
    done.set_result(1)
    assert off.wait_for(done)
    assert not off.wait_for(Future(), seconds=0.001)
    assert not off.wait(0.001)
    off.cancel()
    off.cancel()
    assert not off.wait_for(Future())
    assert off.wait(60)
