"""Attacks on files of tasks, templates, answer readers, metrics, plugins and checks of pools."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
from attack_case import Attack
from plugins import distribution
from refusals import accepted_or_refused, first, refused

from ragkit import BM25Selector, EmbeddingSelector, Guard, JaccardSelector, Task, Template
from ragkit._task_files import read_objects
from ragkit.answers import load_reader
from ragkit.errors import RagkitError
from ragkit.metrics import load_metric, score_answers
from ragkit.records import Example
from ragkit.selectors import BaseSelector, check_pool

# -- files of tasks ----------------------------------------------------------------------------------------------------


def table_with_many_columns(folder: Path) -> str:
    count = 200_000
    path = folder / "wide.csv"
    header = "input,output," + ",".join(f"c{n}" for n in range(count))
    path.write_text(f"{header}\nx,y{',1' * count}\nx,y\n")
    found = refused(partial(Task.from_csv, path), "a short row")
    path.write_text(f"{header},c7\nx,y{',1' * (count + 1)}\n")
    found = found or refused(partial(Task.from_csv, path), "two columns with one name")
    path.write_text(header.replace("input", "question") + f"\nx,y{',1' * count}\n")
    try:
        Task.from_csv(path)
    except RagkitError as error:
        return found or (f"a message of {len(str(error))} characters" if len(str(error)) > 2000 else "")
    return found or "a table without an input was accepted"


def open_quotes(folder: Path) -> str:
    found = []
    texts = (
        '"x,y\n' + "a,b\n" * 500_000,
        '"x,y\n' * 100_000,
        '""' * 500_000,
        'x,"y\n' + '\\"' * 200_000,
        '","' * 200_000,
    )
    for place, text in enumerate(texts):
        path = folder / f"{place}.csv"
        path.write_text("input,output\n" + text)
        found.append(accepted_or_refused(partial(Task.from_csv, path), text[:20]))
    return first(found)


def nul_bytes(folder: Path) -> str:
    found = []
    texts = {"a.csv": "input,output\nx\0,y\n\0,\0\n", "b.csv": "\0" * 100_000, "c.jsonl": "\0" * 100_000}
    texts |= {"d.jsonl": '{"input": "\0", "output": "y"}', "e.tsv": "\0\t\0\n", "f.csv": "sep=\0\na\0b\n1\0002\n"}
    for name, text in texts.items():
        (folder / name).write_text(text)
        found += [accepted_or_refused(partial(read, folder / name), name) for read in (Task.from_path, read_objects)]
    return first(found)


def lines_of_100_megabytes(folder: Path) -> str:
    text = "x " * 50_000_000
    path = folder / "long.jsonl"
    path.write_text(json.dumps({"input": text, "output": "y", "split": "train"}) + "\n")
    found = accepted_or_refused(lambda: Task.from_jsonl(path).leaks(), "JSON")
    table = folder / "long.csv"
    table.write_text(f'input,output,split\n"{text}",y,train\n')
    return found or accepted_or_refused(partial(Task.from_csv, table), "CSV")


def bombs_in_json_lines(folder: Path) -> str:
    start = '{"input": "x", "output": "y", "m": '
    bad = [start + "[" * 100_000 + "]" * 100_000 + "}", start + "[" * 100_000, '{"input": {"a": ' * 5000, "[" * 100_000]
    bad += ['{"input": "x", "output": "y", "input": "z"}', start + '{"a": 1, "a": 2}}', start + "9" * 5000 + "}"]
    bad += ['{"input": "x", "output": "y", "id": 1e999}', '{"input": "x", "output": "y", "id": true}', "\ufeff" * 3]
    found = []
    for place, text in enumerate(bad):
        path = folder / f"{place}.jsonl"
        path.write_text(text)
        found.append(refused(partial(Task.from_jsonl, path), text[:60]))
    path = folder / "numbers.jsonl"
    path.write_text('{"input": "x", "output": "y", "n": 1e999, "m": NaN, "k": ' + "9" * 4000 + "}")
    return first(found) or accepted_or_refused(lambda: Task.from_jsonl(path).fingerprint, "numbers")


def nested_metadata(folder: Path) -> str:
    """Metadata that JSON can just represent must not exhaust the stack later."""
    found = []
    for depth in (300, 600, 900, 950):
        path = folder / f"{depth}.jsonl"
        nested = "[" * depth + "]" * depth
        path.write_text('{"input": "x", "output": "y", "m": ' + nested + "}\n")
        found.append(accepted_or_refused(partial(Task.from_jsonl, path), f"depth {depth}"))
        selector = BM25Selector([{"input": "x", "output": "y", "m": json.loads(nested)}])
        found.append(accepted_or_refused(partial(selector.save, folder / "s"), f"save {depth}"))
        found.append(accepted_or_refused(partial(BaseSelector.load, folder / "s"), f"load {depth}"))
    return first(found)


def many_labels(_: Path) -> str:
    rows = [{"input": f"text {n}", "output": f"label {n % 6_000}", "split": "train"} for n in range(30_000)]
    return "" if len(Task.from_rows(rows).labels or ()) == 6_000 else "not every label was found"


# -- templates ---------------------------------------------------------------------------------------------------------


def values_that_look_like_templates(_: Path) -> str:
    fields = {"a": "{b} {input} {a}", "b": "{a.__class__} %s {0} {{input}} ${a}", "c": "{% raw %}{{ 7 * 7 }}"}
    text = Template(query="{a}|{b}|{c}|{a.__class__}|{0}|{{b}}:").render_query(fields)
    right = f"{fields['a']}|{fields['b']}|{fields['c']}|{{a.__class__}}|{{0}}|{{{fields['b']}}}:"
    if text != right:
        return f"{text!r} instead of {right!r}"
    answer = Template(answer=" {output}").render_answer("{output} {input} \\1 %(x)s")
    if answer != " {output} {input} \\1 %(x)s\n\n":
        return repr(answer)
    named = Template(query="{input} {__class__}:").render_query({"input": "x", "__class__": "y", "a}{b": "z"})
    return "" if named == "x y:" else repr(named)


# -- answer readers ----------------------------------------------------------------------------------------------------

PIECES = (
    *(
        "\n",
        " ",
        "1",
        "1 ",
        "1 000",
        " 000",
        "1,",
        "1/",
        "-",
        "$",
        '"',
        '\\"',
        "`",
        "<think>",
        "<think ",
        "<",
        "</think>",
        "{",
    ),
    *("\\boxed{", "the answer is ", "answer ", "answer to a a a a ", "not ", '{"a":', '{"a"', "{ ", "[", '{"a":"', "a"),
    *("\u0301\u0316", "\u0316\u0301", "a ", "A or ", "A, ", "a:", "red ", "red or blue ", "ก", "是", "```\n", "*", "("),
    *(
        "#### ",
        "10^",
        "1e9",
        "\\frac{1}",
        "⁻",
        "½",
        "option A ",
        "\t",
        "\r\n",
        "is ",
        "=",
        "and ",
        "x\n",
        "- :\n",
        "\\",
    ),
    *("Options", "\ud800", "answer:\n", "**", "1.", "1)\n", "€", "\\text", "👩\u200d", "\u200d", "ﷺ", "of ", "\u2028"),
)
SPECS = ("label", "choice", "number", "json:a", "after:a|number", "regex:x$")


def readers_on_repetitions(_: Path) -> str:
    """Time that grows with the square of the length takes minutes here."""
    readers = [load_reader(spec, labels=["red", "blue"]) for spec in SPECS]
    for piece in PIECES:
        text = "x " + piece * (20_000 // len(piece)) + " x"
        for reader in readers:
            try:
                reader.read(text)
            except Exception as error:  # noqa: BLE001 - a reader never raises
                return f"{reader.spec} on {piece!r}: {type(error).__name__}: {error}"
    return ""


def patterns_with_exponential_time(_: Path) -> str:
    patterns = ("^(a|aa)+$", "^(a+)+$", r"^(\w+\s?)*$", "^(.*a){20}$", "(.*a){11}P")
    for pattern in patterns:
        found = load_reader(f"regex:{pattern}").read("a" * 15_000 + "!")
        if found.readable:
            return f"{pattern} matched {found.text[:40]!r}"
    return ""


def answers_of_10_megabytes(_: Path) -> str:
    readers = [load_reader(spec, labels=["red", "blue"]) for spec in ("whole", "first-line", "label", "json:a")]
    for piece in ("a ", "1 ", '"', "\n", "<think>", "</think>", "\u0301"):
        text = "x" + piece * (10_000_000 // len(piece)) + "x"
        for reader in readers:
            reader.read(text)
    return ""


def bombs_in_json_answers(_: Path) -> str:
    reader = load_reader("json:a.b.0")
    values = ["9" * 90_000, "1e999999999", "1e-999999999", '"\ud800"', "NaN"]
    values += ['{"c":' * depth + "1" + "}" * depth for depth in (300, 450, 900, 990)]
    texts = [f'{{"a": {{"b": [{value}]}}}}' for value in values]
    texts += ['{"a": ' * 15_000, '{"a": ' + "[" * 90_000, '{"a": "' * 10_000, '{"a":1' * 10_000, '{"' + "\\" * 50_000]
    for text in texts:
        try:
            found = reader.read(text)
        except Exception as error:  # noqa: BLE001 - a reader never raises
            return f"{text[:40]!r}: {type(error).__name__}: {error}"
        if len(found.text) > 100_000:
            return f"{text[:40]!r}: an answer of {len(found.text)} characters"
    return ""


# -- metrics -----------------------------------------------------------------------------------------------------------

METRICS = ("exact_match", "accuracy", "number", "f1", "chrf", "rouge1", "rouge2", "rougeL", "records", "fields")
EXPECTED = {"records": '{"a": 1}', "fields": '{"a": 1}', "number": "5"}


def scored(texts: Iterable[str]) -> str:
    for text in texts:
        for name in METRICS:
            expected = EXPECTED.get(name, "the lamp in the hall " * 20)
            try:
                (score,) = score_answers(load_metric(name), [text], [Example("x", expected)])
            except Exception as error:  # noqa: BLE001 - an answer never stops an evaluation
                return f"{name} on {text[:30]!r}: {type(error).__name__}: {error}"[:300]
            if not 0 <= score <= 1:
                return f"{name} on {text[:30]!r}: {score}"
    return ""


def metrics_on_repetitions(_: Path) -> str:
    pieces = ("\u0301\u0316", "\u0316\u0301", "a ", "[", '{"a":', "1", "是", "the ", "½")
    texts = [piece * (8_000 // len(piece)) for piece in pieces]
    texts += ['{"a": ' + "[" * depth + "]" * depth + "}" for depth in (200, 400, 600, 800, 900, 960, 5000)]
    return scored([*texts, "1e999", '{"a": 1e999}', '{"a": ' + "9" * 5000 + "}", "\ud800", "\0", ""])


def metrics_on_10_megabytes(_: Path) -> str:
    numbers = np.random.default_rng(0).integers(0, 10**6, 1_500_000)
    words = " ".join(f"w{n}" for n in numbers.tolist())
    return scored([words[:10_000_000], "the lamp " * 1_100_000, "\u0301" * 5_000_000])


def long_expected_texts(_: Path) -> str:
    numbers = np.random.default_rng(0).integers(0, 10**6, (2, 200_000))
    answer, expected = (" ".join(f"w{n}" for n in row) for row in numbers.tolist())
    for name in ("f1", "chrf", "rouge1", "rouge2", "rougeL"):
        score_answers(load_metric(name), [answer], [Example("x", expected)])
    return ""


# -- plugins -----------------------------------------------------------------------------------------------------------

REGISTER = "from ragkit.registry import register\n"
BROKEN = {
    "broken_division": "1 / 0",
    "broken_exit": "import sys\nsys.exit(3)",
    "broken_recursion": "def f(): f()\nf()",
    "broken_name": REGISTER + "register('selector', 'bm25', object)",
    "broken_kind": REGISTER + "register('nonsense', 'x', object)",
    "broken_import": "import a_module_that_does_not_exist",
    "broken_syntax": "def",
}
SOUND = REGISTER + (
    "register('metric', 'sound', lambda answer, expected: 0.5)\n"
    "register('metric', 'absent', 'a_module_that_does_not_exist:f')\nregister('metric', 'late', 'broken_division:f')\n"
)
USE = """
import json, warnings
from ragkit.errors import RagkitError
from ragkit.metrics import load_metric
from ragkit.registry import components
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    score, known = load_metric("sound")("a", "b"), len(components("selector"))
late = []
for name in ("absent", "late"):
    try:
        load_metric(name)
    except RagkitError as error:
        late.append(name in str(error))
