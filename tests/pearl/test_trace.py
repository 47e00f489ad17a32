"""Traces: no call is repeated, wherever an interruption happens."""

import json
import subprocess
import sys
from collections import Counter

import pytest
from faults import no_file_past
from recorded_pearl import DOCUMENT, THREE, CountingModel, by_step, quick, recorded

from ragkit import BM25Retriever, Document
from ragkit._files import with_checksum
from ragkit.errors import DataFileError, InvalidInputError, TraceLockedError
from ragkit.records import Prompt
from ragkit_pipelines.pearl.pipeline import Pearl
from ragkit_pipelines.pearl.plan.planner import PromptPlanner
from ragkit_pipelines.pearl.run.calls import ModelCall
from ragkit_pipelines.pearl.run.context import Windows
from ragkit_pipelines.pearl.run.events import CallMade, read_events
from ragkit_pipelines.pearl.run.retrieval_contexts import Retrieved
from ragkit_pipelines.pearl.run.trace import Trace
from ragkit_pipelines.pearl.run.trace_reader import read_run


def pearl_of(model, **settings):
    return Pearl(model, executor=quick(**settings))


def test_a_run_resumes_after_an_interruption_at_every_line(data, tmp_path):
    for number, each in enumerate(recorded(data)):
        path = tmp_path / f"{number}.jsonl"
        first = CountingModel(each.answers().__getitem__)
        whole = pearl_of(first).invoke(each.question, DOCUMENT, plan=each.plan, trace=path)
        assert whole.answer == each.answer
        lines = path.read_bytes().splitlines(keepends=True)
        begun = 3  # the document, the run and the plan
        for kept in range(begun, len(lines) + 1):
            path.write_bytes(b"".join(lines[:kept]) + (lines[kept][:-7] if kept < len(lines) else b""))
            held = sum(json.loads(line)["event"] == "call" for line in lines[:kept])
            model = CountingModel(each.answers().__getitem__)
            run = pearl_of(model, concurrency=8 if kept % 2 else 1).resume(path)
            assert run.answer == each.answer
            assert run.values == each.outputs
            assert (len(model.asked), run.reused) == (len(first.asked) - held, held)
            calls = [event for event in read_events(path) if isinstance(event, CallMade)]
            assert set(Counter(call.key for call in calls).values()) <= {1}
            assert len(calls) == len(first.asked)


PLAN = 'New actions:\n- None\n\n1. a = ABOUT(CTX, "a") : Step A\n2. b = RELATION(CTX, a, "b") : Step B'


def planning(prompt):
    return PLAN if prompt.endswith("put right:\n\n") else "no plan" if prompt.endswith("?\n\n") else by_step(prompt)


def test_plans_and_corrections_are_not_requested_again(tmp_path):
    path = tmp_path / "trace.jsonl"
    first = CountingModel(planning)
    run = pearl_of(first).invoke("why?", "text", trace=path)
    assert (run.text, run.calls) == ("value of B", 4)
    lines = path.read_bytes().splitlines(keepends=True)
    for kept in range(2, len(lines)):
        path.write_bytes(b"".join(lines[:kept]))
        model = CountingModel(planning)
        again = pearl_of(model).resume(path)
        held = sum(json.loads(line)["event"] == "call" for line in lines[:kept])
        assert (again.answer, again.plan, len(model.asked)) == (run.answer, run.plan, 4 - held)


def test_a_killed_process_loses_only_the_call_in_progress(tmp_path):
    path = tmp_path / "trace.jsonl"
    script = """
import os, sys
sys.path[:0] = ["tests", "tests/helpers"]
from pearl.test_trace import CountingModel, planning, pearl_of
asked = []
def answer(prompt):
    asked.append(prompt)
    if len(asked) == int(sys.argv[2]):
        os._exit(9)
    return planning(prompt)
print(pearl_of(CountingModel(answer), concurrency=1).invoke("why?", "text", trace=sys.argv[1]).text)
"""
    for at in (1, 3, 4):
        path.unlink(missing_ok=True)
        done = subprocess.run([sys.executable, "-c", script, str(path), str(at)], capture_output=True, check=False)
        assert done.returncode == 9, done.stderr
        model = CountingModel(planning)
        run = pearl_of(model).resume(path)
        assert (run.text, len(model.asked)) == ("value of B", 4 - (at - 1))
        assert run.reused == max(0, at - 1 - 2)  # a plan that was accepted is read from its own line


def test_responses_are_reused_across_questions(tmp_path):
    model = CountingModel(by_step)
    pearl = pearl_of(model)
    with Trace(tmp_path / "trace.jsonl") as trace:
        one = pearl.invoke("first?", "text", plan=THREE, trace=trace)
        two = pearl.invoke("second?", "text", plan=THREE, trace=trace)
        other = pearl.invoke("third?", "another text", plan=THREE, trace=trace)
    assert (one.calls, two.calls, two.reused, other.calls) == (4, 0, 4, 4)
    assert one.answer == two.answer
    assert one.usage == two.usage
    assert [each.reused for each in two.steps if not each.local] == [True] * 4


