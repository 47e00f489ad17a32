"""Result files of ragkit, lm-evaluation-harness and promptfoo, compared on the rows that they share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random

import pytest
from command_line import run
from scipy.stats import binomtest

from ragkit import Example, Task, compare
from ragkit.comparison import Outcome, judge_files
from ragkit.errors import DataFileError, InvalidInputError, RagkitWarning


def lm_eval_lines(scores, *, start=0, metric="acc", filters=("none",)):
    """The rows that lm-evaluation-harness writes with --log_samples, with a score for each document."""
    return [
        {
            "doc_id": number,
            "doc": {"question": f"question {number}"},
            "target": "a",
            "arguments": {"gen_args_0": {"arg_0": f"question {number}", "arg_1": {"until": ["\n"]}}},
            "resps": [["a"]],
            "filtered_resps": ["a"],
            "filter": each,
            "metrics": [metric],
            "doc_hash": f"hash of {number}",
            "prompt_hash": "p",
            "target_hash": "t",
            metric: score,
        }
        for each in filters
        for number, score in enumerate(scores, start)
    ]


def lm_eval_file(folder, name, rows):
    path = folder / name / "samples_arc_2026-01-01T10-00-00.000000.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def promptfoo_file(path, columns, **changes):
    """The file of ``promptfoo eval --output``: one column of scores per provider, a row per test."""
    results = [
        {
            "promptIdx": column,
            "testIdx": test,
            "testCase": {"vars": {"topic": f"topic {test}"}},
            "promptId": "abc",
            "provider": {"id": provider, "label": ""},
            "prompt": {"raw": f"Write about topic {test}", "label": "Write about {{topic}}"},
            "vars": {"topic": f"topic {test}"},
            "response": {"output": "text"},
            "error": None,
            "success": score == 1,
            "failureReason": int(score < 1),
            "score": score,
            "latencyMs": 12,
            "gradingResult": {"pass": score == 1, "score": score, "reason": ""},
            "namedScores": {"tone": score / 2},
            "cost": cost,
            "metadata": {},
        }
        | changes
        for column, (provider, scores, cost) in enumerate(columns)
        for test, score in enumerate(scores)
    ]
    summary = {"version": 3, "timestamp": "2026-01-01T00:00:00.000Z", "prompts": [], "results": results, "stats": {}}
    content = {"evalId": "eval-1", "results": summary, "config": {}, "shareableUrl": None, "metadata": {}}
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
    return path


def test_two_runs_of_lm_eval_get_the_exact_test_of_scipy(tmp_path):
    a, b = [1.0] * 30 + [0.0] * 10, [1.0] * 12 + [0.0] * 24 + [1.0] * 4  # 18 rows only a has right, 4 only b
    files = [
        lm_eval_file(tmp_path, "large", lm_eval_lines(a)),
        lm_eval_file(tmp_path, "small", list(reversed(lm_eval_lines(b)))),  # in another order
    ]
    found = judge_files(files)
    assert (found.metric, found.rows) == ("acc,none", 40)
    (pair,) = found.results.pairs
    assert (pair.a, pair.b, pair.only_a, pair.only_b) == ("large", "small", 18, 4)
    expected = binomtest(18, 22, 0.5).pvalue
    assert pair.p == pytest.approx(expected)
    assert found.recommendation.corrected == {"small": pytest.approx(expected)}
    assert found.recommendation.strategy == "large"
    low, high = (
        binomtest(30, 40).proportion_ci(method="wilson").low,
        binomtest(30, 40).proportion_ci(method="wilson").high,
    )
    assert (found.results.rows[0].low, found.results.rows[0].high) == (pytest.approx(low), pytest.approx(high))
    assert "large answered 75.0% of 40 test rows correctly;" in found.recommendation.evidence
    shown = str(found)
    assert "acc,none on 40 test rows" in shown
    assert f"{low:.2f}, {high:.2f}" in shown
    assert "significantly worse" in shown
    assert "exact McNemar test" in shown
    assert "pool" not in shown
    assert "baseline" not in shown


def test_three_runs_get_holms_correction_of_the_tests_against_the_best(tmp_path):
    scores = {"a": [1.0] * 30, "b": [1.0] * 24 + [0.0] * 6, "c": [1.0] * 21 + [0.0] * 9}
    found = judge_files([lm_eval_file(tmp_path, name, lm_eval_lines(each)) for name, each in scores.items()])
    against_b, against_c = (binomtest(n, n, 0.5).pvalue for n in (6, 9))
    assert found.recommendation.corrected == {"b": pytest.approx(against_b), "c": pytest.approx(2 * against_c)}
    assert len(found.results.pairs) == len(found.results.differences) == 3


def test_a_metric_is_chosen_by_its_name_or_with_its_filter(tmp_path):
    strict = lm_eval_lines([1.0] * 20, metric="exact_match", filters=("strict-match",))
    files = [
        lm_eval_file(
            tmp_path, name, [*strict, *lm_eval_lines(scores, metric="exact_match", filters=("flexible-extract",))]
        )
        for name, scores in (("a", [1.0] * 20), ("b", [0.0] * 20))
    ]
    assert {row.score for row in judge_files(files, metric="exact_match,strict-match").results.rows} == {1.0}
    scores = [row.score for row in judge_files(files, metric="exact_match,flexible-extract").results.rows]
    assert scores == [1.0, 0.0]
    with pytest.raises(
        InvalidInputError, match=r"several metrics; choose one with `metric`.*'exact_match,strict-match'"
    ):
        judge_files(files)
    with pytest.raises(InvalidInputError, match="several metrics 'exact_match'"):
        judge_files(files, metric="exact_match")
    with pytest.raises(InvalidInputError, match=r"no metric 'f1'.*'exact_match,flexible-extract'"):
        judge_files(files, metric="f1")
    single = [lm_eval_file(tmp_path, f"one-{name}", lm_eval_lines([1, 0])) for name in "ab"]
    assert judge_files(single, metric="acc").metric == "acc,none"


def test_rows_that_some_runs_lack_are_left_out_with_a_warning(tmp_path):
    files = [
        lm_eval_file(tmp_path, "a", lm_eval_lines([0.0] * 5 + [1.0] * 20)),
        lm_eval_file(tmp_path, "b", lm_eval_lines([1.0] * 10 + [0.0] * 12, start=5)),
    ]
    with pytest.warns(RagkitWarning, match="20 rows are compared.*a: 5; b: 2"):
        found = judge_files(files)
    assert (found.rows, found.unshared) == (20, {"a": 5, "b": 2})
    assert [row.score for row in found.results.rows] == [1.0, 0.5]


def test_rows_with_the_same_content_count_once(tmp_path):
    rows = lm_eval_lines([1.0, 0.0, 1.0])
    rows[1]["doc_hash"] = rows[0]["doc_hash"]  # the same document twice, answered correctly once
    found = judge_files([lm_eval_file(tmp_path, "a", rows), lm_eval_file(tmp_path, "b", rows)])
    assert [(row.n, row.correct) for row in found.results.rows] == [(2, 1.5), (2, 1.5)]


def test_columns_of_promptfoo_are_runs_and_files_with_the_same_names_are_preceded_by_their_file(tmp_path):
    good, poor = [1.0] * 18 + [0.5] * 2, [1.0] * 10 + [0.0] * 10
    one = promptfoo_file(tmp_path / "one.json", [("openai:x", good, None), ("openai:y", poor, None)])
    found = judge_files([one])
    assert [(row.strategy, row.score) for row in found.results.rows] == [("openai:x", 0.95), ("openai:y", 0.5)]
    assert found.recommendation.test == "paired bootstrap over seeds and items"  # because of the partial scores
    assert judge_files([one], metric="success").results.pairs[0].only_a == 8
    assert [row.score for row in judge_files([one], metric="tone").results.rows] == [0.475, 0.25]
    two = promptfoo_file(tmp_path / "two.json", [("openai:x", poor, None), ("openai:x", good, None)])
    names = [row.strategy for row in judge_files([one, two]).results.rows]
    assert names == ["openai:x", "openai:y", "openai:x, column 1", "openai:x, column 2"]
    three = promptfoo_file(tmp_path / "three.json", [("openai:x", poor, None)])
    names = [row.strategy for row in judge_files([one, three]).results.rows]
    assert names == [f"{one}: openai:x", "openai:y", f"{three}: openai:x"]


def test_the_cheapest_run_that_is_not_worse_is_recommended_if_all_costs_are_known(tmp_path):
    scores = [1.0] * 10 + [0.0] * 10
    better = [1.0] * 11 + [0.0] * 9
    known = promptfoo_file(tmp_path / "known.json", [("dear", better, 0.02), ("cheap", scores, 0.01)])
    assert judge_files([known]).recommendation.strategy == "cheap"
    assert judge_files([known]).recommendation.saving == pytest.approx(0.5)
    unknown = promptfoo_file(tmp_path / "unknown.json", [("dear", better, 0.02), ("cheap", scores, None)])
    assert judge_files([unknown]).recommendation.strategy == "dear"


@dataclass(frozen=True)
class Answering:
    """Gives the right answer to a share of the rows."""

    name: str
    share: float

    def run(self, setting):
        rng = Random(f"{self.name} {setting.seed}")
        return Outcome([row.output if rng.random() < self.share else "" for row in setting.task.test], cost=1.0)


def test_folders_of_comparisons_give_the_differences_of_one_comparison(tmp_path):
    task = Task("", [Example("a", "b"), Example("c", "d")], [Example(f"question {n}", "b") for n in range(60)])
    arms = [Answering("first", 0.9), Answering("second", 0.6)]
    both = compare(task, arms, embedder="hash:8", seeds=[0, 1, 2])
    for arm in arms:
        compare(task, [arm], embedder="hash:8", seeds=[0, 1, 2], out=tmp_path / arm.name)
    found = judge_files([tmp_path / "first", tmp_path / "second"])
    assert found.rows == 60
    (difference,), (expected,) = found.results.differences, both.results.differences
    assert difference.model_copy(update={"size": expected.size}) == expected
    assert found.recommendation.corrected == both.recommendation.corrected
    with pytest.raises(InvalidInputError, match="at least two different runs to compare, found 1"):
        judge_files([tmp_path / "first"])
    with pytest.raises(InvalidInputError, match="no metric 'f1'"):
        judge_files([tmp_path / "first"], metric="f1")


OLD_LM_EVAL = {key: value for key, value in lm_eval_lines([1.0])[0].items() if key not in {"filter", "metrics"}}
BAD_FILES = {
    "an old version of lm-eval": (
        json.dumps(OLD_LM_EVAL),
        r"line 1: `filter`: Field required; expected a file that .*0\.4\.7",
    ),
    "a row without a hash": (
        "\n".join(json.dumps(row | ({"doc_hash": None} if row["doc_id"] else {})) for row in lm_eval_lines([1, 0])),
        "line 2: `doc_hash`",
    ),
    "a damaged row": (json.dumps(lm_eval_lines([1.0])[0]) + '\n{"doc_id": 1', "line 2: `doc_id`: Field required"),
    "the means of lm-eval": (json.dumps({"results": {"arc": {"acc,none": 0.5}}, "configs": {}}), "contains means only"),
    "an old version of promptfoo": (
        json.dumps({"results": {"version": 2, "results": [], "table": {}}}),
        "expected results of promptfoo in version 3 .*; found version 2",
    ),
    "a new version of promptfoo": (
        json.dumps({"results": {"version": 3, "results": [{"promptIdx": 0, "outcome": "pass"}]}}),
        r"`results\.0\.success`: Field required; expected results of promptfoo in version 3",
    ),
    "other JSON": ('{"a": 1, "b": 2}', "found JSON with the fields 'a', 'b'; expected the folder of a comparison"),
    "a part of a comparison": ('{"schema_version": 2, "rows": []}', "pass its folder"),
    "no JSON": ("question,score\na,1\n", "expected the folder of a comparison of ragkit"),
    "an empty file": ("", "expected the folder of a comparison of ragkit"),
    "bytes": (b"\xff\xfe\x00", "expected the folder of a comparison of ragkit"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_of_another_version_or_program_names_what_was_expected(tmp_path, name):
    content, message = BAD_FILES[name]
    path = tmp_path / "results.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataFileError, match=message) as error:
        judge_files([path])
    assert str(path) in str(error.value)


def test_missing_files_and_folders_without_a_comparison_are_errors(tmp_path):
    for path in (tmp_path / "nowhere.jsonl", tmp_path):
        with pytest.raises(DataFileError, match="expected"):
            judge_files([path])
    with pytest.raises(InvalidInputError, match="`paths` must be a list of files"):
        judge_files(str(tmp_path))
    with pytest.raises(InvalidInputError, match="found 0"):
        judge_files([])


def test_files_that_share_no_rows_or_have_other_metrics_are_refused(tmp_path):
    one = lm_eval_file(tmp_path, "one", lm_eval_lines([1.0] * 3))
    other = lm_eval_file(tmp_path, "other", lm_eval_lines([1.0] * 4, start=100))
    with pytest.raises(InvalidInputError, match="share no rows: 'one' has 3 rows and 'other' has 4, with different"):
        judge_files([one, other])
    norm = lm_eval_file(tmp_path, "norm", lm_eval_lines([1.0] * 3, metric="acc_norm"))
    with pytest.raises(InvalidInputError, match=r"different metrics: 'acc,none' .*'acc_norm,none'"):
        judge_files([one, norm])
    foo = promptfoo_file(tmp_path / "foo.json", [("x", [1.0] * 3, None)])
    with pytest.raises(InvalidInputError, match="different metrics"):
        judge_files([one, foo])
    with pytest.raises(InvalidInputError, match="at least two different runs"):
        judge_files([one, one])


def test_scores_outside_of_0_to_1_and_rows_without_an_answer_are_refused(tmp_path):
    files = [lm_eval_file(tmp_path, name, lm_eval_lines([35.0, 20.0], metric="ter")) for name in "ab"]
    with pytest.raises(InvalidInputError, match="'ter,none' has the value 35; expected a score from 0 to 1"):
        judge_files(files)
    not_a_number = [lm_eval_file(tmp_path, name, lm_eval_lines([float("nan")])) for name in "cd"]
    with pytest.raises(InvalidInputError, match="has the value nan"):
        judge_files(not_a_number)
    aggregated = [lm_eval_file(tmp_path, name, lm_eval_lines([["x", "y"]], metric="bleu")) for name in "ef"]
    with pytest.raises(InvalidInputError, match="no metric with a score per row"):
        judge_files(aggregated)
    failed = promptfoo_file(tmp_path / "failed.json", [("x", [0.0] * 2, None)], failureReason=2)
    with pytest.raises(DataFileError, match="2 of 2 rows have no answer because the provider failed"):
        judge_files([failed])
    with pytest.raises(InvalidInputError, match="`margin`"):
        judge_files(files, margin=2)


def test_the_command_prints_the_table_and_the_recommendation(tmp_path):
    files = [
        lm_eval_file(tmp_path, "large", lm_eval_lines([1.0] * 30)),
        lm_eval_file(tmp_path, "small", lm_eval_lines([0.0] * 15 + [1.0] * 15)),
    ]
    done = run("compare", "judge", *files)
    assert done.returncode == 0, done.stderr
    assert "1.000 [0.89, 1.00]" in done.stdout
    assert "Recommendation: large. large answered 100.0% of 30 test rows correctly" in done.stdout
    stored = json.loads(run("compare", "judge", *files, "--metric", "acc", "--json").stdout)
    assert [(row["strategy"], row["score"]) for row in stored["rows"]] == [("large", 1.0), ("small", 0.5)]
    failed = run("compare", "judge", files[0])
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.startswith("error: expected at least two different runs")


def test_names_from_files_cannot_control_the_terminal(tmp_path):
    path = promptfoo_file(tmp_path / "x.json", [("a\x1b[31m[red]", [1.0, 0.0], None), ("b", [1.0, 1.0], None)])
    done = run("compare", "judge", path)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + str(judge_files([path]))
    assert "[red]" in done.stdout
