"""Data of users: other column names, CSV files and JSON lists, and output folders that are not empty."""

import csv
import json

import pytest
from command_line import run

from ragkit import Task
from ragkit._task_files import read_objects
from ragkit.errors import DataFileError, InvalidInputError
from ragkit.finetuning._rows import read_rows
from ragkit_pipelines.cli.common import check_out

ROWS = [(f"card {n}", "lost, card") if n % 2 else (f"sum {n}", "the money") for n in range(20)]
QUICK = ("--strategies", "majority, tfidf", "--embedder", "hash:8", "--json")


@pytest.fixture(params=["csv", "list", "lines"])
def data(request, tmp_path):
    """The same rows in each format, with other column names than the defaults."""
    rows = [{"id": n, "text": text, "topic": topic} for n, (text, topic) in enumerate(ROWS)]
    path = tmp_path / f"rows.{'csv' if request.param == 'csv' else 'json'}"
    if request.param == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, rows[0])
            table.writeheader()
            table.writerows(rows)
    elif request.param == "list":
        path.write_text(json.dumps(rows, indent=1))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_all_formats_contain_the_same_task(data):
    task = Task.from_path(data, input="text", output="topic")
    assert sorted((row.input, row.output) for row in (*task.examples, *task.test)) == sorted(ROWS)
    assert {row.id for row in (*task.examples, *task.test)} == {str(n) for n in range(20)}


def test_column_names_are_options(data, tmp_path):
    named = ("--input", "text", "--output", "topic")
    compared = run("compare", "--data", data, *named, *QUICK, "--sizes", "all", "--out", tmp_path / "new")
    assert {row["strategy"] for row in json.loads(compared.stdout)["rows"]} == {"majority", "tfidf"}
    again = run("compare", "resume", tmp_path / "new", "--yes", "--json")
    assert json.loads(again.stdout)["rows"] == json.loads(compared.stdout)["rows"]
    checked = run("data", "check", data, *named, "--json")
    assert json.loads(checked.stdout)["pool"]["rows"] == 16
    chosen = run("select", "--pool", data, "--query", "card", "--key", "text", "--output", "topic", "--json")
    assert json.loads(chosen.stdout)["hits"][0]["output"] == "lost, card"


def test_labels_with_several_spellings_are_merged_on_request(tmp_path):
    path = tmp_path / "t.jsonl"
    rows = [{"input": f"text {n}", "output": "Yes" if n % 2 else "yes", "split": "train"} for n in range(19)]
    rows.append({"input": "text of another label", "output": "no", "split": "train"})
    test = {"input": "other", "output": "Yes", "split": "test"}
    path.write_text("".join(json.dumps(row) + "\n" for row in (*rows, test)))
    command = ("compare", "--data", path, "--strategies", "majority", "--sizes", "all", "--json", "--out")
    split = run(*command, tmp_path / "split")
    merged = run(*command, tmp_path / "merged", "--normalise-labels", "--metric", "exact_match")
    resumed = run("compare", "resume", tmp_path / "merged", "--yes", "--json")
    scores = [json.loads(each.stdout)["rows"][0]["score"] for each in (split, merged, resumed)]
    assert scores == [0.0, 1.0, 1.0]


def test_several_columns_become_the_fields_of_the_input(data):
    task = Task.from_path(data, input=["text", "topic"], output="topic")
    assert set(task.examples[0].input) == {"text", "topic"}


def test_training_data_can_have_other_column_names(data):
    train, dev = read_rows(data, "completion", input="text", output="topic")
    assert ([(row.input, row.output) for row in train], dev) == (ROWS, [])


def test_the_error_for_other_column_names_names_the_options(data, tmp_path):
    for command in (["compare"], ["finetune", "--out", str(tmp_path / "model")]):
        refused = run(*command, "--data", data)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert "--input and --output" in refused.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "has no rows"),
        ("[1]", "line 1: is a int"),
        ('[{"a": 1}, [2]]', "line 2: is a list"),
        ('[{"a": 1}', "this is not valid JSON"),
    ],
)
def test_a_list_without_rows(tmp_path, text, message):
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(DataFileError, match=message):
        read_objects(tmp_path / "rows.json")


@pytest.mark.parametrize("option", [("--checks", "cleen"), ("--strategies", ""), ("--strategies", "majority,,tfidf")])
def test_an_invalid_option_of_compare_is_one_line(data, tmp_path, option):
    refused = run("compare", "--data", data, "--input", "text", "--output", "topic", *option, "--out", tmp_path / "new")
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert option[0] in refused.stderr
    assert not (tmp_path / "new").exists()


def test_a_comparison_is_not_written_into_a_folder_with_other_files(tmp_path):
    for folder in (tmp_path / "new", tmp_path / "empty"):
        check_out(folder)
    (tmp_path / "empty").mkdir()
    check_out(tmp_path / "empty")
    (tmp_path / "file").write_text("mine")
    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(InvalidInputError, match="--out"):
            check_out(taken)
    (tmp_path / "run.json").write_text("{}")
    check_out(tmp_path)
    (tmp_path / "interrupted" / "documents-0").mkdir(parents=True)  # written before run.json
    check_out(tmp_path / "interrupted")


def test_a_comparison_reports_the_default_model(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"input": text, "output": topic}) + "\n" for text, topic in ROWS[:8]))
    quick = ("compare", "--data", path, "--embedder", "hash:8", "--strategies")
    assert "--model was not given" in run(*quick, "zero-shot", "--out", tmp_path / "a").stderr
    assert "--model" not in run(*quick, "zero-shot", "--model", "tiny", "--out", tmp_path / "b").stderr
    assert "--model" not in run(*quick, "majority", "--out", tmp_path / "c").stderr


def test_columns_without_a_name_are_ignored(tmp_path):
    path = tmp_path / "from_a_spreadsheet.csv"
    path.write_text("input,output,,\na,x,,\nb,y,,\n")
    assert [(row["input"], row["output"]) for row in read_objects(path)] == [("a", "x"), ("b", "y")]


@pytest.mark.parametrize(("strategies", "code"), [("majority,zero-shot", 1), ("zero-shot", 2)])
def test_a_failed_strategy_is_named_and_sets_the_exit_code(data, tmp_path, strategies, code):
    """A replay model without recorded completions knows none of these prompts."""
    recorded = tmp_path / "recorded.jsonl"
    recorded.write_text("")
    done = run("compare", "--data", data, "--input", "text", "--output", "topic", "--strategies", strategies,
               "--model", f"replay:{recorded}", "--sizes", "all", "--out", tmp_path / "out")  # fmt: skip
    assert done.returncode == code
    (failure,) = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert failure.startswith("failed: zero-shot, pool 16: ")
    assert (tmp_path / "out" / "results.json").is_file()
