"""Texts in Markdown reports and on terminals, with a Markdown parser beside them."""

import json
import re
from html import unescape

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ragkit_pipelines.compare.reports.escaping import markdown_line, markdown_table, markdown_text
from ragkit_pipelines.printable import printable, printable_json

PARSER = MarkdownIt("commonmark", {"html": True}).enable("table")
TEXTS = st.text(alphabet=st.sampled_from("ab 1.)-+#>=~`*_[](){}!:&;lt<>|\\\"'/\n\t\x1b\u202e")) | st.text()


def shown(html):
    """The text of a page without its tags."""
    return unescape(re.sub(r"<[^>]*>", "", html))


def tags(html):
    return set(re.findall(r"</?(\w+)", html))


@settings(deadline=None, max_examples=300)
@given(TEXTS)
@example("_a_ __b__ exact_match")
@example("[x]: javascript:a")
@example("![a](b) [c][d] [e] (f) &#106; <b> `g` *h*")
def test_a_parser_reads_the_same_text_and_no_markup(text):
    expected = " ".join(printable(text).split())
    page = PARSER.render(f"x {markdown_text(text)} x\n\n- {markdown_line(text)}\n\n")
    assert tags(page) <= {"p", "ul", "li"}
    assert " ".join(shown(page).split()) == f"x {expected} x {expected}".replace("x  x", "x x").strip()
    table = PARSER.render(markdown_table(["a", "b"], [["left", text], ["right", "c"]]))
    cells = [unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", table)]
    assert cells == ["left", expected, "right", "c"]


@pytest.mark.parametrize("text", ["few-shot:bm25@2", "0.667 [0.45, 0.83], worst seed 0.500", "+0.100", "p >= 0.05"])
def test_names_and_numbers_of_reports_stay_as_they_are(text):
    assert markdown_text(text) == text


@given(TEXTS)
@example("\x1b]8;;http://a.test\x07b\x9b31m\x7f\u202e\u2066\U000e0041\ud800")
def test_no_character_controls_the_terminal(text):
    told = printable(text)
    assert all(each in "\n\t" or each.isprintable() or ord(each) > 0x9F for each in told)
    assert not set(told) & set(map(chr, [0x202E, 0x2066, 0x2028, 0xE0041]))
    assert json.loads(printable_json(json.dumps(text, ensure_ascii=False))) == text
    assert printable("plain ü 漢字 👩‍👩‍👧\tx\n") == "plain ü 漢字 👩‍👩‍👧\tx\n"
