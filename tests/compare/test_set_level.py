"""Comparisons that a set-level metric decides, and tests of equivalence."""

import json
import random
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import f1_score, matthews_corrcoef
from typer.testing import CliRunner

from ragkit import Example, Task, compare
from ragkit.errors import InvalidInputError
from ragkit.metrics import load_metric
from ragkit_pipelines.cli.main import app
from ragkit_pipelines.compare.options import CompareOptions
from ragkit_pipelines.compare.predictions import Items
from ragkit_pipelines.compare.reports.diff import changes
from ragkit_pipelines.compare.reports.html import html_report
from ragkit_pipelines.compare.reports.markdown import markdown_report
from ragkit_pipelines.compare.reports.standings import standings
from ragkit_pipelines.compare.results import Cell, Results, make_row
from ragkit_pipelines.compare.statistics.bootstrap import PairedBootstrap, item_weights, score_interval
from ragkit_pipelines.compare.statistics.recommendation import summarise
from ragkit_pipelines.compare.statistics.run_scores import MeanScores, SetScores
from ragkit_pipelines.compare.strategies.base import Outcome

CLASSES = ["a", "b", "c", "d"]


def macro_f1(expected, answers):
    return f1_score(expected, answers, labels=sorted(set(expected)), average="macro", zero_division=0)


def rows_of(expected):
    return [Example(f"row {number}", output) for number, output in enumerate(expected)]


def answered(rng, expected, right):
    return [output if rng.random() < right else str(rng.choice(CLASSES)) for output in expected]


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    expected = rng.choice(CLASSES, 120, p=[0.5, 0.3, 0.15, 0.05]).tolist()
    return expected, [[answered(rng, expected, right) for _ in range(3)] for right in (0.8, 0.6)]


@pytest.mark.parametrize(("name", "oracle"), [("macro_f1", macro_f1), ("mcc", matthews_corrcoef)])
def test_resamples_have_the_scores_that_scikit_learn_gives_them(drawn, name, oracle):
    expected, answers = drawn
    scores = SetScores(load_metric(name), rows_of(expected), answers)
    assert scores.shape == (2, 3, 120)
    assert scores.by_seed == pytest.approx(np.array([[oracle(expected, run) for run in each] for each in answers]))
    (weights,) = item_weights(np.random.default_rng(1), 20, 120)
    found = scores.resampled(weights)
    for each, own in zip(np.rint(weights * 120).astype(int), found, strict=True):
        places = np.repeat(np.arange(120), each)
        wanted = [
            np.mean([oracle([expected[at] for at in places], [run[at] for at in places]) for run in runs])
            for runs in answers
        ]
        assert own == pytest.approx(wanted, abs=1e-5)


def test_one_more_wrong_answer_changes_the_score_by_as_much_as_the_pseudo_item():
    equal = [CLASSES[number % 4] for number in range(40)]
    assert SetScores(load_metric("macro_f1"), rows_of(equal), [[equal]]).one_item == pytest.approx(1 / 40, rel=0.1)
    rare = ["a"] * 38 + ["b"] * 2
    wrong = ["a" if output == "b" else "b" for output in rare]
    changes = [1 - macro_f1(rare, [*rare[:at], wrong[at], *rare[at + 1 :]]) for at in range(40)]
    found = SetScores(load_metric("macro_f1"), rows_of(rare), [[rare]]).one_item
    assert found == pytest.approx(float(np.sqrt(np.mean(np.square(changes)))))


def test_the_interval_is_that_of_a_bootstrap_written_out(drawn):
    expected, answers = drawn
    found = PairedBootstrap(SetScores(load_metric("macro_f1"), rows_of(expected), [[a[0]] for a in answers]))
    interval = found.difference(0, 1)
    rng = np.random.default_rng(5)
    gaps = []
    for _ in range(400):
        places = rng.integers(0, 120, 120)
        one, two = ([run[at] for at in places] for run in (answers[0][0], answers[1][0]))
        gaps.append(macro_f1([expected[at] for at in places], one) - macro_f1([expected[at] for at in places], two))
    estimate = macro_f1(expected, answers[0][0]) - macro_f1(expected, answers[1][0])
    assert interval.estimate == pytest.approx(estimate)
    assert interval.standard_error == pytest.approx(np.std(gaps), rel=0.15)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * np.std(gaps), rel=0.15)
    assert interval.low < estimate < interval.high


