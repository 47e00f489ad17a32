"""Every keyword of JSON Schema is followed, or refused by its name: the oracle is the package jsonschema."""

import json
import re
from functools import cache

import pytest
from jsonschema import Draft202012Validator

from ragkit.errors import InvalidInputError
from ragkit.models import load_model
from ragkit.models._constrained_decoding import FollowsGrammar, grammar_of_schema, vocabulary_of

BOOL, INT, TEXT = {"type": "boolean"}, {"type": "integer"}, {"type": "string"}


def has(**properties):
    """An object that must have all of these properties."""
    return {"type": "object", "properties": properties, "required": list(properties)}


X = {"X": has(a=BOOL)}
NODE = {"Node": has(next={"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]})}
# A schema with instances of it and with others; all keys are named, as additional ones cannot be written.
FOLLOWED = {
    "allOf": ({"allOf": [has(a=BOOL), has(b=BOOL)]}, [{"a": True, "b": False}], [{"a": True}, {"a": 1, "b": True}]),
    "allOf, nested": (
        {"allOf": [{"allOf": [has(a=BOOL), has(b=BOOL)]}, has(c=BOOL)]},
        [{"a": True, "b": True, "c": True}],
        [{"a": True, "b": True}],
    ),
    "allOf, the same property": (
        {"allOf": [has(a={"minimum": 3}), has(a={"type": "integer", "maximum": 4})]},
        [{"a": 3}],
        [{"a": 2}, {"a": 5}],
    ),
    "allOf of a reference": (
        {"$defs": X, "allOf": [{"$ref": "#/$defs/X"}, has(b=BOOL)]},
        [{"a": True, "b": True}],
        [{"b": True}],
    ),
    "a definition that is used alone and in allOf": (
        {"$defs": X, **has(p={"$ref": "#/$defs/X"}, q={"allOf": [{"$ref": "#/$defs/X"}, has(b=BOOL)]})},
        [{"p": {"a": True}, "q": {"a": True, "b": True}}],
        [{"p": {"a": True}, "q": {"a": True}}],
    ),
    "a reference beside properties": (
        {"$defs": X, "$ref": "#/$defs/X", **has(b=BOOL)},
        [{"b": True, "a": True}],  # a schema's own properties are written first
        [{"b": True}, {"a": True}],
    ),
    "oneOf beside properties": (
        {**has(k=BOOL), "oneOf": [has(b=BOOL), has(c=INT)]},
        [{"k": True, "b": True}, {"k": True, "c": 1}],
        [{"k": True}, {"b": True}],
    ),
    "anyOf in allOf": (
        {"allOf": [{"anyOf": [has(a=BOOL), has(b=BOOL)]}, has(c=BOOL)]},
        [{"a": True, "c": True}, {"b": True, "c": True}],
        [{"a": True}, {"c": True}],
    ),
    "allOf in anyOf": (
        {"anyOf": [{"allOf": [has(a=BOOL), has(b=BOOL)]}, {"type": "null"}]},
        [{"a": True, "b": True}, None],
        [{"a": True}],
    ),
    "required in anyOf": (
        {"type": "object", "properties": {"a": BOOL, "b": BOOL}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
        [{"a": True}, {"b": True}, {"a": True, "b": True}],
        [{}],
    ),
    "required without a property": ({**has(a=BOOL), "required": ["a", "b"]}, [{"a": True, "b": [1]}], [{"a": True}]),
    "const of an object": ({"const": has(x=1)}, [has(x=1)], [has(x=2), {"const": has(x=1)}]),
    "const of a list": ({"const": [{"a": 1}, None]}, [[{"a": 1}, None]], [[{"a": 1}]]),
    "enum of objects": ({"enum": [has(x=1), {"y": [1, 2]}, "z"]}, [has(x=1), {"y": [1, 2]}, "z"], [{"y": [1]}, "x"]),
    "a default that looks like a schema": ({**has(a={**BOOL, "default": has(b=1)})}, [{"a": True}], [{"a": 1}]),
    "properties named like keywords": (
        has(enum=BOOL, const=BOOL, properties=BOOL, allOf=BOOL),
        [{"enum": True, "const": True, "properties": True, "allOf": True}],
        [{"enum": True}],
    ),
    "recursion": ({"$defs": NODE, "$ref": "#/$defs/Node"}, [{"next": {"next": None}}], [{"next": {}}, {"next": 1}]),
    "$anchor": ({"$defs": {"X": {"$anchor": "x", **BOOL}}, "$ref": "#x"}, [True], [1]),
    "$id": ({"$id": "http://x/y", "$defs": {"X": BOOL}, "$ref": "#/$defs/X"}, [True], [1]),
    "patternProperties": (
        {"type": "object", "patternProperties": {"^a+$": BOOL}, "additionalProperties": False},
        [{"aa": True}, {}],
        [{"aa": 1}, {"b": True}],
    ),
    "minProperties": ({"type": "object", "additionalProperties": BOOL, "minProperties": 1}, [{"a": True}], [{}]),
    "maxProperties": (
        {"type": "object", "additionalProperties": BOOL, "maxProperties": 1},
        [{}, {"a": True}],
        [{"a": True, "b": True}],
    ),
    "prefixItems": (
        {"type": "array", "prefixItems": [BOOL, INT], "items": False, "minItems": 2},
        [[True, 1]],
        [[True], [1, 1], [True, 1, 1]],
    ),
    "minItems": ({"type": "array", "items": BOOL, "minItems": 1, "maxItems": 2}, [[True]], [[], [True, True, True]]),
    "numbers": (
        {"type": "integer", "multipleOf": 7, "exclusiveMinimum": 7, "maximum": 21},
        [14, 21],
        [7, 8, 28],
    ),
    "strings": ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "日本語"], ["a", "abcd"]),
    "pattern": ({"type": "string", "pattern": "^ab{2}$"}, ["abb"], ["ab", "xabb"]),
    "format": ({"type": "string", "format": "date"}, ["2026-12-01"], ["yesterday"]),
    "a list of types": ({"type": ["boolean", "null"]}, [True, None], [0]),
    "true and false": ({"type": "object", "properties": {"a": False, "b": True}}, [{"b": 1}], [{"a": 1}]),
    "oneOf": ({"oneOf": [has(a=BOOL), TEXT]}, [{"a": True}, "x"], [1]),
}  # fmt: skip
REFUSED = {
    "not": {"not": TEXT},
    "if": {"type": "object", "if": {"required": ["a"]}, "then": {"required": ["b"]}},
    "propertyNames": {"type": "object", "propertyNames": {"pattern": "^a$"}},
    "dependentRequired": {**has(a=BOOL), "dependentRequired": {"a": ["b"]}},
    "dependentSchemas": {"type": "object", "dependentSchemas": {"a": has(b=BOOL)}},
    "dependencies": {"type": "object", "dependencies": {"a": ["b"]}},
    "unevaluatedProperties": {**has(a=BOOL), "unevaluatedProperties": False},
    "unevaluatedItems": {"type": "array", "prefixItems": [BOOL], "unevaluatedItems": False},
    "contains": {"type": "array", "contains": BOOL},
    "uniqueItems": {"type": "array", "items": BOOL, "uniqueItems": True},
    "oneOf": {"oneOf": [{"type": "integer"}, {"type": "number"}]},
    "(?!a)": {"type": "string", "pattern": "^(?!a)b$"},
    "x-own": {"type": "string", "format": "x-own"},
    "$dynamicRef": {"$dynamicRef": "#x"},
}


@cache
def vocabulary():
    tokenizer = load_model("tiny").tokenizer
    return tokenizer, vocabulary_of(tokenizer, [tokenizer.eos_token_id])


def can_write(schema, value):
    """Whether a model that is constrained to a schema can write a value."""
    tokenizer, known = vocabulary()
    matcher = FollowsGrammar(known, grammar_of_schema(schema), [tokenizer.eos_token_id], 0, 1).matchers[0]
    text = json.dumps(value, ensure_ascii=False)
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


@pytest.mark.parametrize("name", FOLLOWED)
def test_a_keyword_is_followed(name):
    schema, instances, others = FOLLOWED[name]
    valid = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    for value in instances:
        assert valid.is_valid(value)
        assert can_write(schema, value)
    for value in others:
        assert not valid.is_valid(value)
        assert not can_write(schema, value)


@pytest.mark.parametrize("name", REFUSED)
def test_other_keywords_are_refused_by_name(name):
    with pytest.raises(InvalidInputError, match=re.escape(name)):
        can_write(REFUSED[name], None)


def test_a_property_that_no_part_names_is_not_written():
    for name in ("allOf", "oneOf beside properties", "a reference beside properties"):
        schema, (value, *_), _ = FOLLOWED[name]
        assert not can_write(schema, {**value, "other": True})
        assert can_write({**schema, "unused": 1}, value)  # an annotation changes nothing


def test_a_schema_without_end_is_refused():
    endless = {"$defs": {"N": {"allOf": [{"$ref": "#/$defs/N"}, has(a=BOOL)]}}, "$ref": "#/$defs/N"}
    with pytest.raises(InvalidInputError):
        can_write(endless, {"a": True})


def test_a_model_writes_all_properties_of_allof(tiny):
    parts = {"allOf": [has(a=BOOL), has(b=BOOL)]}
    assert sorted(tiny.generate("x", schema=parts, max_tokens=60).parsed) == ["a", "b"]
    assert tiny.generate("x", schema={"enum": [has(x=1)]}, max_tokens=60).parsed == has(x=1)
