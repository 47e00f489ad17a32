"""Checks of a task's data: planted faults are found, and only they."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from ragkit import Example, Task
from ragkit.errors import InvalidInputError
from ragkit_pipelines.data_quality import check_data, clean_data
from ragkit_pipelines.data_quality import label_noise as label_noise_module
from ragkit_pipelines.data_quality.label_noise import MIN_PRECISION, _difficult, label_noise

WORDS = {"food": "cake bread soup fish rice", "bank": "card loan cash coin fee", "trip": "train boat car bike plane"}
WORDS |= {label: " ".join(f"{label}{number}" for number in range(5)) for label in "abcdefghijklmnopq"}


def drawn(rng: Random, label: str) -> Example:
    return Example(" ".join(rng.choices(WORDS[label].split(), k=6)) + f" {rng.randrange(10**6)}", label)


@pytest.fixture(scope="module")
def noisy():
    """A task of which one label in ten is wrong, and the places of those."""
    rng = Random(0)
    rows = [drawn(rng, label) for label in WORDS for _ in range(100)]
    wrong = set(rng.sample(range(len(rows)), 200))
    rows = [
        replace(row, output=rng.choice([label for label in WORDS if label != row.output])) if place in wrong else row
        for place, row in enumerate(rows)
    ]
    test = [drawn(rng, label) for label in WORDS for _ in range(15)]
    return Task("", rows, test, metric="accuracy", labels=tuple(WORDS)), wrong


def test_wrong_labels_are_found(noisy):
    task, wrong = noisy
    found = label_noise(task.examples)
    places = [suspect.index for suspect in found.suspects]
    assert len(set(places) ^ wrong) <= 3
    assert 0.04 < found.share <= 0.1
    removed = places[: found.removable]
    assert len(removed) >= 10
    assert MIN_PRECISION <= found.precision <= len(wrong.intersection(removed)) / len(removed)
    assert all(suspect.predicted != suspect.given for suspect in found.suspects)
    ratios = [suspect.confidence / suspect.predicted_confidence for suspect in found.suspects]
    assert ratios == sorted(ratios)


@pytest.mark.parametrize("block", [10_000, 7])
def test_wrong_labels_of_large_data_are_found(noisy, monkeypatch: pytest.MonkeyPatch, block: int):
    """More rows times labels are classified by naive Bayes, in blocks."""
    task, wrong = noisy
    exact = label_noise(task.examples)
    monkeypatch.setattr(label_noise_module, "_LARGE", len(task.examples) * len(WORDS) - 1)
    monkeypatch.setattr(label_noise_module, "_BLOCK", block)
    found = label_noise(task.examples)
    assert found != exact
    places = [suspect.index for suspect in found.suspects]
    assert len(set(places) ^ wrong) <= 20
    assert 0.04 < found.share <= 0.1
    removed = places[: found.removable]
    assert len(removed) >= 10
    assert MIN_PRECISION <= found.precision <= len(wrong.intersection(removed)) / len(removed)
    assert label_noise(task.examples) == found


def test_difficult_rows_are_not_called_wrong():
    """Two of three labels share their words: a classifier is often mistaken, but no label is wrong."""
    rng = Random(1)
    words = {"food": WORDS["food"], "drink": WORDS["food"].replace("fish", "tea"), "trip": WORDS["trip"]}
    rows = [
        Example(" ".join(rng.choices(words[label].split(), k=6)) + f" {number}", label)
        for label in words
        for number in range(200)
    ]
    found = label_noise(rows)
    assert found.accuracy < 0.9
    assert (found.share, found.removable, found.precision) == (0.0, 0, 0.0)
    assert clean_data(Task("", rows, rows[:1]), check_data(Task("", rows, rows[:1])), noise=True).examples


def test_ranks_that_decay_are_difficult_rows_and_the_rest_are_wrong_labels():
    """Six labels: the second to the last rank of 200 difficult rows halve; 100 wrong labels are spread evenly."""
    decaying, even = np.array([0, 1, 0.5, 0.25, 0.125, 0.0625]), np.array([0, 1, 1, 1, 1, 1])
    for difficult, wrong in ((0.2, 0.0), (0.2, 0.1), (0.0, 0.1)):
        shares = difficult * decaying / decaying.sum() + wrong * even / 5
        shares[0] = 1 - shares.sum()
        assert _difficult(shares, 1) == pytest.approx(difficult * 0.0625 / decaying.sum(), abs=0.001)


def test_hundreds_of_labels_need_no_logarithm_of_zero():
    shares = np.zeros(300)
    shares[:4] = 0.9, 0.05, 0.03, 0.02
    assert _difficult(shares, 30) == pytest.approx(0, abs=1e-6)


def test_labels_that_differ_in_case_or_spaces_are_spellings_and_not_noise():
    rows = [Example(f"{'card loan' if number % 2 else 'cake soup'} {number}", "bank" if number % 2 else "food")
            for number in range(60)]  # fmt: skip
    spelled = [replace(row, output={1: "BANK", 3: "bank ", 5: "Bank"}.get(index, row.output))
               for index, row in enumerate(rows)]  # fmt: skip
    found = check_data(Task("", spelled, rows[:1]))
    assert found.spellings == {"BANK": "bank", "bank ": "bank", "Bank": "bank"}
    assert any("spellings" in each and "'BANK' for 'bank'" in each for each in found.findings)
    assert found.noise == check_data(Task("", rows, rows[:1])).noise
    assert found.pool.conflicts == ()


def test_rare_labels_are_left_out(noisy):
    task, _ = noisy
    extra = [Example("a b c", "rare"), *task.examples]
    found = label_noise(extra)
    assert (found.rows, found.left_out) == (len(task.examples), 1)
    assert {s.index - 1 for s in found.suspects} == {s.index for s in label_noise(task.examples).suspects}
    with pytest.raises(InvalidInputError, match="two labels"):
        label_noise(extra[:2])


def test_wrong_labels_are_found_in_scripts_without_spaces():
    rng = Random(0)
    words = {"food": "蛋糕 面包 汤羹 鱼肉 米饭", "bank": "卡片 贷款 现金 硬币 费用"}
    rows = [Example("".join(rng.choices(words[label].split(), k=6)), label) for label in words for _ in range(60)]
    wrong = set(rng.sample(range(len(rows)), 8))
    flipped = {"food": "bank", "bank": "food"}
    rows = [replace(row, output=flipped[row.output]) if index in wrong else row for index, row in enumerate(rows)]
    assert wrong <= {suspect.index for suspect in label_noise(rows).suspects}


def faulty() -> Task:
    pool = [
        Example("open the red door please now", "door"),
        Example("Open the red door, please: now!", "door"),
        Example("dim the lamp", "lamp"),
        Example("dim the lamp.", "door"),
        Example("close it", "door"),
        *(Example(f"w{n} x{n} y{n}", "lamp") for n in range(20)),
    ]
    return Task("", pool, [Example("CLOSE it", "door"), Example("new words", "roof"), Example("other", "door")])


def test_each_fault_is_said_once_and_cleaned():
    task = faulty()
    found = check_data(task)
    assert found.unseen == ("roof",)
    assert found.findings == (
        "duplicate rows in the pool: 2",
        "pairs of duplicates or near-duplicates with different outputs: 1",
        "test rows that also appear in the pool: 1 of 3",
        "outputs that occur only in test rows: 'roof'",
        "only 3 test rows: small differences between strategies cannot be detected",
    )
    kept = clean_data(task, found)
    assert [row.text() for row in kept.examples[:2]] == ["open the red door please now", "close it"]
    assert len(kept.examples) == 22
    assert [row.output for row in kept.test] == ["roof", "door"]
    assert check_data(kept).pool.clean
    assert len(clean_data(task, found, conflicts=False).examples) == 24
    assert clean_data(task, found, duplicates=False, conflicts=False, leaks=False) == task


def test_noise_is_cleaned_from_the_pool_only_and_only_when_asked(noisy):
    task, _ = noisy
    found = check_data(task)
    assert len(clean_data(task, found).examples) == len(task.examples)
    kept = clean_data(task, found, noise=True)
    assert len(kept.examples) == len(task.examples) - found.noise.removable < len(task.examples)
    assert kept.test == task.test


def test_one_class_is_said():
    task = Task("", [Example(f"t{n}", "a") for n in range(10)], [Example("u", "a")])
    assert any("all rows of the pool have the output 'a'" in said for said in check_data(task).findings)


def test_the_command_line(tmp_path: Path):
    task, path, out = faulty(), tmp_path / "rows.jsonl", tmp_path / "clean.jsonl"
    rows = [{"input": row.input, "output": row.output, "split": "train", "n": 1} for row in task.examples]
    path.write_text(
        "".join(json.dumps(row) + "\n" for row in [*rows, {"input": "x", "output": "door", "split": "test"}])
    )
    command = [sys.executable, "-m", "ragkit_pipelines.cli", "data", "check", str(path), "--clean", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "duplicate rows in the pool: 2" in done.stdout
    kept = [json.loads(line) for line in out.read_text().splitlines()]
    assert Counter(row["split"] for row in kept) == {"train": 22, "test": 1}
    assert kept[0] == rows[0]
    again = subprocess.run(command, capture_output=True, text=True)
    assert (again.returncode, "already exists" in again.stderr) == (2, True)


def test_real_leaks_are_found(data: Path):
    task = Task.from_jsonl(data / "classification/trec6.jsonl")
    assert len(check_data(task).pool.leaks) == 11
