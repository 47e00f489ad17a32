"""Measures of a whole pipeline, by value, and the command line."""

import json

import numpy as np
import pytest
from command_line import run

from ragkit import BM25Retriever, Document, Index, RetrieveThenAnswer, ScriptedModel
from ragkit.errors import InvalidInputError
from ragkit.evaluation import compare_retrieval
from ragkit.pipelines import AnswerJudge, EvaluationQuestion, ExtractiveReader, JudgedCase, evaluate_rag

DOCUMENTS = [
    Document("The lamp in the hall is red.", id="lamp"),
    Document("The song of the lamp is long.", id="song"),
    Document("A boat is blue.", id="boat"),
]
QUESTIONS = [
    EvaluationQuestion(
        id="colour", text="red lamp in the hall?", answers=("red", "crimson"), source="lamp", span=(24, 27)
    ),
    EvaluationQuestion(
        id="length", text="lamp in the hall or a song?", answers=("long",), source="song", span=(24, 28)
    ),
    EvaluationQuestion(id="boat", text="lamp?", answers=("blue",), source="boat", span=(10, 14)),
]
ANSWERS = ["A red, old lamp [1]. It is here [7].", "LONG!", "Not in the documents."]


def pipeline(answers=ANSWERS, **options):
    return RetrieveThenAnswer(ScriptedModel(answers), BM25Retriever(DOCUMENTS), k=2, **options)


def test_measures_by_value():
    report = evaluate_rag(pipeline(), QUESTIONS)
    assert report.per_query["hit_rate"] == {"colour": 1, "length": 1, "boat": 0}
    assert report.per_query["mrr"] == {"colour": 1, "length": 1 / 2, "boat": 0}
    assert report.per_query["refused"] == {"colour": 0, "length": 0, "boat": 1}
    # "red old lamp it is here" and "red": precision 1/6, recall 1
    assert report.per_query["f1"] == pytest.approx({"colour": 2 / 7, "length": 1, "boat": 0})
    assert report.per_query["exact_match"] == {"colour": 0, "length": 1, "boat": 0}
    assert report.per_query["cited"] == {"colour": 1, "length": 1}  # ragkit finds the passage of "LONG!"
    assert report.per_query["citation_validity"] == {"colour": 1 / 2}
    assert set(report) == {"hit_rate", "mrr", "refused", "f1", "exact_match", "cited", "citation_validity"}
    assert report["mrr"] == pytest.approx(0.5)
    assert report.name == "bm25"
    assert report.answers["length"].text.startswith("LONG!")
    assert str(report).splitlines()[0] == "bm25: means with 95 % intervals, queries: 3"
    assert repr(report).startswith("RagReport('bm25', queries=3, hit_rate=0.667")


def test_a_judge_adds_its_measures():
    says = iter(["yes", "no", "yes", *["no"] * 2, "yes", *["no"] * 5])
    judge = ScriptedModel(lambda prompt: next(says))
    report = evaluate_rag(pipeline(["It is red [1]. It is old [1].", "Long [2].", ANSWERS[2]]), QUESTIONS, judge=judge)
    assert report.per_query["faithfulness"] == {"colour": 0.5, "length": 1}
    assert report.per_query["answer_relevance"] == {"colour": 0, "length": 0}
    assert report.per_query["context_precision"] == {"colour": 1, "length": 0, "boat": 0}
    assert report.judge == "scripted"
    assert "the judge scripted is not calibrated for faithfulness, answer_relevance, context_precision" in str(report)


def test_a_calibrated_judge_reports_its_agreement():
    def overlap(queries, texts):
        return [float(len({*query.split()} & {*text.split()})) for query, text in zip(queries, texts, strict=True)]

    cases = [
        JudgedCase(measure=measure, question="red lamp", answer="red lamp" if label else "no", label=label,
                   passages=("red lamp" if label else "no",))
        for measure in ("faithfulness", "answer_relevance", "context_precision")
        for label in (True, False) * 4
    ]  # fmt: skip
    report = evaluate_rag(pipeline(), QUESTIONS, judge=AnswerJudge(overlap).calibrated(cases))
    assert report.calibrations["faithfulness"].kappa == 1
    assert "judge of faithfulness: agreement 1.00 (majority baseline 0.50), kappa 1.00" in str(report)
    assert "not calibrated" not in str(report)


def test_unreadable_judgements_are_reported():
    class Free(ScriptedModel):
        @property
        def capabilities(self):
            from ragkit.protocols import Capabilities

            return Capabilities()

    report = evaluate_rag(pipeline(), QUESTIONS[:1], judge=Free(lambda prompt: "perhaps"))
    assert report.unreadable == {"faithfulness": 1, "answer_relevance": 1, "context_precision": 1}
    assert "faithfulness" not in report
    assert "faithfulness: no readable judgement for 1 answers" in str(report)


def test_questions_without_answers_and_places():
    report = evaluate_rag(pipeline(), [each.text for each in QUESTIONS], name="mine", batch_size=2)
    assert [*report] == ["refused", "cited", "citation_validity"]
    assert report["refused"] == pytest.approx(1 / 3)
    assert report.name == "mine"


def test_two_pipelines_are_compared_with_a_paired_test():
    one, other = evaluate_rag(pipeline(), QUESTIONS), evaluate_rag(pipeline([ANSWERS[2]] * 3), QUESTIONS)
    found = compare_retrieval(one, other, measure="f1")
    assert found.mean == pytest.approx(np.mean([2 / 7, 1, 0]))
    assert compare_retrieval(one, other).measure == "hit_rate"