def test_several_seeds_widen_the_interval(drawn):
    expected, answers = drawn
    rng = np.random.default_rng(3)
    spread = [[answered(rng, expected, right) for right in (0.5, 0.7, 0.9)], answers[1]]
    one, three = (
        PairedBootstrap(SetScores(load_metric("macro_f1"), rows_of(expected), each)).difference(0, 1)
        for each in ([[run[1]] for run in spread], spread)
    )
    assert three.seeds == 3
    assert three.high - three.low > 1.5 * (one.high - one.low)


def test_set_scores_need_an_answer_for_each_row():
    with pytest.raises(InvalidInputError, match="one answer for each row, strategy and seed"):
        SetScores(load_metric("macro_f1"), rows_of(["a", "b"]), [[["a"]]])
    with pytest.raises(InvalidInputError, match="one answer for each row, strategy and seed"):
        SetScores(load_metric("macro_f1"), rows_of(["a", "b"]), [[["a", "b"]], []])


# -- equivalence -------------------------------------------------------------------------------------------------------


def test_the_test_of_equivalence_is_that_of_a_normal_mean_if_there_are_many_items():
    rng = np.random.default_rng(0)
    a, b = (rng.random(5000) < share for share in (0.71, 0.7))
    scores = np.stack([a, b]).astype(float)[:, None, :]
    boot = PairedBootstrap(scores, draws=40_000)
    gap = scores[0, 0] - scores[1, 0]
    error = gap.std() / 5000**0.5
    for margin in (0.01, 0.02, 0.03):
        assert boot.not_worse(0, 1, margin) == pytest.approx(norm.sf((gap.mean() + margin) / error), abs=0.01)
        assert boot.not_worse(1, 0, margin) == pytest.approx(norm.sf((-gap.mean() + margin) / error), abs=0.01)
    with pytest.raises(InvalidInputError, match="`margin` must be above 0"):
        boot.not_worse(0, 1, 0.0)


@pytest.mark.parametrize("level", [0.9, 0.5])
def test_a_one_sided_test_agrees_with_its_interval(level):
    rng = np.random.default_rng(4)
    boot = PairedBootstrap(rng.random((2, 3, 200)) < np.array([level, level - 0.05])[:, None, None], draws=4000)
    low = boot.difference(0, 1, level=0.9).low
    for margin in (max(1e-6, -low - 0.003), -low + 0.003):
        if margin > 0:
            assert (boot.not_worse(0, 1, margin) < 0.05) == (low > -margin)


def cells_of(scores):
    return [
        Cell(
            key="",
            row=make_row(strategy=name, model=None, size=10, seed=seed, n=len(own), correct=sum(own), prompt_tokens=0,
                         completion_tokens=0, seconds=seconds, fit_seconds=0, cost=None),
            answers=[""] * len(own), scores=own,
        )
        for name, (seconds, seeds) in scores.items() for seed, own in enumerate(seeds)
    ]  # fmt: skip


def shares(*counts, n=4000):
    return [[1.0] * count + [0.0] * (n - count) for count in counts]


def test_equivalence_is_part_of_the_evidence_and_of_the_tables():
    cells = cells_of({"best": (9.0, shares(3000)), "same": (1.0, shares(2998)), "worse": (0.5, shares(2900))})
    results = summarise("t", 0, cells)
    found = results.recommendation
    assert (found.best, found.strategy, found.equivalent) == ("best", "same", True)
    assert found.equivalence["same"] < 0.05 < found.equivalence["worse"]
    assert "same is shown to be equivalent to best within 1 point (two one-sided tests" in found.evidence
    assert [each.verdict for each in standings(results)] == [
        "best score", "equivalent within 1 point", "significantly worse",
    ]  # fmt: skip
    difference = results.differences[0]
    assert difference.p_equivalent == max(difference.p_a_not_worse, difference.p_b_not_worse)
    for report in (html_report(results), markdown_report(results)):
        assert "equivalent within 1 point" in report
        assert "p of equivalence" in report
        assert "Equivalence within 1 point is tested by two one-sided tests with the paired bootstrap" in report
    assert Results.model_validate_json(results.model_dump_json()) == results


