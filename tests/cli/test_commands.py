import json
import subprocess
import sys

import pytest

ROWS = [
    {"input": f"{word} number {n}", "output": label}
    for word, label in (("card", "bank"), ("cake", "food"))
    for n in range(10)
]


def ragkit(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "ragkit_pipelines.cli", *map(str, arguments)], capture_output=True, text=True
    )


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "\n".join(json.dumps(row | {"split": "test" if n % 5 == 0 else "train"}) for n, row in enumerate(ROWS))
    )
    return path


def test_compare_prints_a_table_and_writes_results(data, tmp_path):
    done = ragkit("compare", "--data", data, "--strategies", "majority,vote:jaccard", "--embedder", "hash:64",
                  "--sizes", "2,all", "--out", tmp_path / "out")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "vote:jaccard" in done.stdout
    assert "pool 16" in done.stdout
    assert {row["size"] for row in json.loads((tmp_path / "out/results.json").read_text())["rows"]} == {2, 16}


def test_json_output_is_only_json(data, tmp_path):
    done = ragkit(
        "compare",
        "--data",
        data,
        "--strategies",
        "majority",
        "--embedder",
        "hash:64",
        "--out",
        tmp_path / "new",
        "--json",
    )
    assert json.loads(done.stdout)["task"] == "rows"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategies", "vote:jacard"], "Did you mean 'vote:jaccard'"),
        (["--sizes", "many"], "--sizes"),
        (["--embedder", "minilmm"], "Did you mean 'minilm'"),
        (["--sizes", "999", "--strategies", "majority", "--embedder", "hash:8"], "between 1 and 16"),
    ],
)
def test_a_user_error_is_one_line_with_exit_code_2(data, tmp_path, arguments, message):
    done = ragkit("compare", "--data", data, "--out", tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out/results.json").exists()


def test_an_invalid_line_is_named(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"input": "a", "output": "b"}\n{"input": 3, "output": "b"}\n')
    done = ragkit("compare", "--data", path)
    assert done.returncode == 2
    assert "line 2" in done.stderr


def test_strategies_take_stages(data, tmp_path):
    done = ragkit("compare", "--data", data, "--strategies", "vote:bm25 | label-nearest,vote:tfidf", "--embedder",
                  "hash:64", "--sizes", "all", "--out", tmp_path / "out")  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out/results.json").read_text())["rows"]
    assert {row["strategy"] for row in rows} == {"vote:bm25 | label-nearest", "vote:tfidf"}
    assert {row["score"] for row in rows} == {1.0}
    wrong = ragkit("compare", "--data", data, "--strategies", "vote:bm25 | labl-nearest", "--out", tmp_path / "other")
    assert wrong.returncode == 2
    assert "Did you mean 'label-nearest'" in wrong.stderr


def test_select_explains(data):
    done = ragkit("select", "--pool", data, "--query", "cards: number 3", "--selector", "jaccard | guard", "-k", 2)
    assert done.returncode != 0  # -k is spelled --k, as all options are
    done = ragkit("select", "--pool", data, "--query", "Card number 3!", "--selector", "jaccard | guard", "--k", 2,
                  "--explain")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "matched: card number" in done.stdout
    assert "jaccard 0.500" in done.stdout
    assert "excluded 2: same text as the query" in done.stdout


def test_select_prints_json(data, tmp_path):
    rows = [
        {"question": "[red]dim[/red] {x}", "answer": "a", "lang": "en"},
        {"question": "dim", "answer": "b", "lang": "fr"},
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    options = ["--pool", path, "--query", "dim", "--key", "question", "--output", "answer", "--k", 1]
    found = json.loads(ragkit("select", *options, "--json").stdout)
    assert found["hits"][0]["output"] == "b"
    assert found["hits"][0]["why"]["matched"] == ["dim"]
    english = json.loads(ragkit("select", *options, "--json", "--where", '{"lang": "en"}').stdout)
    assert english["hits"][0]["output"] == "a"
    assert "[red]dim[/red] {x}" in ragkit("select", *options, "--where", '{"lang": "en"}').stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--selector", "bm52"], "Did you mean 'bm25'"),
        (["--where", "{lang: en}"], "--where"),
        (["--where", '["lang"]'], "--where"),
        (["--where", '{"lang": "en"}'], "which no example's metadata has"),
        (["--key", "question"], "examples[0]: `key` is 'question'"),
        (["--pool", "nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
    ],
)
def test_invalid_arguments_of_select(data, arguments, message):
    options = {"--pool": str(data), "--query": "card"} | dict(zip(arguments[::2], arguments[1::2], strict=True))
    done = ragkit("select", *(part for pair in options.items() for part in pair))
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_pool_check(tmp_path):
    rows = [
        {"input": "dim the lamp", "output": "light", "split": "train"},
        {"input": "Dim the lamp!", "output": "dark", "split": "train"},
        {"input": "play a song", "output": "music", "split": "train"},
        {"input": "play another song", "output": "music", "split": "train"},
        {"input": "PLAY a song", "output": "music", "split": "test"},
    ]
    path = tmp_path / "pool.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    done = ragkit("pool", "check", path)
    assert done.returncode == 0, done.stderr
    assert "4 rows in the pool, 1 test rows, 3 different outputs" in done.stdout
    for line in ("1 duplicates", "1 conflicts", "1 leaked test rows", "0 near-duplicates"):
        assert line in done.stdout
    assert "1: 'Dim the lamp!' -> 'dark'" in done.stdout
    found = json.loads(ragkit("pool", "check", path, "--json", "--near", 0.5).stdout)
    assert found["leaks"] == [[2, 0, 1.0]]
    assert found["near_duplicates"] == [[2, 3, 0.5]]
    path.write_text('{"input": "a", "output": "b"}\nnot json\n')
    wrong = ragkit("pool", "check", path)
    assert wrong.returncode == 2
    assert "line 2" in wrong.stderr


def test_an_index_from_the_command_line(tmp_path):
    data, folder = tmp_path / "corpus.jsonl", tmp_path / "i"
    rows = [{"id": n, "body": f"text {n} about {'lamps' if n % 2 else 'songs'}", "part": n % 3} for n in range(60)]
    data.write_text("\n".join(map(json.dumps, rows)))
    built = ragkit("index", "build", folder, data, "--embedder", "hash:64", "--text", "body", "--factory", "IVF2,Flat")
    assert built.returncode == 0, built.stderr
    assert built.stdout.startswith("60 documents,")
    assert "search: IVF2,Flat" in built.stdout
    assert json.loads(ragkit("index", "tune", folder, "--target-recall", 0.9).stdout)["recall"] >= 0.9
    data.write_text(json.dumps({"id": 3, "body": "entirely new lamp", "part": 9}))
    assert ragkit("index", "add", folder, data, "--text", "body").stdout.startswith("60 documents,")
    found = json.loads(
        ragkit("index", "search", folder, "new lamp", "--k", 1, "--where", '{"part": 9}', "--json").stdout
    )
    assert [(hit["id"], hit["metadata"]) for hit in found] == [("3", {"part": 9})]
    assert "entirely new lamp" in ragkit("index", "search", folder, "entirely new lamp").stdout
    assert json.loads(ragkit("index", "stats", folder, "--json").stdout)["rows"] == 61
    assert ragkit("index", "compact", folder).stdout.startswith("60 documents,")
    assert ragkit("index", "verify", folder).stdout == "60 documents, no damage found\n"
    vectors = next(folder.glob("vectors-*.bin"))
    vectors.write_bytes(vectors.read_bytes()[:-4] + b"\x00\x01\x02\x03")
    damaged = ragkit("index", "verify", folder)
    assert damaged.returncode == 2
    assert "vectors-2.bin" in damaged.stderr


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "line 2"),
        ('{"other": "x"}', "line 2"),
        ('{"text": "x", "id": [1]}', "line 2"),
    ],
)
def test_invalid_rows_of_a_corpus(tmp_path, line, message):
    data = tmp_path / "corpus.jsonl"
    data.write_text('{"text": "fine"}\n' + line)
    done = ragkit("index", "build", tmp_path / "i", data, "--embedder", "hash:8")
    assert done.returncode == 2
    assert message in done.stderr
    assert ragkit("index", "search", tmp_path / "nowhere", "x").returncode == 2