print(json.dumps([score, known, [str(each.message) for each in caught], late]))
"""


def broken_plugins(folder: Path) -> str:
    site = folder / "site"
    site.mkdir()
    place = distribution(site, BROKEN | {"sound": SOUND}, [*BROKEN, "broken_absent", "sound"])
    environment = os.environ | {"PYTHONPATH": ":".join([str(place), *filter(None, sys.path)])}
    command = [sys.executable, "-c", textwrap.dedent(USE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=100)
    if done.returncode:
        return f"exit code {done.returncode}: {done.stderr[-300:]}"
    score, known, messages, late = json.loads(done.stdout.splitlines()[-1])
    unnamed = [name for name in (*BROKEN, "broken_absent") if not any(name in text for text in messages)]
    if unnamed or score != 0.5 or known < 9 or late != [True, True]:
        return f"not named: {unnamed}; {score}, {known} selectors, {late}"
    return ""


# -- checks of pools ---------------------------------------------------------------------------------------------------


def pools_of_the_same_words(_: Path) -> str:
    rng = np.random.default_rng(0)
    words = np.array([f"w{n}" for n in range(14)])
    found = check_pool([Example(" ".join(rng.permutation(words)[:12]), "x") for _ in range(6_000)])
    return "every pair was compared" if found.near_searched else ""


def hostile_texts_in_a_pool(_: Path) -> str:
    texts = [
        "",
        "a " * 50_000,
        "\u0301" * 20_000,
        "是" * 5_000,
        "\ud800",
        "x" * 100_000,
        "\0",
        " " * 100_000,
        "!" * 9_000,
    ]
    rows = [Example(text, "x") for text in texts for _ in range(2)]
    check_pool(rows, rows[:3])
    for selector in (JaccardSelector(rows), BM25Selector(rows), EmbeddingSelector(rows, embedder="hash:8")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            chosen = (selector | Guard(near=0.9)).select("a 是 \u0301", len(rows))
        if len({example.text() for example in chosen}) < len(chosen):
            return "two copies of a text were selected"
    return ""


def duplicates_under_a_guard(_: Path) -> str:
    rows = [Example("dim the lamp" if n % 2 else "dim the lamp!", "x") for n in range(4_000)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chosen = (JaccardSelector(rows) | Guard(near=0.9)).select("dim a lamp", 8)
    return "" if len(chosen) == 1 else f"{len(chosen)} copies were selected"


TASKS = "A file of a task gives a task or an error of ragkit, in time and memory proportional to its size"
VALUES = "Values are inserted once and never parsed"
ANSWER = "No answer of a model makes a reader raise, or take more than time proportional to its length"
SCORE = "No answer of a model stops an evaluation or exhausts its memory"
PLUGIN = "A plugin that fails is skipped and named, and all others work"
POOLS = "Checks of pools take time proportional to the size of the pool"

ATTACKS = [
    Attack("a table with 200,000 columns", TASKS, table_with_many_columns),
    Attack("quotes that are never closed", TASKS, open_quotes),
    Attack("NUL bytes", TASKS, nul_bytes),
    Attack("lines of 100 MB", TASKS, lines_of_100_megabytes, memory_mib=3072, seconds=120, slow=True),
    Attack("brackets, repeated names and long numbers", TASKS, bombs_in_json_lines),
    Attack("nested metadata", TASKS, nested_metadata),
    Attack("6,000 labels", TASKS, many_labels),
    Attack("values that look like templates", VALUES, values_that_look_like_templates),
    Attack("repeated pieces in answers", ANSWER, readers_on_repetitions, seconds=300, slow=True),
    Attack("patterns with exponential time", ANSWER, patterns_with_exponential_time, seconds=60, slow=True),
    Attack("answers of 10 MB", ANSWER, answers_of_10_megabytes, seconds=300, slow=True),
    Attack("bombs in JSON answers", ANSWER, bombs_in_json_answers),
    Attack("repeated pieces in scored answers", SCORE, metrics_on_repetitions),
    Attack("scored answers of 10 MB", SCORE, metrics_on_10_megabytes, memory_mib=2048, seconds=180, slow=True),
    Attack("long answers and long expected texts", SCORE, long_expected_texts, seconds=60, slow=True),
    Attack("plugins that fail", PLUGIN, broken_plugins),
    Attack("a pool of the same words", POOLS, pools_of_the_same_words),
    Attack("hostile texts in a pool", POOLS, hostile_texts_in_a_pool),
    Attack("duplicates under a guard", POOLS, duplicates_under_a_guard),
]
