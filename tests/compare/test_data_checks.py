"""Faults of the data in a comparison: said, left out, or not looked for."""

from __future__ import annotations

import json
import subprocess
import sys
from random import Random

import pytest

from ragkit import Example, Task, compare
from ragkit.errors import InvalidInputError, LeakageWarning, UnknownSpecError
from ragkit_pipelines.compare import CompareOptions
from ragkit_pipelines.compare.reports.markdown import markdown_report
from ragkit_pipelines.compare.results import Results
from ragkit_pipelines.data_quality.data_check import check_data, rows_to_remove
from ragkit_selectors import check_pool

WORDS = [f"w{n}" for n in range(400)]
RNG = Random(3)


def text() -> str:
    return " ".join(RNG.sample(WORDS, 12))


CLEAN = [Example(text(), f"out {n}") for n in range(40)]
TWICE = [Example(row.input.upper() + "!", row.output) for row in CLEAN[:3]]
NEARLY = [Example(row.input + " more", row.output) for row in CLEAN[3:5]]
DISPUTED = [Example(CLEAN[10].input, "something else")]
TEST = [Example(text(), f"out {n}") for n in range(50)]
LEAKED = [Example(CLEAN[20].input, "out 20")]
NEARLY_LEAKED = [Example(f"{row.input} then", row.output) for row in CLEAN[21:25]]
FAULTY = Task("", [*CLEAN, *TWICE, *NEARLY, *DISPUTED], [*TEST, *LEAKED, *NEARLY_LEAKED])
SOUND = Task("", [row for row in CLEAN if row is not CLEAN[10]], TEST)


def ran(checks, **options):
    with pytest.warns(LeakageWarning, match="1 of 55 test rows"):
        return compare(
            FAULTY, ["copy:jaccard"], embedder="hash:16", model="tiny", options=CompareOptions(checks=checks), **options
        ).results


def test_faults_are_said_and_left_in():
    results = ran("report")
    assert results.data.findings == [
        "duplicate rows in the pool: 4",
        "pairs of near-duplicate rows in the pool: 2",
        "pairs of duplicates or near-duplicates with different outputs: 1",
        "test rows with a near-duplicate in the pool: 4 of 54",
    ]
    assert (results.data.removed, results.leaked_test_rows) == ({}, 1)
    assert (results.rows[0].size, results.rows[0].n) == (46, 54)
    assert results.data.before == FAULTY.fingerprint
    assert results.data.after == FAULTY.without_leaks().fingerprint == results.provenance["data"]


def test_cleaning_leaves_exactly_the_sound_rows_and_counts_the_others():
    results = ran("clean")
    assert results.data.removed == {"conflicting": 2, "duplicate": 3, "near-duplicate": 2, "nearly leaked": 4}
    assert (results.rows[0].size, results.rows[0].n) == (len(SOUND.examples), len(SOUND.test))
    assert results.data.after == SOUND.fingerprint == results.provenance["data"]
    assert "- removed rows (conflicting): 2" in markdown_report(results)


def test_off_looks_at_leaks_alone():
    results = ran("off")
    assert (results.data.findings, results.rows[0].n) == ([], 54)
    assert "## Data" not in markdown_report(results)


def test_every_row_is_counted_once():
    found = check_data(FAULTY)
    gone = rows_to_remove(found)
    pool = [gone[kind] for kind in ("conflicting", "duplicate", "near-duplicate", "probably mislabelled")]
    assert sum(map(len, pool)) == len(set().union(*pool))
    assert gone["leaked"] == {50}


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UnknownSpecError, match="Did you mean 'clean'"):
        CompareOptions(checks="cleam")
    twins = Task("", [Example("a b c", "x"), Example("a b c", "y")], TEST)
    with pytest.raises(InvalidInputError, match=r"all 2 examples \(\{'conflicting': 2\}\)"):
        compare(twins, ["majority"], embedder="hash:8", model="tiny", options=CompareOptions(checks="clean"))


def test_a_search_that_would_compare_every_pair_is_given_up():
    rows = [Example(" ".join(RNG.choices(WORDS[:6], k=12)), "x") for _ in range(400)]
    whole, cut = check_pool(rows), check_pool(rows, most_candidates=20)
    assert whole.near_searched
    assert len(whole.near_duplicates) > 20 * len(rows)
    assert (cut.near_searched, cut.near_duplicates, cut.duplicates) == (False, (), whole.duplicates)
    assert check_pool(CLEAN + NEARLY, most_candidates=20).near_duplicates == check_pool(CLEAN + NEARLY).near_duplicates


def test_the_command_line(tmp_path):
    path = tmp_path / "data.jsonl"
    rows = [
        {"input": row.input, "output": row.output, "split": split}
        for split, part in (("train", FAULTY.examples), ("test", FAULTY.test))
        for row in part
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = subprocess.run(
        [sys.executable, "-m", "ragkit_pipelines.cli", "compare", "--data", path, "--strategies", "copy:jaccard",
         "--sizes", "all", "--embedder", "hash:16", "--checks", "clean", "--out", tmp_path / "out"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Data: removed rows (nearly leaked): 4." in done.stdout
    assert Results.load(tmp_path / "out").data.removed["nearly leaked"] == 4
