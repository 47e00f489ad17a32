"""Files of test questions, and the passages that contain their answers."""

import json

import pytest

from ragkit import Document, Index
from ragkit.errors import DataFileError, InvalidInputError
from ragkit.pipelines import EvaluationQuestion, qrels_of, read_questions, write_questions
from ragkit.records import Hit

TEXT = "The lamp is red. " * 3 + "The song is long. " * 3


def hit(source="a.md", span=(0, 10), **metadata):
    return Hit(id="x", score=0, rank=1, metadata={"source": source, **metadata}, span=span)


def test_questions_survive_a_file(tmp_path):
    questions = [
        EvaluationQuestion(id="q1", text="Wo liegt 中?", answers=("\u2028da",), source="d/a.md", span=(3, 5)),
        EvaluationQuestion(id="q2", text="Two?", answers=("a", "b"), source="rows.csv", span=(0, 1), row=7),
        EvaluationQuestion(id="q3", text="Without an answer?"),
        EvaluationQuestion(id="q4", text="Somewhere?", source="a.md"),
    ]
    path = tmp_path / "questions.jsonl"
    write_questions(path, questions)
    assert read_questions(path) == questions
    assert json.loads(path.read_text().split("\n")[0]) == {
        "id": "q1", "text": "Wo liegt 中?", "answer": "\u2028da", "source": "d/a.md", "start": 3, "end": 5,
    }  # fmt: skip


def test_other_spellings_are_read(tmp_path):
    path = tmp_path / "questions.jsonl"
    path.write_text('\ufeff{"question": "One?", "answer": "x"}\n\n{"_id": 7, "text": "Two?", "answers": ["a", "b"]}\n')
    assert read_questions(path) == [
        EvaluationQuestion(id="1", text="One?", answers=("x",)),
        EvaluationQuestion(id="7", text="Two?", answers=("a", "b")),
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "contains no question"),
        ("[1]", "line 1: expected a JSON object"),
        ("{", "line 1: .*valid JSON"),
        ('{"text": " "}', "the question as a string `text`"),
        ('{"text": "a", "answers": [1]}', "`answer` a string"),
        ('{"text": "a", "answer": 1}', "`answer` a string"),
        ('{"text": "a", "id": [1]}', "`id` must be a string"),
        ('{"text": "a", "source": 1}', "`source` must be a string"),
        ('{"text": "a", "source": "s", "start": 5, "end": 5}', "`start` and `end` must be positions"),
        ('{"text": "a", "source": "s", "start": 5}', "`start` and `end` must be positions"),
        ('{"text": "a", "start": 5, "end": 7}', "`start` and `end` must be positions"),
        ('{"text": "a", "id": "x"}\n{"text": "b", "id": "x"}', "line 2: the id 'x' occurs twice"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, lines, message):
    path = tmp_path / "questions.jsonl"
    path.write_text(lines)
    with pytest.raises(DataFileError, match=message):
        read_questions(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataFileError, match=r"nowhere\.jsonl: cannot be read"):
        read_questions(tmp_path / "nowhere.jsonl")


@pytest.mark.parametrize(
    ("passage", "found"),
    [
        (hit(span=(0, 10)), False),
        (hit(span=(0, 11)), True),
        (hit(span=(12, 14)), True),
        (hit(span=(20, 30)), False),
        (hit(span=(19, 30)), True),
        (hit(source="b.md", span=(0, 99)), False),
        (hit(span=None), True),
        (hit(span=(0, 99), row=1), False),
        (Hit(id="a.md", score=0, rank=1), True),  # a document without a source is named by its id
        (Hit(id="b.md", score=0, rank=1), False),
    ],
)
def test_passages_that_overlap_the_answer_contain_it(passage, found):
    assert EvaluationQuestion(id="q", text="?", source="a.md", span=(10, 20)).answered_in(passage) == found


def test_rows_of_a_table_are_different_places():
    question = EvaluationQuestion(id="q", text="?", source="a.csv", span=(0, 5), row=3)
    assert question.answered_in(hit("a.csv", row=3))
    assert not question.answered_in(hit("a.csv", row=4))
    assert not EvaluationQuestion(id="q", text="?").answered_in(hit())


def test_judgements_are_the_passages_of_an_index_that_overlap_the_answer(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.md").write_text(TEXT)
    (docs / "rows.csv").write_text("text\nthe first boat\nthe second boat\n")
    start = TEXT.index("The song")
    with Index.create(None, embedder="hash:16") as index:
        index.sync(docs, chunker="recursive:40:15")
        index.add([Document("a loose document", id="loose")])
        questions = [
            EvaluationQuestion(id="q1", text="?", source="docs/a.md", span=(start, start + 4)),
            EvaluationQuestion(id="q2", text="?", source="docs/rows.csv", span=(4, 10), row=3),
            EvaluationQuestion(id="q3", text="?", source="loose", span=(0, 3)),
            EvaluationQuestion(id="q4", text="?", source="docs/gone.md", span=(0, 3)),
            EvaluationQuestion(id="q5", text="?"),
        ]
        qrels = qrels_of(questions, index)
        every = [each for each in index.get_by_keys(index.keys()) if each.metadata and each.metadata.get("source")]
        expected = {
            each.id: 1 for each in every
            if each.metadata["source"] == "docs/a.md" and each.metadata["start"] < start + 4
            and each.metadata["end"] > start
        }  # fmt: skip
        assert qrels["q1"] == expected
        assert len(expected) >= 1
        assert [index.get([own])[0].text for own in qrels["q2"]] == ["the second boat"]
        assert qrels["q3"] == {"loose": 1}
        assert not index.get([*qrels["q4"]])
        assert "q5" not in qrels
        with pytest.raises(InvalidInputError, match="the index contains none of the documents"):
            qrels_of(questions[3:], index)
        with pytest.raises(InvalidInputError, match="no question has a `source`"):
            qrels_of(questions[4:], index)
