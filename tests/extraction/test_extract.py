"""Extraction of records: parsing, correction, merging, and the report of what was lost."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from ragkit import Document, Extract, ScriptedModel
from ragkit.errors import InvalidInputError
from ragkit_pipelines.extraction.parsing import parse
from ragkit_pipelines.extraction.quotations import Source


class Colour(BaseModel):
    """The colour of a thing."""

    thing: str
    colour: str = Field(description="one word")
    count: int = 1


def said(*rows):
    return json.dumps([
        {"record": {"thing": thing, "colour": colour}, "quote": quote} for thing, colour, quote in rows])  # fmt: skip


def test_pieces_are_one_batch_and_merged():
    text = "The lamp is red. The boat is blue.\n\nAgain: the lamp  is\nred."
    answers = {
        "The lamp is red. The boat": said(("lamp", "red", "lamp is red"), ("boat", "blue", "boat is blue")),
        "Again": f"Here it is:\n```\n{said(('lamp', 'red', 'the lamp is red'), ('sky', 'green', 'not said'))}\n```",
    }
    model = ScriptedModel(lambda prompt: next(answer for part, answer in answers.items() if part in prompt))
    extract = Extract(model, Colour, chunker="recursive:40", instruction="Look for colours.")
    found = extract.invoke(Document(text, metadata={"start": 100}))
    assert [(each.record.thing, each.record.colour) for each in found] == [
        ("lamp", "red"),
        ("boat", "blue"),
    ]
    assert [[text[a - 100 : b - 100] for a, b in each.spans] for each in found] == [
        ["lamp is red", "the lamp  is\nred"], ["boat is blue"]]  # fmt: skip
    assert (found.failures, found.duplicates) == ((), 1)
    assert [(each.record.thing, each.span, each.reason) for each in found.rejected] == [
        ("sky", (136, 160), "not in the passage: quote 'not said'")
    ]
    assert len(model.asked) == 2
    assert "Look for colours." in model.asked[0]
    assert '"description": "one word"' in model.asked[0]
    assert [json.loads(line)["thing"] for line in found.text.splitlines()] == ["lamp", "boat"]
    assert found.compression == model.count_tokens(found.text) / model.count_tokens(text)
    assert found.usage.prompt_tokens == sum(model.count_tokens(prompt) for prompt in model.asked)


def test_invalid_records_are_corrected_once_and_then_reported():
    valid = '{"record": {"thing": "boat", "colour": "blue"}, "quote": "boat"}'
    bad = '[{"record": {"thing": "lamp"}, "quote": "lamp"}, ' + valid + "]"
    model = ScriptedModel([bad, said(("lamp", "red", "lamp is red"))])
    found = Extract(model, Colour).invoke("The lamp is red, the boat blue.")
    assert [record.thing for record in found.records] == ["boat", "lamp"]
    assert found.failures == ()
    assert "\n- item 1: colour: Field required\n" in model.asked[1]
    stubborn = ScriptedModel(["I cannot.", "no", "still no"])
    lost = Extract(stubborn, Colour, retries=2).invoke("The lamp is red.")
    assert (len(lost), len(stubborn.asked)) == (0, 3)
    assert [(each.span, each.reason) for each in lost.failures] == [
        ((0, 16), "the response contains no JSON array of objects")
    ]
    once = Extract(ScriptedModel([bad]), Colour, retries=0).invoke("a boat")
    assert (len(once), len(once.failures)) == (1, 1)


def test_the_report_measures_what_was_lost():
    model = ScriptedModel([said(("lamp", "red", "lamp is red"), ("sky", "green", "no")), "[]"])
    gold = [
        [Colour(thing="lamp", colour="red"), Colour(thing="boat", colour="blue")],
        [Colour(thing="song", colour="grey")],
    ]
    report = Extract(model, Colour).report(["The lamp is red, the boat blue.", "A grey song."], gold)
    assert (report.precision, report.recall, report.supported) == (1, 1 / 3, 1 / 2)
    assert report.f1 == pytest.approx(0.5)
    assert report.failures == 0
    with pytest.raises(InvalidInputError, match="`expected`"):
        Extract(model, Colour).report(["x"], [])


def test_each_piece_keeps_its_own_truncated_response():
    def truncated(prompt):
        thing = "lamp" if "The lamp" in prompt else "boat"
        return '{"records": [' + said((thing, "red", thing))[1:-1] + ', {"quote": "'

    found = Extract(ScriptedModel(truncated), Colour, retries=0).batch(["The lamp is red.", "The boat is red."])
    assert [[record.thing for record in each.records] for each in found] == [["lamp"], ["boat"]]


def test_several_documents_and_async():
    answers = {"lamp": said(("lamp", "red", "lamp")), "boat": said(("boat", "blue", "boat"))}
    extract = Extract(ScriptedModel(lambda prompt: answers["lamp" if "the lamp" in prompt else "boat"]), Colour)
    both = extract.invoke(["the lamp", "a boat", "  "])
    assert [[record.thing for record in each.records] for each in both] == [["lamp"], ["boat"], []]
    later = asyncio.run(extract.abatch(["the lamp", "a boat", "  "]))
    assert [each.items for each in later] == [each.items for each in both]
    assert asyncio.run(extract.ainvoke("the lamp")).items == both[0].items
    assert extract.batch([]) == []


@pytest.mark.parametrize(
    ("text", "count", "problems"),
    [
        ("[]", 0, 0),
        ("see [1] and [2]: " + said(("a", "b", "c")), 1, 0),
        ("[[[[", 0, 1),
        ("[" * 100_000, 0, 1),
        ('[{"thing": "a", "colour": "b"}]', 0, 1),
        ('[{"record": {"thing": "a", "colour": "b", "count": "many"}}]', 0, 1),
        ("", 0, 1),
    ],
)
def test_truncated_responses_are_parsed(text, count, problems):
    parsed = parse(text[:3000], Colour)
    assert (len(parsed.found), len(parsed.problems)) == (count, problems)


@given(words=st.lists(st.text("ab.*(\\é", min_size=1), min_size=1, max_size=4), before=st.text("xy \n"))
def test_quotations_are_found_despite_different_white_space(words, before):
    text = before + " \t " + " \n".join(words) + " end"
    start, end = Source(text).locate(" ".join(words))
    assert text[start:end].split() == words
    assert Source(text).locate("not there") is None
    assert Source(text).locate("  ") is None


@pytest.mark.parametrize(
    ("text", "quote", "found"),
    [
        ("They said: “the lamp’s  RED” – twice.", "the lamp's red", "the lamp’s  RED"),
        ("the cafe\u0301 is open", "Café is", "cafe\u0301 is"),
        ("the café is open", "cafe\u0301", "café"),
        ("the café is open", "cafe", None),
        ("It cost 15 or 150 francs, then 5.", "5", "5"),
        ("It cost 15 francs.", "5", None),
        ("partly art", "art", "art"),
        ("红色的灯在走廊里。", "灯在走廊", "灯在走廊"),
        ("서울은 크다", "서울", "서울"),
        ("यह हाँ है", "हा", None),
        ("Ein gro\u00ad\u00dfes Haus", "großes Haus", "gro\u00ad\u00dfes Haus"),
        ("the end ", "end", "end"),
    ],
)
def test_quotations_are_found_in_other_spellings_and_scripts(text, quote, found):
    place = Source(text).locate(quote)
    assert (None if place is None else text[slice(*place)]) == found


@pytest.mark.parametrize("arguments", [{"schema": dict}, {"schema": Colour, "retries": -1}])
def test_invalid_arguments(arguments):
    with pytest.raises(InvalidInputError, match="must be"):
        Extract(ScriptedModel([]), **arguments)
    with pytest.raises(InvalidInputError, match=r"documents\[0\]"):
        Extract(ScriptedModel([]), Colour).batch([3])
