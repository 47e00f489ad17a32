"""Filters of an index against `ragkit.where.matches`, for all metadata that an index takes, and what it refuses."""

import json
from collections import UserDict
from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ragkit import Document, Index, JaccardSelector
from ragkit.errors import InvalidInputError
from ragkit.records import Example
from ragkit.where import fields, matches, parse_where

FIELDS = st.sampled_from(["a", "b", "", "x.y", "$z", 'q"u', "it's", "\\", "é", "nul\0", "日本", "🙂"])
ASKED_FIELDS = FIELDS.filter(lambda name: not name.startswith("$"))
HARD = st.sampled_from(
    [
        *(sign * (2**power + more) for sign in (1, -1) for power in (53, 63, 64) for more in (-1, 0, 1)),
        *(float(2**power) for power in (53, 63, 64)),
        -(2**63) - 2,
        10**400,
        -(10**400),
        0.1 + 0.2,
        0.3,
        1e308,
        -1.7976931348623157e308,
        5e-324,
        2.2250738585072014e-308,
        1.2345678901234567e-250,
        -0.0,
        0,
        1,
        1.0,
        True,
        False,
        None,
        "",
        "0",
        "a",
        "a\0",
        "a\0b",
        "\0",
        "\uffff",
        "🙂",
        "'; DROP TABLE facts; --",
    ]
)
SCALARS = HARD | st.text(max_size=3) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
NUMPY = st.sampled_from(
    [np.int64(1), np.uint64(2**64 - 1), np.float32(0.1), np.float64(0.3), np.bool_(1), np.str_("a")]
)
VALUES = st.recursive(
    SCALARS | NUMPY,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(FIELDS, inner, max_size=2),
    max_leaves=5,
)
METADATA = st.none() | st.dictionaries(FIELDS, VALUES, max_size=3)
ASKED = SCALARS | NUMPY | st.sampled_from([float("inf"), float("-inf")])
ORDERABLE = ASKED.filter(lambda value: not isinstance(value, bool | np.bool_ | None))
ON_FIELD = st.one_of(
    ASKED,
    st.builds(lambda op, value: {op: value}, st.sampled_from(["$eq", "$ne"]), ASKED),
    st.dictionaries(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ORDERABLE, min_size=1, max_size=2),
    st.builds(lambda op, values: {op: values}, st.sampled_from(["$in", "$nin"]), st.lists(ASKED, max_size=4)),
    st.builds(lambda value: {"$exists": value}, st.booleans()),
)
WHERE = st.recursive(
    st.dictionaries(ASKED_FIELDS, ON_FIELD, max_size=2),
    lambda inner: st.one_of(
        st.builds(
            lambda op, parts, more: {op: parts, **more},
            st.sampled_from(["$and", "$or"]),
            st.lists(inner, min_size=1, max_size=3),
            st.dictionaries(ASKED_FIELDS, ON_FIELD, max_size=1),
        ),
        st.builds(lambda part: {"$not": part}, inner),
    ),
    max_leaves=6,
)


def filled(folder, rows, indexed=()):
    """An index of these metadata; fields are indexed in the middle, so that some facts are made late and some early."""
    index = Index.create(folder, embedder=None, dim=2)
    half = len(rows) // 2
    documents = [Document("x", id=str(n), metadata=metadata) for n, metadata in enumerate(rows)]
    vectors = np.ones((len(rows), 2))
    index.add(documents[:half], vectors=vectors[:half])
    for field in indexed:
        index.index_field(field)
    index.add(documents[half:], vectors=vectors[half:])
    return index


def found(index, where, k=10**4):
    _, keys = index.search_vectors(np.ones((1, 2)), k, where=where)
    return [int(document.id) for document in index.get_by_keys(keys) if document]


