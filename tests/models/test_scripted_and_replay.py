"""The two models that answer without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ragkit.errors import DataFileError, InvalidInputError, ModelError, NotRecordedError
from ragkit.models import load_model
from ragkit.models._replay import ReplayModel
from ragkit.models._scripted import ScriptedModel
from ragkit.records import Chat, Message, Prompt, Usage
from ragkit.testing import LanguageModelContract


def echo(prompt: str):
    return f"you said: {prompt[::-1]}; that is all of it"


class TestScripted(LanguageModelContract):
    @pytest.fixture
    def model(self):
        return ScriptedModel(echo)


class TestRecording(LanguageModelContract):
    @pytest.fixture
    def model(self, tmp_path: Path):
        return ReplayModel(tmp_path / "calls.jsonl", record_from=ScriptedModel(echo))


def test_scripted_by_list_mapping_and_function():
    model = ScriptedModel(["Paris", "Rome"])
    assert [answer.text for answer in model.generate(["France?", Prompt("It", "aly?")])] == ["Paris", "Rome"]
    assert model.asked == ["France?", "Italy?"]
    with pytest.raises(ModelError, match="2 answers, and this is call 3"):
        model.generate("Spain?")
    model = ScriptedModel({"France?": "Paris"}, name="atlas")
    assert (model.name, model.generate("France?").text) == ("atlas", "Paris")
    with pytest.raises(ModelError, match="no answer for the prompt that ends 'Italy"):
        model.generate("Italy?")
    chat = Chat((Message("system", "Be brief."), Message("user", "Hi")))
    assert ScriptedModel(lambda prompt: prompt).generate(chat).text == "system: Be brief.\n\nuser: Hi"


def test_scripted_stops_and_counts():
    model = ScriptedModel(lambda _: "one, two; three")
    answer = model.generate("12345", stop=["; ", ","])
    assert (answer.text, answer.finish_reason, answer.cost) == ("one", "stop", 0.0)
    assert answer.usage == Usage(prompt_tokens=2, completion_tokens=1)
    cut = model.generate("x", max_tokens=2)
    assert (cut.text, cut.finish_reason, cut.usage.completion_tokens) == ("one, two", "length", 2)
    assert ScriptedModel(lambda _: "日本").generate("x", max_tokens=1).text == "日"


def test_scripted_fingerprint_and_bad_scripts():
    assert ScriptedModel(["a"]).fingerprint == ScriptedModel(["a"]).fingerprint
    assert len({ScriptedModel(script).fingerprint for script in (["a"], ["b"], {"a": "b"}, echo)}) == 4
    with pytest.raises(InvalidInputError, match="`answers`"):
        ScriptedModel("Paris")


def test_replay_repeats_what_was_recorded(tmp_path: Path):
    path = tmp_path / "calls.jsonl"
    source = ScriptedModel(echo)
    settings = {"max_tokens": 9, "temperature": 0.5, "stop": [";"], "seed": 4}
    prompts = ["a\u2028b\n\n{x}", "second", "a\u2028b\n\n{x}"]
    recorded = ReplayModel(path, record_from=source).generate(prompts, **settings)
    assert source.asked == prompts[:2]
    assert [answer.cached for answer in recorded] == [False, False, True]
    replay = load_model(f"replay:{path}")
    again = replay.generate(prompts, **settings)
    assert [answer.text for answer in again] == [answer.text for answer in recorded]
    assert [answer.usage for answer in again] == [answer.usage for answer in recorded]
    assert [answer.finish_reason for answer in again] == [answer.finish_reason for answer in recorded]
    assert all(answer.cached and answer.cost == 0 for answer in again)
    assert replay.name == f"replay:{path}"
    assert len(path.read_text(encoding="utf-8").splitlines()) >= 2


@pytest.mark.parametrize(
    "change", [{"max_tokens": 8}, {"temperature": 0.5}, {"stop": ["!"]}, {"seed": 1}, {"prompts": "question "}]
)
def test_replay_wants_the_same_settings(tmp_path: Path, change: dict[str, Any]):
    path = tmp_path / "calls.jsonl"
    asked = {"prompts": "question", "max_tokens": 9}
    ReplayModel(path, record_from=ScriptedModel(echo)).generate(**asked)
    replay = ReplayModel(path)
    assert replay.generate(**asked).text
    with pytest.raises(NotRecordedError, match=r"calls\.jsonl holds no answer .* record_from"):
        replay.generate(**asked | change)


def test_what_was_recorded_before_a_failure_stays(tmp_path: Path):
    path = tmp_path / "calls.jsonl"
    with pytest.raises(ModelError):
        ReplayModel(path, record_from=ScriptedModel(["one"])).generate(["a", "b"])
    assert ReplayModel(path).generate("a").text == "one"


def test_a_last_line_without_its_end_is_ended(tmp_path: Path):
    path = tmp_path / "calls.jsonl"
    ReplayModel(path, record_from=ScriptedModel(["one"])).generate("a")
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    ReplayModel(path, record_from=ScriptedModel(["two", "three"])).generate(["b", "c"])
    assert [answer.text for answer in ReplayModel(path).generate(["a", "b", "c"])] == ["one", "two", "three"]
    assert path.read_bytes().count(b"\n") == 3


@pytest.mark.parametrize("target", ["#/$defs/nowhere", "nowhere.json", "http://127.0.0.1:1/schema.json"])
def test_a_schema_that_refers_to_something_else_is_refused_and_nothing_fetched(
    target: str, monkeypatch: pytest.MonkeyPatch
):
    import urllib.request

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_: pytest.fail("it was fetched"))
    with pytest.raises(InvalidInputError, match=r"`schema` refers to .*put the definition under"):
        ScriptedModel(["1"]).generate("a", schema={"$ref": target})
    held = {"$defs": {"number": {"type": "integer"}}, "$ref": "#/$defs/number"}
    assert ScriptedModel(["1"]).generate("a", schema=held).parsed == 1


def test_replay_fingerprint_follows_the_answers(tmp_path: Path):
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    for path in (first, second):
        ReplayModel(path, record_from=ScriptedModel(echo)).generate("a")
    before = ReplayModel(first).fingerprint
    assert before == ReplayModel(second).fingerprint
    ReplayModel(second, record_from=ScriptedModel(echo)).generate("b")
    assert before != ReplayModel(second).fingerprint


def test_bad_recordings(tmp_path: Path):
    path = tmp_path / "calls.jsonl"
    with pytest.raises(DataFileError, match=r"calls\.jsonl: does not exist"):
        load_model(f"replay:{path}")
    with pytest.raises(DataFileError, match="folder does not exist"):
        ReplayModel(tmp_path / "no" / "calls.jsonl", record_from=ScriptedModel(echo))
    with pytest.raises(DataFileError, match="cannot be read"):
        ReplayModel(tmp_path)
    good = {"prompt": "a", "max_tokens": 1, "temperature": 0, "stop": [], "seed": 0, "text": "x"}
    for bad in ("{", '{"prompt": "a"}', json.dumps(good | {"more": 1})):
        path.write_text(f"{json.dumps(good)}\n{bad}\n", encoding="utf-8")
        with pytest.raises(DataFileError, match=r"line 2: .*expected a recorded answer"):
            ReplayModel(path)
    path.write_bytes(b"\xff")
    with pytest.raises(DataFileError, match="cannot be read"):
        ReplayModel(path)
