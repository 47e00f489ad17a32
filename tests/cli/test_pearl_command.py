"""``ragkit pearl``: over real HTTP, resumed, and explained from the trace alone."""

import json
import sys
import warnings
from dataclasses import dataclass

import pytest
from openai_server import OpenAIServer
from recorded_pearl import THREE, CountingModel, by_step, quick

from ragkit.errors import InvalidInputError
from ragkit.models import load_model
from ragkit.models._scripted import ScriptedModel
from ragkit.records import Usage
from ragkit_pipelines.cli.main import main
from ragkit_pipelines.pearl.pipeline import Pearl
from ragkit_pipelines.pearl.plan.library import ActionLibrary
from ragkit_pipelines.pearl.run.trace_reader import read_run

PLAN = 'New actions:\n- None\n\n1. a = ABOUT(CTX, "a") : Step A\n2. b = RELATION(CTX, a, "b") : Step B'


REPLAY = ["--model", "replay:r.jsonl"]


@pytest.fixture
def server():
    with OpenAIServer(ScriptedModel(lambda prompt: PLAN if prompt.endswith("?\n\n") else by_step(prompt))) as running:
        yield running


@pytest.fixture
def story(tmp_path):
    (tmp_path / "story.txt").write_text("A story, of é and 🙂.")
    (tmp_path / "r.jsonl").touch()  # a model without an answer
    return tmp_path


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def ragkit(monkeypatch, capsys):
    """The command line in this process, as importing takes longest."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main replaces it
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-1234")

    def run(folder, *arguments):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["ragkit", "pearl", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Done(int(ended.value.code or 0), printed.out, printed.err)

    return run


def test_run_resume_and_explain_over_http(ragkit, server, story):
    model = ["--model", "openai:any", "--base-url", server.url]
    done = ragkit(story, "run", "why is it so?", "--document", "story.txt", *model, "--trace", "run.jsonl")
    assert done.returncode == 0, done.stderr
    assert "Answer: value of B" in done.stdout
    assert "done: 3 calls" in done.stdout
    asked = [request["messages"][-1]["content"] for request in server.requests]
    assert len(asked) == 3
    assert "<text>\nA story, of é and 🙂.\n</text>" in asked[1]
    assert "<notes>\nvalue of A\n</notes>" in asked[2]
    assert "sk-secret" not in (story / "run.jsonl").read_text()

    lines = (story / "run.jsonl").read_bytes().splitlines(keepends=True)
    (story / "run.jsonl").write_bytes(b"".join(lines[:-3]) + lines[-3][:9])
    told = ragkit(story, "explain", "run.jsonl")
    assert "the run has not ended; resume it" in told.stdout
    again = ragkit(story, "resume", "run.jsonl", *model, "--json")
    assert json.loads(again.stdout)["answer"] == "value of B"
    assert len(server.requests) == 3 + 1 - json.loads(again.stdout)["reused"] + 1 == 4
    for form, begins in (("text", "Question: why"), ("mermaid", "flowchart TD"), ("html", "<!doctype html>")):
        shown = ragkit(story, "explain", "run.jsonl", "--form", form)
        assert shown.stdout.startswith(begins)
        assert "value of B" in shown.stdout or form == "mermaid"


def test_planning_without_running_and_running_a_given_plan(ragkit, server, story):
    model = ["--model", "openai:any", "--base-url", server.url]
    made = ragkit(story, "plan", "why?", *model)
    assert made.stdout == PLAN + "\n"
    (story / "plan.json").write_text(ragkit(story, "plan", "why?", *model, "--json").stdout)
    before = len(server.requests)
    done = ragkit(story, "run", "why?", "--document", "story.txt", "--plan", "plan.json", *model, "--json")
    assert json.loads(done.stdout)["source"] == "given"
    assert len(server.requests) == before + 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "why?", "--document", "none.txt", *REPLAY], "none.txt: cannot be read"),
        (["run", "why?", "--document", "story.txt", *REPLAY, "--context", "whol"], "Did you mean 'whole'"),
        (["run", "why?", "--document", "story.txt", *REPLAY, "--plan", "story.txt"], "the plan cannot be used"),
        (["run", "why?", "--document", "story.txt", *REPLAY, "--answer", "all"], "'sinks', 'last'"),
        (["run", "why?", "--document", "story.txt", *REPLAY, "--budget-calls", "0"], "budget is 0"),
        (["run", "why?", "--document", "story.txt", *REPLAY], "r.jsonl holds no answer to the prompt"),
        (["resume", "none.jsonl", *REPLAY], "none.jsonl"),
        (["explain", "story.txt"], "story.txt"),
        (["explain", "none.jsonl"], "cannot be read"),
        (["plan", "why?", *REPLAY, "--library", "story.txt"], "expected"),
    ],
)
def test_user_errors_are_one_line_with_exit_code_2(ragkit, story, arguments, message):
    done = ragkit(story, *arguments)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_is_restored_from_its_trace(tmp_path):
    def answer(prompt):
        return "" if "Step B\n" in prompt else by_step(prompt)

    path = tmp_path / "trace.jsonl"
    for settings in ({}, {"answer": "synthesize"}):
        pearl = Pearl(CountingModel(answer if not settings else lambda _: "x"), executor=quick(retries=0), **settings)
        run = pearl.invoke("why?", "text", plan=THREE, trace=path)
        told = read_run(path)
        assert (told.question, told.answer, told.status, told.reasons) == ("why?", run.answer, run.status, run.reasons)
        assert told.plan == run.plan
        assert told.usage == sum((step.usage for step in run.steps), Usage())
        assert (run.usage == told.usage) is bool(settings)  # the empty answer was read for, but is not kept
        assert [(s.step.out, s.status, s.value, s.reason, s.usage) for s in told.steps] == [
            (s.step.out, s.status, s.value, s.reason, s.usage) for s in run.steps
        ]
    assert read_run(path, 1).status == "partial"
    with pytest.raises(InvalidInputError):
        read_run(path, 3)


def test_an_api_model_over_http_in_parallel(server):
    model = load_model("openai:any", base_url=server.url)
    pearl = Pearl(model, library=ActionLibrary.default(), executor=quick(concurrency=3))
    runs = pearl.batch([f"question {n}?" for n in range(6)], [f"text {n}" for n in range(6)])
    assert [run.text for run in runs] == ["value of B"] * 6
    server.trouble = "500"
    broken = Pearl(model, executor=quick(retries=0, step_timeout=30), fallback=None).invoke("why?", "text")
    assert broken.status == "failed"
    assert "the server is on fire" in broken.reasons[0]


def test_the_summary_counts_the_calls_in_the_trace_and_the_failed_calls(ragkit, server, story):
    model = ["--model", "openai:any", "--base-url", server.url, "--trace", "run.jsonl"]
    server.trouble = lambda prompt: "not json" if "Step B\n" in prompt else None
    pearl = Pearl(load_model("openai:any", base_url=server.url), executor=quick(retries=1))
    run = pearl.invoke("why?", "text", trace=story / "own.jsonl")
    assert len(server.requests) == run.calls
    assert run.calls - run.failed_calls == read_run(story / "own.jsonl").calls == 2
    assert run.failed_calls > 0
    assert f"{run.calls} calls ({run.failed_calls} failed)" in run.explain()
    server.trouble = None
    done = ragkit(story, "run", "why?", "--document", "story.txt", *model)
    assert "done: 3 calls," in done.stdout
    assert (story / "run.jsonl").read_text().count('"event":"call"') == 3


def test_a_document_that_is_too_long_for_the_model_is_an_error_before_any_call(ragkit, story):
    (story / "long.txt").write_text("a lamp and a door " * 1000)
    done = ragkit(story, "run", "why?", "--document", "long.txt", "--model", "tiny", "--trace", "run.jsonl",
                  "--max-tokens", 4)  # fmt: skip
    assert done.returncode == 2
    assert "the prompt and its answer take" in done.stderr
    assert "Retrieved(" in done.stderr
    assert not (story / "run.jsonl").exists()


def test_the_size_and_the_budget_of_plans_are_options(ragkit, story):
    made = ragkit(
        story, "plan", "Why does she leave?", "--model", "tiny", "--max-plan-steps", "1", "--plan-tokens", "900"
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout.count(" = ") == 1
    late = ragkit(story, "plan", "Why does she leave?", "--model", "tiny", "--plan-seconds", "0.001")
    assert late.returncode != 0
    assert "did not respond within" in late.stderr
