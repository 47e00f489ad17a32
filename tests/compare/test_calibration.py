"""Calibration of strategies: scikit-learn and numpy beside it, and intervals that hold the truth."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from ragkit import Example, Task, compare
from ragkit.errors import InvalidInputError
from ragkit_pipelines.compare import CompareOptions
from ragkit_pipelines.compare.reports.markdown import markdown_report
from ragkit_pipelines.compare.reports.tables import calibration_lines
from ragkit_pipelines.compare.statistics.calibration import calibrated
from ragkit_pipelines.compare.strategies.base import Outcome


def by_hand(confidence, right, bins):
    order = sorted(range(len(right)), key=lambda place: confidence[place])
    size, more = divmod(len(order), bins)
    found = start = 0
    for number in range(bins):
        part = order[start : start + size + (number < more)]
        start += len(part)
        gap = np.mean([confidence[place] for place in part]) - np.mean([right[place] for place in part])
        found += len(part) / len(order) * abs(gap)
    return found


@pytest.mark.parametrize("n", [37, 400])
def test_both_measures_equal_those_of_others(n):
    rng = np.random.default_rng(n)
    confidence = rng.uniform(0.2, 1, n)
    right = (rng.random(n) < confidence**2).astype(float)
    found = calibrated(confidence, right)
    assert found.error == pytest.approx(by_hand(confidence, right, 10))
    assert found.brier == pytest.approx(brier_score_loss(right, confidence))
    assert 0 <= found.error_low <= found.error <= found.error_high <= 1
    assert found.brier_low < found.brier < found.brier_high


@pytest.mark.parametrize("shift", [0.0, 0.15])
def test_intervals_hold_the_truth(shift):
    rng = np.random.default_rng(5)
    held = np.zeros(2)
    for draw in range(100):
        confidence = rng.uniform(0.3, 1, 300)
        right = (rng.random(300) < np.clip(confidence - shift, 0, 1)).astype(float)
        found = calibrated(confidence, right, draws=200, seed=draw)
        likely = rng.uniform(0.3, 1, 100_000)
        share = np.clip(likely - shift, 0, 1)
        brier = np.mean(share * (1 - share) + (likely - share) ** 2)
        held += [found.error_low <= shift <= found.error_high, found.brier_low <= brier <= found.brier_high]
    assert held[0] >= 93
    assert held[1] >= 88  # 95 less what a hundred draws may be off by


RNG = Random(2)
LABELS = ("card", "cake", "cart")
POOL = [Example(f"{word} {RNG.randrange(99)} {RNG.randrange(99)}", word) for word in LABELS for _ in range(30)]
TEST = [Example(f"{RNG.choice([*LABELS, word])} {RNG.randrange(99)}", word) for word in LABELS for _ in range(30)]
TASK = Task("", POOL, TEST, metric="accuracy", labels=LABELS)


@pytest.fixture(scope="module")
def compared():
    names = ["majority", "tfidf", "vote:bm25", "copy:bm25", "classifier-head"]
    return compare(TASK, names, embedder="hash:128", options=CompareOptions(checks="off"))


def test_confidence_is_that_of_the_classifier(compared):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    texts, labels = [row.text() for row in TASK.examples], [row.output for row in TASK.examples]
    cell = next(cell for cell in compared.cells if cell.row.strategy == "tfidf")
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b").fit(texts)
    model = LogisticRegression(C=20.0, max_iter=500).fit(vectors.transform(texts), labels)
    likelihood = model.predict_proba(vectors.transform([row.text() for row in TEST[-cell.row.n :]]))
    assert cell.confidence[-20:] == pytest.approx(likelihood.max(axis=1)[-20:].tolist())
    head = next(cell for cell in compared.cells if cell.row.strategy == "classifier-head")
    assert min(head.confidence) >= 1 / 3
    vote = next(cell for cell in compared.cells if cell.row.strategy == "vote:bm25")
    assert set(vote.confidence) <= {share / 8 for share in range(1, 9)}
    for each in (cell, head, vote):
        assert each.row.calibration.brier == pytest.approx(np.mean((np.array(each.confidence) - each.scores) ** 2))


def test_the_report_shows_a_dash_where_there_is_no_confidence(compared):
    lines = {name: rest for name, *rest in calibration_lines(compared.results)}
    assert lines["majority"] == lines["copy:bm25"] == [None, None, None]
    kinds = {name: found[2] for name, found in lines.items() if found[0]}
    assert kinds == {"tfidf": "probability", "classifier-head": "probability", "vote:bm25": "share of 8 examples"}
    row = next(row for row in compared.results.rows if row.strategy == "tfidf")
    found = row.calibration
    assert lines["tfidf"][0] == f"{found.error:.3f} [{found.error_low:.3f}, {found.error_high:.3f}]"
    text = markdown_report(compared.results)
    assert "| majority | – | – | – |" in text.partition("## Calibration")[2]
    assert text.count("– means that a value is unknown.") == 1
    assert "unknown |" not in text
    assert "Calibration" in compared.html()
    assert [each.confidence for each in compared.items.answers if each.strategy == "majority"] == [[]]


@dataclass(frozen=True)
class Boasting:
    confidence: tuple[float, ...]
    name: str = "boasting"

    def run(self, setting):
        return Outcome(["card"] * len(setting.task.test), confidence=self.confidence)


@pytest.mark.parametrize("confidence", [(1.5,) * 90, (0.5,)])
def test_confidence_that_makes_no_sense_is_the_error_of_its_arm(confidence):
    result = compare(TASK, [Boasting(confidence), "majority"], embedder="hash:8", options=CompareOptions(checks="off"))
    assert "`confidence`" in result.results.rows[0].error
    assert result.results.rows[1].error is None
    assert calibration_lines(result.results) == []
    with pytest.raises(InvalidInputError):
        calibrated([], [])
