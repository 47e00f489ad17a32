"""Set-level metrics against scikit-learn and sacrebleu, and nDCG against scikit-learn."""

import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, matthews_corrcoef, ndcg_score

from ragkit import Example, Task
from ragkit.errors import InvalidInputError, MetricError
from ragkit.metrics import RowMetric, SetMetric, load_metric, overall_score, score_answers

CLASSES = ["alpha", "beta", "gamma", "delta"]


def rows_of(expected):
    return [Example(f"row {number}", output) for number, output in enumerate(expected)]


@given(st.lists(st.tuples(st.sampled_from(CLASSES), st.sampled_from([*CLASSES, "none of them"])), min_size=1))
def test_class_metrics_equal_those_of_scikit_learn(pairs):
    expected, answers = map(list, zip(*pairs, strict=True))
    macro = f1_score(expected, answers, labels=sorted(set(expected)), average="macro", zero_division=0)
    assert overall_score(load_metric("macro_f1"), answers, rows_of(expected)) == pytest.approx(macro, abs=1e-9)
    named = [answer if answer in expected else "other" for answer in answers]  # all others are one class
    assert overall_score(load_metric("mcc"), answers, rows_of(expected)) == pytest.approx(
        matthews_corrcoef(expected, named) if len(pairs) > 1 else 0.0, abs=1e-9
    )


def test_metrics_of_weighted_rows_are_those_of_repeated_rows():
    rng = np.random.default_rng(0)
    expected = rng.choice(CLASSES, 60, p=[0.6, 0.2, 0.15, 0.05]).tolist()
    answers = [output if rng.random() < 0.6 else str(rng.choice(CLASSES)) for output in expected]
    for name in ("macro_f1", "mcc"):
        metric = load_metric(name)
        sums = metric.row_sums(answers, rows_of(expected))
        weights = rng.multinomial(60, np.full(60, 1 / 60), 20)
        found = metric.of_sums(np.stack([sums.T @ each for each in weights]))
        for each, score in zip(weights, found, strict=True):
            repeated = np.repeat(np.arange(60), each)
            drawn = [expected[place] for place in repeated], [answers[place] for place in repeated]
            if name == "mcc":
                oracle = matthews_corrcoef(*drawn)
            else:
                oracle = f1_score(*drawn, labels=sorted(set(drawn[0])), average="macro", zero_division=0)
            assert score == pytest.approx(oracle, abs=1e-9)


def test_always_the_same_answer_has_no_correlation_and_a_low_macro_f1():
    expected = ["yes"] * 90 + ["no"] * 10
    assert overall_score(load_metric("accuracy"), ["yes"] * 100, rows_of(expected)) == 0.9
    assert overall_score(load_metric("macro_f1"), ["yes"] * 100, rows_of(expected)) == pytest.approx(0.9 / 1.9)
    assert overall_score(load_metric("mcc"), ["yes"] * 100, rows_of(expected)) == 0.0
    inverted = ["no" if output == "yes" else "yes" for output in expected]
    assert overall_score(load_metric("mcc"), inverted, rows_of(expected)) == pytest.approx(-1.0)


def test_classes_are_read_like_labels_unless_they_are_alike():
    expected, answers = ["Yes", "No"], [" yes.\nBecause it is so.", "NO!"]
    assert overall_score(load_metric("macro_f1"), answers, rows_of(expected)) == 1.0
    assert score_answers(load_metric("macro_f1"), ["yes", "maybe"], rows_of(expected)) == [1.0, 0.0]
    alike = ["a", "A"]
    assert overall_score(load_metric("macro_f1"), ["a", "a"], rows_of(alike)) == pytest.approx(1 / 3)


SENTENCES = [
    "the cat sat on the mat today", "a dog ran there very quickly", "hello world again my friend", "no", "日本語 の 文",
]  # fmt: skip
VOCABULARY = ["the", "cat", "sat", "on", "a", "mat", "dog", "ran", ".", "very", "日本語"]
WORDS = st.lists(st.sampled_from(VOCABULARY), max_size=9).map(" ".join)


