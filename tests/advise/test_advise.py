"""Advice: the decision table for six practical use cases, and its measurement on data."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ragkit import Budget, Example, ScriptedModel, Task, advise
from ragkit.errors import InvalidInputError, UnknownSpecError
from ragkit_pipelines.advise import Needs

CASES = {
    "welcome messages": Needs(per_hour=5, examples=10),
    "navigation in a strong style": Needs(strict=True, per_hour=5000, latency_ms=300, examples=500),
    "a sarcastic bot": Needs(strict=True, per_hour=20, examples=200),
    "the same in many languages": Needs(strict=True, varied=True, per_hour=20, examples=2000),
    "routing 1,000 tickets an hour": Needs(categories=True, per_hour=1000, examples=5000),
    "answering tickets": Needs(knowledge=True, changes="daily", per_hour=50, examples=300),
}


@pytest.mark.parametrize(
    ("case", "worth", "not_worth"),
    [
        ("welcome messages", ["few-shot:bm25", "optimised-prompt", "zero-shot"], {"lora", "rag"}),
        ("navigation in a strong style", ["lora", "few-shot:bm25", "zero-shot"], {"optimised-prompt", "rag"}),
        ("a sarcastic bot", ["lora", "few-shot:bm25", "optimised-prompt", "zero-shot"], {"rag"}),
        ("the same in many languages",
         ["lora", "few-shot:embedding", "few-shot:bm25", "optimised-prompt", "zero-shot"], {"rag"}),
        ("routing 1,000 tickets an hour", ["classifier-head", "tfidf", "lora", "few-shot:bm25"],
         {"optimised-prompt", "rag"}),
        ("answering tickets", ["rag", "few-shot:bm25", "optimised-prompt", "zero-shot"], {"lora"}),
    ],
)  # fmt: skip
def test_six_use_cases(case, worth, not_worth):
    advice = advise(needs=CASES[case])
    assert [way.strategy for way in advice.worth] == worth
    assert {way.strategy for way in advice.not_worth} == not_worth
    assert advice.answer.startswith(f"Start with {worth[0]}: ")
    assert advice.answer.endswith("No strategy was measured.")


def test_each_answer_matters():
    base = Needs(strict=True, examples=500)
    started = {
        name: advise(needs=needs).worth[0].strategy
        for name, needs in {
            "enough": base,
            "few": Needs(strict=True, examples=99),
            "daily": Needs(strict=True, examples=500, changes="daily"),
            "none": Needs(),
            "facts": Needs(strict=True, examples=500, knowledge=True),
        }.items()
    }
    assert started == {
        "enough": "lora", "few": "few-shot:bm25", "daily": "few-shot:bm25", "none": "zero-shot", "facts": "rag",
    }  # fmt: skip
    assert any("local model" in said for said in advise(needs=Needs(private=True)).caveats)
    assert "pearl" in [way.strategy for way in advise(needs=Needs(knowledge=True, long_documents=True)).worth]


def test_invalid_requirements():
    with pytest.raises(UnknownSpecError, match="weekly"):
        Needs(changes="weekly")
    with pytest.raises(InvalidInputError, match="per_hour"):
        Needs(per_hour=-1)


ROWS = [Example(f"{word} number {n}", label) for word, label in (("card", "bank"), ("cake", "food")) for n in range(30)]
TEST = [Example(f"{word} please {n}", label) for word, label in (("card", "bank"), ("cake", "food")) for n in range(15)]
TICKETS = Task("", ROWS, TEST, metric="accuracy", labels=("bank", "food"))


def test_the_recommendation_is_based_on_data_if_given():
    advice = advise(TICKETS, Needs(per_hour=1000), embedder="hash:64", extra=["majority"])
    assert [row.strategy for row in advice.comparison.results.rows] == ["classifier-head", "tfidf", "majority"]
    assert [way.strategy for way in advice.not_run] == ["few-shot:bm25"]
    assert advice.needs.categories
    assert advice.needs.examples == 60
    # Both classifiers are right everywhere, so the faster one is recommended.
    found = advice.comparison.recommendation
    assert found.strategy in {"classifier-head", "tfidf"}
    assert (found.best, found.significant, found.rows_needed) == ("classifier-head", False, None)
    assert advice.answer.startswith(f"Use {found.strategy}: ")


def test_a_budget_too_small_for_one_arm_leaves_the_others():
    model = ScriptedModel(lambda prompt: " bank")
    advice = advise(TICKETS, Needs(per_hour=1000), model=model, embedder="hash:64", budget=Budget(calls=29))
    errors = {row.strategy: row.error for row in advice.comparison.results.rows}
    assert "30 calls would be spent, the budget is 29" in errors["few-shot:bm25"]
    assert errors["tfidf"] is errors["classifier-head"] is None
    assert len(model.asked) == 29


def test_the_command_line(tmp_path):
    path = tmp_path / "tickets.jsonl"
    rows = [
        {"input": row.text(), "output": row.output, "split": s}
        for s, part in (("train", ROWS), ("test", TEST))
        for row in part
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, "-m", "ragkit_pipelines.cli", "advise", "--per-hour", "1000"]
    done = subprocess.run(
        [*command, "--data", str(path), "--embedder", "hash:64", "--out", str(tmp_path / "out")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Recommendation: " in done.stdout or "Use " in done.stdout
    table = json.loads(
        subprocess.run([*command, "--categories", "--examples", "9", "--json"], capture_output=True).stdout
    )
    assert table["worth"][0]["strategy"] == "classifier-head"


def test_there_is_always_a_strategy_to_start_with():
    advice = advise(needs=Needs(categories=True, per_hour=1000))
    assert advice.answer.startswith("Start with zero-shot: ")
