"""The report of a comparison, and what the command line does with finished ones."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from html import unescape
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from ragkit import Example, ScriptedModel, Task, compare
from ragkit.errors import DataFileError
from ragkit_pipelines.compare.data_checks import DataReport
from ragkit_pipelines.compare.predictions import Answers, Items
from ragkit_pipelines.compare.reports.diff import changes
from ragkit_pipelines.compare.reports.explorer import explored
from ragkit_pipelines.compare.reports.facts import model_line
from ragkit_pipelines.compare.reports.html import html_report
from ragkit_pipelines.compare.reports.markdown import markdown_report
from ragkit_pipelines.compare.reports.standings import p_text, standings
from ragkit_pipelines.compare.reports.tables import UNKNOWN, report_tables
from ragkit_pipelines.compare.results import SCHEMA, Cell, Difference, Pair, Recommendation, Results, Row, make_row
from ragkit_pipelines.compare.statistics.calibration import Calibration
from ragkit_pipelines.compare.statistics.prices import PriceRange
from ragkit_pipelines.compare.statistics.recommendation import summarise
from ragkit_pipelines.compare.strategies.base import Outcome

EVIL = '<script>alert(1)</script> {{ 7*7 }} | `x` & "q"'


def ragkit(*arguments, env=None):
    return subprocess.run(
        [sys.executable, "-m", "ragkit_pipelines.cli", *map(str, arguments)], capture_output=True, text=True, env=env
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
    """Collects tags, the text of <pre> and of scripts, and every attribute that could fetch something."""

    def __init__(self, text) -> None:
        super().__init__()
        self.tags, self.texts, self.scripts, self.fetched = [], {"pre": [], "script": []}, [], []
        self._inside = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._inside = tag if tag in self.texts else None
        if self._inside:
            self.texts[tag].append("")
        if tag == "script":
            self.scripts.append(dict(attrs))
        self.fetched += [value for name, value in attrs if name in ("src", "href") or name.endswith(":href")]

    def handle_endtag(self, tag):
        self._inside = None if tag == self._inside else self._inside

    def handle_data(self, data):
        if self._inside:
            self.texts[self._inside][-1] += data


def page_of(folder, items=True):
    return html_report(Results.load(folder), Items.load(folder) if items else None)


def cells(text):
    return re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", text)


def test_the_page_stands_alone_and_escapes_every_text(folder, tmp_path):
    done = ragkit("compare", "show", folder, "--html", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    assert page.scripts == [{"type": "application/json", "id": "answers"}, {}]
    assert "link" not in page.tags
    assert all(value.startswith("#") for value in page.fetched)
    assert page.tags.count("svg") == 2 * 2 + 3  # two plots for wide and for narrow screens, and three intervals
    shown = page.texts["pre"]
    assert EVIL in shown  # an answer as it was given
    assert f"dim {EVIL}" in shown
    assert any(each.endswith("Input: dim 1\nOutput:") and "Input: dim it\nOutput: fade" in each for each in shown)
    # Rows; two of three strategies have prompts; the confusions of three strategies; counts by class; versions.
    assert page.tags.count("summary") == 30 + 30 * 2 + 3 + 1 + 1
    classes = text.partition("<caption>Recall by class")[2].partition("</table>")[0]
    assert cells(classes)[-10:] == ["fade", "20", "1.000", "0.000", "1.000", "vent", "10", "0.000", "0.000", "0.000"]
    confused = text.partition("<summary>few-shot:jaccard</summary>")[2].partition("Most frequent confusions</caption>")[
        2
    ]
    assert cells(confused)[3:6] == ["vent", "fade", "10"]


def test_the_policy_of_the_page_allows_only_its_own_script_and_style(folder):
    text = page_of(folder)
    policy = unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])
    script, style = (
        re.search(r"<script>(.*?)</script>", text, re.S)[1],
        re.search(r"<style>(.*?)</style>", text, re.S)[1],
    )
    for name, source in (("script-src", script), ("style-src", style)):
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{name} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert not re.search(r"<[^>]* style=", text)


def test_the_data_of_the_page_are_the_answers(folder):
    page, items = Page(page_of(folder)), Items.load(folder)
    data = json.loads(page.texts["script"][0])
    assert data["strategies"] == ["majority", "zero-shot", "few-shot:jaccard"]
    assert len(data["rows"]) == 30
    for number, text, expected, given, scores, unreadable, prompts in data["rows"]:
        assert (text, expected) == (items.inputs[number], items.expected[number])
        assert given == [each.answers[number] for each in items.shown()]
        assert scores == [each.scores[number] for each in items.shown()]
        assert unreadable == []
        assert prompts[0] is None
        assert prompts[1].endswith(f"Input: {text}\nOutput:")
    assert "<" not in page.texts["script"][0]


def test_a_large_page_leaves_out_prompts_and_then_rows():
    long = Answers(strategy="long", size=1, seed=0, answers=["x"] * 8, scores=[0] * 8, prompts=["p" * 3_000_000] * 8)
    items = Items(inputs=["i" * 1000] * 8, expected=["y"] * 8, answers=[long])
    assert [row["answers"][0]["prompt"] is not None for row in explored(items)] == [True] * 3 + [False] * 5
    items = Items(inputs=["i" * 5_000_000] * 8, expected=["y"] * 8, answers=[long.model_copy(update={"prompts": []})])
    assert len(explored(items)) == 2


def test_the_page_names_models_and_says_what_was_run(folder):
    text = page_of(folder)
    head, run = text.partition("</header>")[0], text.partition("<h2>Run details</h2>")[2]
    assert "<dt>Model</dt><dd>scripted</dd>" in head
    assert "<dt>Embedder</dt><dd>hash:16</dd>" in head
    today = Results.load(folder).provenance["date"]
    for name, value in (("Seeds", "0, 1"), ("Pool sizes", "2, 3"), ("Metric", "exact_match"), ("Date", today)):
        assert f"<dt>{name}</dt><dd>{value}</dd>" in run
    assert "<dt>Processor</dt>" in run
    table = cells(text.partition("Strategies at the largest pool, best first</caption>")[2].partition("</table>")[0])
    assert table[:2] == ["strategy", "model"]
    assert re.match(r"few-shot:jaccard", table[table.index("scripted") - 1])


@pytest.mark.parametrize(
    ("name", "fingerprint", "shown"),
    [
        ("smollm2", "gguf-b179c9523d0e6a0f-v1:float32", "smollm2 (float32)"),
        ("hf:runs/lora", "abc:bfloat16+def", "hf:runs/lora (bfloat16, with an adapter)"),
        (None, "gpt-x", "called"),
    ],
)
def test_the_model_is_described(name, fingerprint, shown):
    facts = {"model": fingerprint, **({"model_name": name} if name else {})}
    row = make_row(strategy="s", model="called", size=1, seed=0, n=1, correct=1, prompt_tokens=1, completion_tokens=1,
                   seconds=1, fit_seconds=0, cost=None)  # fmt: skip
    assert model_line(of_rows([row], provenance=facts)) == shown


def of_rows(rows, **facts):
    none = Recommendation(strategy=None, evidence="none")
    return Results(task="t", leaked_test_rows=0, rows=rows, pairs=[], differences=[],
                   recommendation=facts.pop("recommendation", none), **facts)  # fmt: skip


def test_the_same_results_give_the_same_page(folder):
    assert page_of(folder) == page_of(folder)
    assert "Answers by test row" not in page_of(folder, items=False)
    assert "<script" not in page_of(folder, items=False)


def test_a_page_of_extreme_scores():
    """Rounding puts Wilson's bounds past some scores of 0 and 1."""
    facts = {"model": None, "size": 1, "seed": 0, "prompt_tokens": 0, "completion_tokens": 0, "fit_seconds": 0}
    cells = [
        Cell(key="", row=make_row(strategy=f"${right} of {n}", n=n, correct=right, seconds=n, cost=None, **facts),
             answers=[""] * n, scores=[float(right > 0)] * n)
        for n in (10, 60, 77) for right in (0, n)
    ]  # fmt: skip
    for three in (cells[:2], cells[2:4], cells[4:]):
        assert "<svg" in html_report(summarise("t", 0, three))


