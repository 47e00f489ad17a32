"""Mistakes of a first day: each is one line on standard error with advice, exit code 2, and nothing half-written."""

import json
import re
from pathlib import Path

import pytest
from command_line import run
from openai_server import OpenAIServer
from random_llama import save_random_llama

from ragkit.models import load_model
from ragkit_pipelines.compare import running

ROWS = [
    {"input": f"{what} {n}", "output": label, "split": "test" if n % 3 == 0 else "train"}
    for what, label in (("lost card", "bank"), ("apple cake", "food"))
    for n in range(12)
]
TABLE = [f"{row['input']},{row['output']}" for row in ROWS]


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


FILES = {
    "rows.jsonl": lines(ROWS),
    "more.jsonl": lines([*ROWS, {"input": "bread", "output": "food", "split": "train"}]),
    "bom.jsonl": "\ufeff" + lines(ROWS),
    "empty.jsonl": "",
    "blank.jsonl": "\n \n",
    "header.csv": "input,output\n",
    "semicolons.csv": "\n".join(["input;output", *TABLE]).replace(",", ";"),
    "semicolons.jsonl": "\n".join(["input;output", *TABLE]).replace(",", ";"),
    "one-class.jsonl": lines(row | {"output": "bank"} for row in ROWS),
    "no-output.jsonl": lines([*ROWS[:4], {"input": "x", "split": "train"}]),
    "null-output.jsonl": lines([*ROWS[:4], {"input": "x", "output": None, "split": "train"}]),
    "broken.jsonl": lines(ROWS[:6]) + '{"input": "x", \n' + lines(ROWS[6:]),
    "twice.csv": "input,output,output\na,b,c\n",
    "cells.csv": "input,output\na,b\na,b,c\n",
    "splits.jsonl": lines([*ROWS, {"input": "x", "output": "bank", "split": "valid"}]),
    "no-test.jsonl": lines(row | {"split": "train"} for row in ROWS),
    "no-training.jsonl": lines(row | {"split": "test"} for row in ROWS),
    "notes.txt": "just some words\nand more of them\n",
    "book.xlsx": "not a workbook",
    "folder/readme.txt": "no model and no data",
    "tuned/adapter_config.json": "{}",
}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A folder with files of a beginner, in which commands run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ragkit.models._rate_limit.uniform", lambda *_: 0.0)  # retry at once
    for name, text in FILES.items():
        path = Path(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    Path("latin.csv").write_bytes("input,output\nGr\u00fc\u00dfe,a\nTag,b\n".encode("latin-1"))
    Path("latin.jsonl").write_bytes('{"input": "Gr\u00fc\u00dfe", "output": "a"}\n'.encode("latin-1"))
    return tmp_path


def compare(*arguments, data="rows.jsonl", strategies="majority", out="new"):
    given = ("--data", data, "--strategies", strategies, "--embedder", "hash:8", "--sizes", "all", "-o", out)
    return ("compare", *given, *arguments)


def with_model(*arguments):
    return compare(*arguments, strategies="zero-shot")


def listing():
    return {path: path.read_bytes() if path.is_file() else None for path in Path().rglob("*")}


def messages(done):
    """The lines on standard error, without the log of the strategies that were run."""
    return [line for line in done.stderr.splitlines() if not re.match(r"\d\d:\d\d:\d\d \[", line)]


def one_line(done, code=2):
    (line,) = messages(done)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    return line


MISTAKES = {
    "a path that does not exist": (compare(data="rows.json"), "rows.json: cannot be read (No such file"),
    "a folder instead of a file": (compare(data="folder"), "folder: is not a dataset on disk"),
    "another input field": (compare("--input", "question"), "line 1: has no 'question', only input, output, split"),
    "another output field": (compare("--output", "label"), "(on the command line --input and --output)"),
    "a misspelt strategy": (compare(strategies="majorty"), "Did you mean 'majority'?"),
    "two misspelt strategies": (compare(strategies="majorty,tfdif"), "unknown strategy 'majorty'"),
    "the same strategy twice": (compare(strategies="majority,majority"), "unique names"),
    "a misspelt model": (with_model("-m", "smolm2"), "Did you mean 'smollm2'"),
    "a model without its provider": (with_model("-m", "gpt-4o-mini"), "Did you mean 'openai:gpt-4o-mini'?"),
    "a bare hub name": (with_model("-m", "acme/model"), "Did you mean 'hf:acme/model'?"),
    "a misspelt embedder": (compare("--embedder", "minlm"), "Did you mean 'minilm'"),
    "a misspelt selector": (compare(strategies="vote:bm52"), "Did you mean 'vote:bm25'"),
    "a misspelt metric": (compare("--metric", "acuracy"), "Did you mean 'accuracy'?"),
    "an unknown option": (compare("--modell", "tiny"), "No such option: --modell"),
    "no API key": (with_model("-m", "openai:gpt-4o-mini"), "OPENAI_API_KEY"),
    "the variable of a key is not set": (with_model("-m", "openai:x", "--api-key-env", "NO_KEY"), "--api-key-env"),
    "an address without a protocol": (
        with_model("-m", "openai:x", "--base-url", "localhost:8000/v1"), "must begin with http:// or https://"
    ),
    "another delimiter in a file of another format": (compare(data="semicolons.jsonl"), "line 1"),
    "an empty file": (compare(data="empty.jsonl"), "empty.jsonl: has no rows"),
    "a file of blank lines": (compare(data="blank.jsonl"), "blank.jsonl: has no rows"),
    "only a header": (compare(data="header.csv"), "has no rows; expected a header and rows below it"),
    "one class": (compare(data="one-class.jsonl"), "all rows have the output 'bank'"),
    "k = 0": (compare("--k", 0, strategies="vote:bm25"), "'--k'"),
    "a negative k": (compare("--k", -1, strategies="vote:bm25"), "'--k'"),
    "k = 0 in a name": (compare(strategies="vote:bm25@0"), "of at least 1"),
    "more examples than the pool": (compare("--sizes", 1000), "between 1 and 16, the size of the pool; got 1000"),
    "a size that is not a number": (compare("--sizes", "most"), "--sizes must be integers"),
    "a row without an output": (compare(data="no-output.jsonl"), "line 5: has no 'output'"),
    "a row with an empty output": (compare(data="null-output.jsonl"), "line 5: output"),
    "broken JSON": (compare(data="broken.jsonl"), "broken.jsonl, line 7: "),
    "a text file": (compare(data="notes.txt"), "notes.txt, line 1: "),
    "too many cells": (compare(data="cells.csv"), "line 3: has 3 cells; expected 2"),
    "two columns of one name": (compare(data="twice.csv"), "the header has 'output' twice"),
    "an unknown split": (compare(data="splits.jsonl"), "line 25: split: Input should be 'train', 'dev'"),
    "no test rows": (compare(data="no-test.jsonl"), 'add rows with "split": "test"'),
    "no training rows": (compare(data="no-training.jsonl"), "no training row"),
    "a file in Latin-1": (compare(data="latin.csv"), "in UTF-8"),
    "JSON Lines in Latin-1": (compare(data="latin.jsonl"), "is not UTF-8 (byte "),
    "not a workbook": (compare(data="book.xlsx"), "book.xlsx: "),
    "an output folder below a file": (compare(out="rows.jsonl/out"), "Not a directory"),
    "an output folder with other files": (compare(out="folder"), "contains no comparison"),
    "a folder that is not a model": (with_model("-m", "hf:folder"), "folder holds no model: expected config.json"),
    "a folder without hf:": (with_model("-m", "./folder"), "hf:./folder"),
    "an adapter without its base model": (with_model("-m", "hf:tuned"), "tuned"),
    "a folder that is not an adapter": (("generate", "x", "-m", "tiny", "--adapter", "folder"), "adapter_config.json"),
    "a recording that does not exist": (with_model("-m", "replay:none.jsonl"), "none.jsonl"),
    "a budget that is not a number": (compare("--budget-money", "abc"), "'--budget-money'"),
    "a negative budget": (with_model("-m", "tiny", "--budget-calls", -1), "must be 0 or more"),
    "no rows at all": (compare("--limit", 0), "'--limit'"),
    "a seed that is not a number": (compare("--seeds", "first"), "--seeds must be integers"),
    "a comparison without data": (("compare",), "--data FILE"),
    "a value without its option": (("compare", "rows.jsonl"), "--data"),
    "questions without documents": (("ask", "why?"), "--docs"),
    "documents that do not exist": (("ask", "why?", "--docs", "nowhere", "--embedder", "hash:8"), "nowhere"),
    "a selector for selection": (("select", "--pool", "rows.jsonl", "--query", "x", "--selector", "bm52"), "'bm25'"),
    "another method of training": (
        ("finetune", "--data", "rows.jsonl", "--method", "lorra", "-o", "new", "-m", "tiny"), "Did you mean 'lora'"
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(mistake):
    arguments, said = MISTAKES[mistake]
    before = listing()
    done = run(*arguments)
    stderr = one_line(done)
    assert stderr.startswith("error: ")
    assert said in stderr
    assert done.stdout == ""
    assert listing() == before


def test_excel_without_its_package_names_the_package(monkeypatch):
    monkeypatch.setattr("ragkit._sheet_files.is_installed", lambda name: name != "openpyxl")
    before = listing()
    assert "pip install openpyxl" in one_line(run(*compare(data="book.xlsx")))
    assert listing() == before


@pytest.mark.parametrize("data", ["bom.jsonl", "semicolons.csv"])
def test_files_of_other_programs_can_be_read(data):
    done = run(*compare("--json", data=data))
    assert (done.returncode, messages(done)) == (0, [])
    assert json.loads(done.stdout)["rows"][0]["n"] >= 5


@pytest.mark.filterwarnings("default::ragkit.errors.SmallPoolWarning")
def test_more_examples_than_the_pool_are_all_of_it():
    done = run(*compare("--json", "--k", 1000, strategies="vote:bm25"))
    assert one_line(done, code=0) == (
        "warning: vote:bm25@1000: 1000 examples were requested, but the pool has 16; 16 are used"
    )
    assert json.loads(done.stdout)["rows"][0]["score"] == 1  # the most similar example breaks the tie


SERVERS = {
    "not json": "openai:tiny gave no answer",
    "404": "check the model's name, and `base_url`, which usually ends with /v1",
    "401": "set the provider's environment variable to a valid key",
    "empty": "openai:tiny",
}


@pytest.mark.parametrize("trouble", [*SERVERS, "down"])
def test_a_server_without_answers_is_one_line_and_the_same_command_works_later(trouble, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "a-key-for-this-test")
    with OpenAIServer(load_model("tiny")) as server:
        server.trouble = None if trouble == "down" else trouble
        address = "http://127.0.0.1:1/v1" if trouble == "down" else server.url
        command = with_model("-m", "openai:tiny", "--json", "--base-url")
        stderr = one_line(run(*command, address))
        assert stderr.startswith("failed: zero-shot, pool 16: ")
        assert SERVERS.get(trouble, "no server answers at this address") in stderr
        assert "a-key-for-this-test" not in stderr
        assert json.loads(Path("new/results.json").read_bytes())["rows"][0]["error"]  # complete, with the error
        assert one_line(run("generate", "hello", "-m", "openai:tiny", "--base-url", address)).startswith("error: ")
        server.trouble = None
        assert run(*command, server.url).returncode == 0
        (row,) = json.loads(Path("new/results.json").read_bytes())["rows"]
        assert (row["error"], row["n"]) == (None, 8)


def test_an_interrupted_run_resumes_with_the_same_command(monkeypatch):
    command = compare("--json", strategies="majority,vote:bm25,tfidf")
    begun, run_job = [], running.run_job

    def interrupted(job):
        begun.append(job.strategy.name)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return run_job(job)

    monkeypatch.setattr(running, "run_job", interrupted)
    assert "rerun the command to resume" in one_line(run(*command), code=130)
    (kept,) = Path("new/kept").rglob("majority.json")
    written = kept.stat().st_mtime_ns
    resumed = run(*command)
    assert (resumed.returncode, kept.stat().st_mtime_ns) == (0, written)
    assert "resuming in new: finished strategies and cached responses are not repeated" in one_line(resumed, code=0)
    assert [row["strategy"] for row in json.loads(resumed.stdout)["rows"]] == ["majority", "vote:bm25", "tfidf"]


def test_the_same_command_twice_gives_the_same_results_and_says_why():
    first, second = run(*compare("--json")), run(*compare("--json"))
    assert (first.returncode, messages(first)) == (0, [])
    assert "resuming in new" in one_line(second, code=0)
    assert json.loads(second.stdout)["rows"] == json.loads(first.stdout)["rows"]


def test_the_folder_of_a_comparison_is_refused_for_other_data():
    assert run(*compare()).returncode == 0
    before = listing()
    assert "new holds a comparison on another task" in one_line(run(*compare(data="more.jsonl")))
    assert listing() == before


def test_each_failed_strategy_is_one_line_and_the_others_still_run(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "a-key-for-this-test")
    server = ("-m", "openai:tiny", "--base-url", "http://127.0.0.1:1/v1", "--json")
    done = run(*compare(*server, strategies="zero-shot,majority,few-shot:bm25"))
    assert done.returncode == 1
    assert [line.partition(",")[0] for line in messages(done)] == ["failed: zero-shot", "failed: few-shot:bm25"]
    assert [row["error"] is None for row in json.loads(done.stdout)["rows"]] == [False, True, False]


def test_a_model_without_a_chat_template_is_used_as_a_base_model(tmp_path):
    spec = save_random_llama(tmp_path / "base")
    assert not load_model(spec).capabilities.chat
    done = run(*with_model("-m", spec, "--json", "--limit", 2, "--max-tokens", 2))
    assert (done.returncode, json.loads(done.stdout)["rows"][0]["error"]) == (0, None), done.stderr
