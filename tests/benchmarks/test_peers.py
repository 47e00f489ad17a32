"""The comparison with other tools: its rows, the lines that it counts, and the paired statistics."""

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from scipy.stats import binomtest

PEERS = Path(__file__).parents[2] / "benchmarks/peers"


@pytest.fixture(scope="module")
def run():
    sys.path.insert(0, str(PEERS))  # run.py imports snippets.py
    spec = importlib.util.spec_from_file_location("peers_run", PEERS / "run.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(PEERS))
    del sys.modules[spec.name], sys.modules["snippets"]


def rows_of(run, train):
    return run.snippets.Rows(train=train, test=[], labels=("a", "b"), k=4, smollm2="", minilm="")


def test_few_keeps_the_first_rows_of_each_class_in_order(run):
    train = [{"input": str(n), "output": "a" if n % 3 else "b"} for n in range(60)]
    kept = run.few(rows_of(run, train)).train
    assert Counter(row["output"] for row in kept) == {"a": 8, "b": 8}
    assert kept == [row for row in train if row in kept]
    assert max(int(row["input"]) for row in kept if row["output"] == "a") == 11
    assert max(int(row["input"]) for row in kept if row["output"] == "b") == 21


def test_few_keeps_all_rows_of_a_class_with_fewer(run):
    train = [{"input": "1", "output": "a"}]
    assert list(run.few(rows_of(run, train)).train) == train


def test_lines_are_those_of_a_function_and_of_the_functions_that_it_calls(run, monkeypatch, tmp_path):
    one = "def one():\n    import os\n\n    # why\n    x = (\n        two\n    )\n    return x()\n\n"
    (tmp_path / "made.py").write_text(f"{one}def two():\n    return 2\n\ndef three():\n    return 3\n")
    monkeypatch.setattr(run.snippets, "__file__", str(tmp_path / "made.py"))
    assert {name: run.lines_of(name) for name in ("one", "two", "three")} == {"one": 6, "two": 1, "three": 1}


def test_each_program_has_a_snippet_and_each_peer_a_program_of_ragkit(run):
    for name, program in run.PROGRAMS.items():
        assert callable(getattr(run.snippets, name))
        assert (name.partition("_")[0] == "ragkit") == (not program.ours)
        assert all(run.PROGRAMS[own].few == program.few for own in program.ours)  # the same training rows


def test_pairs_are_compared_row_by_row(run):
    expected = ["a"] * 9
    programs = {
        "ragkit_score": {"answers": ["a"] * 7 + ["b", "b"], "cpu_s": 2.0},
        "lm_eval": {"answers": ["b"] * 6 + ["a", "a", "b"], "cpu_s": 4.0},
        "setfit": {"answers": ["a"] * 9, "cpu_s": 1.0},  # its program of ragkit has no result yet
    }
    (pair,) = run.summary(programs, expected)
    assert (pair["ours"], pair["peer"]) == ("ragkit_score", "lm_eval")
    assert (pair["only_ours_right"], pair["only_peer_right"], pair["equal_answers"]) == (6, 1, 2)
    assert pair["p"] == round(binomtest(6, 7).pvalue, 4)
    assert pair["cpu_ratio"] == 0.5


def test_committed_accuracies_are_those_of_the_committed_answers(run):
    facts = json.loads(run.RESULTS.read_text(encoding="utf-8"))
    for found in facts["programs"].values():
        assert len(found["answers"]) == facts["test_rows"]
        low, high = found["interval"]
        assert low <= found["accuracy"] <= high
    assert {pair["peer"] for pair in facts["pairs"]} <= facts["programs"].keys()


def test_a_program_whose_tool_is_not_installed_is_skipped(run, monkeypatch, tmp_path, capsys):
    (tmp_path / "smollm2").mkdir()
    monkeypatch.setattr(run, "RESULTS", tmp_path / "peers.json")
    monkeypatch.setattr(run, "rows_of", lambda *_: rows_of(run, []))
    program = run.Program("Tool", ("no_such_module_anywhere",), ("ragkit_score",))
    monkeypatch.setattr(run, "PROGRAMS", {"lm_eval": program})
    monkeypatch.setattr(sys, "argv", ["run.py", "--work", str(tmp_path)])
    run.main()
    assert "skipped, because no_such_module_anywhere is not installed" in capsys.readouterr().out
    assert not run.RESULTS.exists()
