"""What a comparison prints, and its rows and answers as dicts and data frames."""

import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from ragkit import Example, ScriptedModel, Task, compare
from ragkit.errors import MissingExtraError

EVIL = '<script>alert("1")</script> & \x1b[2J'
TEST = [Example(f"{word} number {n}", output) for n in range(3) for word, output in (("dim", "fade"), ("open", EVIL))]
NAMES = ["majority", "zero-shot", "few-shot:jaccard"]


@pytest.fixture(scope="module")
def result():
    pool = [Example("dim it", "fade"), Example("open it", EVIL), Example("dim this", "fade")]
    model = ScriptedModel(lambda prompt: " fade" if "dim number" in prompt else f" {EVIL}")
    return compare(Task("Name it.", pool, TEST, name=EVIL), NAMES, model=model, embedder="hash:64", sizes=[2, None])


def parsed(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_printing_a_comparison_shows_scores_and_the_recommendation(result, monkeypatch):
    text = str(result)
    monkeypatch.setenv("COLUMNS", "20")
    assert str(result) == text
    assert "\x1b" not in text
    lines = [parsed(line) for line in text.splitlines() if line.startswith("| ")]
    assert lines[0] == ["strategy", "pool 2", "pool 3", "unreadable", "tokens in / out", "fit (s)", "predict (s)"]
    assert [line[0] for line in lines[1:]] == NAMES
    for name, *scores in (line[:3] for line in lines[1:]):
        stored = {row.size: row.score for row in result.results.rows if row.strategy == name}
        assert [float(score.split()[0]) for score in scores] == pytest.approx([stored[2], stored[3]], abs=5e-4)
    chosen = result.recommendation.strategy
    assert chosen in NAMES[1:]  # both score 1, so the measured time decides
    assert f"Recommendation: {chosen}. {result.recommendation.evidence}." in text.splitlines()
    assert repr(result) == f"Comparison(3 strategies, 6 test rows, recommendation {chosen!r})"


class Cells(HTMLParser):
    def __init__(self, page) -> None:
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


def test_notebooks_show_the_same_with_every_text_escaped(result):
    page = Cells(result._repr_html_())
    assert set(page.tags) == {"table", "caption", "thead", "tbody", "tr", "th", "td", "p"}
    assert any(text.startswith('<script>alert("1")</script> & \\x1b[2J: ') for text in page.texts)
    printed = [parsed(line) for line in str(result).splitlines() if line.startswith("| ")]
    assert [cell for line in printed for cell in line if cell] == page.texts[1:-1]
    assert page.texts[-1].startswith(f"Recommendation: {result.recommendation.strategy}. ")


def test_failed_strategies_are_printed():
    def fail(prompt):
        raise ValueError(f"no <b>answer</b> {prompt[:0]}")

    pool = [Example("dim it", "fade"), Example("open it", "vent")]
    failed = compare(Task("Name it.", pool, TEST), ["majority", "zero-shot"], model=ScriptedModel(fail))
    assert [row.error is None for row in failed.results.rows] == [True, False]
    assert f"Failed: zero-shot, pool 2, seed 0: {failed.results.rows[1].error}" in str(failed).splitlines()
    assert "<b>" not in failed._repr_html_()


def test_rows_are_the_test_rows_with_all_answers(result):
    rows = result.items.rows()
    assert [(row["input"], row["expected"]) for row in rows] == [(each.input, each.output) for each in TEST]
    assert {tuple(row["answers"]) for row in rows} == {tuple(NAMES)}
    assert [row["answers"]["zero-shot"] for row in rows] == [each.output for each in TEST]
    assert [row["scores"]["majority"] for row in rows] == [1, 0] * 3


def test_data_frames_of_pandas(result):
    pytest.importorskip("pandas")
    check_frames(result, result.to_pandas().to_dict("records"), result.items.to_pandas().to_dict("records"))


def test_data_frames_of_polars(result):
    pytest.importorskip("polars")
    check_frames(result, result.to_polars().to_dicts(), result.items.to_polars().to_dicts())


def check_frames(result, rows, answers):
    assert [(row["strategy"], row["size"], row["score"], row["n"]) for row in rows] == [
        (row.strategy, row.size, row.score, row.n) for row in result.results.rows
    ]
    assert "calibration_brier" in rows[0]
    assert "calibration" not in rows[0]
    assert [(each["row"], each["input"], each["expected"]) for each in answers] == [
        (index, row.input, row.output) for index, row in enumerate(TEST)
    ] * 6
    for name in NAMES:
        found = [each["score"] for each in answers if each["strategy"] == name and each["size"] == 3]
        (row,) = (row for row in result.results.rows if row.strategy == name and row.size == 3)
        assert np.mean(found) == pytest.approx(row.score)
    assert [each["answer"] for each in answers if each["strategy"] == "zero-shot"] == [row.output for row in TEST] * 2


@pytest.mark.parametrize("module", ["pandas", "polars"])
def test_a_missing_data_frame_library_is_named(result, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    for owner in (result, result.items):
        with pytest.raises(MissingExtraError) as caught:
            getattr(owner, f"to_{module}")()
        assert (caught.value.module, caught.value.extra) == (module, None)
        assert f"`pip install {module}`" in str(caught.value)