@given(st.lists(WORDS, min_size=5, max_size=5))
def test_corpus_bleu_equals_that_of_sacrebleu(answers):
    metric = load_metric("bleu")
    oracle = sacrebleu.corpus_bleu(answers, [SENTENCES]).score / 100
    assert overall_score(metric, answers, rows_of(SENTENCES)) == pytest.approx(oracle, abs=1e-6)
    assert overall_score(metric, SENTENCES, rows_of(SENTENCES)) == pytest.approx(1.0)
    single = [sacrebleu.sentence_bleu(one, [two]).score / 100 for one, two in zip(answers, SENTENCES, strict=True)]
    assert score_answers(metric, answers, rows_of(SENTENCES)) == pytest.approx(single, abs=1e-6)


def test_corpus_bleu_is_not_the_mean_of_sentences():
    answers = ["the cat sat on the mat", "a dog ran", "hello", "no", ""]
    metric = load_metric("bleu")
    together = overall_score(metric, answers, rows_of(SENTENCES))
    assert together != pytest.approx(np.mean(score_answers(metric, answers, rows_of(SENTENCES))), abs=0.01)


@given(st.permutations(range(8)), st.sets(st.integers(0, 7), min_size=1), st.integers(1, 8))
def test_ndcg_equals_that_of_scikit_learn(ranking, relevant, k):
    answer = "\n".join(f"item {item}" for item in ranking)
    row = Example("find them", "\n".join(f"item {item}" for item in sorted(relevant)))
    truth = [[float(item in relevant) for item in range(8)]]
    scores = [[-float(ranking.index(item)) for item in range(8)]]
    (found,) = score_answers(load_metric(f"ndcg:{k}"), [answer], [row])
    assert found == pytest.approx(ndcg_score(truth, scores, k=k))


def test_ndcg_counts_repeated_and_missing_lines_once():
    row = Example("find them", "a\nb")
    scores = score_answers(load_metric("ndcg"), ["a\na\n b \n", "c\nd", ""], [row] * 3)
    assert scores == [1.0, 0.0, 0.0]
    with pytest.raises(InvalidInputError, match=r"the output of rows\[0\] must list the relevant items"):
        score_answers(load_metric("ndcg"), ["a"], [Example("x", " ")])
    with pytest.raises(InvalidInputError, match="`k` must be at least 1"):
        load_metric("ndcg:0")


def test_only_set_level_metrics_are_set_metrics():
    assert all(isinstance(load_metric(name), SetMetric) for name in ("macro_f1", "mcc", "bleu"))
    assert not any(isinstance(load_metric(name), SetMetric) for name in ("accuracy", "f1", "choice", "ndcg"))
    assert isinstance(load_metric("macro_f1"), RowMetric)


def test_the_overall_score_of_a_mean_metric_is_the_mean():
    task = Task("", [Example("x", "a")], rows_of(["a", "b", "a"]), metric="accuracy")
    assert task.overall_score(["a", "a", "a"]) == pytest.approx(2 / 3)
    with pytest.raises(InvalidInputError, match="expected an answer for each of 3 test rows, got 2"):
        task.overall_score(["a", "b"])


def test_free_text_has_no_classes():
    expected = [f"text {number}" for number in range(1001)]
    with pytest.raises(InvalidInputError, match=r"1,001 distinct outputs; macro_f1 and mcc are metrics of class"):
        overall_score(load_metric("macro_f1"), expected, rows_of(expected))


class Broken:
    name, lowest = "broken", 0.0

    def score_rows(self, answers, rows):
        return [0.0] * len(rows)

    def row_sums(self, answers, rows):
        return np.ones((len(rows), 1), dtype=np.float32)

    def of_sums(self, sums):
        return sums[..., 0]


def test_a_score_out_of_range_is_an_error():
    with pytest.raises(
        MetricError, match=r"'broken' failed on the test rows.*gave 2\.0; expected a number from 0 to 1"
    ):
        overall_score(Broken(), ["a", "b"], rows_of(["a", "b"]))
