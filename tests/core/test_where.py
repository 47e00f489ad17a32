"""Metadata filters by table, by law, and against the same rules written plainly."""

from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit.errors import InvalidInputError
from ragkit.where import fields, matches, parse_where

ROW = {
    "lang": "en",
    "year": 2020,
    "score": 0.5,
    "draft": True,
    "none": None,
    "tags": ["a", "b", 3],
    "$odd": 1,
    "a.b": "x",
}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, True),
        ({"lang": "en"}, True),
        ({"lang": "fr"}, False),
        ({"lang": "en", "year": 2020}, True),
        ({"lang": "en", "year": 2021}, False),
        ({"year": {"$gte": 2020, "$lt": 2021}}, True),
        ({"year": {"$gt": 2020}}, False),
        ({"year": {"$lte": 2019}}, False),
        ({"year": 2020.0}, True),
        ({"year": {"$gt": "2019"}}, False),
        ({"lang": {"$gt": "de"}}, True),
        ({"lang": {"$gt": 1}}, False),
        ({"draft": True}, True),
        ({"draft": 1}, False),
        ({"draft": {"$gt": 0}}, False),
        ({"none": None}, True),
        ({"missing": None}, True),
        ({"none": {"$exists": True}}, True),
        ({"missing": {"$exists": True}}, False),
        ({"missing": {"$exists": False}}, True),
        ({"missing": {"$ne": 1}}, True),
        ({"missing": {"$gt": 1}}, False),
        ({"lang": {"$in": ["de", "en"]}}, True),
        ({"lang": {"$in": []}}, False),
        ({"lang": {"$nin": ["de", "en"]}}, False),
        ({"missing": {"$nin": ["de"]}}, True),
        ({"missing": {"$in": [None]}}, True),
        ({"tags": "a"}, True),
        ({"tags": {"$ne": "a"}}, False),
        ({"tags": {"$gt": 2}}, True),
        ({"tags": {"$in": ["z", 3]}}, True),
        ({"$or": [{"lang": "fr"}, {"year": 2020}]}, True),
        ({"$and": [{"lang": "en"}, {"year": 2021}]}, False),
        ({"$not": {"lang": "fr"}}, True),
        ({"$or": [{"lang": "fr"}], "year": 2020}, False),
        ({"a.b": "x"}, True),
    ],
)
def test_operators(where, expected):
    assert matches(parse_where(where), ROW) is expected


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ([("a", 1)], "must be a mapping"),
        ({"a": {"$gtt": 1}}, r"field 'a': unknown operator '\$gtt'. Did you mean '\$gt'"),
        ({"$nor": [{}]}, r"a filter: unknown operator '\$nor'. Did you mean '\$or'"),
        ({"a": {"b": 1}}, "unknown operator 'b'"),
        ({"a": {}}, "needs an operator"),
        ({"a": {"$in": "abc"}}, r"\$in takes a list of values, got 'abc'"),
        ({"a": {"$in": [[1]]}}, r"\$in takes text, a number"),
        ({"a": {"$gt": True}}, r"\$gt takes a number or text, got True"),
        ({"a": {"$gt": float("nan")}}, r"\$gt takes a number or text"),
        ({"a": {"$exists": 1}}, r"\$exists takes True or False"),
        ({"a": [1, 2]}, r"\$eq takes text, a number"),
        ({"$or": []}, r"\$or takes a list of filters"),
        ({"$not": [{}]}, "must be a mapping"),
        ({3: 1}, "names must be text"),
        ({"a\ud800": 1}, "names must be text without lone surrogates"),
        ({"a": "\ud800"}, "text with lone surrogates is never stored"),
    ],
)
def test_bad_filters(where, message):
    with pytest.raises(InvalidInputError, match=message):
        parse_where(where)


def test_fields():
    where = {"a": 1, "$or": [{"b": {"$gt": 1}}, {"$not": {"c": {"$exists": True}}}], "a.b": None}
    assert fields(parse_where(where)) == {"a", "b", "c", "a.b"}


