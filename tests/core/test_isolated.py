"""Child processes with limits of time and memory."""

import json
import os
import signal
import threading

import pytest

from ragkit._isolated import IsolatedProcess, IsolationError

MINE = "isolated_tasks:answer"


@pytest.fixture
def process():
    return IsolatedProcess(MINE, mebibytes=128)


def ask(process, **request):
    seconds = 2 if request["do"] in {"wait", "compute"} else 60
    return json.loads(process.ask(json.dumps(request).encode(), seconds=seconds))


def test_one_process_answers_many_requests(process):
    assert len({ask(process, do="pid") for _ in range(5)} - {os.getpid()}) == 1
    assert ask(process, do="echo", text="grün \x00" * 100_000) == "grün \x00" * 100_000


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"do": "allocate"}, "needed more than 128 MiB"),
        ({"do": "wait"}, "took more than 2 seconds"),
        ({"do": "compute"}, "took more than 2 seconds"),
        ({"do": "exit"}, r"made its process die \(exit code 7\)"),
        ({"do": "signal", "number": signal.SIGSEGV}, r"made its process die \(killed by SIGSEGV\)"),
        ({"do": "raise"}, r"failed \(ValueError: .*ud800"),
        ({"do": "much"}, "gave more than 256 MiB"),
    ],
)
def test_a_request_that_exceeds_a_limit_is_named_and_the_next_is_answered(process, request_, reason):
    if request_["do"] == "much":
        process = IsolatedProcess(MINE, mebibytes=2000)
    with pytest.raises(IsolationError, match=reason):
        ask(process, **request_)
    assert ask(process, do="echo", text="next") == "next"


def test_memory_that_one_request_leaves_is_not_taken_from_the_next(process):
    for _ in range(8):
        assert ask(process, do="leak", mebibytes=40) is None


def test_a_process_writes_no_file_and_knows_no_key(process, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with pytest.raises(IsolationError, match="OSError"):
        ask(process, do="write", path=str(tmp_path / "file"))
    assert not (tmp_path / "file").exists() or (tmp_path / "file").read_bytes() == b""
    assert "OPENAI_API_KEY" not in ask(process, do="environment")


def test_threads_get_their_own_answers(process):
    answers = {}
    threads = [
        threading.Thread(target=lambda n=n: answers.update({n: ask(process, do="echo", text=str(n))}))
        for n in range(20)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert answers == {n: str(n) for n in range(20)}


def test_a_fork_starts_a_process_of_its_own(process):
    before = ask(process, do="pid")
    child = os.fork()
    if not child:
        other = ask(process, do="pid")
        os._exit(0 if other != before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ask(process, do="pid") == before


def test_the_process_ends_with_its_owner():
    process = IsolatedProcess(MINE, mebibytes=128)
    number = ask(process, do="pid")
    del process
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_an_interrupted_request_does_not_answer_the_next(process):
    ask(process, do="echo", text="start")
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        process.ask(json.dumps({"do": "wait"}).encode(), seconds=60)
    assert ask(process, do="echo", text="next") == "next"
