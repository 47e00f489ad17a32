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
from ragkit_pipelines.data_quality.label_noise import label_noise

WORDS = {"food": "cake bread soup fish rice", "bank": "card loan cash coin fee", "trip": "train boat car bike plane"}


def drawn(rng: Random, label: str) -> Example:
    return Example(" ".join(rng.choices(WORDS[label].split(), k=6)) + f" {rng.randrange(10**6)}", label)


@pytest.fixture(scope="module")
def noisy():
    """A task of which one label in ten is wrong, and the places of those."""
    rng = Random(0)
    rows = [drawn(rng, label) for label in WORDS for _ in range(60)]
    wrong = set(rng.sample(range(len(rows)), 18))
    rows = [
        replace(row, output=rng.choice([label for label in WORDS if label != row.output])) if place in wrong else row
        for place, row in enumerate(rows)
    ]
    test = [drawn(rng, label) for label in WORDS for _ in range(15)]
    return Task("", rows, test, metric="accuracy", labels=tuple(WORDS)), wrong


def test_wrong_labels_are_found(noisy):
    task, wrong = noisy
    found = label_noise(task.examples)
    places = {suspect.index for suspect in found.suspects}
    assert len(places & wrong) >= 16
    assert len(places - wrong) <= 2
    assert found.share == pytest.approx(0.1, abs=0.02)
    assert all(suspect.predicted != suspect.given for suspect in found.suspects)
    assert [s.confidence for s in found.suspects] == sorted(s.confidence for s in found.suspects)
    assert label_noise([row for place, row in enumerate(task.examples) if place not in wrong]).share <= 0.01


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
    assert {suspect.index for suspect in label_noise(rows).suspects} == wrong


def confident_joint(given: np.ndarray, likelihood: np.ndarray) -> np.ndarray:
    """Northcutt et al., equations 1 and 2, by their definition."""
    classes = likelihood.shape[1]
    thresholds = np.array([likelihood[given == each, each].mean() for each in range(classes)])
    joint = np.zeros((classes, classes), dtype=int)
    for row, label in enumerate(given):
        sure = [each for each in range(classes) if likelihood[row, each] >= thresholds[each]]
        if sure:
            joint[label, max(sure, key=lambda each: likelihood[row, each])] += 1
    return joint


def test_the_library_counts_as_the_paper_says():
    from cleanlab.count import compute_confident_joint

    rng = np.random.default_rng(0)
    likelihood = rng.dirichlet([0.5] * 3, size=200)
    given = np.array([rng.choice(3, p=row) for row in likelihood])
    counted = compute_confident_joint(given, likelihood, calibrate=False)
    assert (counted == confident_joint(given, likelihood)).all()


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
        "3 test rows are too few to distinguish strategies",
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
    assert len(kept.examples) == len(task.examples) - len(found.noise.suspects)
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