NAMES = st.sampled_from(["a", "b", 'q"u', "x.y", "日本", "$z"[1:], " "])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.5, 1.0, -2.5]),
    st.sampled_from(["", "a", "B", "é"]),
)
METADATA = st.dictionaries(NAMES, st.one_of(SCALARS, st.lists(SCALARS, max_size=3)), max_size=4)
ORDERABLE = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, -2.5]), st.sampled_from(["", "a", "B"]))
ON_FIELD = st.one_of(
    SCALARS,
    st.builds(lambda op, value: {op: value}, st.sampled_from(["$eq", "$ne"]), SCALARS),
    st.builds(lambda op, value: {op: value}, st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ORDERABLE),
    st.builds(lambda op, values: {op: values}, st.sampled_from(["$in", "$nin"]), st.lists(SCALARS, max_size=3)),
    st.builds(lambda value: {"$exists": value}, st.booleans()),
)
WHERE = st.recursive(
    st.dictionaries(NAMES, ON_FIELD, max_size=2),
    lambda inner: st.one_of(
        st.builds(
            lambda op, parts: {op: parts}, st.sampled_from(["$and", "$or"]), st.lists(inner, min_size=1, max_size=3)
        ),
        st.builds(lambda part: {"$not": part}, inner),
    ),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(one=WHERE, other=WHERE, metadata=METADATA)
def test_laws(one, other, metadata):
    def holds(where):
        return matches(parse_where(where), metadata)

    assert holds({"$not": one}) is not holds(one)
    assert holds({"$and": [one, other]}) is (holds(one) and holds(other))
    assert holds({"$not": {"$or": [one, other]}}) is (not holds(one) and not holds(other))


@settings(max_examples=100, deadline=None)
@given(name=NAMES, values=st.lists(SCALARS, max_size=3), metadata=METADATA)
def test_negations_are_complements(name, values, metadata):
    for value in values:
        pair = [matches(parse_where({name: {op: value}}), metadata) for op in ("$eq", "$ne")]
        assert sorted(pair) == [False, True]
    pair = [matches(parse_where({name: {op: values}}), metadata) for op in ("$in", "$nin")]
    assert sorted(pair) == [False, True]


def same(one, other):
    return one is other if isinstance(one, bool | None) or isinstance(other, bool | None) else one == other


def in_order(one, op, other):
    text = isinstance(one, str)
    if isinstance(one, bool | None) or text is not isinstance(other, str):
        return False
    return {"$gt": one > other, "$gte": one >= other, "$lt": one < other, "$lte": one <= other}[op]


def plainly(where, metadata):
    """The same rules, written once more and straight from the filter."""

    def test(field, op, asked):
        value = metadata.get(field)
        values = value if isinstance(value, list) else [value]
        if op in ("$ne", "$nin"):
            return not test(field, {"$ne": "$eq", "$nin": "$in"}[op], asked)
        if op == "$exists":
            return (field in metadata) is asked
        if op in ("$eq", "$in"):
            return any(same(one, other) for one in values for other in (asked if op == "$in" else [asked]))
        return any(in_order(one, op, asked) for one in values)

    def entry(name, asked):
        if name in ("$and", "$or"):
            return (all if name == "$and" else any)(plainly(each, metadata) for each in asked)
        if name == "$not":
            return not plainly(asked, metadata)
        return all(test(name, *each) for each in (asked if isinstance(asked, dict) else {"$eq": asked}).items())

    return all(entry(*each) for each in where.items())


@settings(max_examples=500, deadline=None)
@given(where=WHERE, metadata=METADATA)
def test_equals_the_rules_written_plainly(where, metadata):
    assert matches(parse_where(where), metadata) is plainly(where, metadata)


class Colour(StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("asked", "held", "same"),
    [
        (2**53 + 1, float(2**53), False),
        (2**53 + 1, 2**53 + 1, True),
        (2**63, float(2**63), True),
        (2**63, 2**63 + 1, True),  # both count as floats
        (2**63 - 1, float(2**63), False),
        (10**400, 10**500, True),  # beyond floats too
        (-(10**400), 10**400, False),
        (float("inf"), 10**400, True),
        (Fraction(10**400, 3), float("inf"), True),
        (Fraction(1, 2), 0.5, True),
        (-0.0, 0, True),
        (0.1 + 0.2, 0.3, False),
        (0.1 + 0.2, 0.30000000000000004, True),
        (np.int64(3), 3, True),
        (np.float32(0.5), 0.5, True),
        (np.bool_(True), True, True),
        (np.bool_(True), 1, False),
        ("a\0b", "a\0b", True),
        ("a\0b", "a", False),
        (Colour.RED, "red", True),
        ("", None, False),
        ("1", 1, False),
        (None, [], False),
        (None, [None], True),
        (1, [[1]], False),
        ("a", {"a": 1}, False),
        (1, Decimal(1), False),
        (1, np.array([1]), False),
    ],
)
def test_what_is_equal(asked, held, same):
    assert matches(parse_where({"a": asked}), {"a": held}) is same
    assert matches(parse_where({"a": {"$in": [asked]}}), {"a": held}) is same
    assert matches(parse_where({"a": {"$nin": [asked]}}), {"a": held}) is not same


def test_depth_and_width():
    where = {"a": 1}
    for _ in range(24):
        where = {"$not": {"$and": [where]}}
    assert matches(parse_where(where), {"a": 1})
    for _ in range(30):
        where = {"$not": where}
    with pytest.raises(InvalidInputError, match="at most 50 operators inside each other"):
        parse_where(where)
    wide = parse_where({"$or": [{"a": n} for n in range(2000)]})
    assert matches(wide, {"a": 1999})
    assert not matches(wide, {"a": 2000})
    assert matches(parse_where({"a": {"$in": list(range(10_000))}}), {"a": [9999.0]})
