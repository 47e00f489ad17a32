"""Extraction on hard inputs: quotations, duplicates, other languages, small windows and models that repeat."""

import json
from dataclasses import replace

import pytest
from pydantic import BaseModel, Field

from ragkit import Extract, ScriptedModel
from ragkit.errors import InvalidInputError
from ragkit.pipelines import Quote
from ragkit_pipelines.extraction.prompt import response_schema


class Colour(BaseModel):
    """The colour of a thing."""

    thing: str
    colour: str


class Supported(Colour):
    """The colour of a thing, with its evidence."""

    evidence: Quote
    more: list[Quote] = []


class Windowed(ScriptedModel):
    """A scripted model with a small context window, in which a prompt that is too long is an error."""

    window = 1000

    @property
    def capabilities(self):
        return replace(super().capabilities, window=self.window)


def records(*rows):
    return json.dumps({"records": list(rows)}, ensure_ascii=False)


def beside(quote, thing, colour):
    return {"quote": quote, "record": {"thing": thing, "colour": colour}}


def test_repeated_records_are_merged_and_counted_and_their_number_is_limited():
    said = records(
        beside("lamp is red", "lamp", "red"),
        beside("The lamp is red.", " Lamp ", "RED"),
        beside("lamp is red", "lamp", "bright red"),
        *[beside("lamp is red", "lamp", "red")] * 50,
    )
    found = Extract(ScriptedModel([said]), Colour, max_records=10).invoke("The lamp is red.")
    assert [record.colour for record in found.records] == ["red", "bright red"]
    assert (found.duplicates, found[0].spans) == (8, ((4, 15), (0, 16)))
    by_thing = Extract(ScriptedModel([said]), Colour, max_records=10, key=["thing"]).invoke("The lamp is red.")
    assert ([record.colour for record in by_thing.records], by_thing.duplicates) == (["red"], 9)


def test_fields_of_the_type_quote_must_occur_in_the_source_and_do_not_tell_records_apart():
    text = "The lamp is red. Yes, red is the lamp. The boat is old."
    said = records(
        {"thing": "lamp", "colour": "red", "evidence": "the lamp is red"},
        {"thing": "lamp", "colour": "red", "evidence": "red is the lamp", "more": ["Yes"]},
        {"thing": "boat", "colour": "blue", "evidence": "the boat is blue"},
        {"thing": "boat", "colour": "old", "evidence": "the boat is old", "more": ["and blue"]},
        {"thing": "sky", "colour": "grey", "evidence": " "},
    )
    model = ScriptedModel([said])
    found = Extract(model, Supported).invoke(text)
    assert [[text[slice(*span)] for span in each.spans] for each in found] == [
        ["The lamp is red", "red is the lamp", "Yes"]
    ]
    assert found.duplicates == 1
    assert [each.reason for each in found.rejected] == [
        "not in the passage: evidence 'the boat is blue'",
        "not in the passage: more 'and blue'",
        "the record has no quotation",
    ]
    assert "Copy evidence, more word for word" in model.asked[0]
    assert "exact words of the passage" in model.asked[0].rpartition("Schema:")[2]


def test_the_text_of_all_fields_must_occur_in_the_source_if_quotes_is_set():
    said = records({"thing": "lamp", "colour": "red"}, {"thing": "lamp", "colour": "crimson"})
    found = Extract(ScriptedModel([said]), Colour, quotes=True).invoke("Red is the old lamp.")
    assert ([each.record.colour for each in found], found[0].spans) == (["red"], ((15, 19), (0, 3)))
    assert [each.reason for each in found.rejected] == ["not in the passage: colour 'crimson'"]


def test_a_schema_that_fits_no_passage_gives_no_records_and_no_failures():
    model = ScriptedModel(['{"records": []}', "[]", 'There are none: {"records": []}'])
    found = Extract(model, Colour).batch(["The engine is loud.", "It rains.", "Nobody came."])
    assert [(len(each), each.failures, each.rejected, each.text) for each in found] == [(0, (), (), "")] * 3
    assert len(model.asked) == 3