@pytest.mark.parametrize(("questions", "options"), [([], {}), ([QUESTIONS[0]] * 2, {}), (QUESTIONS, {"batch_size": 0})])
def test_invalid_arguments(questions, options):
    with pytest.raises(InvalidInputError, match="at least one question, with different ids, in batches"):
        evaluate_rag(pipeline(), questions, **options)


@pytest.fixture
def folder(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "lamp.md").write_text("The lamp in the hall is red. It was bought in 1990.")
    (docs / "song.md").write_text("The song in the kitchen is long.")
    with Index.create(tmp_path / "docs.rag", embedder="hash:64") as index:
        index.sync(docs)
    rows = [
        {"id": "q1", "text": "What colour is the lamp in the hall?", "answer": "red", "source": "docs/lamp.md",
         "start": 24, "end": 27},
        {"id": "q2", "text": "Is the song in the kitchen long?", "answer": "long", "source": "docs/song.md",
         "start": 27, "end": 31},
    ]  # fmt: skip
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_retrievers_are_evaluated_on_questions(folder):
    done = run("eval", folder / "docs.rag", "--questions", folder / "questions.jsonl", "--json", "--latency", 0)
    rows = json.loads(done.stdout)["rows"]
    assert [(row["name"], row["queries"], row["recall@10"]) for row in rows] == [
        ("dense", 2, 1), ("bm25", 2, 1), ("hybrid", 2, 1),
    ]  # fmt: skip
    assert rows[1]["mrr@10"] == 1


def test_pipelines_are_evaluated_on_questions(folder):
    command = ["eval", folder / "docs.rag", "--questions", folder / "questions.jsonl", "--model", "extractive"]
    done = run(*command, "--retriever", "bm25,hybrid", "--k", 1, "--out", folder / "out", "--json")
    rows = {row["name"]: row for row in json.loads(done.stdout)["rows"]}
    assert [*rows] == ["bm25", "hybrid"]
    for row in rows.values():
        assert (row["hit_rate"], row["mrr"], row["refused"], row["citation_validity"]) == (1, 1, 0, 1)
        assert 0 < row["f1"] < 1
        assert row["judge"] is None
    saved = [json.loads(line) for line in (folder / "out/bm25.answers.jsonl").read_text().splitlines()]
    assert [each["id"] for each in saved] == ["q1", "q2"]
    assert saved[0]["hit_rate"] == 1
    assert "red" in saved[0]["answer"]
    shown = run(*command).stdout
    assert "hit_rate" in shown
    assert "1.000 (1.000 to 1.000, n = 2)" in shown


def test_a_judge_on_the_command_line_is_calibrated(folder):
    cases = [
        {"measure": measure, "question": "red lamp", "label": label, "answer": "red lamp" if label else "no",
         "passages": ["red lamp" if label else "something else"]}
        for measure in ("faithfulness", "answer_relevance", "context_precision") for label in (True, False) * 4
    ]  # fmt: skip
    (folder / "labelled.jsonl").write_text("\n".join(map(json.dumps, cases)))
    command = ["eval", folder / "docs.rag", "--questions", folder / "questions.jsonl", "--model", "extractive",
               "--judge", "tokens:hash:64"]  # fmt: skip
    done = run(*command, "--labelled", folder / "labelled.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert row["name"] == "hybrid"
    assert row["calibrations"]["faithfulness"]["kappa"] == 1
    assert {"faithfulness", "answer_relevance", "context_precision"} <= row.keys()
    without = run(*command)
    assert without.returncode == 2
    assert "tokens:hash:64 is a reranker" in without.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "pass either --qrels"),
        (["--qrels", "{q}", "--questions", "{q}"], "pass either --qrels"),
        (["--qrels", "{q}", "--model", "tiny"], "pass the folder of the index and --questions"),
        (["--questions", "{q}", "--judge", "tiny"], "pass --model too"),
        (["--questions", "{q}", "--model", "tiny", "--labelled", "{q}"], "pass --judge too"),
        (["--questions", "{q}", "--run", "{q}"], "pass --qrels"),
        (["--questions", "{q}"], "there is nothing to evaluate"),
    ],
)
def test_options_that_contradict_each_other(folder, options, message):
    done = run("eval", *(option.replace("{q}", str(folder / "questions.jsonl")) for option in options))
    assert done.returncode == 2
    assert message in done.stderr


def test_a_question_whose_source_is_missing_counts_as_a_failure(folder):
    with (folder / "questions.jsonl").open("a") as file:
        file.write('\n{"id": "q3", "text": "Where?", "source": "docs/gone.md", "start": 0, "end": 4}')
    done = run("eval", folder / "docs.rag", "--questions", folder / "questions.jsonl", "--json", "--latency", 0)
    assert json.loads(done.stdout)["rows"][0]["recall@10"] == pytest.approx(2 / 3)


def test_the_extractive_reader_is_a_pipeline_like_any_other():
    reader = RetrieveThenAnswer(ExtractiveReader("hash:64", sentences=1), BM25Retriever(DOCUMENTS), k=2)
    report = evaluate_rag(reader, QUESTIONS[:1], judge=ScriptedModel(lambda prompt: "yes"))
    assert (report["hit_rate"], report["citation_validity"], report["faithfulness"]) == (1, 1, 1)
