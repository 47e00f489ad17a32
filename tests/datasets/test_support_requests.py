"""The data set that ships with ragkit: it is what its data card says, and a task worth demonstrating."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from itertools import combinations
from pathlib import Path
from statistics import median

import pytest

import ragkit_pipelines.datasets
from ragkit_pipelines.data_quality import check_data
from ragkit_pipelines.datasets import support_requests

FOLDER = Path(ragkit_pipelines.datasets.__file__).parent


@pytest.fixture(scope="module")
def rows():
    text = (FOLDER / "support_requests.jsonl").read_bytes().decode("utf-8", errors="strict")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def card():
    return (FOLDER / "README.md").read_text(encoding="utf-8")


def word_set(text):
    return frozenset(re.findall(r"\w+", text.casefold()))


def test_the_loader_reads_every_row_of_the_file(rows):
    task = support_requests()
    for split, examples in (("train", task.examples), ("test", task.test)):
        expected = [(row["input"], row["output"]) for row in rows if row["split"] == split]
        assert [(example.input, example.output) for example in examples] == expected
    assert (task.name, task.metric) == ("support_requests", "accuracy")
    assert task.instruction == "Route the customer's message to the team that handles it."
    assert task.labels == tuple(sorted({row["output"] for row in rows}))


def test_the_task_is_equal_each_time():
    first, second = support_requests(), support_requests()
    assert first == second
    assert first.fingerprint == second.fingerprint


def test_the_data_card_states_the_counts(rows, card):
    table = re.findall(r"^\| `(\w+)` \| .+ \| (\d+) \| (\d+) \|$", card, re.MULTILINE)
    counts = Counter((row["output"], row["split"]) for row in rows)
    teams = sorted({row["output"] for row in rows})
    assert [(team, int(train), int(test)) for team, train, test in table] == [
        (team, counts[team, "train"], counts[team, "test"]) for team in teams
    ]
    train, test = (sum(row["split"] == split for row in rows) for split in ("train", "test"))
    assert card.split("\n\n")[1].startswith(f"{len(rows)} messages")
    assert f"{train} training rows and {test} test rows, {len(teams)} teams" in card
    assert f"a pool of {train} examples, {test} test rows" in " ".join(support_requests.__doc__.split())
    trained = [counts[team, "train"] for team in teams]
    assert f"{min(trained)} to {max(trained)} training rows per team" in card
    assert f"{max(counts[team, 'test'] for team in teams) / test:.1%}".replace("%", " %") in card


def test_the_data_card_states_the_lengths(rows, card):
    lengths = [len(row["input"].split()) for row in rows]
    assert f"{min(lengths)} to {max(lengths)} words, median {median(lengths):.0f}" in card


def test_classes_are_many_short_and_not_too_uneven(rows):
    counts = Counter(row["output"] for row in rows)
    assert len(counts) >= 14
    assert min(counts.values()) >= 20
    assert max(counts.values()) <= 4 * min(counts.values())
    assert all(re.fullmatch(r"[a-z]+", team) for team in counts)
    tested = Counter(row["output"] for row in rows if row["split"] == "test")
    assert max(tested.values()) < 0.15 * tested.total()


def test_rows_are_clean_text(rows):
    for row in rows:
        assert list(row) == ["input", "output", "split"]
        assert row["split"] in {"train", "test"}
        text = row["input"]
        assert text == unicodedata.normalize("NFC", text).strip()
        assert "  " not in text
        assert all(character.isprintable() for character in text)
        assert 4 <= len(text.split()) <= 45
    assert any(not row["input"].isascii() for row in rows)


def test_no_two_rows_are_nearly_the_same(rows):
    words = [word_set(row["input"]) for row in rows]
    alike = [
        (rows[first]["input"], rows[second]["input"])
        for first, second in combinations(range(len(rows)), 2)
        if len(words[first] & words[second]) >= 0.6 * len(words[first] | words[second])
    ]
    assert alike == []


def test_the_check_of_data_finds_nothing():
    task = support_requests()
    found = check_data(task, near=0.6, quick=True)
    assert found.pool.clean
    assert found.findings == ()
    assert task.leaks() == []


def test_the_task_is_neither_trivial_nor_hopeless():
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    task = support_requests()
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=30))
    model.fit([row.text() for row in task.examples], [row.output for row in task.examples])
    accuracy = model.score([row.text() for row in task.test], [row.output for row in task.test])
    assert 0.6 <= accuracy <= 0.85
