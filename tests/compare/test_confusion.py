"""Classes and confusions of a comparison, with scikit-learn beside them."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from ragkit_pipelines.compare.predictions import Answers, Items
from ragkit_pipelines.compare.reports.html import html_report
from ragkit_pipelines.compare.reports.markdown import markdown_report
from ragkit_pipelines.compare.reports.tables import class_lines, matrix_lines
from ragkit_pipelines.compare.results import Recommendation, Results
from ragkit_pipelines.compare.statistics.confusion import OTHER, confusions


def items(classes, rows, *, right=0.7, seed=0, wording=str):
    rng = Random(seed)
    expected = [rng.choice(classes) for _ in range(rows)]
    answers = [name if rng.random() < right else rng.choice([*classes, "none of them"]) for name in expected]
    given = Answers(strategy="arm", size=9, seed=0, answers=[wording(each) for each in answers],
                    scores=[float(a == b) for a, b in zip(answers, expected, strict=True)])  # fmt: skip
    return Items(inputs=[""] * rows, expected=expected, answers=[given]), expected, answers


@pytest.mark.parametrize(("count", "rows"), [(3, 60), (30, 400)])
def test_counts_and_shares_equal_those_of_scikit_learn(count, rows):
    names = [f"class {n}" for n in range(count)]
    given, expected, answers = items(names, rows, wording=lambda text: f" {text.upper()}.")
    (found,) = confusions(given)
    whole = confusion_matrix(expected, answers, labels=[*found.classes, "none of them"])
    assert (found.counts == whole[:-1]).all()
    shares = precision_recall_fscore_support(expected, answers, labels=found.classes, zero_division=0)
    for ours, theirs in zip((found.precision, found.recall, found.f1, found.rows), shares, strict=True):
        assert ours == pytest.approx(theirs)
    pairs = [(a, b) for a, b in zip(expected, answers, strict=True) if a != b]
    first, answer, most = found.worst(1)[0]
    assert most == max(pairs.count(pair) for pair in pairs)
    assert pairs.count((first, "none of them" if answer == OTHER else answer)) == most
    assert sum(n for *_, n in found.worst(10**6)) == len(pairs)


def test_a_class_that_is_never_answered_has_no_precision():
    expected = ["a", "a", "b", "b"]
    given = Answers(strategy="arm", size=1, seed=0, answers=["a"] * 4, scores=[1, 1, 0, 0])
    (found,) = confusions(Items(inputs=[""] * 4, expected=expected, answers=[given]))
    assert class_lines(found) == [["a", "2", "0.500", "1.000", "0.667"], ["b", "2", "0.000", "0.000", "0.000"]]
    assert matrix_lines(found) == [["a", "2", "0", "0"], ["b", "2", "0", "0"]]


def test_classes_that_differ_in_case_alone_are_kept_apart():
    given = Answers(strategy="arm", size=1, seed=0, answers=["It", "it", " It", "it"], scores=[1, 1, 1, 1])
    (found,) = confusions(Items(inputs=[""] * 4, expected=["It", "it", "It", "it"], answers=[given]))
    assert (found.counts == np.array([[2, 0, 0], [0, 2, 0]])).all()


def test_outputs_that_are_no_classes_have_no_matrix():
    given = Answers(strategy="arm", size=1, seed=0, answers=["x"] * 3, scores=[0, 0, 0])
    assert confusions(Items(inputs=[""] * 3, expected=["a", "b", "c"], answers=[given])) == []
    assert confusions(Items(inputs=[""] * 3, expected=["a"] * 3, answers=[given])) == []


@pytest.mark.parametrize(("count", "in_page", "in_markdown"), [(4, True, True), (15, True, False), (40, False, False)])
def test_reports_show_a_matrix_of_few_classes_and_the_worst_of_many(count, in_page, in_markdown):
    given, *_ = items([f"<b>{n}|" for n in range(count)], 600)
    results = Results(task="t", leaked_test_rows=0, rows=[], pairs=[], differences=[],
                      recommendation=Recommendation(strategy=None, evidence="none"))  # fmt: skip
    (found,) = confusions(given)
    text, page = markdown_report(results, given), html_report(results, given)
    assert ("Confusion matrix" in page) is in_page
    assert (f"| {OTHER} |" in text.partition("## Confusions: arm")[2].partition("\n|-")[0]) is in_markdown
    rows = found.rows[found.classes.index("<b>0|")]
    assert f'<th scope="row">&lt;b&gt;0|</th><td class="num">{rows}</td>' in page
    assert "<b>0" not in page + text
    assert "## Recall by class" in text
    assert "Recall" not in markdown_report(results)
