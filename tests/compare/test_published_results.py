"""Verdicts on published results come out as published, or as weak as they are."""

import pytest
from scipy.stats import binomtest

from ragkit.errors import DataFileError, InvalidInputError
from ragkit_pipelines.compare.statistics.published import (
    PublishedResult,
    judge_means,
    judge_wins,
    read_published,
)

TABLE = """task,strategy,size,n,score,source
banking77,retrieved,5,250,.884,Llama-2-7B-80k
banking77,random,1500,250,.881,
banking77,tuned,4096,250,.870,
trec,random,10,250,.760,
trec,retrieved,10,250,.724,
"""


@pytest.fixture
def published(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(TABLE)
    return read_published(path)


def test_llama_on_banking77_and_trec(published):
    retrieved, random, tuned, trec_random, trec_retrieved = published
    for a, b in ((retrieved, random), (retrieved, tuned), (random, tuned), (trec_random, trec_retrieved)):
        verdict = judge_means(a, b)
        assert str(verdict).startswith("unpaired, no significant difference")
        assert verdict.low < 0 < verdict.high
        assert verdict.difference < verdict.detectable


def test_newcombes_own_example():
    """56 of 70 against 48 of 80: his table II gives 0.0524 to 0.3339 for method 10."""
    verdict = judge_means(PublishedResult("t", "a", 0, 70, 56 / 70), PublishedResult("t", "b", 0, 80, 48 / 80))
    assert (verdict.low, verdict.high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))
    assert str(verdict).startswith("unpaired, significant difference")


@pytest.mark.parametrize(("wins", "losses", "p"), [(115, 80, "0.015"), (124, 90, "0.024"), (94, 52, "0.00064")])
def test_pearl_against_zero_shot(wins, losses, p):
    verdict = judge_wins(wins, losses, 1000)
    assert f"{verdict.p:.2g}" == p
    assert verdict.p == binomtest(wins, wins + losses).pvalue
    assert 0 < verdict.low < verdict.difference < verdict.high
    assert str(verdict).startswith("paired, significant difference")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task,strategy\nx,y\n", "line 1: expected the columns task, strategy, size, n, score"),
        ("task,strategy,size,n,score\nx,y,1,250,88.4\n", "line 2: expected n >= 1 and a score from 0 to 1"),
        ("task,strategy,size,n,score\nx,y,1,many,.8\n", "line 2: `size` and `n` must be integers"),
        ("task,strategy,size,n,score\nx,y\n", "line 2: `size` and `n` must be integers"),
        (None, "expected a CSV file of results"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, text, message):
    path = tmp_path / "table.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataFileError, match=message):
        read_published(path)


def test_what_cannot_be_compared(published):
    with pytest.raises(InvalidInputError, match="different tasks"):
        judge_means(published[0], published[3])
    with pytest.raises(InvalidInputError, match="wins"):
        judge_wins(5, 6, 10)
