"""Tasks from the hub's format and from data frames."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ragkit.errors import DataFileError, InvalidInputError
from ragkit.tasks import Task

ROWS = [{"text": f"text {n}", "label": n % 2, "extra": n} for n in range(20)]


def written(folder: Path, **splits: list[dict[str, object]]) -> str:
    folder.mkdir()
    for name, rows in splits.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("datasets", reason="the extra `local` brings it")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path


def test_the_splits_of_a_dataset_are_used(hub: Path):
    folder = written(hub / "data", train=ROWS[:14], validation=ROWS[14:17], test=ROWS[17:])
    task = Task.from_hub(folder, input="text", output="label")
    assert [row.text() for row in task.examples] == [f"text {n}" for n in range(14)]
    assert [(row.text(), row.output) for row in task.test] == [("text 17", "1"), ("text 18", "0"), ("text 19", "1")]
    assert (task.name, task.labels, task.examples[3].metadata) == ("data", ("0", "1"), {"extra": 3})
    assert Task.from_path(f"hub:{folder}", input="text", output="label").fingerprint == task.fingerprint


def test_validation_rows_replace_missing_test_rows_and_one_split_is_divided(hub: Path):
    folder = written(hub / "a", train=ROWS[:14], validation=ROWS[14:])
    assert [row.text() for row in Task.from_hub(folder, input="text", output="label").test] == [
        f"text {n}" for n in range(14, 20)
    ]
    alone = Task.from_hub(written(hub / "b", train=ROWS), input="text", output="label", seed=1)
    assert (len(alone.examples), len(alone.test)) == (16, 4)
    part = Task.from_hub(folder, split="train[:10]", input="text", output="label", test_share=0.5)
    assert {row.text() for row in (*part.examples, *part.test)} == {f"text {n}" for n in range(10)}
    assert len(part.test) == 5


def test_what_is_missing_is_listed(hub: Path):
    folder = written(hub / "a", train=ROWS, test=ROWS)
    with pytest.raises(DataFileError, match="has no 'question', only text, label, extra"):
        Task.from_hub(folder, input="question", output="label")
    with pytest.raises(InvalidInputError, match=r"\['train', 'test'\]"):
        Task.from_hub(folder, split="dev", input="text", output="label")
    with pytest.raises(InvalidInputError, match=r"Available: \['default'\]"):
        Task.from_hub(folder, config="small", input="text", output="label")
    with pytest.raises(InvalidInputError, match="check the id"):
        Task.from_hub(str(hub / "absent"), input="text", output="label")
    with pytest.raises(InvalidInputError, match="check the network and the id"):
        Task.from_hub("no-such-owner/no-such-name", input="text", output="label")
    folder = written(hub / "c", test=ROWS, validation=ROWS)
    with pytest.raises(InvalidInputError, match=r"no split 'train', only .*'test'"):
        Task.from_hub(folder, input="text", output="label")


def test_the_command_line_takes_a_hub_id(hub: Path):
    folder = written(hub / "data", train=ROWS, test=ROWS[:4])
    command = [sys.executable, "-m", "ragkit_pipelines.cli", "data", "check", f"hub:{folder}"]
    done = subprocess.run([*command, "--input", "text", "--output", "label"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "data: 20 rows in the pool, 4 test rows" in done.stdout
    assert "test rows that also appear in the pool: 4 of 4" in done.stdout


def test_a_pandas_frame(tmp_path: Path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS).assign(split=["train"] * 16 + ["test"] * 4, label=lambda rows: rows.label > 0)
    task = Task.from_dataframe(frame[::-1], name="frame", input="text", output="label")
    assert [row.text() for row in task.examples] == [f"text {n}" for n in reversed(range(16))]
    assert (task.name, task.labels, [row.output for row in task.test]) == (
        "frame", ("false", "true"), ["true", "false", "true", "false"],
    )  # fmt: skip
    with pytest.raises(DataFileError, match="has no 'input', only text") as caught:
        Task.from_dataframe(frame)
    assert caught.value.line == 1
    frame.loc[2, "text"] = None
    with pytest.raises(DataFileError, match="input") as caught:
        Task.from_dataframe(frame, input="text", output="label")
    assert caught.value.line == 3
    with pytest.raises(InvalidInputError, match="different names"):
        Task.from_dataframe(pandas.DataFrame([[1, 2]], columns=["a", "a"]))


def test_a_polars_frame():
    polars = pytest.importorskip("polars")
    task = Task.from_dataframe(polars.DataFrame(ROWS), input=["text"], output="label", test_share=0)
    assert [row.input for row in task.examples] == [{"text": row["text"]} for row in ROWS]


@pytest.mark.parametrize("other", [[{"input": "a", "output": "b"}], "path", SimpleNamespace(columns=["a"])])
def test_other_objects_are_not_frames(other: object):
    with pytest.raises(InvalidInputError, match="`frame` must be a DataFrame of pandas or Polars"):
        Task.from_dataframe(other)
