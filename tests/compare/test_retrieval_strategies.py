"""Strategies that look things up: what they ask, what they find, and what is refused before anything is run."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from ragkit import BM25Retriever, Document, Example, Index, ScriptedModel, Task, advise, compare
from ragkit.embedders import load_embedder
from ragkit.errors import InvalidInputError
from ragkit_pipelines.advise import Needs
from ragkit_pipelines.compare import CompareOptions
from ragkit_pipelines.compare.documents import open_documents
from ragkit_pipelines.compare.strategies.retrieval import Rag
from ragkit_pipelines.rag.answers import without_marks
from ragkit_pipelines.rag.styles import STYLES

COLOURS = {"lamp": "red", "door": "green", "bike": "blue", "roof": "grey", "boat": "white", "tree": "brown"}
PASSAGES = [f"The {thing} is {colour}." for thing, colour in COLOURS.items()]
POOL = [Example(f"What colour has the sky of {n}?", "black") for n in range(4)]
TEST = [Example(f"What colour has the {thing}?", colour) for thing, colour in COLOURS.items()]
TASK = Task("One word.", POOL, TEST)


def reads(prompt: str) -> str:
    """A reader that knows nothing but the passages before it."""
    thing = re.findall(r"has the (\w+)\?", prompt)[-1]
    found = re.search(rf"The {thing} is (\w+)\.", prompt)
    return f" {found[1]} [1]\n\nAnd so on" if found else " Not in the documents."


def score(result, name="rag"):
    return next(row for row in result.results.rows if row.strategy == name)


def test_marks_are_taken_off():
    assert without_marks("It is red [1], or blue [2][3].") == "It is red, or blue."
    assert without_marks("See [1](page) and [note].") == "See [1](page) and [note]."


@pytest.mark.parametrize("given", ["passages", "documents", "folder", "file", "index", "retriever"])
def test_answers_come_from_the_documents_however_they_are_given(tmp_path, given):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "things.txt").write_text("\n".join(PASSAGES))
    index = Index.create(None, embedder="hash:256")
    index.add(PASSAGES)
    documents = {
        "passages": PASSAGES,
        "documents": [Document(text) for text in PASSAGES],
        "folder": tmp_path / "docs",
        "file": str(tmp_path / "docs" / "things.txt"),
        "index": index,
        "retriever": BM25Retriever(PASSAGES),
    }[given]
    model = ScriptedModel(reads)
    result = compare(
        TASK, ["zero-shot", "rag"], model=model, embedder="hash:256", options=CompareOptions(documents=documents)
    )
    row = score(result)
    assert (row.correct, row.error, score(result, "zero-shot").correct) == (6, None, 0)
    assert row.note == "0 of 6 answers not found in the documents"
    assert row.prompt_tokens > score(result, "zero-shot").prompt_tokens
    beginning = f"One word.\n\n{STYLES['short'].instruction()}\n\n"
    assert all(prompt.startswith(beginning) for prompt in model.asked[-6:])
    index.close()


def test_k_passages_are_shown_the_best_first():
    model = ScriptedModel(reads)
    compare(
        TASK,
        [Rag(BM25Retriever(PASSAGES), k=1), "rag@2"],
        model=model,
        embedder="hash:256",
        options=CompareOptions(documents=PASSAGES),
    )
    first, second = model.asked[0], model.asked[6]
    assert [thing for thing in COLOURS if f"The {thing} is" in first] == ["lamp"]
    assert sum(f"The {thing} is" in second for thing in COLOURS) == 2


def test_what_is_not_found_is_counted():
    result = compare(
        TASK, ["rag"], model=ScriptedModel(reads), embedder="hash:256", options=CompareOptions(documents=PASSAGES[:2])
    )
    assert (score(result).correct, score(result).note) == (2, "4 of 6 answers not found in the documents")


def test_other_documents_are_asked_again_and_the_same_are_not(tmp_path):
    for passages, right, asked in ((PASSAGES[:2], 2, 6), (PASSAGES[:2], 2, 0), (PASSAGES, 6, 6)):
        model = ScriptedModel(reads)
        result = compare(
            TASK, ["rag"], model=model, embedder="hash:256", options=CompareOptions(documents=passages), out=tmp_path
        )
        assert (score(result).correct, len(model.asked)) == (right, asked)
    assert "documents" in result.results.provenance


def test_a_plan_looks_things_up_where_inputs_are_questions(monkeypatch):
    from ragkit_pipelines.pearl.pipeline import Pearl

    seen = []

    def batch(self, questions, documents):
        seen.append((list(questions), documents, self.context.retriever.retrieve(["the lamp"], 1)[0][0].text))
        raise InvalidInputError("enough")

    monkeypatch.setattr(Pearl, "batch", batch)
    result = compare(
        TASK, ["pearl"], model=ScriptedModel(reads), embedder="hash:256", options=CompareOptions(documents=PASSAGES)
    )
    assert result.results.rows[0].error == "InvalidInputError: enough"
    assert seen == [([row.input for row in TEST], None, PASSAGES[0])]


@pytest.mark.parametrize(
    ("strategies", "documents", "message"),
    [
        (["rag"], None, "strategy 'rag' needs documents"),
        (["pearl"], None, "strategy 'pearl' needs documents"),
        (["zero-shot"], PASSAGES, "add 'rag'"),
        (["rag"], "no/such/folder", "does not exist"),
        (["rag"], [], "at least one passage"),
        (["rag"], 7, "got int"),
        (["rag@0"], PASSAGES, "at least 1"),
    ],
)
def test_bad_calls_run_nothing(tmp_path, strategies, documents, message):
    model = ScriptedModel(reads)
    with pytest.raises(InvalidInputError, match=message):
        compare(
            TASK,
            strategies,
            model=model,
            embedder="hash:256",
            options=CompareOptions(documents=documents),
            out=tmp_path / "out",
        )
    assert not model.asked
    assert not (tmp_path / "out" / "run.json").exists()


def test_advice_runs_retrieval_where_documents_are_given():
    needs = Needs(knowledge=True)
    advice = advise(
        TASK, needs, model=ScriptedModel(reads), embedder="hash:256", options=CompareOptions(documents=PASSAGES)
    )
    assert score(advice.comparison).correct == 6
    without = advise(TASK, needs, model=ScriptedModel(reads), embedder="hash:256")
    assert [way.strategy for way in without.not_run] == ["rag"]


def test_the_command_line(tmp_path):
    rows = [
        {"input": r.text(), "output": r.output, "split": s}
        for s, part in (("train", POOL), ("test", TEST))
        for r in part
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "docs.txt").write_text("\n".join(PASSAGES))
    command = [sys.executable, "-m", "ragkit_pipelines.cli", "compare"]
    given = ["--data", "data.jsonl", "--strategies", "rag", "--model", "tiny", "--embedder", "hash:64", "--out", "out"]
    refused = subprocess.run([*command, *given], cwd=tmp_path, capture_output=True, text=True)
    assert (refused.returncode, "(--docs)" in refused.stderr) == (2, True)
    done = subprocess.run([*command, *given, "--docs", "docs.txt"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    again = subprocess.run([*command, "resume", tmp_path / "out", "--yes", "--json"], capture_output=True, text=True)
    assert json.loads(again.stdout)["rows"][0]["strategy"] == "rag"


def test_an_index_is_known_by_its_passages_and_its_own_embedder(tmp_path):
    def fingerprint(texts, embedder):
        index = Index.create(None, embedder=embedder)
        index.add(texts)
        with open_documents(index, tmp_path, load_embedder("hash:8")) as library:
            return library.fingerprint

    assert fingerprint(["a lamp"], "hash:64") == fingerprint(["a lamp"], "hash:64")
    assert fingerprint(["a lamp"], "hash:64") != fingerprint(["a lamp"], "hash:128")
    assert fingerprint(["a lamp"], "hash:64") != fingerprint(["a door"], "hash:64")


@pytest.mark.parametrize(
    ("metric", "output", "asked"),
    [("f1", "red", "short"), ("exact_match", "red", "short"), ("f1", "red " * 20, "cited"), ("rougeL", "red", "cited"),
     (lambda _answer, _expected: 1.0, "red", "cited")],
)  # fmt: skip
def test_the_metric_determines_the_style(metric, output, asked):
    model = ScriptedModel(lambda _: "Red [1].")
    task = Task("Look.", [Example("What colour has the sky?", output)], TEST[:1], metric=metric)
    options = CompareOptions(documents=PASSAGES)
    compare(task, ["rag"], model=model, embedder="hash:64", options=options)
    assert model.asked[0].startswith(f"Look.\n\n{STYLES[asked].instruction()}")


def test_a_task_with_labels_has_no_demonstrations():
    model = ScriptedModel(lambda _: "red [1]")
    labels = tuple(dict.fromkeys([*COLOURS.values(), "black"]))
    task = Task("", POOL, TEST, labels=labels)
    result = compare(task, ["rag"], model=model, embedder="hash:64", options=CompareOptions(documents=PASSAGES))
    assert score(result).correct == 1
    assert model.asked[0].startswith("Answer with one of: red, green")
    assert model.asked[0].count("Question:") == 1
