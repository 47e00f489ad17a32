"""The progress of one piece of work: steps, rates, and the time left."""

import sys

import pytest

from ragkit import _progress as module
from ragkit._progress import in_parts, open_stages, progress
from ragkit._stages import Stage


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_rates_and_the_time_left_are_those_of_the_steps_of_this_run(clock):
    stage = Stage("answering", 200, "rows", clock=clock)
    assert (stage.status(), stage.left) == ("answering 0/200 rows", None)
    clock.now += 5.0  # reading the cached responses
    stage.skip(120)
    assert (stage.status(), stage.left) == ("answering 120/200 rows (120 already done)", None)
    clock.now += 10.0
    stage(40, tokens=12_000)
    expected = "answering 160/200 rows (120 already done), 1,200 tokens/s, 4 rows/s, 10 s left"
    assert (stage.status(), stage.left) == (expected, 10.0)
    stage.skip(30)  # a cached response among others does not restart the clock
    assert stage.left == 2.5


def test_a_stage_without_a_total_or_a_unit_shows_what_it_knows(clock):
    stage = Stage("loading", None, clock=clock)
    clock.now += 3.0
    assert stage.status() == "loading"
    stage(7)
    assert (stage.status(), stage.left) == ("loading 7", None)


def test_the_time_left_can_be_computed_elsewhere(clock):
    stage = Stage("comparing", 3, clock=clock)
    stage.left_of = lambda: 75.0
    clock.now += 1.0
    assert stage.status() == "comparing 0/3, 1 min 15 s left"


def test_open_stages_are_listed_from_the_outside_and_end_with_an_error():
    def fail():
        with progress("outer", 2), progress("inner", None, "steps") as inner:
            assert [stage.description for stage in open_stages()] == ["outer", "inner"]
            assert open_stages()[1] is inner
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert open_stages() == []


def test_work_in_parts_reports_each_part(monkeypatch):
    monkeypatch.setattr(module, "_AT_ONCE", 4)
    seen = []

    def work(texts):
        (stage,) = open_stages()
        seen.append((len(texts), stage.done))
        return module.np.array([[len(text)] for text in texts])

    found = in_parts("embedding", work, ["a" * n for n in range(10)])
    assert found[:, 0].tolist() == list(range(10))
    assert seen == [(4, 0), (4, 4), (2, 8)]


def test_a_bar_shows_rates_that_do_not_count_skipped_steps(monkeypatch):
    import io

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setattr(sys, "stderr", Terminal())
    clock = Clock()
    with progress("answering", 200, "rows") as stage:
        stage._clock, stage.began = clock, clock.now
        stage.skip(120)
        clock.now += 10.0
        stage(40)
        module._shown.refresh()
    assert "160/200" in sys.stderr.getvalue()
    assert "4 rows/s, 10 s left" in sys.stderr.getvalue()
