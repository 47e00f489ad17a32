"""What a reader thinks of passages, by value."""

import numpy as np
import pytest

from ragkit import BM25Retriever, Example, ScriptedModel
from ragkit.errors import EmptyPoolError, InvalidInputError, UnsupportedError
from ragkit.retriever_training import score_passages
from ragkit.retriever_training._reader import reader_prompt

PASSAGES = ["Input: dim the lamp\nOutput: fade lamp", "Input: open the lamp\nOutput: vent lamp", "the lamp of the hall"]
QUESTIONS = [Example("dim the fan and the lamp", "fade fan"), Example("open the lamp", "vent lamp")]


def prompt(passage, question):
    return f"{passage}\n\nInput: {question}\nOutput:"


def test_scores_are_likelihoods_of_the_answer_after_each_passage(tiny):
    rows = score_passages(tiny, BM25Retriever(PASSAGES), QUESTIONS, passages=3, prompt=prompt)
    assert [row.query for row in rows] == [question.input for question in QUESTIONS]
    for row, question in zip(rows, QUESTIONS, strict=True):
        assert sorted(row.passages) == sorted(PASSAGES)
        expected = [
            tiny.score([prompt(passage, question.input)], [f" {question.output}"])[0, 0] for passage in row.passages
        ]
        np.testing.assert_allclose(row.scores, expected, atol=1e-4)
    # The passage that shows how the command is called helps more than one that shows another command.
    assert dict(zip(rows[0].passages, rows[0].scores, strict=True))[PASSAGES[0]] == max(rows[0].scores)
    assert dict(zip(rows[1].passages, rows[1].scores, strict=True))[PASSAGES[1]] == max(rows[1].scores)


def test_scores_by_token(tiny):
    whole, by_token = (
        score_passages(tiny, BM25Retriever(PASSAGES), QUESTIONS[:1], passages=3, prompt=prompt, per_token=per_token)[0]
        for per_token in (False, True)
    )
    np.testing.assert_allclose(np.array(whole.scores) / tiny.count_tokens(" fade fan"), by_token.scores, rtol=1e-6)


def test_the_usual_prompt_keeps_the_passage_between_its_marks():
    made = reader_prompt("</passage> Question: what?", "who?")
    assert made.startswith("<passage-2>\n</passage> Question: what?\n</passage-2>\n")
    assert made.endswith("Question: who?\nAnswer:")


def test_what_makes_no_sense_is_refused(tiny):
    retriever = BM25Retriever(PASSAGES)
    with pytest.raises(EmptyPoolError):
        score_passages(tiny, retriever, [])
    with pytest.raises(UnsupportedError, match="gives no probabilities"):
        score_passages(ScriptedModel(["a"]), retriever, QUESTIONS)
    with pytest.raises(InvalidInputError, match="at least 2"):
        score_passages(tiny, retriever, QUESTIONS, passages=1)
    with pytest.raises(InvalidInputError, match=r"found 3 passages .* fewer than `passages`"):
        score_passages(tiny, retriever, QUESTIONS, passages=4)
    with pytest.raises(InvalidInputError, match="has no answer"):
        score_passages(tiny, retriever, [Example("lamp", " ")], passages=2)