def test_the_content_of_each_event(tmp_path):
    path = tmp_path / "trace.jsonl"
    run = pearl_of(CountingModel(by_step)).invoke("q?", "text", plan=THREE, trace=path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert Counter(row["event"] for row in rows) == {"document": 1, "run": 1, "plan": 1, "call": 4, "step": 5, "end": 1}
    call = next(row for row in rows if row["event"] == "call" and row["step"] == "a")
    assert call["plan"] == THREE.fingerprint
    assert call["document"] == rows[0]["hash"]
    assert (call["model"], call["text"], call["prompt_tokens"]) == (
        "counting",
        "value of A",
        run.steps[0].usage.prompt_tokens,
    )
    assert call["key"] in next(row for row in rows if row["event"] == "step" and row["step"] == "a")["keys"]


def test_a_batch_resumes(tmp_path):
    path = tmp_path / "trace.jsonl"
    questions = [f"question {n}?" for n in range(8)]
    model = CountingModel(lambda p: PLAN if p.endswith("?\n\n") else by_step(p))
    whole = pearl_of(model).batch(questions, [f"text {n}" for n in range(8)], trace=path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: len(lines) // 2]))
    held = sum(json.loads(line)["event"] == "call" for line in lines[: len(lines) // 2])
    again = CountingModel(lambda p: PLAN if p.endswith("?\n\n") else by_step(p))
    runs = pearl_of(again).batch(questions, [f"text {n}" for n in range(8)], trace=path)
    assert [run.answer for run in runs] == [run.answer for run in whole]
    assert len(again.asked) == len(model.asked) - held


def test_two_processes_cannot_write_one_trace(tmp_path):
    path = tmp_path / "trace.jsonl"
    with Trace(path):
        code = f"from ragkit_pipelines.pearl.run.trace import Trace; Trace({str(path)!r})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "TraceLockedError" in done.stderr
        with pytest.raises(TraceLockedError):
            Trace(path)
    Trace(path).close()


def test_an_incomplete_last_line_is_removed_and_damage_is_reported(tmp_path):
    path = tmp_path / "trace.jsonl"
    pearl_of(CountingModel(by_step)).invoke("q?", "text", plan=THREE, trace=path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with Trace(path) as trace:
        assert len(trace.events) == whole.count(b"\n") - 1
    assert path.read_bytes() == whole[: whole.rstrip(b"\n").rfind(b"\n") + 1]
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b'{"event": "call"}\n', *lines[2:]]))
    with pytest.raises(DataFileError, match="line 3"):
        Trace(path)
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(DataFileError, match="line 1"):
        Trace(path)


def test_a_letter_that_changed_is_noticed(tmp_path):
    path = tmp_path / "trace.jsonl"
    pearl_of(CountingModel(by_step)).invoke("q?", "text", plan=THREE, trace=path)
    path.write_bytes(path.read_bytes().replace(b"value of A", b"value of Z", 1))
    with pytest.raises(DataFileError, match=r"line \d+: .*checksum"):
        Trace(path)


def test_a_line_that_does_not_fit_on_the_disk_leaves_no_half(tmp_path):
    path = tmp_path / "trace.jsonl"
    whole = pearl_of(CountingModel(by_step)).invoke("q?", "text", plan=THREE, trace=tmp_path / "whole.jsonl")
    with Trace(path) as trace:
        with no_file_past(1500), pytest.raises(OSError, match="File too large"):
            pearl_of(CountingModel(by_step)).invoke("q?", "text", plan=THREE, trace=trace)
        size = path.stat().st_size
        assert 0 < size < 1500
        run = pearl_of(CountingModel(by_step)).invoke("q?", "text", plan=THREE, trace=trace)  # there is room again
    assert run.answer == whole.answer
    with Trace(path) as trace:
        assert trace.last_run().question == "q?"


def test_resuming_with_other_settings_is_refused(tmp_path):
    path = tmp_path / "trace.jsonl"
    model = CountingModel(by_step)
    pearl_of(model).invoke("q?", "text", plan=THREE, trace=path)
    other = Pearl(model, context=Windows())
    with pytest.raises(InvalidInputError, match="context"):
        other.resume(path)
    with pytest.raises(InvalidInputError, match="answer"):
        Pearl(model, answer="last").resume(path)
    with pytest.raises(InvalidInputError, match="document"):
        pearl_of(model).resume(path, document="other")
    with pytest.raises(InvalidInputError, match=r"none\.jsonl"):
        pearl_of(model).resume(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(InvalidInputError, match=r"empty\.jsonl"):
        pearl_of(model).resume(tmp_path / "empty.jsonl")


def test_a_document_may_be_kept_out_of_the_trace(tmp_path):
    path = tmp_path / "trace.jsonl"
    model = CountingModel(by_step)
    with Trace(path, keep_documents=False) as trace:
        pearl_of(model).invoke("q?", "a secret text", plan=THREE, trace=trace)
    assert "secret" not in path.read_text()
    with pytest.raises(InvalidInputError, match="document"):
        pearl_of(model).resume(path)
    assert pearl_of(model).resume(path, document="a secret text").reused == 4


def test_writing_to_a_closed_trace_is_an_error(tmp_path):
    trace = Trace(tmp_path / "trace.jsonl")
    trace.close()
    trace.close()
    with pytest.raises(InvalidInputError, match="closed"):
        pearl_of(CountingModel(by_step)).invoke("q?", "text", plan=THREE, trace=trace)


def test_responses_are_reused_only_with_equal_sampling(tmp_path):
    model = CountingModel(lambda p: PLAN if p.endswith("?\n\n") else by_step(p))
    path = tmp_path / "trace.jsonl"
    for temperature, calls in ((0.0, 3), (0.0, 0), (0.7, 1)):
        pearl = Pearl(model, executor=quick(), planner=PromptPlanner(temperature=temperature))
        assert pearl.invoke("q?", "text", trace=path).calls == calls


def test_zeros_left_by_a_power_failure_are_removed(tmp_path):
    path = tmp_path / "trace.jsonl"
    pearl_of(CountingModel(by_step)).invoke("q?", "text", plan=THREE, trace=path)
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 512)
    Trace(path).close()
    assert path.read_bytes() == whole


@pytest.mark.parametrize("held", ["one line without an end", '{"event', '{"a": 1}', "no trace\n", "\0\0"])
def test_a_file_that_is_not_a_trace_is_not_changed(tmp_path, held):
    path = tmp_path / "notes.txt"
    path.write_text(held)
    if held == '{"event':  # so a first line begins that a kill cut off
        Trace(path).close()
        assert path.read_text() == ""
        return
    with pytest.raises(DataFileError, match=r"notes.txt"):
        Trace(path)
    assert path.read_text() == held


def test_an_unwritable_trace_is_an_error(tmp_path):
    with pytest.raises(InvalidInputError):
        Trace(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInputError):
        Trace(tmp_path / "file" / "trace.jsonl")


def test_a_question_without_a_document_is_resumed_without_one(tmp_path):
    path = tmp_path / "trace.jsonl"
    passages = BM25Retriever([Document("Ann keeps the light.")])
    pearl = Pearl(CountingModel(by_step), executor=quick(), context=Retrieved(passages))
    with Trace(path, keep_documents=False) as trace:
        first = pearl.invoke("q?", plan=THREE, trace=trace)
    again = pearl.resume(path)
    assert (again.answer, again.calls) == (first.answer, 0)


def test_responses_of_another_model_are_not_reused(tmp_path):
    with Trace(tmp_path / "trace.jsonl") as trace:
        pearl_of(CountingModel(by_step)).invoke("q?", "text", plan=THREE, trace=trace)
        other = CountingModel(lambda prompt: f"another {by_step(prompt)}", fingerprint="another")
        run = pearl_of(other).invoke("q?", "text", plan=THREE, trace=trace)
    assert (run.calls, run.reused, run.values["a"]) == (4, 0, "another value of A")


def test_each_setting_of_a_call_is_part_of_its_key():
    caller = quick().caller(CountingModel(by_step))
    calls = [
        ModelCall(prompt=Prompt("a", "b"), purpose="step"),
        ModelCall(prompt=Prompt("a", "c"), purpose="step"),
        ModelCall(prompt=Prompt("a", "b"), purpose="step", max_tokens=3),
        ModelCall(prompt=Prompt("a", "b"), purpose="step", stop=("x",)),
        ModelCall(prompt=Prompt("a", "b"), purpose="step", temperature=1.0),
        ModelCall(prompt=Prompt("a", "b"), purpose="step", seed=1),
    ]
    assert len({caller._key(call) for call in calls}) == len(calls)


def test_a_trace_of_an_earlier_version_is_explained_but_not_resumed(tmp_path):
    path = tmp_path / "trace.jsonl"
    pearl = pearl_of(CountingModel(by_step))
    run = pearl.invoke("q?", "text", plan=THREE, trace=path)
    lines = path.read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    begun = next(number for number, row in enumerate(rows) if row["event"] == "run")
    old = {name: value for name, value in (rows[begun] | {"version": 2}).items() if name != "checksum"}
    lines[begun] = with_checksum(json.dumps(old, separators=(",", ":")))
    path.write_text("\n".join(lines) + "\n")
    assert read_run(path).answer == run.answer
    with pytest.raises(InvalidInputError, match="earlier version"):
        pearl.resume(path)