@settings(max_examples=250, deadline=None)
@given(
    rows=st.lists(METADATA, max_size=8),
    where=st.lists(WHERE, min_size=1, max_size=4),
    indexed=st.sets(ASKED_FIELDS, max_size=4),
    on_disk=st.booleans(),
    k=st.integers(0, 9),
    gone=st.sets(st.integers(0, 7), max_size=2),
)
@example([{"a": 1.2345678901234567e-250}], [{"a": 1.2345678901234567e-250}], set(), False, 1, set())
@example([{"a": "a\0b"}, {"a\0b": 1}], [{"a": "a"}, {"a\0b": 1}, {"a": 1}], {"a"}, True, 1, set())
@example([{"a": 10**400}], [{"a": {"$gt": 1e308}}], {"a"}, True, 1, set())
@example([{"a": []}, {}], [{"a": {"$exists": True}}, {"a": None}], {"a"}, True, 2, set())
def test_finds_exactly_what_matches(tmp_path_factory, rows, where, indexed, on_disk, k, gone):
    folder = tmp_path_factory.mktemp("index") / "i" if on_disk else None
    with filled(folder, rows, sorted(indexed)) as index:
        index.delete([str(n) for n in gone])
        if gone and on_disk:
            index.compact()
        for each in where:
            condition = parse_where(each)
            expected = [n for n, metadata in enumerate(rows) if n not in gone and matches(condition, metadata)]
            assert found(index, each, k) == expected[:k]
        for document in index.get([str(n) for n in range(len(rows))]):
            given = rows[int(document.id)] or None
            assert json.dumps(document.metadata) == json.dumps(given, default=lambda value: value.item())
        index.verify()


@pytest.mark.parametrize("indexed", [(), ("n",), ("n", "s", "tag")])
def test_long_wide_and_deep_filters(indexed):
    rows = [{"n": n, "s": f"s{n}", "tag": [n % 7, str(n % 7)]} for n in range(500)]
    deep = {"n": {"$gte": 250}}
    for op in ("$and", "$or", "$not") * 3:
        deep = {"$not": deep} if op == "$not" else {op: [deep, {"tag": "3"}]}
    filters = [
        {"n": {"$in": list(range(0, 30_000, 3))}},
        {"n": {"$nin": [float(n) for n in range(0, 30_000, 3)]}},
        {"s": {"$in": [f"s{n}" for n in range(450, 40_450)], "$ne": "s451"}, "n": {"$lt": 470}},
        {"tag": {"$in": [*range(5, 10_000), "3", None, True]}},
        {"$or": [{"n": n, "s": f"s{n}"} for n in range(0, 4000, 2)]},
        {"$and": [{"n": {"$ne": n}} for n in range(400)]},
        deep,
    ]
    with filled(None, rows, indexed) as index:
        for where in filters:
            condition = parse_where(where)
            expected = [n for n, metadata in enumerate(rows) if matches(condition, metadata)]
            assert expected
            assert found(index, where) == expected


def test_fields_can_be_indexed_at_any_time_and_metadata_change():
    rows = [{"lang": "en"}, {"lang": ["fr", "en"]}, {"lang": None}, {}, {"lang": {"x": 1}}]
    with filled(None, rows) as index:
        for step in range(2):
            assert found(index, {"lang": "en"}) == [0, 1]
            assert found(index, {"lang": None}) == [2, 3]
            assert found(index, {"lang": {"$exists": True}}) == [0, 1, 2, 4]
            if not step:
                index.index_field("lang")
                index.index_field("lang")
        index.add([Document("x", id="3", metadata={"lang": "en"})], vectors=np.ones((1, 2)))
        assert found(index, {"lang": "en"}) == [0, 1, 3]
        index.verify()
        with pytest.raises(InvalidInputError, match="`field` must be the name of one field"):
            index.index_field(["lang"])
    with Index.create(None, embedder="hash:8") as index:
        index.index_field("n")
        index.add([Document("x", id="x", metadata={"n": 1})])
        index.add([Document("x", id="x", metadata={"n": 2})])  # the same text: only its label changes
        assert index.search("x", where={"n": 1}) == []
        assert [hit.metadata for hit in index.search("x", where={"n": 2})] == [{"n": 2}]


def test_true_and_one_are_different_filters():
    with filled(None, [{"a": 1}, {"a": True}]) as index:
        assert [found(index, {"a": asked}) for asked in (1, True, 1.0)] == [[0], [1], [0]]


