"""Data files in the formats that people have: numbers as labels, nested fields, encodings, Excel and Parquet."""

from __future__ import annotations

import datetime
import importlib.util
import json
from pathlib import Path

import pytest

from ragkit.errors import DataFileError, RagkitWarning
from ragkit.records import Example
from ragkit.tasks import Task


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def outputs(task: Task) -> list[str]:
    return [row.output for row in task.examples]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([1, 1.0, "1", -3, 2.5, 1e22], ["1", "1", "1", "-3", "2.5", "10000000000000000000000"]),
        ([True, False, "true", "True"], ["true", "false", "true", "True"]),
    ],
)
def test_numbers_and_booleans_become_text(tmp_path: Path, given: list[object], expected: list[str]):
    path = lines(tmp_path / "t.jsonl", *({"input": "a", "output": value} for value in given))
    assert outputs(Task.from_jsonl(path, test_share=0)) == expected


def test_integer_labels_make_a_classification_task(tmp_path: Path):
    path = lines(tmp_path / "t.jsonl", *({"input": f"text {n}", "output": n % 2} for n in range(50)))
    task = Task.from_path(path)
    assert (task.labels, task.metric) == (("0", "1"), "accuracy")


@pytest.mark.parametrize(("given", "line"), [([1, "a", True], 1), ([False, "x", 2.0, 3], 3)])
def test_numbers_among_booleans_are_an_error(tmp_path: Path, given: list[object], line: int):
    path = lines(tmp_path / "t.jsonl", *({"input": "a", "output": value} for value in given))
    with pytest.raises(DataFileError, match="boolean") as caught:
        Task.from_jsonl(path)
    assert caught.value.line == line


@pytest.mark.parametrize("value", ["NaN", "Infinity", "null", "[1]", "{}"])
def test_other_outputs_are_an_error(tmp_path: Path, value: str):
    path = tmp_path / "t.jsonl"
    path.write_text(f'{{"input": "a", "output": 1}}\n{{"input": "a", "output": {value}}}\n')
    with pytest.raises(DataFileError, match="output") as caught:
        Task.from_jsonl(path)
    assert caught.value.line == 2


def test_dots_lead_into_nested_fields_and_lists(tmp_path: Path):
    row = {"question": {"text": "who?"}, "answers": {"text": ["me", "you"]}, "a.b": "whole", "a": {"b": "part"}}
    path = lines(tmp_path / "t.jsonl", row)
    (example,) = Task.from_jsonl(path, input="question.text", output="answers.text.1", test_share=0).examples
    assert (example.input, example.output) == ("who?", "you")
    (example,) = Task.from_jsonl(path, input=["question.text", "a.b"], output="answers.text.0", test_share=0).examples
    assert (example.input, example.output) == ({"question.text": "who?", "a.b": "whole"}, "me")
    for missing in ("question.body", "answers.text.2", "answers.text.x", "question.text.0", "question."):
        with pytest.raises(DataFileError, match=f"has no '{missing}', only question, answers") as caught:
            Task.from_jsonl(path, input="question.text", output=missing)
        assert caught.value.line == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])  # Excel writes "Unicode text" in UTF-16
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_byte_order_marks(tmp_path: Path, encoding: str, suffix: str):
    mark = "\t" if suffix == ".tsv" else ","
    row = '{"input": "é", "output": "x"}' if suffix == ".jsonl" else f"input{mark}output\né{mark}x\n"
    path = tmp_path / f"t{suffix}"
    path.write_text(row, encoding=encoding)
    assert Task.from_path(path).examples == (Example("é", "x"),)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_truncated_utf_16_is_an_error(tmp_path: Path, suffix: str):
    path = tmp_path / f"t{suffix}"
    path.write_bytes("input,output\na,b\n".encode("utf-16")[:-1])
    with pytest.raises(DataFileError) as caught:
        Task.from_path(path)
    assert caught.value.line == 0


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_delimiters_are_detected(tmp_path: Path, mark: str):
    path = tmp_path / "t.csv"
    path.write_text(f"input{mark}output\na b{mark}x\n")
    assert Task.from_path(path).examples == (Example("a b", "x"),)


@pytest.mark.parametrize(
    ("name", "text", "advice"),
    [
        ("t.tsv", "input,output\na,x\n", "one column, in which ',' looks like the delimiter"),
        ("t.tsv", "input;output\na;x\n", "one column, in which ';' looks like the delimiter"),
        ("t.csv", "sep=,\ninput\toutput\na\tx\n", "one column, in which a tab looks like the delimiter"),
        ("t.csv", '"input;output"\n"a;x"\n', "quotation marks around all their cells"),
    ],
)
def test_a_file_without_its_delimiter_says_what_to_do(tmp_path: Path, name: str, text: str, advice: str):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DataFileError, match=advice):
        Task.from_path(path)


