"""Thresholds, kappa and significance of a judge, against scikit-learn, brute force and SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn.metrics import cohen_kappa_score

from ragkit.errors import InvalidInputError, WeakJudgeWarning
from ragkit.pipelines import calibrate
from ragkit_pipelines.rag_evaluation.calibration import _best_threshold, _kappa


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40))
def test_kappa_is_that_of_scikit_learn(pairs):
    one, other = (np.array(column) for column in zip(*pairs, strict=True))
    if len({*one, *other}) == 1:
        assert _kappa(one, other) == 0
    else:
        assert _kappa(one, other) == pytest.approx(cohen_kappa_score(one, other))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=4, max_size=30))
def test_no_threshold_has_a_higher_kappa(cases):
    values, truth = np.array([float(score) for score, _ in cases]), np.array([label for _, label in cases])
    if len({*values}) == 1 or len({*truth}) == 1:
        return
    reached = cohen_kappa_score(values >= _best_threshold(values, truth), truth)
    between = [low + 0.5 for low in range(8) if values.min() <= low < values.max()]
    assert reached == pytest.approx(max(cohen_kappa_score(values >= cut, truth) for cut in between))


def test_a_good_judge_is_measured_on_held_out_cases():
    rng = np.random.default_rng(1)
    labels = np.arange(200) % 4 == 0
    scores = np.where(labels, rng.normal(2.0, 1.0, 200), rng.normal(0.0, 1.0, 200))
    found = calibrate(scores, labels)
    assert found.better_than_chance
    assert (found.cases, found.majority, found.unreadable) == (200, 0.75, 0)
    assert found.p_value == pytest.approx(mannwhitneyu(scores[labels], scores[~labels], alternative="greater").pvalue)
    fitted = cohen_kappa_score(scores >= found.threshold, labels)
    assert 0.4 < found.kappa <= fitted < 0.9
    assert found.agreement > 0.8
    assert calibrate(scores, labels) == found


def test_a_judge_at_random_looks_good_only_on_the_cases_that_fitted_it():
    rng = np.random.default_rng(3)
    scores, labels = rng.normal(size=30), rng.random(30) < 0.5
    with pytest.warns(WeakJudgeWarning, match="not shown to be better than chance on 30 labelled cases"):
        found = calibrate(scores, labels)
    assert found.kappa < cohen_kappa_score(scores >= found.threshold, labels)
    assert not found.better_than_chance


@pytest.mark.parametrize("scores", [[1.0] * 12, [0.0] * 12])
def test_a_judge_that_always_says_the_same_is_not_better_than_chance(scores):
    with pytest.warns(WeakJudgeWarning, match=r"kappa 0\.00"):
        found = calibrate(scores, [True] * 8 + [False] * 4)
    assert found.p_value == 1
    assert found.majority == pytest.approx(8 / 12)


def test_a_reversed_judge_is_not_better_than_chance():
    with pytest.warns(WeakJudgeWarning):
        calibrate(np.arange(20.0), np.arange(20) < 10)


def test_unreadable_judgements_are_counted_and_left_out():
    scores = [0.9, 0.8, 0.85, 0.95, 0.99, float("nan"), 0.1, 0.2, 0.15, 0.05, 0.3, float("nan")]
    found = calibrate(scores, [True] * 6 + [False] * 6)
    assert (found.cases, found.unreadable, found.kappa, found.agreement) == (10, 2, 1.0, 1.0)
    assert found.threshold == pytest.approx(0.55)  # the middle of the widest gap


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([], [], "at least two cases of each label"),
        ([0.1, 0.2], [True], "one label for each score, got 2 scores, 1 labels"),
        ([0.1, 0.2, 0.3], [True, False, True], "got 2 with the label true and 1 with false"),
        ([float("nan")] * 4, [True, True, False, False], "got 0 with the label true"),
    ],
)
def test_too_few_labels_are_an_error(scores, labels, message):
    with pytest.raises(InvalidInputError, match=message):
        calibrate(scores, labels)