def deep(levels):
    held = []
    for _ in range(levels):
        held = [held]
    return held


LOOP = {}
LOOP["self"] = LOOP


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (
            {"when": datetime(2020, 1, 1)},
            r"documents\[1\]: metadata\['when'\] is of type datetime, but metadata must be",
        ),
        ({"when": np.datetime64("2020-01-01")}, r"metadata\['when'\] is of type datetime64"),
        ({"took": np.timedelta64(5, "s")}, r"metadata\['took'\] is of type timedelta64"),
        ({"price": Decimal("1.5")}, r"metadata\['price'\] is of type Decimal"),
        ({"tags": {"a"}}, r"metadata\['tags'\] is of type set"),
        ({"raw": b"x"}, r"metadata\['raw'\] is of type bytes"),
        ({"all": np.ones(3)}, r"metadata\['all'\] is of type ndarray"),
        ({"in": {"side": [1, date(2020, 1, 1)]}}, r"metadata\['in'\]\['side'\]\[1\] is of type date"),
        ({"in": UserDict(a=1)}, r"metadata\['in'\] is of type UserDict"),
        ({"x": float("inf")}, r"metadata\['x'\] is inf"),
        ({"x": [float("nan")]}, r"metadata\['x'\]\[0\] is nan"),
        ({"x": np.float32("nan")}, r"metadata\['x'\] is .*nan"),
        ({"x": "a\udfff"}, r"metadata\['x'\] is text with a lone surrogate"),
        ({"\ud800": 1}, r"key '\\ud800' is text with a lone surrogate"),
        ({1: "a"}, r"metadata has the key 1"),
        ({"a": {None: "a"}}, r"metadata\['a'\] has the key None"),
        ({"x": 10**5000}, "metadata must be what JSON can hold: Exceeds the limit"),
        ({"x": deep(60)}, "is nested too deeply: at most 50 lists and mappings"),
        ({"x": deep(100_000)}, "is nested too deeply"),
        (LOOP, "is nested too deeply"),
        ([("a", 1)], "`metadata` must be a mapping, got list"),
    ],
)
def test_metadata_that_cannot_be_stored_are_refused(metadata, message):
    with filled(None, [{"a": 1}]) as index:
        with pytest.raises(InvalidInputError, match=message):
            index.add([Document("y"), Document("x", metadata=metadata)], vectors=np.ones((2, 2)))
        assert len(index) == 1
        index.verify()


def test_mappings_of_all_kinds_are_stored():
    with filled(None, [UserDict(a=np.int8(3), b=(1, "é")), {"x": deep(40)}]) as index:
        assert [document.metadata for document in index.get(["0", "1"])] == [{"a": 3, "b": [1, "é"]}, {"x": deep(40)}]
        assert found(index, {"b": "é", "a": 3}) == [0]


@pytest.mark.parametrize(
    "rows",
    [
        [{}],
        [{}, None, {}],
        [{"a": 1}, {"a": "}, {"}, {}],
        [{"a": [{"b": 1}, {"c": 2}]}, {"a": {"b": {}}}],
        [{'}, {"': '"}, {"'}, {"a": "\\"}, {"a": "\n\u2028é"}],
    ],
)
def test_metadata_that_look_like_json_come_back(rows):
    with filled(None, rows * 2) as index:
        documents = index.get([str(n) for n in range(2 * len(rows))])
        assert [document.metadata for document in documents] == [row or None for row in rows * 2]


@pytest.mark.filterwarnings("ignore::ragkit.errors.SmallPoolWarning")
@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.dictionaries(ASKED_FIELDS, SCALARS, max_size=3), min_size=1, max_size=6), where=WHERE)
def test_selectors_filter_alike(rows, where):
    rows[0] = dict.fromkeys(fields(parse_where(where)), 0) | rows[0]  # selectors refuse fields that no example has
    pool = [Example(str(n), "", id=str(n), metadata=metadata) for n, metadata in enumerate(rows)]
    chosen = JaccardSelector(pool).select("x", len(rows), where=where)
    with filled(None, rows) as index:
        assert sorted(int(hit.id) for hit in chosen.hits) == found(index, where)
