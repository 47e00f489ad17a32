"""Execution accuracy: read-only, within limits, compared by rows."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ragkit import Example, Task
from ragkit.errors import InvalidInputError, MetricError
from ragkit.metrics import load_metric
from ragkit.metrics._sql import SqlMatch

ROWS = [("oslo", 1, 0.1 + 0.2), ("bergen", 2, 0.3), ("bodø", 2, None)]


@pytest.fixture
def database(tmp_path: Path):
    path = tmp_path / "a b?.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE city (name TEXT, size INTEGER, share REAL)")
        connection.executemany("INSERT INTO city VALUES (?, ?, ?)", ROWS)
        connection.commit()
    return path


@pytest.mark.parametrize(
    ("answer", "expected", "score"),
    [
        ("SELECT name FROM city", "SELECT name FROM city ORDER BY size, name DESC", 0.0),
        ("SELECT name FROM city ORDER BY name", "SELECT name FROM city", 1.0),
        ("SELECT name AS n FROM city;", "SELECT name FROM city", 1.0),
        ("SELECT DISTINCT size FROM city", "SELECT size FROM city", 0.0),
        ("SELECT share FROM city WHERE name = 'oslo'", "SELECT share FROM city WHERE name = 'bergen'", 1.0),
        ("SELECT 2.0", "SELECT 2", 1.0),
        ("SELECT '2'", "SELECT 2", 0.0),
        ("SELECT name, size FROM city", "SELECT name FROM city", 0.0),
        # an inner ORDER BY, or one in a text, asks for no order
        ("SELECT 1 UNION SELECT 2", "SELECT * FROM (SELECT 2 UNION SELECT 1 ORDER BY 1 DESC)", 1.0),
        ("SELECT size FROM city ORDER BY 1 DESC", "SELECT size FROM city WHERE name <> 'order by'", 1.0),
        ("SELEC name", "SELECT name FROM city", 0.0),
        ("", "SELECT name FROM city", 0.0),
        ("SELECT name FROM city; SELECT 1", "SELECT name FROM city", 0.0),
    ],
)
def test_rows_are_compared(database: Path, answer: str, expected: str, score: float):
    assert SqlMatch(database)(answer, expected) == score


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM city",
        "DROP TABLE city",
        "INSERT INTO city VALUES ('x', 1, 1) RETURNING name",
        "CREATE TEMP TABLE t (a)",
        "ATTACH DATABASE 'other.sqlite' AS other",
        "VACUUM INTO 'copy.sqlite'",
        "PRAGMA table_info(city)",
        "SELECT * FROM pragma_database_list",
        "SELECT load_extension('x')",
        "BEGIN",
        "SELECT randomblob(100000000)",
    ],
)
def test_only_reading_is_allowed(database: Path, query: str):
    before = database.read_bytes()
    metric = SqlMatch(database)
    with pytest.raises(sqlite3.Error):
        metric.rows(query)
    assert metric(query, "SELECT name FROM city") == 0.0
    assert database.read_bytes() == before
    assert [path.name for path in database.parent.iterdir()] == [database.name]


def test_a_result_is_limited_as_a_whole(database: Path):
    numbers = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT {}) "
    metric = SqlMatch(database, seconds=60)
    for value in ("zeroblob(900000)", "replace(hex(zeroblob(400000)), '0', 'a')"):
        with pytest.raises(sqlite3.OperationalError, match="more than 50000000 characters"):
            metric.rows(numbers.format(9_000) + f"SELECT {value} FROM c")
    assert len(metric.rows(numbers.format(50) + "SELECT zeroblob(900000) FROM c")) == 50


def test_time_and_rows_are_limited(database: Path):
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT "
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        SqlMatch(database, seconds=0.05).rows(endless + "count(*) FROM n")
    with pytest.raises(sqlite3.OperationalError, match="more than 100 rows"):
        SqlMatch(database, most_rows=100).rows(endless + "i FROM n")
    assert len(SqlMatch(database, most_rows=100).rows(endless + "i FROM n LIMIT 100")) == 100


def test_what_is_wrong_is_said(database: Path, tmp_path: Path):
    task = Task("", [Example("q", "SELECT 1")], [Example("how many?", "SELECT count(*) FROM town")],
                metric=f"sql:{database}")  # fmt: skip
    with pytest.raises(MetricError, match=r"test\[0\] \('how many\?'\).*cannot be read: no such table"):
        task.score_all(["SELECT 1"])
    with pytest.raises(InvalidInputError, match="unable to open"):
        load_metric(f"sql:{tmp_path / 'absent.sqlite'}")
    assert not (tmp_path / "absent.sqlite").exists()
    (tmp_path / "text.sqlite").write_text("no database" * 1000)
    with pytest.raises(InvalidInputError, match="not a database"):
        SqlMatch(tmp_path / "text.sqlite")


def test_a_changed_database_is_another_task(database: Path):
    rows = [Example("q", "SELECT 1")]
    before = Task("", rows, rows, metric=f"sql:{database}").fingerprint
    assert Task("", rows, rows, metric=SqlMatch(database)).fingerprint == before
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("DELETE FROM city")
        connection.commit()
    assert Task("", rows, rows, metric=SqlMatch(database)).fingerprint != before


def test_the_gold_queries_of_geoquery_are_right(data: Path):
    metric = SqlMatch(data / "generation/db/geography.sqlite")
    lines = (data / "generation/geoquery_sql.jsonl").read_text(encoding="utf-8").splitlines()
    gold = [row["output"] for row in map(json.loads, lines) if row["split"] == "test"]
    runs = [query for query in gold if is_read(metric, query)]
    assert (len(runs), len(gold)) == (215, 217)
    assert [metric(query, query) for query in runs[:100]] == [1.0] * 100
    plain = "SELECT CITY_NAME FROM CITY WHERE STATE_NAME = 'arizona' ORDER BY POPULATION DESC LIMIT 1"
    first = json.loads(lines[0])
    assert first["input"] == "what is the biggest city in arizona"
    assert metric(plain, first["output"]) == 1.0


def is_read(metric: SqlMatch, query: str) -> bool:
    try:
        metric.rows(query)
    except sqlite3.OperationalError:  # a few of the published queries name columns that are not there
        return False
    return True
