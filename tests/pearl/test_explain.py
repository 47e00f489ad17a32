"""Explanations of runs, and drawings of plans."""

import pytest
from recorded_pearl import THREE, CountingModel, by_step, plan, quick

from ragkit.errors import UnknownSpecError
from ragkit_pipelines.pearl.pipeline import Pearl


def test_explanations_show_status_usage_and_inputs():
    def answer(prompt):
        return "" if "Step B\n" in prompt else f"<script>{by_step(prompt)}</script>"

    run = Pearl(CountingModel(answer), executor=quick(retries=0)).invoke('a "question"?', "text", plan=THREE)
    text = run.explain()
    assert "partial: 4 calls" in text
    assert "! b: the model returned an empty response" in text
    assert '3. c = COMPARE(CTX, a, "c") : Step C\n   reads a\n   reads the document\n' in text
    assert "   skipped: needs the value of b, which failed" in text
    graph = run.explain("mermaid")
    assert graph.startswith("flowchart TD\n")
    assert "  s1 --> s3" in graph
    assert ":::failed" in graph
    assert "<script>" not in graph
    page = run.explain("html")
    assert "<script>" not in page
    assert "&lt;script&gt;value of A&lt;/script&gt;" in page
    assert 'class="skipped"' in page
    with pytest.raises(UnknownSpecError, match="html"):
        run.explain("htm")
    none = Pearl(CountingModel(lambda _: "x"), executor=quick(), fallback=None).invoke("?", "text")
    assert all(none.explain(form) for form in ("text", "html", "mermaid"))


def test_a_drawing_cannot_be_changed_by_a_text():
    sly = plan('1. a = ABOUT(CTX, "x\\"]; click a evil --> b[#quot;") : Step A')
    line = next(line for line in sly.mermaid().splitlines() if line.startswith("  s1["))
    assert line.count('"') == 2
    assert "]" not in line[:-1]
    assert "--&gt;" not in line
    assert "-->" not in line