LANGUAGES = {
    "en": (
        "The lamp is red.\nThe  boat is blue.",
        [("lamp", "red", "The lamp is red"), ("boat", "blue", "The boat is blue")],
    ),
    "zh": ("红色的灯在走廊里。我们有一艘蓝船。", [("灯", "红色", "红色的灯"), ("船", "蓝", "一艘蓝船")]),
    "hi": ("दीपक लाल है। नाव नीली है।", [("दीपक", "लाल", "दीपक लाल है"), ("नाव", "नीली", "नाव नीली है")]),
    "de": ("Die Lampe im Café ist grün.", [("Lampe", "grün", "Lampe im Cafe\u0301 ist gru\u0308n")]),
}  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_spans_are_those_of_the_whole_document_in_every_language(language):
    text, rows = LANGUAGES[language]
    said = records(*(beside(quote, thing, colour) for thing, colour, quote in rows))
    found = Extract(ScriptedModel([said] * 9), Colour, chunker="recursive:30").invoke(text)
    assert {record.thing for record in found.records} == {thing for thing, _, _ in rows}
    for each, (_, _, quote) in zip(found, rows, strict=True):
        [(start, end)] = each.spans
        assert len(text[start:end].split()) == len(quote.split())
        assert each.record.colour in text[start:end]


def test_a_model_that_repeats_its_prompt_adds_nothing():
    found = Extract(ScriptedModel(lambda prompt: prompt), Colour, max_tokens=4096).invoke("The lamp is red.")
    assert (found.items, found.failures) == ((), ())
    assert {each.record.thing for each in found.rejected} == {"kettle", "bicycle"}
    schema = Extract(ScriptedModel(lambda prompt: prompt.rpartition("Schema:")[2]), Colour, retries=0)
    assert len(schema.invoke("The lamp is red.").failures) > 0


def test_pieces_that_do_not_fit_the_context_window_are_split():
    text = " ".join(f"The lamp {n} is red." for n in range(200))
    model = Windowed(lambda prompt: "[]")
    found = Extract(model, Colour, chunker="recursive:100000", max_tokens=200).invoke(text)
    assert found.failures == ()
    passages = [
        prompt.rpartition("<passage-")[2].partition("\n")[2].rpartition("\n</passage-")[0] for prompt in model.asked
    ]
    assert "".join(passages) == text
    assert max(map(model.count_tokens, model.asked)) + 200 <= model.window


def test_public_report_a_draft_inside_the_reasoning_is_not_a_record():
    draft, final = records(beside("lamp", "lamp", "blue")), records(beside("lamp is red", "lamp", "red"))
    found = Extract(ScriptedModel([f"<think>{draft}? No.</think>{final}"]), Colour).invoke("The lamp is red.")
    assert [record.colour for record in found.records] == ["red"]


@pytest.mark.parametrize(
    "text", ['{"thing": "lamp", "colour": "red"}', '{"thing": "lamp", "colour": "red"}\n{"thing": "a"']
)
def test_records_without_an_array_are_read(text):
    found = Extract(ScriptedModel([text]), Colour, quotes=True, retries=0).invoke("The lamp is red.")
    assert ([record.thing for record in found.records], found.failures) == (["lamp"], ())


def test_the_schema_of_a_response_is_an_object_and_limits_only_what_the_user_did_not():
    class Kind(BaseModel):
        kind: str
        code: str = Field(max_length=4)

    limited = response_schema(Kind, quoted=True, limit=3)
    rows = limited["properties"]["records"]
    assert (limited["type"], rows["maxItems"]) == ("object", 3)
    item = rows["items"]["properties"]
    assert item["quote"]["maxLength"] == 300
    assert {name: field["maxLength"] for name, field in item["record"]["properties"].items()} == {
        "kind": 1000,
        "code": 4,
    }
    short = response_schema(Kind, quoted=True, limit=3, max_tokens=100)["properties"]["records"]["items"]["properties"]
    assert [short["quote"]["maxLength"], short["record"]["properties"]["kind"]["maxLength"]] == [100, 100]
    free = json.dumps(response_schema(Colour, quoted=True, limit=None))
    assert "maxItems" not in free
    assert "maxLength" not in free


def test_a_local_model_is_constrained_to_the_schema():
    class Mood(BaseModel):
        happy: bool

    found = Extract("tiny", Mood, max_records=1, max_tokens=300, retries=0).invoke("The lamp is red.")
    assert found.failures == ()
    assert len(found) + len(found.rejected) <= 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"key": ["shape"]}, "`key` must name fields"),
        ({"key": "thing"}, "`key`"),
        ({"max_records": 0}, "`max_records`"),
    ],
)
def test_invalid_arguments_are_explained(arguments, said):
    with pytest.raises(InvalidInputError, match=said):
        Extract(ScriptedModel([]), Colour, **arguments)

    class Numbers(BaseModel):
        size: int

    with pytest.raises(InvalidInputError, match="Numbers has none"):
        Extract(ScriptedModel([]), Numbers, quotes=True)
