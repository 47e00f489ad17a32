"""Generation on workers: the answers of one process but for seconds; trouble is tried again, mistakes are not."""

import json

import pytest
from command_line import run as ragkit
from pydantic import BaseModel

from ragkit import Prompt, ScriptedModel
from ragkit.errors import (
    BatchError,
    InvalidInputError,
    ModelError,
    PromptTooLongError,
    TransientModelError,
    WorkerError,
)
from ragkit.models._sampling import Sampling
from ragkit.records import Chat, Message
from ragkit.workers import GenerateTexts, WorkerPool, generate_many
from ragkit.workers import _generating as generating

PROMPTS = ["red", Prompt("dim the ", "lamp"), Chat((Message("system", "be short"), Message("user", "red")))]


class Item(BaseModel):
    name: str


def scripted(monkeypatch, answer):
    """Workers in this process load this model, whatever the spec."""
    model = ScriptedModel(answer)
    monkeypatch.setattr(generating, "load_model", lambda *_, **__: model)


def told(results):
    return [each.text if not isinstance(each, Exception) else (type(each), str(each)) for each in results]


def test_prompts_of_every_kind_reach_the_model_and_answers_come_in_order(monkeypatch, tmp_path):
    seen = []

    def answer(text):
        seen.append(text)
        return f"<{text}>"

    scripted(monkeypatch, answer)
    done = generate_many("any", PROMPTS, pool=WorkerPool("inline"), batch_size=2, folder=tmp_path)
    assert [each.text for each in done] == ["<red>", "<dim the lamp>", "<system: be short\n\nuser: red>"]
    assert seen == ["red", "dim the lamp", "system: be short\n\nuser: red"]
    assert generate_many("any", PROMPTS, pool=WorkerPool("inline"), batch_size=2, folder=tmp_path) == done
    assert len(seen) == 3  # the second call asked nothing


def test_a_mistake_is_told_and_spoils_no_other_answer(monkeypatch):
    def answer(text):
        if text == "long":
            raise PromptTooLongError(9, 5, advice="give less")
        if text == "odd":
            raise ModelError("it was silent")
        return text.upper()

    scripted(monkeypatch, answer)
    with pytest.raises(BatchError) as error:
        generate_many("any", ["a", "long", "odd", "b"], pool=WorkerPool("inline"))
    assert told(error.value.results) == [
        "A",
        (InvalidInputError, "the prompt and its answer take 9 tokens, the model's window is 5; give less"),
        (ModelError, "it was silent"),
        "B",
    ]


def test_trouble_is_tried_again_and_given_up_by_batches(monkeypatch, tmp_path):
    tries = {"passing": 0, "lasting": 0}

    def answer(text):
        if text in tries:
            tries[text] += 1
            if text == "lasting" or tries[text] == 1:
                raise TransientModelError("the server is down")
        return text.upper()

    scripted(monkeypatch, answer)
    work = GenerateTexts(model="any")
    asked = ["a", "passing", "lasting", "b", "c"]
    parts = list(work.results(asked, WorkerPool("inline", attempts=2), batch_size=2, folder=tmp_path))
    reason = "the batch was abandoned after 2 attempts: TransientModelError: the server is down"
    assert [told(part) for part in parts] == [["A", "PASSING"], [(WorkerError, reason)] * 2, ["C"]]
    assert tries == {"passing": 2, "lasting": 4}  # in each of two attempts with its batch, then alone
    (line,) = (tmp_path / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(line)["ids"] == ["2", "3"]


def test_answers_are_read_by_a_schema(monkeypatch):
    scripted(monkeypatch, lambda text: '{"name": "lamp"}' if text == "a" else "lamp")
    assert generate_many("any", ["a"], pool=WorkerPool("inline"), schema=Item)[0].parsed == Item(name="lamp")
    with pytest.raises(BatchError) as error:
        generate_many("any", ["a", "b"], pool=WorkerPool("inline"), schema=Item)
    assert error.value.results[0].text == '{"name": "lamp"}'
    assert "did not follow the schema" in str(error.value.results[1])


def test_shards_are_named_by_model_and_settings(monkeypatch):
    scripted(monkeypatch, str)
    names = {
        GenerateTexts(model="any", expected=model, sampling=Sampling(seed=seed)).fingerprint
        for model in ("a", "b")
        for seed in (0, 1)
    }
    assert len(names) == 4
    with pytest.raises(InvalidInputError, match="in this worker, expected another"):
        GenerateTexts(model="any", expected="another").start()
    with pytest.raises(InvalidInputError, match="`prompts` must be a sequence of prompts"):
        generate_many("any", "a prompt", pool=WorkerPool("inline"))


def test_the_command_line_generates_in_processes(tmp_path):
    file, cache = tmp_path / "p.jsonl", tmp_path / "answers.sqlite"
    rows = [{"prompt": f"Input: dim the lamp {n}"} for n in range(70)] + [{"prompt": "x " * 3000}]
    file.write_text("\n".join(map(json.dumps, rows)))
    options = ["generate", "--file", file, "--max-tokens", 3]
    here = ragkit(*options)
    there = ragkit(*options, "--engine", "process", "--workers", 2, "--cache", cache)
    assert (here.returncode, there.returncode) == (1, 1)
    lines = [[json.loads(line) for line in done.stdout.splitlines()] for done in (here, there)]
    for row, other in zip(*lines, strict=True):
        assert row["prompt"] == other["prompt"]
        assert (row.get("text"), row.get("usage")) == (other.get("text"), other.get("usage"))
    assert lines[1][-1]["error"] == lines[0][-1]["error"]
    assert "70 responses (0 cached), 1 failed" in there.stderr
    again = ragkit(*options, "--engine", "process", "--cache", cache)
    assert "70 responses (70 cached)" in again.stderr
    refused = ragkit("generate", "x", "--engine", "process")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--file" in refused.stderr


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_sizes_of_batches_are_checked(size):
    with pytest.raises(InvalidInputError, match="`batch_size` must be a whole number"):
        generate_many("tiny", ["dim"], pool=WorkerPool("inline"), batch_size=size)
