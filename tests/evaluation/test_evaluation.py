"""Measures against formulas written out, significance against exact enumeration, and files of TREC."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap
from sklearn.metrics import ndcg_score

from ragkit import BM25Retriever, Document, Index, evaluate_retrieval
from ragkit.errors import DataFileError, InvalidInputError, UnknownSpecError
from ragkit.evaluation import compare_retrieval, evaluate_run, read_qrels, read_queries, read_run, write_run
from ragkit.retrievers._base import RetrieverBase

DOCUMENTS = [f"d{n}" for n in range(8)]
RUN = st.dictionaries(st.sampled_from(["q1", "q2", "q3"]), st.permutations(DOCUMENTS).flatmap(
    lambda order: st.integers(0, 8).map(lambda n: [(own, 1.0) for own in order[:n]])))  # fmt: skip
GRADES = st.dictionaries(st.sampled_from(["q1", "q2"]), st.dictionaries(st.sampled_from(DOCUMENTS), st.integers(0, 3)))


def by_hand(ranking, grades, k):
    gains = [grades.get(own, 0) for own in ranking[:k]]
    relevant = sum(grade > 0 for grade in grades.values())
    ideal = sum(grade / np.log2(place + 2) for place, grade in enumerate(sorted(grades.values(), reverse=True)[:k]))
    hits = [place for place, gain in enumerate(gains) if gain > 0]
    return {
        f"ndcg@{k}": sum(gain / np.log2(place + 2) for place, gain in enumerate(gains)) / ideal,
        f"mrr@{k}": 1 / (hits[0] + 1) if hits else 0,
        f"map@{k}": sum((n + 1) / (place + 1) for n, place in enumerate(hits)) / relevant,
        f"recall@{k}": len(hits) / relevant,
        f"precision@{k}": len(hits) / k,
    }


@settings(max_examples=200, deadline=None)
@given(run=RUN, qrels=GRADES, k=st.integers(1, 10))
def test_measures_are_the_formulas(run, qrels, k):
    judged = {query: grades for query, grades in qrels.items() if any(grades.values())}
    if not judged:
        with pytest.raises(InvalidInputError, match="do the ids match"):
            evaluate_run(run, qrels, k)
        return
    report = evaluate_run(run, qrels, k)
    expected = {query: by_hand([own for own, _ in run.get(query, [])], grades, k) for query, grades in judged.items()}
    for measure in report:
        assert report.per_query[measure] == pytest.approx({query: each[measure] for query, each in expected.items()})
        assert report[measure] == pytest.approx(np.mean([each[measure] for each in expected.values()]))


def test_ndcg_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    for _ in range(20):
        grades, scores = rng.integers(0, 3, 30), rng.permutation(30)
        grades[0] = 2
        run = {"q": [(str(n), float(scores[n])) for n in np.argsort(-scores)]}
        report = evaluate_run(run, {"q": {str(n): int(grade) for n, grade in enumerate(grades)}}, 10)
        assert report["ndcg@10"] == pytest.approx(ndcg_score([grades], [scores], k=10))


class Fixed(RetrieverBase):
    name = "fixed"

    def _retrieve(self, queries, k, where):
        self.asked = [*getattr(self, "asked", []), list(queries)]
        return BM25Retriever([Document(query, id=f"doc {query}") for query in queries]).retrieve(queries, k)


def test_a_retriever_is_asked_in_batches():
    retriever = Fixed()
    queries = {f"q{n}": f"text{n}" for n in range(5)}
    qrels = {f"q{n}": {f"doc text{n}": 1} for n in range(4)} | {"other": {"x": 1}}
    report = evaluate_retrieval(retriever, queries, qrels, k=3, batch_size=3, latency=2)
    assert dict(report) == {"ndcg@3": 1, "mrr@3": 1, "map@3": 1, "recall@3": 1, "precision@3": pytest.approx(1 / 3)}
    assert retriever.asked == [["text0", "text1", "text2"], ["text3"], ["text0"], ["text0"], ["text1"]]
    assert report.name == "fixed"
    assert 0 < report.latency.p50 <= report.latency.p95 <= report.latency.p99
    for arguments in ({"k": 0}, {"batch_size": 0}, {"latency": -1}):
        with pytest.raises(InvalidInputError):
            evaluate_retrieval(retriever, queries, qrels, **arguments)


def test_a_report_prints_the_means_with_their_intervals():
    rng = np.random.default_rng(5)
    qrels = {f"q{n}": {"a": 1} for n in range(40)}
    run = {query: [(f"x{n}", 1.0) for n in range(rng.integers(0, 4))] + [("a", 0.5)] for query in qrels}
    report = evaluate_run(run, qrels, name="mine")
    values = (list(report.per_query["mrr@10"].values()),)
    expected = bootstrap(values, np.mean, method="percentile", n_resamples=20_000, rng=rng).confidence_interval
    low, high = report.interval("mrr@10")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.01)
    first, *lines = str(report).splitlines()
    assert (first.startswith("mine:"), len(lines)) == (True, len(report))
    assert f"mrr@10 {report['mrr@10']:.3f} [{low:.3f}, {high:.3f}]" in [" ".join(line.split()) for line in lines]
    assert repr(report).startswith(f"RetrievalReport('mine', queries=40, ndcg@10={report['ndcg@10']:.3f}, ")


def test_the_p_value_is_that_of_all_exchanges():
    rng = np.random.default_rng(3)
    qrels = {f"q{n}": {"a": 1} for n in range(9)}
    one, other = (
        evaluate_run({q: [(f"x{n}", 1.0) for n in range(rng.integers(0, 4))] + [("a", 0.5)] for q in qrels}, qrels)
        for _ in range(2)
    )
    differences = np.array([one.per_query["mrr@10"][q] - other.per_query["mrr@10"][q] for q in qrels])
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product([-1, 1], repeat=len(differences))]
    exact = np.mean(np.array(sums) >= abs(differences.sum()) - 1e-12)
    found = compare_retrieval(one, other, measure="mrr@10")
    assert found.p_value == pytest.approx(exact)
    assert found.mean == pytest.approx(differences.mean())
    assert found.low < found.mean < found.high
    assert compare_retrieval(one, one).p_value == 1
    with pytest.raises(UnknownSpecError, match="Did you mean 'ndcg@10'"):
        compare_retrieval(one, other, measure="ndgc@10")
    with pytest.raises(InvalidInputError, match="not the same"):
        compare_retrieval(one, evaluate_run({}, {"q0": {"a": 1}}))


@given(
    run=st.dictionaries(
        st.text("abc東", min_size=1),
        st.dictionaries(st.text("xyz:/", min_size=1), st.floats(-1e6, 1e6), max_size=4).map(
            lambda scores: sorted(scores.items(), key=lambda pair: -pair[1])
        ),
    )
)
def test_a_run_file_comes_back(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "a.trec"
    write_run(path, run, tag="mine")
    assert read_run(path) == {query: hits for query, hits in run.items() if hits}


def test_files_that_are_wrong(tmp_path):
    path = tmp_path / "file"
    for read, text, line in (
        (read_run, "q Q0 d 1 0.5 tag\nq Q0 d 2 0.4 tag\n", 2),
        (read_run, "q Q0 d 1 high tag\n", 1),
        (read_run, "q Q0 d 1 nan tag\n", 1),
        (read_qrels, "q 0 d 1\nq 0 d\n", 2),
        (read_qrels, "query\tdoc\tscore\nq\td\t1.5\n", 2),
        (read_queries, '{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}\n', 2),
        (read_queries, '{"id": "a"}\n', 1),
        (read_queries, "just words\n", 1),
        (read_queries, '{"id": \n', 1),
    ):
        path.write_text(text)
        with pytest.raises(DataFileError) as caught:
            read(path)
        assert caught.value.line == line
    with pytest.raises(DataFileError, match="cannot be read"):
        read_qrels(tmp_path / "missing")
    with pytest.raises(InvalidInputError, match="without white space"):
        write_run(path, {"a b": [("d", 1.0)]})
    path.write_text("q 0 d 1\nq 0 e 0\n")
    assert read_qrels(path) == {"q": {"d": 1, "e": 0}}
    path.write_text("query-id\tcorpus-id\tscore\nq\td e\t2\n")
    assert read_qrels(path) == {"q": {"d e": 2}}
    path.write_text("q1\tfirst text\nq2\tsecond\n")
    assert read_queries(path) == {"q1": "first text", "q2": "second"}


def test_the_command_line(tmp_path):
    with Index.create(tmp_path / "i", embedder="hash:256") as index:
        index.add([Document(f"the {word} lamp", id=word) for word in ("red", "blue", "green", "old")])
    (tmp_path / "q.jsonl").write_text('{"id": 1, "text": "red lamp"}\n{"id": 2, "text": "an old one"}\n')
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n1\tred\t1\n2\told\t1\n")
    command = [sys.executable, "-m", "ragkit_pipelines.cli", "eval"]
    common = ["--qrels", tmp_path / "qrels.tsv", "--json"]
    done = subprocess.run(
        [*command, tmp_path / "i", *common, "--queries", tmp_path / "q.jsonl", "--out", tmp_path / "runs"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [row["name"] for row in told["rows"]] == ["dense", "bm25", "hybrid"]
    assert all(row["ndcg@10"] == 1 and row["queries"] == 2 for row in told["rows"])
    assert len(told["against_the_first"]) == 2
    runs = [part for name in ("bm25", "dense") for part in ("--run", tmp_path / f"runs/{name}.trec")]
    again = subprocess.run([*command, *common, *runs], capture_output=True, text=True)
    assert [row["mrr@10"] for row in json.loads(again.stdout)["rows"]] == [1, 1]
    wrong = subprocess.run([*command, *common], capture_output=True, text=True)
    assert (wrong.returncode, "--run" in wrong.stderr) == (2, True)


def test_files_of_other_editors(tmp_path):
    mark = b"\xef\xbb\xbf"
    (tmp_path / "q.tsv").write_bytes(mark + b"q1\ta lamp\r\nq2\ta song\r\n")
    (tmp_path / "q.jsonl").write_bytes(mark + b'{"id": "q1", "text": "a lamp"}\r\n')
    (tmp_path / "qrels").write_bytes(mark + b"q1 0 d1 1\r\nq1 0 d1 1\r\n")
    (tmp_path / "run").write_bytes(mark + b"q1 Q0 d1 1 0.5 own\r\n")
    assert read_queries(tmp_path / "q.tsv") == {"q1": "a lamp", "q2": "a song"}
    assert read_queries(tmp_path / "q.jsonl") == {"q1": "a lamp"}
    assert read_qrels(tmp_path / "qrels") == {"q1": {"d1": 1}}
    assert read_run(tmp_path / "run") == {"q1": [("d1", 0.5)]}


def test_lines_that_contradict_or_cannot_be_read(tmp_path):
    (tmp_path / "qrels").write_text("q1 0 d1 1\nq1 0 d1 0\n")
    with pytest.raises(DataFileError, match="line 2: document 'd1' has two grades for query 'q1'"):
        read_qrels(tmp_path / "qrels")
    (tmp_path / "deep").write_text('{"id": "q1", "text": ' + "[" * 100_000)
    with pytest.raises(DataFileError, match=r"line 1: .*expected one JSON object per line"):
        read_queries(tmp_path / "deep")


def test_equal_scores_of_a_run_stand_by_their_rank(tmp_path):
    (tmp_path / "run").write_text("q1 Q0 a 2 0.5 own\nq1 Q0 b 1 0.5 own\nq1 Q0 c 3 0.9 own\n")
    assert read_run(tmp_path / "run") == {"q1": [("c", 0.9), ("b", 0.5), ("a", 0.5)]}
