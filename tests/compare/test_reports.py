"""The report of a comparison, and what the command line does with finished ones."""

import json
import re
import subprocess
import sys
from dataclasses import fields
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from ragkit import Example, ScriptedModel, Task, compare
from ragkit.errors import DataFileError
from ragkit_pipelines.compare.data_checks import DataReport
from ragkit_pipelines.compare.predictions import Items
from ragkit_pipelines.compare.reports.diff import changes
from ragkit_pipelines.compare.reports.markdown import markdown_report
from ragkit_pipelines.compare.results import SCHEMA, Cell, Difference, Pair, Recommendation, Results, Row
from ragkit_pipelines.compare.statistics.calibration import Calibration
from ragkit_pipelines.compare.statistics.prices import PriceRange
from ragkit_pipelines.compare.strategies.base import Outcome

EVIL = '<script>alert(1)</script> {{ 7*7 }} | `x` & "q"'


def ragkit(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "ragkit_pipelines.cli", *map(str, arguments)], capture_output=True, text=True
    )


def answers(prompt):
    return " fade" if "dim it" in prompt else f" {EVIL}"


def task(test=30, name=EVIL):
    pool = [Example("dim it", "fade"), Example("open it", "vent"), Example("shut it", "seal")]
    rows = [Example(f"dim {EVIL if n == 3 else n}", "fade" if n % 3 else "vent") for n in range(test)]
    return Task("Name it.", pool, rows, name=name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("comparison")
    compare(task(), ["majority", "zero-shot", "few-shot:jaccard"], model=ScriptedModel(answers), embedder="hash:16",
            sizes=[2, None], seeds=[0, 1], out=out)  # fmt: skip
    return out


class Page(HTMLParser):
    """Collects tags, the text of <pre> and every attribute that could fetch something."""

    def __init__(self, text) -> None:
        super().__init__()
        self.tags, self.pre, self.fetched, self._in_pre = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._in_pre = tag == "pre"
        if tag == "pre":
            self.pre.append("")
        self.fetched += [value for name, value in attrs if name in ("src", "href") or name.endswith(":href")]

    def handle_endtag(self, tag):
        self._in_pre = self._in_pre and tag != "pre"

    def handle_data(self, data):
        if self._in_pre:
            self.pre[-1] += data


def test_the_page_stands_alone_and_escapes_every_text(folder, tmp_path):
    done = ragkit("compare", "show", folder, "--html", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert all(value.startswith("#") for value in page.fetched)
    assert page.tags.count("svg") == 2
    assert EVIL in page.pre  # an answer as it was given
    assert f"dim {EVIL}" in page.pre
    assert any(shown.endswith("Input: dim 1\nOutput:") and "Input: dim it\nOutput: fade" in shown for shown in page.pre)
    # Items; two of three strategies have prompts; the classes; the confusions of three strategies.
    assert page.tags.count("summary") == 30 + 30 * 2 + 1 + 3
    classes = text.partition("Recall by class")[2].partition("Classes and confusions")[0]
    assert re.findall(r"<td>(.*?)</td>", classes) == ["fade", "20", "1.000", "0.000", "1.000",
                                                       "vent", "10", "0.000", "0.000", "0.000"]  # fmt: skip
    confused = text.partition("<summary>few-shot:jaccard</summary>")[2].partition("Most frequent confusions")[2]
    assert re.findall(r"<td>(.*?)</td>", confused)[:3] == ["vent", "fade", "10"]


def test_the_same_results_give_the_same_page(folder):
    from ragkit_pipelines.compare.reports.html import html_report

    results, items = Results.load(folder), Items.load(folder)
    assert html_report(results, items) == html_report(results, items)
    assert "Answers by test row" not in html_report(results)


def test_a_page_of_extreme_scores():
    """Rounding puts Wilson's bounds past some scores of 0 and 1."""
    from ragkit_pipelines.compare.reports.html import html_report
    from ragkit_pipelines.compare.results import make_row
    from ragkit_pipelines.compare.statistics.recommendation import summarise

    facts = {"model": None, "size": 1, "seed": 0, "prompt_tokens": 0, "completion_tokens": 0, "fit_seconds": 0}
    cells = [
        Cell(key="", row=make_row(strategy=f"${right} of {n}", n=n, correct=right, seconds=n, cost=None, **facts),
             answers=[""] * n, scores=[float(right > 0)] * n)
        for n in (10, 60, 77) for right in (0, n)
    ]  # fmt: skip
    for three in (cells[:2], cells[2:4], cells[4:]):
        assert "<svg" in html_report(summarise("t", 0, three))


def test_markdown_has_every_part(folder):
    text = (folder / "report.md").read_text()
    assert text == markdown_report(Results.load(folder), Items.load(folder))
    assert "<script>" not in text
    for heading in ("# ", "## Cost per 1,000 predictions", "## Differences", "## Run details"):
        assert heading in text
    lines = [line for line in text.splitlines() if line.startswith("| few-shot:jaccard |")]
    assert "worst seed" in lines[0]
    assert ragkit("compare", "show", folder, "--markdown").stdout == text


def test_items_hold_every_answer(folder):
    items = Items.load(folder)
    assert len(items.answers) == 3 * 2 * 2
    assert {len(each.prompts) for each in items.answers if (each.size, each.seed) != (3, 0)} == {0}
    assert [each.strategy for each in items.shown()] == ["majority", "zero-shot", "few-shot:jaccard"]
    by_row = {(row.strategy, row.size, row.seed): row for row in Results.load(folder).rows}
    for each in items.answers:
        assert sum(each.scores) == by_row[each.strategy, each.size, each.seed].correct


def test_provenance_says_what_was_run(folder):
    kept = json.loads((folder / "run.json").read_text())
    assert kept == Results.load(folder).provenance
    assert (kept["seeds"], kept["sizes"]) == ("[0, 1]", "[2, null]")
    assert {"ragkit", "python", "numpy", "data", "model", "embedder"} <= set(kept)


def test_changes_are_paired_where_the_rows_are_the_same(folder, tmp_path):
    again = ScriptedModel(lambda prompt: " fade")
    compare(task(), ["zero-shot", "tfidf"], model=again, embedder="hash:16", seeds=[0, 1], out=tmp_path)
    found = {(each.strategy, each.size): each for each in changes(folder, tmp_path)}
    changed = found["zero-shot", 3]
    assert (changed.before, changed.after, changed.compared) == (0.0, pytest.approx(2 / 3), "paired")
    assert changed.low > 0.4
    assert found["majority", 3].compared == "only before"
    assert found["tfidf", 3].compared == "only after"
    table = ragkit("compare", "diff", folder, tmp_path)
    assert "+0.667" in table.stdout
    assert json.loads(ragkit("compare", "diff", folder, tmp_path, "--json").stdout)[0]["strategy"] == "majority"


def test_changes_on_other_rows_are_unpaired(folder, tmp_path):
    compare(task(20), ["majority"], model=ScriptedModel(answers), embedder="hash:16", out=tmp_path)
    assert [each.compared for each in changes(folder, tmp_path) if (each.strategy, each.size) == ("majority", 3)] == [
        "unpaired"
    ]
    with pytest.raises(DataFileError, match="expected the results"):
        changes(folder, tmp_path / "nowhere")


def test_resume_goes_on_with_what_was_asked(tmp_path):
    data, out = tmp_path / "rows.jsonl", tmp_path / "out"
    rows = [{"input": f"{word} number {n}", "output": label, "split": "test" if n % 5 == 0 else "train"}
            for word, label in (("card", "bank"), ("cake", "food")) for n in range(10)]  # fmt: skip
    data.write_text("\n".join(map(json.dumps, rows)))
    done = ragkit("compare", "--data", data, "--strategies", "majority,vote:jaccard", "--embedder", "hash:64",
                  "--sizes", "2,all", "--seeds", "0,1", "--out", out)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout
    before = json.loads((out / "results.json").read_text())
    (out / "results.json").unlink()
    again = ragkit("compare", "resume", out, "--yes")
    assert again.returncode == 0, again.stderr
    assert json.loads((out / "results.json").read_text()) == before
    assert "vote:jaccard" in ragkit("compare", "show", out).stdout


def test_mistakes_are_one_line(tmp_path):
    for arguments, message in (
        (["compare"], "--data FILE"),
        (["compare", "resume", tmp_path], "expected the options of `ragkit compare`"),
        (["compare", "show", tmp_path], "expected the results of a comparison"),
    ):
        done = ragkit(*arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)
        assert message in done.stderr


def test_the_schema_is_documented():
    page = (Path(__file__).parents[2] / "docs/comparison.md").read_text()
    named = set(re.findall(r"`([a-z_]+)`", page.partition("## results.json")[2]))
    for model in (Results, DataReport, PriceRange, Row, Pair, Difference, Recommendation):
        assert set(model.model_fields) <= named, model.__name__
    assert {field.name for field in fields(Calibration)} <= named
    assert f"`schema_version` is {SCHEMA}" in page


def test_names_stay_in_their_cells():
    class Named:
        name = "few-shot:bm25|Mmr(0.7) [/red]"

        def run(self, setting):
            return Outcome([""] * len(setting.task.test))

    result = compare(task(name="a [/b]"), [Named(), "majority"], model=ScriptedModel([]), embedder="hash:8")
    line = next(line for line in result.results.markdown().splitlines() if "bm25" in line)
    assert line.replace("\\|", "").count("|") == 3
    console = Console(width=200, file=StringIO())
    console.print(result.table())
    assert "few-shot:bm25|Mmr(0.7) [/red]" in console.file.getvalue()
    assert "a [/b]: accuracy on 30 test rows" in console.file.getvalue()
