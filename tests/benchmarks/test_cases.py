"""The cases of benchmarks/icl_vs_finetuned read their data rightly: counts are those of the data's README."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def cases():
    spec = importlib.util.spec_from_file_location("benchmark_cases", BENCHMARKS / "icl_vs_finetuned/cases.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def stored(path, split):
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {(str(row["input"]), row["output"]) for row in rows if row["split"] == split}


@pytest.mark.parametrize(
    ("name", "file", "pool", "test", "labels"),
    [
        ("banking77", "classification/banking77", 10003, 3080, 77),
        ("clinc150", "classification/clinc150", 15100, 500, 151),  # of 5500
        ("trec6", "classification/trec6", 5452, 500, 6),
        ("scan", "generation/scan_simple", 16728, 300, None),
        ("scan-jump", "generation/scan_jump", 14670, 300, None),
    ],
)
def test_pools_are_whole_and_tests_drawn_from_the_test_split(cases, data, name, file, pool, test, labels):
    found = cases.settings_of(name, data)
    task = found.task
    assert (len(task.examples), len(task.test)) == (pool, test)
    assert (None if task.labels is None else len(task.labels)) == labels
    path = data / f"{file}.jsonl"
    assert {(row.input, row.output) for row in task.examples} == stored(path, "train")
    assert {(row.input, row.output) for row in task.test} <= stored(path, "test")
    assert all(size is None or size <= pool for size in found.sizes)


def test_geoquery_keeps_what_the_database_answers(cases, data):
    rows = [json.loads(line) for line in (data / "generation/geoquery_sql.jsonl").read_text().splitlines()]
    assert len(rows) == 695
    task = cases.settings_of("geoquery", data).task
    assert (len(task.examples), len(task.test)) == (433, 215)  # of 435 and 217
    assert task.score_all([row.output for row in task.test]) == [1.0] * 215
    assert task.score_all(["SELECT 1"] * 215).count(1.0) < 5


def test_instructions_are_whole_rows(cases, data):
    task = cases.settings_of("instructions", data).task
    assert (len(task.examples), len(task.test)) == (935, 110)  # of 1100, 55 in the dev split
    assert all(set(row.input) == {"instruction", "input"} for row in (*task.examples, *task.test))
    task = cases.settings_of("natural-instructions", data).task
    assert (len(task.examples), len(task.test)) == (45 * 97, 45 * 3)
    definitions = [row.input["definition"] for row in task.test]
    assert len(set(definitions)) == len({row.input["definition"] for row in task.examples})
    assert task.score_all([row.output for row in task.test]) == [1.0] * 135


def test_quick_settings_are_smaller(cases):
    whole, quick = (cases.settings_of("demo", Path(), quick=quick) for quick in (False, True))
    assert (len(whole.task.test), len(quick.task.test)) == (60, 40)
    assert quick.sizes == whole.sizes


def test_missing_data_is_a_reason(cases, tmp_path):
    for name in set(cases.CASES) - {"demo"}:
        with pytest.raises(cases.MissingDataError, match="is not there; give --data or RAGKIT_DATA"):
            cases.settings_of(name, tmp_path)


def script(folder, *arguments):
    command = [sys.executable, BENCHMARKS / folder / "run.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("folder", ["icl_vs_finetuned", "harness"])
def test_scripts_say_what_they_take(folder):
    shown = script(folder, "--help")
    assert shown.returncode == 0
    wrong = script(folder, "nonsense")
    assert wrong.returncode == 2
    assert "unknown: nonsense; expected some of" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_a_case_without_data_is_left_out_with_the_reason(tmp_path):
    done = script("icl_vs_finetuned", "trec6", "--data", str(tmp_path), "--work", str(tmp_path / "work"))
    assert done.returncode == 0
    assert "trec6 is left out: " in done.stderr
    assert not (tmp_path / "work").exists()