def test_not_shown_to_be_worse_is_not_equivalence():
    cells = cells_of({"best": (9.0, shares(30, n=40)), "near": (1.0, shares(29, n=40))})
    found = summarise("t", 0, cells).recommendation
    assert (found.strategy, found.equivalent) == ("near", False)
    assert "near is not shown to be worse than best, but not shown to be equivalent within 1 point" in found.evidence


def test_a_significant_difference_can_be_within_the_margin():
    cells = cells_of({"best": (9.0, shares(3000)), "near": (1.0, shares(2980))})
    results = summarise("t", 0, cells, options=CompareOptions(margin=0.02))
    assert results.recommendation.significant
    assert standings(results)[1].verdict == "significantly worse, by less than 2 points"
    assert "near is shown to be equivalent to best within 2 points" in results.recommendation.evidence
    assert 'class="worse">significantly worse, by less' in html_report(results)


def test_without_a_margin_there_is_no_test_of_equivalence():
    cells = cells_of({"best": (9.0, shares(30, n=40)), "near": (1.0, shares(29, n=40))})
    results = summarise("t", 0, cells, options=CompareOptions(margin=0.0))
    assert (results.recommendation.equivalence, results.recommendation.equivalent) == ({}, None)
    assert results.differences[0].p_equivalent is None
    assert "equivalen" not in markdown_report(results) + results.recommendation.evidence


def test_results_without_equivalence_can_still_be_read():
    results = summarise("t", 0, cells_of({"best": (9.0, shares(30, n=40)), "near": (1.0, shares(29, n=40))}))
    old = json.loads(results.model_dump_json())
    for each in old["differences"]:
        del each["p_a_not_worse"], each["p_b_not_worse"], each["p_equivalent"]
    del old["metric"], old["recommendation"]["equivalence"], old["recommendation"]["equivalent"]
    read = Results.model_validate(old)
    assert "no significant difference" in markdown_report(read)
    assert "p of equivalence |" not in markdown_report(read)


def test_false_equivalence_is_rare_in_simulated_comparisons():
    """The strategies differ by exactly the margin: 15 of 300 claims are expected; 26 are 3 standard errors more."""
    rng = np.random.default_rng(2)
    claims = 0
    for number in range(300):
        difficulty = rng.normal(0, 1, 400)
        right = np.stack([rng.normal(0, 1, 400) + difficulty < level for level in norm.ppf([0.85, 0.80]) * 2**0.5])
        boot = PairedBootstrap(right.astype(float)[:, None, :], draws=400, seed=number)
        claims += max(boot.not_worse(0, 1, 0.05), boot.not_worse(1, 0, 0.05)) < 0.05
    assert claims <= 26


def test_intervals_of_macro_f1_hold_the_truth_in_simulated_comparisons():
    """200 comparisons: 182 or fewer would be 2.5 standard errors under 95 %."""
    share, recall, wrong = np.array([0.6, 0.3, 0.1]), np.array([[0.8, 0.8, 0.8], [0.75, 0.7, 0.6]]), 0.5
    joint = share * recall, share * (1 - recall)
    answered = joint[0] + wrong * (joint[1].sum(axis=1, keepdims=True) - joint[1])
    true = (2 * joint[0] / (share + answered)).mean(axis=1)
    rng, held = np.random.default_rng(1), 0
    for number in range(200):
        expected = rng.choice(3, 150, p=share)
        instead = (expected + rng.integers(1, 3, (2, 150))) % 3
        answers = np.where(rng.random((2, 150)) < recall[:, expected], expected, instead)
        scores = SetScores(
            load_metric("macro_f1"), rows_of(expected.astype(str)), answers.astype(str)[:, None].tolist()
        )
        found = PairedBootstrap(scores, draws=300, seed=number).difference(0, 1)
        held += found.low <= true[0] - true[1] <= found.high
    assert held >= 183


