"""Tasks from CSV, from datasets on disk and from functions: the same rows give the same task."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.errors import DataFileError
from ragkit.records import Example
from ragkit.tasks import Task

ROWS = [
    {"input": 'say "hi",\nthen go', "output": "a", "lang": "en", "split": "train"},
    {"input": "ça va; {input}", "output": "b", "lang": "fr", "split": "train"},
    {"input": "left out", "output": "b", "lang": "fr", "split": "validation"},
    {"input": "bye", "output": "a", "lang": "en", "split": "test"},
]


def write_csv(path: Path, rows: list[dict[str, str]]):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_all_sources_give_the_same_task(tmp_path: Path):
    import datasets

    lines = tmp_path / "rows.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    of_lines = Task.from_jsonl(lines, instruction="Do.")
    parts = {
        split: [
            {name: value for name, value in row.items() if name != "split"} for row in ROWS if row["split"] == split
        ]
        for split in ("train", "validation", "test")
    }
    stored = datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split, rows in parts.items()})
    stored.save_to_disk(tmp_path / "rows")
    assert Task.from_csv(write_csv(tmp_path / "rows.csv", ROWS), instruction="Do.") == of_lines
    assert Task.from_dataset(tmp_path / "rows", instruction="Do.") == of_lines
    assert Task.from_rows(lambda: iter(ROWS), name="rows", instruction="Do.") == of_lines
    assert of_lines.examples[0].metadata == {"lang": "en"}
    assert len(of_lines.examples) == 2


@given(st.lists(st.tuples(*[st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"))] * 2), min_size=1))
def test_any_text_survives_csv(tmp_path_factory, pairs):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    rows = [{"input": f"i{one}", "output": f"o{two}".replace("\n\n", "\n").strip()} for one, two in pairs]
    read = Task.from_csv(write_csv(path, rows), test_share=0, labels=None)
    assert [(row.input, row.output) for row in read.examples] == [(row["input"], row["output"]) for row in rows]


def test_columns_become_fields_and_class_labels_names():
    import datasets

    features = datasets.Features(
        {
            "q": datasets.Value("string"),
            "doc": datasets.Value("string"),
            "gold": datasets.ClassLabel(names=["no", "yes"]),
        }
    )
    rows = datasets.Dataset.from_list([{"q": "a", "doc": "b", "gold": 1}], features=features)
    (example,) = Task.from_dataset(rows, input=["q", "doc"], output="gold", test_share=0).examples
    assert (example.input, example.output) == ({"q": "a", "doc": "b"}, "yes")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("input,output\na,b\nc\n", "line 3: has 1 cells"),
        ("input,output\na,b,c\n", "line 2: has 3 cells"),
        ("question,output\na,b\n", "line 2: has no 'input', only question, output"),
        ("input,output,split\na,b,train\nc,d,\n", "line 3: only some of the rows"),
        ("input,output,split\na,b,trian\n", "line 2: split"),
        ('input,output\n"a,b\n', "cannot be read"),
        ("input,output\n", "no rows"),
        ("input,output,output\na,b,c\n", "line 1: the header has 'output' twice"),
    ],
)
def test_a_bad_csv_is_named(tmp_path: Path, text: str, said: str):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(DataFileError, match=said):
        Task.from_csv(path)


def test_a_csv_of_a_spreadsheet(tmp_path: Path):
    path = tmp_path / "ROWS.CSV"
    path.write_bytes(b'\xef\xbb\xbfid,input,output,note\r\n,a,x,\r\nown,b,"y\r\nz",\r\n')
    task = Task.from_path(path)
    assert task == Task.from_csv(path)
    assert Task.from_csv(path, test_share=0).examples == (
        Example("a", "x", metadata={"note": ""}),
        Example("b", "y\r\nz", id="own", metadata={"note": ""}),
    )


def test_a_dataset_with_rows_that_say_too_little():
    import datasets

    label = datasets.Features({"input": datasets.Value("string"), "output": datasets.ClassLabel(names=["no", "yes"])})
    hidden = datasets.Dataset.from_dict({"input": ["a", "b"], "output": [1, -1]}, features=label)
    with pytest.raises(DataFileError, match="line 2: has no label in 'output'"):
        Task.from_dataset(hidden)
    some = datasets.Dataset.from_dict({"input": ["a", "b"], "output": ["x", "y"], "split": ["train", None]})
    with pytest.raises(DataFileError, match="line 2: only some of the rows say their split"):
        Task.from_dataset(some)


def test_what_is_no_dataset_is_named(tmp_path: Path):
    with pytest.raises(DataFileError, match="is not a dataset on disk"):
        Task.from_dataset(tmp_path)
    with pytest.raises(DataFileError, match="line 2: is a str"):
        Task.from_rows([{"input": "a", "output": "b"}, "c"])
    with pytest.raises(DataFileError, match="line 1: output"):
        Task.from_rows([{"input": "a", "output": [1]}])
    with pytest.raises(DataFileError, match="has no rows"):
        Task.from_rows(list)