def scored(name, right, n=40, seed=0, seconds=1.0):
    row = make_row(strategy=name, model=None, size=10, seed=seed, n=n, correct=right, prompt_tokens=0,
                   completion_tokens=0, seconds=seconds, fit_seconds=0, cost=None)  # fmt: skip
    return Cell(key="", row=row, answers=[""] * n, scores=[1.0] * right + [0.0] * (n - right))


def test_corrected_p_values_stand_beside_the_verdict():
    from scipy.stats import binomtest

    results = summarise("t", 0, [scored("best", 36), scored("near", 33), scored("far", 10)])
    raw = {"near": binomtest(3, 3).pvalue, "far": binomtest(26, 26).pvalue}
    assert results.recommendation.corrected == pytest.approx({"near": raw["near"], "far": 2 * raw["far"]})
    assert results.recommendation.test == "exact McNemar test"
    (best, near, far) = standings(results)
    assert (best.strategy, best.verdict, best.p, best.difference) == ("best", "best score", None, None)
    assert (near.strategy, near.verdict, near.p) == ("near", "no significant difference", "0.25")
    assert (far.strategy, far.verdict, far.p) == ("far", "significantly worse", "≤ 0.0001")
    assert near.difference.startswith("−7.5 [−")
    page, text = html_report(results), markdown_report(results)
    for report in (page, text):
        assert report.lower().count("minimum detectable difference") == 1
    assert f"{100 * results.recommendation.detectable:.1f} points" in page
    line = next(
        line for line in text.splitlines() if line.startswith("| near |") and "verdict" not in line and "−" in line
    )
    assert line.endswith("| 0.25 | 1 | no significant difference |")