# -- comparisons -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Right:
    """Answers a share of each class correctly, and the rest with one of the two most frequent classes."""

    name: str
    by_class: tuple[float, ...]
    seconds: float = 1.0

    def run(self, setting):
        rng = random.Random(f"{self.name} {setting.seed}")
        answers = []
        for row in setting.task.test:
            right = rng.random() < self.by_class[CLASSES.index(row.output)]
            answers.append(row.output if right else "b" if row.output == "a" else "a")
        return Outcome(answers, seconds=self.seconds)


def task_of(metric, n=400, counts=(70, 20, 10, 0), **changed):
    expected = [name for name, count in zip(CLASSES, counts, strict=True) for _ in range(n * count // 100)]
    pool = rows_of([expected[place * n // 40] for place in range(40)])
    test = [Example(f"test {number}", output) for number, output in enumerate(expected)]
    return replace(Task("", pool, test, metric=metric, labels=CLASSES), **changed)


def run(task, strategies, **given):
    return compare(task, strategies, embedder="hash:8", **given)


FREQUENT, BALANCED = Right("frequent", (1.0, 0.95, 0.0, 0.0)), Right("balanced", (0.85, 0.85, 0.85, 0.85))


@pytest.mark.parametrize(("metric", "oracle"), [("macro_f1", macro_f1), ("mcc", matthews_corrcoef)])
def test_the_metric_of_the_task_decides(metric, oracle):
    task = task_of(metric)
    result = run(task, ["majority", FREQUENT, BALANCED], seeds=[0, 1, 2])
    expected = [row.output for row in task.test]
    for row, cell in zip(result.results.rows, result.cells, strict=True):
        assert row.score == pytest.approx(oracle(expected, cell.answers))
        assert row.low <= row.score <= row.high
    assert result.results.metric == metric
    assert result.results.pairs == []  # McNemar's test compares accuracies
    rows, names = result.results.rows, ("frequent", "balanced")
    means = {name: np.mean([row.score for row in rows if row.strategy == name]) for name in names}
    assert result.recommendation.best == max(means, key=means.__getitem__)
    difference = next(each for each in result.results.differences if {each.a, each.b} == {"frequent", "balanced"})
    assert difference.estimate == pytest.approx(means["frequent"] - means["balanced"])
    title = {"macro_f1": "macro-F1", "mcc": "MCC"}[metric]
    assert result.results.measured == f"{title} on 400 test rows, with 95 % interval"
    assert f" {title} of " in result.recommendation.evidence
    for report in (str(result), markdown_report(result.results, result.items), result.html()):
        assert title in report
        assert "answered" not in report.partition("Recommendation")[2].partition(";")[0]


def test_accuracy_and_macro_f1_can_disagree():
    found = [run(task_of(name), [FREQUENT, BALANCED]).recommendation for name in ("accuracy", "macro_f1")]
    by_accuracy, by_macro = found
    assert (by_accuracy.best, by_macro.best) == ("frequent", "balanced")
    assert by_accuracy.test == "exact McNemar test"
    assert by_macro.test == "paired bootstrap over seeds and items"


def test_the_baseline_is_scored_by_the_metric():
    results = run(task_of("macro_f1"), ["majority"]).results
    expected = [row.output for row in task_of("macro_f1").test]
    assert results.floor == pytest.approx(macro_f1(expected, ["a"] * len(expected)))
    assert results.rows[0].at_floor
    assert results.recommendation.strategy is None
    assert run(task_of("mcc"), ["majority"]).results.floor == 0.0


def test_a_negative_score_is_shown():
    test = [Example(f"t {n}", "ab"[n % 2]) for n in range(40)]
    task = Task("", rows_of(["a", "b"] * 10), test, metric="mcc", labels=["a", "b"])
    result = run(task, [Swapping("swapping"), "majority"])
    assert result.results.rows[0].score == pytest.approx(-1.0)
    assert "-1.000" in str(result)
    assert "<svg" in result.html()
    assert Results.model_validate_json(result.results.model_dump_json()) == result.results


@dataclass(frozen=True)
class Swapping:
    """Always gives the other one of two answers."""

    name: str

    def run(self, setting):
        return Outcome(["b" if row.output == "a" else "a" for row in setting.task.test])


@pytest.mark.parametrize("metric", ["macro_f1", "mcc", "accuracy"])
def test_two_test_rows_show_nothing_and_say_so(metric):
    task = Task(
        "", rows_of(["a", "b"] * 10), [Example("t 0", "a"), Example("t 1", "b")], metric=metric, labels=["a", "b"]
    )
    result = run(task, ["majority", Swapping("swapping"), Right("right", (1.0, 1.0, 1.0, 1.0))], seeds=[0, 1])
    assert result.recommendation.significant is False
    row = next(row for row in result.results.rows if row.strategy == "right")
    assert row.score == 1.0
    assert row.low < 0.5
    findings = " ".join(result.results.data.findings)
    assert "test rows" in findings
    if metric != "accuracy":
        assert "classes with fewer than 10 test rows, whose scores depend on a few answers: 2 (a, b)" in findings
    assert "Recommendation" in markdown_report(result.results, result.items) + result.html()


def test_label_sets_that_differ_are_reported():
    pool = rows_of(["a", "b", "c"] * 10)
    test = [Example(f"t {n}", ["a", "b", "new"][n % 3]) for n in range(45)]
    task = Task("", pool, test, metric="macro_f1")
    result = run(task, ["majority", "copy:jaccard"])
    findings = result.results.data.findings
    assert "classes that only the test has, which count in macro-F1 but cannot be learned: 1 (new)" in findings
    assert "classes without test rows, which macro-F1 leaves out: 1 (c)" in findings
    expected = [row.output for row in test]
    assert [row.score for row in result.results.rows] == pytest.approx(
        [macro_f1(expected, cell.answers) for cell in result.cells]
    )
    with pytest.raises(InvalidInputError, match=r"the output of test\[2\] is 'new', which is not a label of the task"):
        replace(task, labels=("a", "b", "c"))


def test_free_text_is_refused_before_anything_is_run():
    pool = [Example(f"p {n}", f"text {n}") for n in range(10)]
    task = Task("", pool, [Example(f"t {n}", f"other {n}") for n in range(1200)], metric="macro_f1")
    with pytest.raises(InvalidInputError, match="1,200 distinct outputs; macro_f1 and mcc are metrics of class"):
        run(task, ["majority"])


def test_corpus_bleu_decides():
    sentences = ["the cat sat on the mat today", "a dog ran very fast over there", "we saw them in the garden again"]
    test = [Example(f"say {n}", f"{sentences[n % 3]} {n}") for n in range(30)]
    task = Task("", [Example("say it", "the cat sat on a mat")], test, metric="bleu")

    @dataclass(frozen=True)
    class Cut:
        name: str
        words: int

        def run(self, setting):
            return Outcome([" ".join(row.output.split()[: self.words]) for row in setting.task.test])

    import sacrebleu

    result = run(task, [Cut("most", 7), Cut("few", 4)])
    assert result.recommendation.best == "most"
    for row, cell in zip(result.results.rows, result.cells, strict=True):
        oracle = sacrebleu.corpus_bleu(cell.answers, [[each.output for each in test]]).score / 100
        assert row.score == pytest.approx(oracle, abs=1e-6)
    assert "corpus BLEU of" in result.recommendation.evidence


def test_finished_runs_are_loaded_and_compared_over_folders(tmp_path):
    task = task_of("macro_f1")
    for folder, balanced in (("one", BALANCED), ("two", replace(BALANCED, by_class=(0.7,) * 4))):
        run(task, [FREQUENT, balanced], seeds=[0, 1], out=tmp_path / folder)
    again = run(task, [FREQUENT, BALANCED], seeds=[0, 1], out=tmp_path / "one")
    assert again.results == Results.load(tmp_path / "one")
    frequent, balanced = changes(tmp_path / "one", tmp_path / "two")
    assert (frequent.change, frequent.compared) == (0.0, "paired")
    scores = [
        np.mean([row.score for row in Results.load(tmp_path / name).rows if row.strategy == "balanced"])
        for name in ("one", "two")
    ]
    assert (balanced.before, balanced.after) == (pytest.approx(scores[0]), pytest.approx(scores[1]))
    assert balanced.change == pytest.approx(scores[1] - scores[0])
    assert balanced.high < 0
    run(task_of("accuracy"), [FREQUENT], out=tmp_path / "three")
    with pytest.raises(InvalidInputError, match="decided by different metrics, macro_f1 and a mean of the scores"):
        changes(tmp_path / "one", tmp_path / "three")
    run(task_of("macro_f1", n=300), [FREQUENT], out=tmp_path / "four")
    unpaired, _ = changes(tmp_path / "one", tmp_path / "four")
    assert (unpaired.compared, unpaired.low, unpaired.p) == ("unpaired", None, None)
    assert unpaired.change == pytest.approx(unpaired.after - unpaired.before)


@dataclass(frozen=True)
class CountRight:
    """Accuracy as a set-level metric."""

    name: str = "count_right"
    lowest: float = 0.0

    def score_rows(self, answers, rows):
        return [float(answer == row.output) for answer, row in zip(answers, rows, strict=True)]

    def row_sums(self, answers, rows):
        return np.array([[score, 1] for score in self.score_rows(answers, rows)], dtype=np.float32)

    def of_sums(self, sums):
        return sums[..., 0] / sums[..., 1]


def test_a_set_level_metric_of_the_user_decides():
    result = run(task_of(CountRight()), [FREQUENT, BALANCED], sizes=[10, None])
    mean = run(task_of("exact_match"), [FREQUENT, BALANCED], sizes=[10, None])
    assert [row.score for row in result.results.rows] == pytest.approx([row.score for row in mean.results.rows])
    for own, usual in zip(result.results.differences, mean.results.differences, strict=True):
        assert (own.low, own.high) == (pytest.approx(usual.low, abs=0.01), pytest.approx(usual.high, abs=0.01))
    assert result.results.metric == "count_right"
    assert "count_right" in result.html()
    with pytest.raises(InvalidInputError, match="'count_right' is not registered, so scores cannot be recomputed"):
        result.crossover("frequent", "balanced")


def test_the_command_line_has_the_option(tmp_path):
    lines = [
        json.dumps({"input": f"{split} {n}", "output": "b" if n % 5 == 0 else "a", "split": split})
        for split, count in (("train", 30), ("test", 60)) for n in range(count)
    ]  # fmt: skip
    (tmp_path / "mails.jsonl").write_text("\n".join(lines))
    given = ["--data", tmp_path / "mails.jsonl", "--metric", "macro_f1", "--strategies", "majority,copy:jaccard"]
    given += ["--embedder", "hash:8", "--sizes", "all", "--out", tmp_path / "out"]
    found = CliRunner().invoke(app, ["compare", *map(str, given)])
    assert found.exit_code == 0, found.output
    results = Results.load(tmp_path / "out")
    assert results.metric == "macro_f1"
    majority = next(row for row in results.rows if row.strategy == "majority")
    expected = Items.load(tmp_path / "out").expected
    assert majority.score == pytest.approx(macro_f1(expected, ["a"] * len(expected)))
    wrong = CliRunner().invoke(app, ["compare", *map(str, [*given[:3], "macrof1", *given[4:]])])
    assert wrong.exit_code != 0
    assert "macro_f1" in str(wrong.exception)  # did you mean


def test_the_interval_of_one_run_is_near_wilsons_for_accuracy():
    rng = np.random.default_rng(0)
    right = (rng.random(300) < 0.8).astype(float)
    low, high = score_interval(MeanScores(right[None, None]))
    row = make_row(strategy="s", model=None, size=1, seed=0, n=300, correct=right.sum(), prompt_tokens=0,
                   completion_tokens=0, seconds=0, fit_seconds=0, cost=None)  # fmt: skip
    assert (low, high) == (pytest.approx(row.low, abs=0.01), pytest.approx(row.high, abs=0.01))
