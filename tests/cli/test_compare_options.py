"""Options of ``ragkit compare``: each has an effect, is stored to resume, and refuses invalid values in one line."""

import json
from collections import Counter
from datetime import date
from pathlib import Path

import pytest
from command_line import run
from openai_server import OpenAIServer

from ragkit import Task
from ragkit.models import load_model
from ragkit_pipelines.cli.comparison_request import default_folder, read_request
from ragkit_pipelines.compare.predictions import Items

ROWS = [
    {"input": f"{what} {n}", "output": label, "split": "test" if n % 3 == 0 else "train"}
    for what, label in (("lost card", "bank"), ("apple cake", "food"))
    for n in range(12)
]
EMBEDDER = ("--embedder", "hash:8")


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MY_KEY", "a-key-of-my-server")
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def compared(data, strategies, *options, out="out"):
    """Run a comparison on the whole pool and return its results, which resuming reproduces."""
    done = run("compare", "--data", data, "--strategies", strategies, "--sizes", "all", *EMBEDDER, *options,
               "-o", out, "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    again = run("compare", "resume", out, "--yes", "--json")
    assert json.loads(again.stdout)["rows"] == json.loads(done.stdout)["rows"]
    return json.loads(done.stdout)


def test_strategies_list_describes_every_strategy():
    shown = json.loads(run("compare", "--strategies", "list", "--json").stdout)
    registered = json.loads(run("components", "strategy", "--json").stdout)
    assert [each["spec"] for each in shown] == [each["spec"] for each in registered]
    assert all(each["description"].endswith(".") for each in shown)
    assert "The majority baseline" in run("compare", "--strategies", "list").stdout


def test_the_help_states_the_default_sizes():
    shown = " ".join(run("compare", "--help").stdout.replace("│", " ").split())
    assert "one example per label, ten per label, and all" in shown
    assert "multiplies the cost" in shown


def test_the_number_of_examples_applies_to_strategies_without_one(data):
    found = compared(data, "vote:bm25,vote:jaccard@3,copy:bm25,majority", "--k", 2)
    assert [row["strategy"] for row in found["rows"]] == ["vote:bm25@2", "vote:jaccard@3", "copy:bm25", "majority"]


def test_samples_are_a_vote_of_prompting_strategies_without_a_number(data):
    with OpenAIServer(load_model("tiny")) as server:
        options = ("-m", "openai:tiny", "--base-url", server.url, "--api-key-env", "MY_KEY")
        found = compared(data, "zero-shot,few-shot:bm25@1*2,majority", "--samples", 3, *options)
        assert [row["strategy"] for row in found["rows"]] == ["zero-shot*3", "few-shot:bm25@1*2", "majority"]
        assert Counter(body["temperature"] for body in server.requests) == {0.7: (3 + 2) * 8}
        seeds = Counter(body["seed"] for body in server.requests)
        assert sorted(seeds.values()) == [8, 16, 16]  # the first samples of both strategies have the same seeds
        used = [row["completion_tokens"] for row in found["rows"]]
        assert used[0] >= 3 * 8


def test_the_settings_apply_to_the_default_strategies(data):
    done = run("compare", "--data", data, "--k", 2, "--epochs", 1, "--sizes", "all", *EMBEDDER, "-m", "replay:none",
               "-o", "out")  # fmt: skip
    assert done.returncode == 2  # the recording does not exist; the settings were accepted
    assert "none" in done.stderr
    assert "--k" not in done.stderr


def test_the_number_of_epochs_determines_the_training(data):
    (one,) = compared(data, "lora", "--epochs", 1, "-m", "tiny")["rows"]
    (two,) = compared(data, "lora", "--epochs", 2, "-m", "tiny")["rows"]  # in the same folder
    assert two["trained_tokens"] == 2 * one["trained_tokens"] > 0


def test_the_length_of_answers_is_limited(data):
    rows = [row | {"output": f"the answer of {row['input']}"} for row in ROWS]  # no labels, which limit the answers too
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (row,) = compared(data, "zero-shot", "--max-tokens", 1, "-m", "tiny")["rows"]
    assert 0 < row["completion_tokens"] <= row["n"]


def test_the_test_rows_are_limited(data):
    quick = ("compare", "--data", data, "--strategies", "majority", *EMBEDDER, "--limit", 3)
    drawn = set()
    for seed in range(4):
        done = run(*quick, "--seeds", seed, "-o", f"out{seed}")
        assert f"3 of 8, drawn with seed {seed}" in done.stderr
        assert "3 of 8" in json.loads(Path(f"out{seed}/run.json").read_bytes())["test_rows"]
        drawn.add(tuple(Items.load(Path(f"out{seed}")).inputs))
    tests = [row["input"] for row in ROWS if row["split"] == "test"]
    assert len(drawn) > 1
    assert all(len(each) == 3 and sorted(each, key=tests.index) == list(each) for each in drawn)
    whole = run(*quick[:-1], 100, "-o", "all", "--json")
    assert (json.loads(whole.stdout)["rows"][0]["n"], "--limit" in whole.stderr) == (8, False)


def test_the_margin_reaches_the_recommendation(data):
    for margin in (0.01, 0.6):
        found = compared(data, "majority,tfidf", "--margin", margin)
        assert json.loads(found["provenance"]["request"])["margin"] == margin
        assert found["recommendation"]["margin"] == margin


@pytest.mark.parametrize(
    "limit", [("--budget-calls", 0), ("--max-calls", 0), ("--budget-tokens", 1), ("--budget-money", 0)]
)
def test_a_budget_limits_all_calls(data, limit):
    with OpenAIServer(load_model("tiny")) as server:
        done = run("compare", "--data", data, "--strategies", "zero-shot,majority", "--sizes", "all", *EMBEDDER, *limit,
                   "-m", "openai:gpt-4.1-mini", "--base-url", server.url, "-o", "out", "--json")  # fmt: skip
        error = json.loads(done.stdout)["rows"][0]["error"]
        assert (done.returncode, server.requests) == (1, [])
        # The prices of another server are not known, so no call can be shown to be within a limit of money.
        assert error.startswith("InvalidInputError" if limit[0] == "--budget-money" else "BudgetExceededError")
    assert limit[1] in read_request(Path("out")).model_dump().values()


def test_a_server_and_the_variable_of_its_key(data, monkeypatch):
    monkeypatch.setenv("MY_SERVER_KEY", "a-key-of-my-server")
    monkeypatch.setenv("OPENAI_API_KEY", "another-key")
    with OpenAIServer(load_model("tiny")) as server:
        options = ("-m", "openai:tiny", "--base-url", server.url, "--api-key-env", "MY_SERVER_KEY")
        (row,) = compared(data, "zero-shot", *options)["rows"]
        assert (row["model"], row["error"], len(server.requests)) == ("openai:tiny", None, 8)
        assert set(server.keys) == {"Bearer a-key-of-my-server"}
    assert not any(b"a-key-of-my-server" in path.read_bytes() for path in Path("out").rglob("*") if path.is_file())


def test_reasoning_is_stored_for_a_resumed_comparison(data):
    with OpenAIServer(load_model("tiny")) as server:
        options = ("-m", "openai:tiny", "--base-url", server.url, "--reasoning", "low", "--max-reasoning-tokens", 7)
        compared(data, "zero-shot", *options, "--max-tokens", 5)
        assert {body["reasoning_effort"] for body in server.requests} == {"low"}
        sent = len(server.requests)
        stored = read_request(Path("out"))
        assert (stored.reasoning, stored.max_reasoning_tokens) == ("low", 7)
        for kept in Path("out/kept").rglob("*.json"):
            kept.unlink()
        Path("out/answers.sqlite").unlink()
        done = run("compare", "resume", "out", "--yes")
        assert done.returncode == 0, done.stderr
        assert {body["reasoning_effort"] for body in server.requests[sent:]} == {"low"}
        assert server.requests[sent:]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-m", "tiny", "--reasoning", "low"), "no chat template"),
        (("--reasoning", "low"), "pass --model with --reasoning"),
        (("-m", "openai:x", "--reasoning", "much"), "'none', 'low', 'medium'"),
        (("-m", "openai:x", "--reasoning", "none", "--max-reasoning-tokens", 5), "needs a model that reasons"),
        (("-m", "openai:x", "--reasoning", "low", "--engine", "process"), "--engine"),
    ],
)
def test_reasoning_that_cannot_be_set(data, options, said, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    refused = run("compare", "--data", data, "-o", "out", *options)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert said in refused.stderr
    assert not Path("out").exists()


@pytest.mark.filterwarnings("ignore::ragkit.errors.LeakageWarning")
@pytest.mark.parametrize("checks", ["report", "clean"])
def test_the_default_folder_is_dated_and_holds_one_task(data, checks):
    with data.open("a") as file:
        file.write(json.dumps(ROWS[1]) + "\n" + json.dumps(ROWS[1] | {"split": "test"}) + "\n")  # duplicate, leak
    quick = ("compare", "--strategies", "majority", *EMBEDDER, "--checks", checks, "--data")
    task, day = Task.from_path(data), date(2026, 12, 1)
    first = Path("runs/rows-2026-12-01")
    assert default_folder(task, checks, day) == first
    assert run(*quick, data, "-o", first).returncode == 0
    assert default_folder(task, checks, day) == first
    with data.open("a") as file:
        file.write(json.dumps({"input": "bread", "output": "food", "split": "train"}) + "\n")
    second = Path("runs/rows-2026-12-01-2")
    assert default_folder(Task.from_path(data), checks, day) == second
    assert run(*quick, data, "-o", second).returncode == 0
    assert default_folder(Task.from_path(data), checks, day) == second
    assert default_folder(task, checks, day) == first
    assert default_folder(task, checks, date(2026, 12, 2)) == Path("runs/rows-2026-12-02")


def test_a_folder_with_other_files_is_not_a_default_folder(data):
    Path("runs/rows-2026-12-01").mkdir(parents=True)
    Path("runs/rows-2026-12-01/notes.txt").touch()
    assert default_folder(Task.from_path(data), "off", date(2026, 12, 1)) == Path("runs/rows-2026-12-01-2")


def test_the_default_folder_is_reported(data):
    done = run("compare", "--data", data, "--strategies", "majority", *EMBEDDER, "--json")
    (made,) = Path("runs").iterdir()
    assert date.fromisoformat(made.name.removeprefix("rows-"))
    assert f"output folder: {made}\n" in done.stderr
    assert (made / "results.json").is_file()


def test_a_request_of_an_earlier_version_can_be_read(tmp_path):
    request = {"data": "rows.jsonl", "strategies": None, "sizes": None, "seeds": "0", "model": None,
               "embedder": "minilm", "instruction": ""}  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps({"request": json.dumps(request)}), encoding="utf-8")
    assert request.items() <= read_request(tmp_path).model_dump(mode="json").items()