def test_rows_with_an_empty_input_are_listed(tmp_path: Path):
    path = lines(tmp_path / "t.jsonl", *({"input": text, "output": "x"} for text in ("a", "", " \n", "b")))
    with pytest.warns(RagkitWarning, match=r"input of 2 rows is empty \(lines 2, 3\)"):
        Task.from_jsonl(path)
    fields = lines(tmp_path / "f.jsonl", {"a": "", "b": "c", "output": "x"}, {"a": "", "b": " ", "output": "x"})
    with pytest.warns(RagkitWarning, match=r"input of 1 rows is empty \(lines 2\)"):
        Task.from_jsonl(fields, input=["a", "b"])


def test_parquet(tmp_path: Path):
    import pyarrow
    from pyarrow.parquet import write_table

    path = tmp_path / "T.PARQUET"
    columns = {"q": [{"text": "a"}, {"text": "b"}], "label": [1, 0], "split": ["train", "test"]}
    write_table(pyarrow.table(columns), path)
    task = Task.from_path(path, input="q.text", output="label")
    assert task.name == "T"
    assert [(row.input, row.output) for row in (*task.examples, *task.test)] == [("a", "1"), ("b", "0")]
    assert task.examples[0].metadata == {"q": {"text": "a"}}


@pytest.mark.parametrize("suffix", [".parquet", ".xlsx"])
def test_files_of_another_format_are_an_error(tmp_path: Path, suffix: str):
    path = tmp_path / f"t{suffix}"
    path.write_text("input,output\na,b\n")
    with pytest.raises(DataFileError) as caught:
        Task.from_path(path)
    assert (caught.value.path, caught.value.line) == (path, 0)


def test_excel(tmp_path: Path):
    openpyxl = pytest.importorskip("openpyxl")
    workbook = openpyxl.Workbook()
    rows = [
        ["id", "input", "output", "day", None],
        [7, "a", 1, datetime.date(2024, 5, 1)],
        [None, 2.0, True, None],
        [],
        ["n", "c", "x"],
    ]
    for row in rows:
        workbook.active.append(row)
    workbook.create_sheet("other").append(["ignored"])
    workbook.save(tmp_path / "t.xlsx")
    task = Task.from_path(tmp_path / "t.xlsx")
    read = {row.input: (row.output, row.id, row.metadata) for row in (*task.examples, *task.test)}
    assert read == {
        "a": ("1", "7", {"day": "2024-05-01T00:00:00"}),
        "2": ("true", None, {"day": ""}),
        "c": ("x", "n", {"day": ""}),
    }


@pytest.mark.skipif(importlib.util.find_spec("openpyxl") is not None, reason="openpyxl is installed")
def test_excel_without_openpyxl_says_what_to_do(tmp_path: Path):
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    with pytest.raises(DataFileError, match=r"pip install openpyxl.*save the sheet as CSV"):
        Task.from_path(tmp_path / "t.xlsx")


MIXED = [
    ("a", "Yes", "train"),
    ("b", "yes ", "train"),
    ("c", "Yes", "train"),
    ("d", "NO", "train"),
    ("e", "no", "test"),
]


def mixed(path: Path) -> Path:
    return lines(path, *({"input": i, "output": o, "split": s} for i, o, s in MIXED))


def test_labels_with_several_spellings_are_merged_on_request(tmp_path: Path):
    path = mixed(tmp_path / "t.jsonl")
    assert outputs(Task.from_path(path)) == ["Yes", "yes ", "Yes", "NO"]
    merged = Task.from_path(path, normalise_labels=True)
    assert outputs(merged) == ["Yes", "Yes", "Yes", "NO"]
    assert [row.output for row in merged.test] == ["NO"]


def test_labels_that_are_given_state_their_spelling(tmp_path: Path):
    path = mixed(tmp_path / "t.jsonl")
    task = Task.from_jsonl(path, labels=["yes", "no"], normalise_labels=True)
    assert outputs(task) == ["yes", "yes", "yes", "no"]
    assert task.labels == ("yes", "no")


def test_the_most_frequent_spelling_counts_over_all_rows():
    rows = [{"input": str(n), "output": output} for n, output in enumerate(["b  C", "B c", "B c", "d"])]
    task = Task.from_rows(rows, test_share=0, normalise_labels=True)
    assert outputs(task) == ["B c", "B c", "B c", "d"]
