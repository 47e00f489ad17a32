"""Answers of a comparison as CSV, Parquet and TREC runs, read back by other libraries."""

from __future__ import annotations

import csv
from dataclasses import dataclass

import pytest
from command_line import run

from ragkit import Example, Task, compare
from ragkit.comparison import Outcome, export_items
from ragkit.errors import InvalidInputError, UnknownSpecError
from ragkit.evaluation import read_qrels, read_run
from ragkit_pipelines.compare.predictions import Items

TEXTS = ["plain", 'with "quotes", a comma', "two\nlines", "spaces and ünïcödé", "=1+1"]


@dataclass(frozen=True)
class Echo:
    """Answers the first rows correctly, the rest with an empty text."""

    name: str
    right: int

    def run(self, setting):
        rows = setting.task.test
        answers = [row.output if index < self.right else "" for index, row in enumerate(rows)]
        return Outcome(answers, confidence=[1 / (2 + index) for index in range(len(rows))])


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    task = Task("", [Example("a", "b")], [Example(f"question {text}", text) for text in TEXTS], metric="exact_match")
    folder = tmp_path_factory.mktemp("compared") / "run"
    return compare(task, [Echo("echo:3", 3), Echo("echo:1", 1)], embedder="hash:8", seeds=[0, 1], out=folder)


def test_csv_and_parquet_have_one_line_per_answer(compared, tmp_path):
    import pyarrow.parquet as pq

    (table,) = export_items(compared.items, tmp_path / "items.csv", format="csv")
    (file,) = export_items(compared.items, tmp_path / "items.parquet", format="parquet")
    frame = compared.items.to_pandas()
    with table.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) == len(frame) == 2 * 2 * len(TEXTS)
    for name in ("input", "expected", "strategy", "answer"):
        assert [row[name] for row in rows] == list(frame[name])
    for name in ("row", "size", "seed", "score", "confidence"):
        assert [float(row[name]) for row in rows] == list(frame[name])
    assert pq.read_table(file).to_pandas().equals(frame)


def test_trec_runs_have_the_accuracy_as_their_precision_at_1(compared, tmp_path):
    ir_measures = pytest.importorskip("ir_measures", reason="needs the extra rag")
    qrels, *runs = export_items(compared.items, tmp_path / "trec", format="trec")
    assert [path.name for path in runs] == [f"echo-{n}-1-{seed}.run" for seed in (0, 1) for n in (3, 1)]
    judged = list(ir_measures.read_trec_qrels(str(qrels)))
    for path, answers in zip(runs, compared.items.answers, strict=True):
        found = ir_measures.calc_aggregate([ir_measures.P @ 1], judged, ir_measures.read_trec_run(str(path)))
        assert found[ir_measures.P @ 1] == pytest.approx(sum(answers.scores) / len(answers.scores))


def test_trec_files_name_the_rows_the_answers_and_the_run(compared, tmp_path):
    qrels, first, *_ = export_items(compared.items, tmp_path / "trec", format="trec")
    assert read_qrels(qrels)["row-3"] == {"spaces%20and%20%C3%BCn%C3%AFc%C3%B6d%C3%A9": 1}
    assert read_run(first)["row-2"] == [("two%0Alines", 1 / 4)]
    assert "row-4" not in read_run(first)  # its answer is empty
    assert {line.split()[5] for line in first.read_text().splitlines()} == {"echo:3-1-0"}


def test_the_command_takes_the_format_from_the_file(compared, tmp_path):
    out = tmp_path / "answers.csv"
    done = run("compare", "export", compared.folder, "--out", out)
    assert (done.returncode, done.stdout) == (0, f"Written to {out}\n")
    again = run("compare", "export", compared.folder, "--format", "csv", "--json")
    assert str(compared.folder / "items.csv") in again.stdout
    assert (compared.folder / "items.csv").read_bytes() == out.read_bytes()


@pytest.mark.parametrize("options", [[], ["--out", "answers.xlsx"]])
def test_a_format_is_required(compared, options):
    done = run("compare", "export", compared.folder, *options)
    assert done.returncode == 2
    assert done.stderr.startswith("error: pass --format with one of csv, parquet, trec")


def test_unknown_formats_and_comparisons_without_answers_are_errors(compared, tmp_path):
    with pytest.raises(UnknownSpecError, match="export format 'cvs'"):
        export_items(compared.items, tmp_path / "x", format="cvs")
    with pytest.raises(InvalidInputError, match="no answers to export"):
        export_items(Items(inputs=[], expected=[], answers=[]), tmp_path / "x", format="csv")
    assert not list(tmp_path.iterdir())
