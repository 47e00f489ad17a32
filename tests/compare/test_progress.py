"""The progress of a comparison, on a terminal and in a log."""

import logging
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from ragkit import Example, ScriptedModel, Task, compare
from ragkit._progress import open_stages, progress
from ragkit.comparison import Outcome
from ragkit.models import Budget
from ragkit_pipelines.compare import progress as module
from ragkit_pipelines.compare.options import CompareOptions
from ragkit_pipelines.compare.planning import planned

POOL = [Example(f"{word} it {n}", label) for n in range(6) for word, label in (("dim", "fade"), ("open", "vent"))]
TEST = [Example(f"{word} that {n}", label) for n in range(20) for word, label in (("dim", "fade"), ("open", "vent"))]
TASK = Task("Name it.", POOL, TEST)


def vent(prompt):
    return " vent"


def run(strategies, out=None, model=None, **settings):
    return compare(TASK, strategies, model=model or ScriptedModel(vent), embedder="hash:8", out=out, **settings)


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, "ragkit.compare")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "ragkit.compare"]


def shape(line):
    """A line without its measured numbers."""
    return re.sub(r"[\d,.]+ (s|min|tokens/s|rows/s)(?![a-z])", r"# \1", line)


def test_each_run_has_a_line_at_its_start_and_its_end(log):
    run(["majority", "zero-shot"], sizes=[4, None])
    assert [shape(line) for line in log()] == [
        "[1/4] majority, pool 4, seed 0: started",
        "[1/4] majority, pool 4, seed 0: finished in # s",
        "[2/4] zero-shot, pool 4, seed 0: started",
        "[2/4] zero-shot, pool 4, seed 0: finished in # s; about # s left for 2 more runs",
        "[3/4] majority, pool 12, seed 0: started",
        "[3/4] majority, pool 12, seed 0: finished in # s; about # s left for 1 more run",
        "[4/4] zero-shot, pool 12, seed 0: started",
        "[4/4] zero-shot, pool 12, seed 0: finished in # s",
    ]


def test_failed_and_stored_runs_are_named_on_one_line(log, tmp_path):
    class Failing:
        name = "bad\nname\x1b[2J"

        def run(self, setting):
            raise RuntimeError("one\ntwo")

    run(["majority", Failing()], tmp_path)
    run(["majority", Failing()], tmp_path)
    lines = [shape(line) for line in log()]
    assert lines[3].startswith("[2/2] bad name\\x1b[2J, pool 12, seed 0: failed after # s: RuntimeError: one two (")
    assert lines[4] == "[1/2] majority, pool 12, seed 0: loaded from the output folder"
    assert not any("\n" in line or "\x1b" in line for line in lines)


@pytest.fixture
def peek(monkeypatch):
    """The answers of a model that report the state of the run before each answer."""
    watches = []
    start = module.Watch.__init__

    def started(self, jobs, stage):
        start(self, jobs, stage)
        watches.append(self)

    monkeypatch.setattr(module.Watch, "__init__", started)

    def answer(prompt):
        watches[-1].report()
        return " vent"

    return answer


def test_rows_tokens_and_time_left_are_shown_within_a_run(log, peek):
    run(["zero-shot"], model=ScriptedModel(peek))
    inside = [shape(line) for line in log() if "answering" in line]
    place = "[1/1] zero-shot, pool 12, seed 0: "
    assert inside[0] == f"{place}answering 0/40 rows (after # s)"
    assert inside[-1] == f"{place}answering 32/40 rows, # tokens/s, # rows/s, # s left (after # s)"


def test_cached_answers_are_shown_as_already_done(log, peek, tmp_path):
    run(["zero-shot"], tmp_path, ScriptedModel(peek), budget=Budget(calls=32))  # fails after the first 32 calls
    run(["zero-shot"], tmp_path, ScriptedModel(peek))
    last = shape(log()[-2])
    assert last == "[1/1] zero-shot, pool 12, seed 0: answering 32/40 rows (32 already done) (after # s)"


def test_several_stages_are_shown_in_their_order(log):
    class Nested:
        name = "nested"

        def run(self, setting):
            with progress("trying settings", 4) as outer, progress("fine-tuning", 60, "steps") as inner:
                outer(1)
                inner.skip(10)
                watch.report()
            return Outcome(["vent"] * len(setting.task.test))

    with planned(TASK, [Nested()], model=None, embedder="hash:8", sizes=[None], seeds=[0], budget=None, out=None,
                 options=CompareOptions()) as plan, module.watching(plan.jobs) as watch:  # fmt: skip
        (job,) = plan.jobs
        with watch.job(job):
            job.strategy.run(job.setting)
    (line,) = [shape(each) for each in log() if "trying" in each]
    assert line == (
        "[1/1] nested, pool 12, seed 0: trying settings 1/4, # s left; fine-tuning 10/60 steps (10 already done) "
        "(after # s)"
    )
    assert open_stages() == []


def test_channel_and_trials_count_rows_once(log):
    from ragkit import load_model

    model = load_model("tiny")
    seen = []

    class Spy(type(model)):
        def score(self, *arguments, **named):
            seen.append([(stage.description, stage.done, stage.total) for stage in open_stages()[2:]])
            return super().score(*arguments, **named)

    model.__class__ = Spy
    labelled = replace(TASK, labels=("fade", "vent"), test=TEST[:3])
    compare(labelled, ["channel"], model=model, embedder="hash:8")
    assert seen == [[("scoring", row, 3)] for row in range(3)]


def test_lines_go_to_standard_error_unless_the_program_sets_the_level():
    code = (
        "import logging, sys\n"
        "from ragkit import Example, Task, compare\n"
        "if sys.argv[1:]: logging.getLogger('ragkit').setLevel(logging.WARNING)\n"
        "compare(Task('', [Example('a', 'b')], [Example('c', 'd')]), ['majority'], model='tiny', embedder='hash:8')\n"
        "assert not logging.getLogger('ragkit.compare').handlers\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d \[1/1\] majority, pool 1, seed 0: started\n"
        r"\d\d:\d\d:\d\d \[1/1\] majority, pool 1, seed 0: finished in [\d.]+ s\n",
        shown,
    ), shown
    assert subprocess.run([*command, "quiet"], capture_output=True, text=True, check=True).stderr == ""


def test_a_terminal_shows_bars_instead_of_lines():
    code = (
        "from ragkit import Example, ScriptedModel, Task, compare\n"
        "from ragkit import _progress\n"
        "def answer(prompt):\n"
        "    _progress._shown.refresh()\n"
        "    return ' b'\n"
        "test = [Example(f'row {n}', 'b') for n in range(40)]\n"
        "compare(Task('', [Example('a', 'b')], test), ['zero-shot'], model=ScriptedModel(answer), embedder='hash:8')\n"
    )
    main, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "150"}
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], stderr=terminal, env=environment)
    os.close(terminal)
    written = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # the program has ended
            break
        if not part:
            break
        written += part
    os.close(main)
    assert process.wait() == 0, written.decode()
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", written.decode())
    assert "comparing" in shown
    assert "zero-shot, pool 1, seed 0" in shown
    assert re.search(r"answering .* 32/40 .* tokens/s, [\d.,]+ rows/s, [\d.]+ s left", shown), shown
    assert "started" not in shown
