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
        "compare", "--data", data, "--strategies", "majority", "--embedder", "hash:64", "--out", tmp_path, "--json"
    )
    assert json.loads(done.stdout)["task"] == "rows"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategies", "vote:jacard"], "Did you mean 'vote:jaccard'"),
        (["--sizes", "many"], "--sizes takes whole numbers"),
        (["--embedder", "minilmm"], "Did you mean 'minilm'"),
        (["--sizes", "999", "--strategies", "majority", "--embedder", "hash:8"], "between 1 and 16"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(data, tmp_path, arguments, message):
    done = ragkit("compare", "--data", data, "--out", tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out/results.json").exists()


def test_a_bad_line_is_named(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"input": "a", "output": "b"}\n{"input": 3, "output": "b"}\n')
    done = ragkit("compare", "--data", path)
    assert done.returncode == 2
    assert "line 2" in done.stderr
