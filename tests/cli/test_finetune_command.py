import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from ragkit import load_model
from ragkit.errors import InvalidInputError
from ragkit_pipelines.cli.main import app

ROWS = [{"prompt": f"{word} the lamp", "completion": f"{symbol} lamp"}
        for word, symbol in (("dim", "fade"), ("light", "glow"))] * 4  # fmt: skip


def ragkit(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "ragkit_pipelines.cli", "finetune", *map(str, arguments)], capture_output=True, text=True
    )


def write(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_a_model_is_trained_once_and_reported(tmp_path):
    data = write(tmp_path / "rows.jsonl", [*ROWS, ROWS[0] | {"split": "dev"}])
    command = ["--data", data, "--out", tmp_path / "out", "--epochs", 2, "--instruction", "Turn it.",
               "--peft-config", '{"r": 4}', "--trainer-config", '{"warmup_steps": 0}']  # fmt: skip
    done = ragkit(*command)
    assert done.returncode == 0, done.stderr
    assert "8 used, 0 truncated, 0 dropped" in done.stdout
    assert "on held-out rows" in done.stdout
    assert f'load_model("hf:{tmp_path / "out"}")' in "".join(part.strip(" │\n") for part in done.stdout.splitlines())
    again = CliRunner().invoke(app, ["finetune", *map(str, command), "--json"])
    manifest = json.loads(again.stdout)
    assert manifest["ask_with"]["instruction"] == "Turn it."
    assert manifest["epochs"] == 2
    assert load_model(f"hf:{tmp_path / 'out'}").generate("dim", max_tokens=1).text is not None


def test_texts_and_several_files(tmp_path):
    text = tmp_path / "corpus.txt"
    text.write_text("the heron waits\n\nthe canal is violet")
    rows = write(tmp_path / "more.jsonl", [{"text": "seven bells"}])
    done = ragkit("--data", text, "--data", rows, "--objective", "text", "--out", tmp_path / "out", "--epochs", 1,
                  "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    manifest = json.loads(done.stdout)
    assert set(manifest["tasks"]) == {"corpus", "more"}
    assert manifest["form"] == "model"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "lorra"], "Did you mean 'lora'"),
        (["--objective", "texts"], "Did you mean 'text'"),
        (["--objective", "preference"], "row 1 is a mapping of"),
        (["--trainer-config", "[1]"], "--trainer-config"),
        (["--trainer-config", '{"seed": 1}'], "give `seed`"),
        (["--peft-config", '{"rank": 4}'], "--peft-config"),
    ],
)
def test_an_invalid_argument_is_named_and_leaves_no_files(tmp_path, arguments, message):
    data = write(tmp_path / "rows.jsonl", ROWS)
    done = CliRunner().invoke(app, ["finetune", "--data", str(data), "--out", str(tmp_path / "out"), *arguments])
    assert isinstance(done.exception, InvalidInputError)  # `main` reports it in one line with exit code 2
    assert message in str(done.exception)
    assert not (tmp_path / "out").exists()
