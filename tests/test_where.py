"""Metadata filters by table, by law, and against the same rules written in SQL."""

import json
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit.errors import InvalidInputError
from ragkit.where import All, AnyOf, Equals, Exists, Not, Ordered, fields, matches, parse_where

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


def sql(condition, bound):
    """The same rules over a column of JSON, to show that SQL can follow them."""

    def held(field):
        bound.append(field)
        return (
            "(SELECT e.type t, e.atom v FROM json_each(metadata) f, json_each(f.value) e "
            "WHERE f.key = ? AND f.type = 'array' "
            "UNION ALL SELECT f.type t, f.atom v FROM json_each(metadata) f WHERE f.key = ? AND f.type <> 'array')"
        )

    match condition:
        case Equals(field, values):
            parts = []
            for value in values:
                if value is None:
                    parts.append(
                        f"(EXISTS (SELECT 1 FROM {held(field)} WHERE t = 'null') "
                        "OR NOT EXISTS (SELECT 1 FROM json_each(metadata) WHERE key = ?))"
                    )
                    bound += [field, field]
                elif isinstance(value, bool):
                    parts.append(f"EXISTS (SELECT 1 FROM {held(field)} WHERE t = ?)")
                    bound += [field, "true" if value else "false"]
                else:
                    kinds = "'text'" if isinstance(value, str) else "'integer','real'"
                    parts.append(f"EXISTS (SELECT 1 FROM {held(field)} WHERE t IN ({kinds}) AND v = ?)")
                    bound += [field, value]
            return f"({' OR '.join(parts) or '0'})"
        case Ordered(field, order, value):
            kinds = "'text'" if isinstance(value, str) else "'integer','real'"
            sign = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}[order]
            text = f"EXISTS (SELECT 1 FROM {held(field)} WHERE t IN ({kinds}) AND v {sign} ?)"
            bound += [field, value]
            return text
        case Exists(field):
            bound.append(field)
            return "EXISTS (SELECT 1 FROM json_each(metadata) WHERE key = ?)"
        case Not(inner):
            return f"NOT ({sql(inner, bound)})"
        case All(conditions) | AnyOf(conditions):
            joint = " AND " if isinstance(condition, All) else " OR "
            return f"({joint.join(sql(each, bound) for each in conditions) or '1'})"


@settings(max_examples=300, deadline=None)
@given(where=WHERE, rows=st.lists(METADATA, min_size=1, max_size=6))
def test_sql_can_follow_the_rules(where, rows):
    condition, bound = parse_where(where), []
    text = sql(condition, bound)
    with sqlite3.connect(":memory:") as base:
        base.execute("CREATE TABLE d (row INTEGER, metadata TEXT)")
        base.executemany("INSERT INTO d VALUES (?, ?)", [(n, json.dumps(row)) for n, row in enumerate(rows)])
        found = {row for (row,) in base.execute(f"SELECT row FROM d WHERE {text}", bound)}
    base.close()
    assert found == {n for n, row in enumerate(rows) if matches(condition, row)}