@pytest.mark.parametrize(
    "wrong",
    [
        ("--limit", 0),
        ("--k", 0),
        ("--k", "many"),
        ("--epochs", 0),
        ("--max-tokens", 0),
        ("--margin", 2),
        ("--budget-calls", -1),
        ("--budget-tokens", -1),
        ("--budget-money", "nan"),
        ("--epochs", 2),  # majority is not trained
        ("--k", 2),
        ("--samples", 2),
        ("--samples", 0),
        ("--max-tokens", 2),
        ("--base-url", "http://127.0.0.1:1/v1"),  # without a model
        ("--api-key-env", "NO_SUCH_VARIABLE", "-m", "openai:x"),
        ("--api-key-env", "PATH", "-m", "tiny"),  # a local model
        ("--base-url", "http://127.0.0.1:1/v1", "-m", "openai:x", "--engine", "process"),
    ],
)
def test_an_invalid_value_is_one_line_and_writes_nothing(data, wrong):
    refused = run("compare", "--data", data, "--strategies", "majority", *EMBEDDER, *wrong, "-o", "new")
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1), refused.stderr
    assert refused.stderr.startswith("error: ")
    assert not Path("new").exists()


def test_a_key_given_for_its_variable_is_not_shown(data):
    refused = run("compare", "--data", data, "-m", "openai:x", "--api-key-env", "abcdefghijkl", "-o", "new")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "abcdefghijkl" not in refused.stderr
