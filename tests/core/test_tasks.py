"""Tasks: reading files, leaks, draws, labels and fingerprints."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from ragkit.errors import DataFileError, EmptyPoolError, InvalidInputError, UnknownSpecError
from ragkit.records import Example
from ragkit.tasks import Leak, Task
from ragkit.templates import Template

GOOD = '{"input": "a", "output": "x"}'


def write(tmp_path: Path, text: str, encoding: str = "utf-8"):
    path = tmp_path / "task.jsonl"
    path.write_bytes(text.encode(encoding))
    return path


def rows(*triples: tuple[str, str, str]):
    return "\n".join(json.dumps({"input": i, "output": o, "split": s}) for i, o, s in triples) + "\n"


@pytest.fixture(scope="module")
def banking(data: Path):
    return Task.from_jsonl(data / "classification" / "banking77.jsonl")


def test_from_jsonl(tmp_path: Path):
    text = rows(("a", "x", "train"), ("b", "y", "dev"), ("v", "y", "validation"), ("c", "z", "test"))
    task = Task.from_jsonl(write(tmp_path, text), instruction="Do.")
    assert task.name == "task"
    assert task.examples == (Example("a", "x"),)
    assert task.test == (Example("c", "z"),)
    assert task.instruction == task.template.instruction == "Do."
    assert (task.metric, task.labels) == ("exact_match", None)


def test_ids_and_other_fields_are_kept(tmp_path: Path):
    line = '{"input": {"q": "a", "c": "b"}, "output": "x", "id": "7", "lang": "en", "n": [1]}'
    (example,) = Task.from_jsonl(write(tmp_path, line), test_share=0).examples
    assert example == Example({"q": "a", "c": "b"}, "x", id="7", metadata={"lang": "en", "n": [1]})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "JSON"),
        ("[1, 2]", "object"),
        ('"text"', "object"),
        ('{"input": "a"}', "output"),
        ('{"output": "a"}', "input"),
        ('{"input": "a", "output": [5]}', "output"),
        ('{"input": 5, "output": "a"}', "input"),
        ('{"input": {"q": 5}, "output": "a"}', "input"),
        ('{"input": "a", "output": "b", "split": "trian"}', "split"),
        ('{"input": "a", "output": "b", "id": 5.5}', "id"),
        ('{"input": "a", "output": "b"} {"input": "a", "output": "b"}', "Extra data"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, said: str):
    path = write(tmp_path, f"{GOOD}\n\n{line}\n{GOOD}\n")
    with pytest.raises(DataFileError) as caught:
        Task.from_jsonl(path)
    assert (caught.value.path, caught.value.line) == (path, 3)
    message = str(caught.value)
    assert "line 3: " in message
    assert said in message
    assert "pass the names of your fields" in message or 'expected {"input": text, "output": text' in message


def test_a_line_break_inside_a_string_splits_no_line(tmp_path: Path):
    tricky = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"
    text = json.dumps({"input": tricky, "output": tricky}, ensure_ascii=False)
    path = write(tmp_path, f"{text}\r\n{text}\r\n")
    task = Task.from_jsonl(path, test_share=0.5)
    assert [example.input for example in (*task.examples, *task.test)] == [tricky, tricky]
    path = write(tmp_path, f"{text}\n{{\n")
    with pytest.raises(DataFileError, match="line 2"):
        Task.from_jsonl(path)


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path):
    task = Task.from_jsonl(write(tmp_path, GOOD, "utf-8-sig"))
    assert task.examples == (Example("a", "x"),)


def test_latin_1_is_refused(tmp_path: Path):
    path = write(tmp_path, '{"input": "é", "output": "x"}', "latin-1")
    with pytest.raises(DataFileError, match=r"not UTF-8 \(byte 11\)") as caught:
        Task.from_jsonl(path)
    assert caught.value.line == 0


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_file(tmp_path: Path, text: str):
    with pytest.raises(DataFileError, match="no rows"):
        Task.from_jsonl(write(tmp_path, text))


def test_files_that_are_none(tmp_path: Path):
    with pytest.raises(DataFileError, match=r"nothing\.jsonl: cannot be read"):
        Task.from_jsonl(tmp_path / "nothing.jsonl")
    with pytest.raises(DataFileError, match="cannot be read"):
        Task.from_jsonl(tmp_path)


def test_without_training_rows(tmp_path: Path):
    with pytest.raises(DataFileError, match="no training row"):
        Task.from_jsonl(write(tmp_path, rows(("a", "x", "test"))))


def test_a_split_in_some_rows_only(tmp_path: Path):
    with pytest.raises(DataFileError, match="line 2: only some of the rows"):
        Task.from_jsonl(write(tmp_path, rows(("a", "x", "train")) + GOOD))
    with pytest.raises(DataFileError, match="line 2: only some of the rows"):
        Task.from_jsonl(write(tmp_path, GOOD + "\n" + rows(("a", "x", "train"))))


def test_held_out_rows(tmp_path: Path):
    path = write(tmp_path, "\n".join(json.dumps({"input": str(n), "output": str(n)}) for n in range(50)))
    task = Task.from_jsonl(path, seed=1)
    assert (len(task.examples), len(task.test)) == (40, 10)
    assert {row.input for row in (*task.examples, *task.test)} == {str(n) for n in range(50)}
    assert Task.from_jsonl(path, seed=1).test == task.test
    assert Task.from_jsonl(path, seed=2).test != task.test
    for share in (-0.1, 1, 1.5):
        with pytest.raises(InvalidInputError, match="test_share"):
            Task.from_jsonl(path, test_share=share)


def test_labels_are_inferred(tmp_path: Path):
    ten = [(f"{n}", "xy"[n % 2], "train") for n in range(10)]
    task = Task.from_jsonl(write(tmp_path, rows(*ten, ("q", "x", "test"))))
    assert (task.labels, task.metric) == (("x", "y"), "accuracy")
    few = Task.from_jsonl(write(tmp_path, rows(*ten[:9])))
    assert (few.labels, few.metric) == (None, "exact_match")
    new = Task.from_jsonl(write(tmp_path, rows(*ten, ("q", "z", "test"))))
    assert new.labels is None
    one = Task.from_jsonl(write(tmp_path, rows(*[(f"{n}", "x", "train") for n in range(10)])))
    assert one.labels is None
    given = Task.from_jsonl(write(tmp_path, rows(*ten)), labels=["x", "y", "z"], metric="exact_match")
    assert (given.labels, given.metric) == (("x", "y", "z"), "exact_match")
    assert Task.from_jsonl(write(tmp_path, rows(*ten)), labels=None).labels is None


def test_labels_that_only_punctuation_tells_apart(tmp_path: Path):
    text = rows(*[(f"{n}", ["C", "C++"][n % 2], "train") for n in range(10)])
    task = Task.from_jsonl(write(tmp_path, text))
    assert (task.labels, task.metric) == (("C", "C++"), "exact_match")
    assert task.score("C", "C++") == 0
    with pytest.raises(InvalidInputError, match=r"'C' and 'C\+\+'.*exact_match"):
        replace(task, metric="accuracy")


def test_banking77(banking: Task):
    assert (len(banking.examples), len(banking.test), len(banking.labels)) == (10003, 3080, 77)
    assert banking.metric == "accuracy"


@pytest.mark.parametrize(("name", "count"), [("banking77", 25), ("clinc150", 19)])
def test_leaks_of_real_data(data: Path, name: str, count: int):
    task = Task.from_jsonl(data / "classification" / f"{name}.jsonl")
    leaks = task.leaks()
    assert len(leaks) == count
    assert [leak.test for leak in leaks] == sorted(leak.test for leak in leaks)
    clean = task.without_leaks()
    assert len(clean.test) == len(task.test) - count
    assert clean.leaks() == []
    assert clean.examples == task.examples
    assert clean.without_leaks() is clean


def test_leaks_by_hand():
    pool = [Example("Where is it?", "a"), Example("where is it", "a"), Example("!!!", "a")]
    test = [Example("WHERE  is; it", "b"), Example("where it is", "a"), Example("!!!", "a"), Example("???", "a")]
    task = Task("", pool, test)
    assert task.leaks() == [Leak(0, 0), Leak(2, 2)]
    assert task.without_leaks().test == (test[1], test[3])


def test_leaks_see_every_field():
    pool = [Example({"input": "colour?", "context": "sky"}, "blue")]
    same, other = {"context": "Sky", "input": "Colour?"}, {"input": "colour?", "context": "grass"}
    assert Task("", pool, [Example(other, "green"), Example(same, "blue")]).leaks() == [Leak(1, 0)]


def test_draws_are_even_and_nested(banking: Task):
    small, middle = banking.draw(77, seed=3), banking.draw(770, seed=3)
    assert Counter(row.output for row in small) == dict.fromkeys(banking.labels, 1)
    assert Counter(row.output for row in middle) == dict.fromkeys(banking.labels, 10)
    places = {id(row): place for place, row in enumerate(banking.examples)}
    for draw in (small, middle, banking.draw(100, seed=3)):
        order = [places[id(row)] for row in draw]
        assert order == sorted(set(order))
        assert set(map(id, small)) <= set(map(id, draw))
    assert banking.draw(77, seed=3) == small
    assert banking.draw(77, seed=4) != small
    assert banking.draw(None, seed=3) == banking.draw(10003, seed=4) == list(banking.examples)


def test_draws_of_uneven_labels():
    pool = [Example(str(n), "rare" if n == 7 else "common") for n in range(20)]
    task = Task("", pool, [], labels=("common", "rare"))
    for seed in range(10):
        assert Counter(row.output for row in task.draw(2, seed)) == {"common": 1, "rare": 1}
        assert Counter(row.output for row in task.draw(5, seed)) == {"common": 4, "rare": 1}


def test_draws_without_labels():
    task = Task("", [Example(str(n), str(n)) for n in range(20)], [])
    draws = [task.draw(size, 1) for size in range(1, 21)]
    for smaller, larger in itertools.pairwise(draws):
        assert {row.input for row in smaller} < {row.input for row in larger}
    assert draws[9] != [Example(str(n), str(n)) for n in range(10)]


@pytest.mark.parametrize("size", [0, -1, 4])
def test_draws_of_impossible_sizes(size: int):
    task = Task("", [Example(str(n), "x") for n in range(3)], [])
    with pytest.raises(InvalidInputError, match=f"between 1 and 3.*got {size}"):
        task.draw(size, 0)


def test_an_empty_pool():
    with pytest.raises(EmptyPoolError, match="the task got an empty pool"):
        Task("", [], [Example("a", "b")])


def test_bad_rows():
    with pytest.raises(InvalidInputError, match=r"test\[0\] is 'z'"):
        Task("", [Example("a", "x")], [Example("b", "z")], labels=("x", "y"))
    for output in ("x\n\ny", "\n\nx"):
        with pytest.raises(InvalidInputError, match=r"examples\[1\] holds '\\n\\n'"):
            Task("", [Example("a", "x"), Example("a", output)], [])
    assert Task("", [Example("a\n\nb", "x\n\n")], []).examples[0].output == "x\n\n"
    with pytest.raises(InvalidInputError, match=r"examples\[0\] must be an Example, got dict; .* `Task.from_rows`"):
        Task("", [{"input": "a", "output": "x"}], [])
    with pytest.raises(InvalidInputError, match=r"the output of test\[0\] must be text, got int"):
        Task("", [Example("a", "x")], [Example("a", 5)])
    with pytest.raises(InvalidInputError, match="`labels` must be a sequence"):
        Task("", [Example("a", "x")], [], labels="xy")
    with pytest.raises(InvalidInputError, match="`labels` must be a sequence"):
        Task.from_rows([{"input": "a", "output": "x"}], labels="xy", test_share=0)
    with pytest.raises(InvalidInputError, match="'topic'"):
        Task("", [Example("a", "x")], [], template=Template(query="{topic}"))
    with pytest.raises(UnknownSpecError, match="exact_match"):
        Task("", [Example("a", "x")], [], metric="exact")


def test_the_fingerprint_follows_what_decides_an_answer():
    task = Task("i", [Example("a", "x")], [Example("b", "y")])
    same = Task("i", [Example("a", "x", id="1", metadata={"n": 1})], [Example("b", "y")], name="other")
    assert task.fingerprint == same.fingerprint
    others = [
        replace(task, instruction="j"),
        replace(task, examples=[Example("a", "z")]),
        replace(task, examples=[Example("c", "x")]),
        replace(task, examples=[Example({"input": "a"}, "x")]),
        replace(task, test=[]),
        replace(task, examples=[*task.examples, *task.test], test=[]),
        replace(task, metric="accuracy"),
        replace(task, labels=("x", "y")),
        replace(task, template=Template(query="Q: {input}")),
        replace(task, template=Template(answer="{output}")),
        replace(task, template=Template(separator="#")),
    ]
    assert len({task.fingerprint, *(other.fingerprint for other in others)}) == len(others) + 1