@pytest.mark.parametrize(
    ("p", "text"),
    [(1.0, "1"), (0.2468, "0.25"), (0.0496, "0.0496"), (0.0504, "0.05"), (0.00012, "0.00012"), (1e-9, "≤ 0.0001")],
)
def test_p_values_never_hide_the_side_of_the_level(p, text):
    assert p_text(p) == text


def test_nothing_above_the_baseline_is_no_recommendation():
    results = summarise("t", 0, [scored("a", 22), scored("b", 20)], floor=0.5)
    assert results.recommendation.strategy is None
    page, text = html_report(results), markdown_report(results)
    assert "Recommendation: <strong>none</strong>" in page
    assert "Recommendation: none." in text
    assert "recommended" not in re.sub(r"<style>.*?</style>", "", page, flags=re.S)
    assert page.count("not above the baseline") == 2
    some = summarise("t", 0, [scored("a", 39, seed=0), scored("a", 22, seed=1)], floor=0.5)
    assert some.recommendation.strategy == "a"
    assert "not above the baseline in 1 of 2 seeds" in some.markdown()


def test_columns_without_a_known_value_are_left_out():
    results = summarise("t", 0, [scored("a", 22), scored("b", 20)])
    (cost, *_) = report_tables(results, None)
    assert cost.headings == ["strategy", "predict (s)", "fit (s)"]
    assert "unknown" not in html_report(results)
    priced = [cell.model_copy(update={"row": cell.row.model_copy(update={"cost": 0.2})}) for cell in (scored("c", 5),)]
    (cost, *_) = report_tables(summarise("t", 0, [scored("a", 22), *priced]), None)
    assert [line[2] for line in cost.lines] == [UNKNOWN, "5.0000"]
    assert cost.note.count(UNKNOWN) == 1


def test_markdown_has_every_part(folder):
    text = (folder / "report.md").read_text()
    assert text == markdown_report(Results.load(folder), Items.load(folder))
    assert "<script>" not in text
    for heading in (
        "# ",
        "## Comparison with the best strategy",
        "## Cost per 1,000 predictions",
        "## Differences",
        "## Run details",
    ):
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
    assert {
        "ragkit",
        "python",
        "numpy",
        "data",
        "model",
        "embedder",
        "date",
        "processor",
        "metric",
        "embedder_name",
    } <= set(kept)


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


def test_the_report_is_opened_in_the_browser(folder, tmp_path):
    (folder / "report.html").write_text("an old page")
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{opened}"\n')
    browser.chmod(0o755)
    done = ragkit("compare", "open", folder, env={**os.environ, "BROWSER": f"{browser} %s"})
    page = folder.resolve() / "report.html"
    assert (done.returncode, done.stdout) == (0, f"Opened {page}\n")
    assert opened.read_text() == page.as_uri() + "\n"
    assert page.read_text() == page_of(folder)
    # A computer without a browser, not even one for the terminal.
    bare = {name: value for name, value in os.environ.items() if name not in {"BROWSER", "DISPLAY", "WAYLAND_DISPLAY"}}
    done = ragkit("compare", "open", folder, env={**bare, "PATH": str(tmp_path / "empty")})
    assert (done.returncode, done.stdout) == (0, f"No browser was found. The report is {page}\n")


def test_mistakes_are_one_line(tmp_path):
    for arguments, message in (
        (["compare"], "--data FILE"),
        (["compare", "resume", tmp_path], "expected the options of `ragkit compare`"),
        (["compare", "show", tmp_path], "expected the results of a comparison"),
        (["compare", "open", tmp_path], "expected the results of a comparison"),
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
