"""Scores of choices from the log-probabilities of a chat API, over real HTTP."""

import json
from math import log

import numpy as np
import pytest
from scripted_server import Reply, ScriptedServer, failed, whole

from ragkit import Example, FewShot, Task, Template, compare, load_model
from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.models import Retry, ScriptedModel
from ragkit.models import _provider_settings as settings
from ragkit.models._provider_logprobs import log_probabilities, tokens_within
from ragkit.records import Completion
from ragkit_pipelines.compare.reports.markdown import markdown_report
from ragkit_pipelines.compare.statistics.calibration import calibrated
from ragkit_pipelines.voting import probability_of


def with_logprobs(**probabilities):
    tokens = [{"token": token, "logprob": log(share), "bytes": None} for token, share in probabilities.items()]
    reply = whole(tokens[0]["token"], finish="length")
    reply["choices"][0]["logprobs"] = {"content": [{**tokens[0], "top_logprobs": tokens}]}
    return reply


@pytest.fixture
def start(monkeypatch):
    monkeypatch.setattr(settings, "_LEARNED", {})  # ports are used again
    servers = []

    def started(*replies, **options):
        servers.append(ScriptedServer(*(each if isinstance(each, Reply) else Reply(each) for each in replies)))
        servers[-1].__enter__()
        retry = Retry(attempts=2, first_wait=0)
        return load_model("openai:m", base_url=servers[-1].url, retry=retry, **options), servers[-1]

    yield started
    for server in servers:
        server.__exit__()


def test_scores_of_letters(start):
    model, server = start(with_logprobs(A=0.7, **{" B": 0.2, "The": 0.05}))
    assert model.capabilities.logprobs
    scores = model.score(["x"], ["A", " B", "C"])
    assert scores.shape == (1, 3)
    np.testing.assert_allclose(np.exp(scores), [[0.7, 0.2, 0.05]], rtol=1e-9)  # C: what the tokens leave
    (sent,) = server.requests
    assert (sent["logprobs"], sent["top_logprobs"], sent["max_completion_tokens"]) == (True, 20, 1)


def test_longer_choices_are_told_apart_by_their_first_token():
    tokens = [("ent", log(0.5)), (" loc", log(0.25)), ("l", log(0.005)), ("", log(0.001))]
    scores = log_probabilities(tokens, ["entity", "location", "number"], "m")
    np.testing.assert_allclose(np.exp(scores), [0.5, 0.255, 0.001], rtol=1e-9)
    with pytest.raises(UnsupportedError, match="'entity' and 'entry'"):
        log_probabilities(tokens, ["entity", "entry"], "m")


def test_no_prompts_and_no_choices(start):
    model, server = start(with_logprobs(A=0.7))
    assert model.score([], ["A"]).shape == (0, 1)
    assert model.score(["x"], []).shape == (1, 0)
    assert server.requests == []


@pytest.mark.parametrize(
    "reply", [whole("A"), Reply(failed("Unsupported parameter: 'logprobs'", param="logprobs"), 400)]
)
def test_a_server_without_log_probabilities(start, reply):
    model, server = start(reply, whole("A"))
    for _ in range(2):
        with pytest.raises(UnsupportedError, match="no probabilities"):
            model.score(["x"], ["A", "B"])
    assert not model.capabilities.logprobs
    assert len(server.requests) <= 2


def test_a_server_that_rejects_another_setting(start):
    rejected = Reply(failed("Unsupported parameter: 'seed'", param="seed"), 400)
    model, server = start(rejected, with_logprobs(A=0.75, B=0.25))
    np.testing.assert_allclose(np.exp(model.score(["x"], ["A", "B"])), [[0.75, 0.25]], rtol=1e-9)
    assert ["seed" in sent for sent in server.requests] == [True, False]
    assert model.capabilities.logprobs


def test_scores_are_retried_and_cached(start, tmp_path):
    model, server = start(Reply(failed("busy"), 503), with_logprobs(A=0.7, B=0.2), cache=tmp_path / "cache.sqlite")
    first = model.score(["x"], ["A", "B"])
    assert len(server.requests) == 2
    assert (model.score(["x"], ["A", "B"]) == first).all()
    assert len(server.requests) == 2


def test_a_comparison_has_confidences_of_an_api_model(start, tmp_path):
    examples = [Example(f"{label} {number}", label) for label in ("red", "blue") for number in range(6)]
    task = Task("Name the colour.", examples[::2], examples[1::2], labels=("red", "blue"))
    model, _ = start(with_logprobs(red=0.6, blue=0.4), concurrency=1)
    done = compare(task, ["score"], model=model, sizes=[4], out=tmp_path / "out")
    (row,) = done.results.rows
    assert row.score == pytest.approx(0.5)
    assert (tmp_path / "out").is_dir()
    assert json.loads((tmp_path / "out" / "results.json").read_text())["rows"][0]["calibration"] is not None
    assert row.confidence_kind == "probability of the first token"


def test_classes_that_begin_alike_are_scored_as_letters(start, tmp_path):
    examples = [Example(f"{label} {number}", label) for label in ("light.on", "light.off") for number in range(6)]
    task = Task("Name it.", examples[::2], examples[1::2], labels=("light.on", "light.off"))
    model, server = start(with_logprobs(B=0.75, A=0.25), concurrency=1)
    done = compare(task, ["score:jaccard@2"], model=model, sizes=[4], out=tmp_path / "out")
    (row,) = done.results.rows
    assert (row.confidence_kind, row.note) == ("probability of the letter", "classes are listed with letters")
    assert row.calibration.brier == pytest.approx(calibrated([0.75] * 6, [1, 1, 1, 0, 0, 0]).brier)
    system, *turns, _ = server.requests[0]["messages"]
    assert system["content"].splitlines() == [
        "Name it.", "Answer with the letter of one of the following:", "A: light.off", "B: light.on"
    ]  # fmt: skip
    pairs = list(zip(turns[::2], turns[1::2], strict=True))
    letters = {"light.off": "A", "light.on": "B"}
    assert [answer["content"] for _, answer in pairs] == [letters[query["content"].split()[0]] for query, _ in pairs]
    assert len(pairs) == 2
    stored = json.loads((tmp_path / "out" / "items.json").read_text())["answers"][0]
    assert set(stored["answers"]) == {"light.on"}  # the class, not the letter


def test_more_classes_than_letters(start):
    labels = tuple(f"class {number}" for number in range(27))
    task = Task("Name it.", [Example(label, label) for label in labels] * 2, [Example("x", labels[0])], labels=labels)
    model, server = start(with_logprobs(A=0.7))
    with pytest.raises(InvalidInputError, match="letters for 27 classes"):
        compare(task, ["score"], model=model, sizes=[27])
    assert server.requests == []


def test_without_log_probabilities_the_agreement_of_samples_is_the_confidence(start, tmp_path):
    examples = [Example(f"{label} {number}", label) for label in ("red", "blue") for number in range(6)]
    task = Task("Name the colour.", examples[::2], examples[1::2], labels=("red", "blue"))
    answers = [whole(json.dumps({"answer": label})) for label in ("red", "blue", "red")]
    model, server = start(*answers, concurrency=1)
    done = compare(task, ["zero-shot*3", "zero-shot"], model=model, sizes=[4], out=tmp_path / "out")
    sampled, single = done.results.rows
    assert (sampled.confidence_kind, sampled.calibration is None) == ("share of 3 samples", False)
    assert (single.confidence_kind, single.calibration) == ("", None)
    report = markdown_report(done.results).partition("## Calibration")[2]
    assert "| share of 3 samples |" in report
    assert "With --samples 5" in report
    assert {body["temperature"] for body in server.requests} == {0.7, 0.0}


# Log-probabilities of answers.


def told(*tokens, text=None, finish="stop"):
    """A reply whose tokens have these texts (or bytes) and probabilities."""
    content = [
        {"token": token if isinstance(token, str) else "?", "logprob": log(share), "top_logprobs": [],
         "bytes": list(token) if isinstance(token, bytes) else None}
        for token, share in tokens
    ]  # fmt: skip
    joined = b"".join(token if isinstance(token, bytes) else token.encode() for token, _ in tokens).decode()
    reply = whole(joined if text is None else text, finish=finish)
    reply["choices"][0]["logprobs"] = {"content": content}
    return reply


def shares(completion):
    return [(token, pytest.approx(np.exp(value))) for token, value in completion.logprobs]


def test_the_tokens_of_an_answer(start):
    model, server = start(told(("the", 0.5), (" lamp", 0.25)), whole("x"))
    answer = model.generate("x", logprobs=True)
    assert answer.text == "the lamp"
    assert shares(answer) == [("the", 0.5), (" lamp", 0.25)]
    assert (server.requests[0]["logprobs"], "top_logprobs" in server.requests[0]) == (True, False)
    assert model.generate("y").logprobs == ()
    assert "logprobs" not in server.requests[1]


def test_tokens_after_a_stop_sequence_and_before_the_answer_do_not_count(start):
    model, _ = start(
        told(("<think>", 0.9), ("red?", 0.8), ("</think>", 0.7), ("red", 0.5), ("\nIn", 0.1), ("put", 0.1))
    )
    answer = model.generate("x", logprobs=True, stop=["\n"])
    assert answer.text == "red"
    assert shares(answer) == [("red", 0.5)]


def test_tokens_that_are_parts_of_a_character_are_joined(start):
    one, two = "é".encode()[:1], "é".encode()[1:]
    model, _ = start(told(("caf", 0.9), (one, 0.5), (two, 0.5), ("s", 0.3)))
    assert shares(model.generate("x", logprobs=True)) == [("caf", 0.9), ("é", 0.25), ("s", 0.3)]


def test_the_tokens_of_a_choice_are_those_within_the_object(start):
    model, _ = start(told(('{"', 0.1), ("answer", 0.2), ('":"', 0.3), ("an", 0.5), ("swer", 0.25), ('"}', 0.9)))
    answer = model.generate("x", choices=["answer", "question"], logprobs=True)
    assert answer.text == "answer"
    assert shares(answer) == [("an", 0.5), ("swer", 0.25)]


def test_tokens_that_do_not_contain_the_text_all_count():
    tokens = (("a", -1.0), ("b", -2.0))
    assert tokens_within(tokens, "x") == tokens
    assert tokens_within(tokens, "") == tokens
    assert tokens_within((), "x") == ()
    assert tokens_within((("xa", -1.0), ("bx", -2.0), ("ab", -3.0)), "ab") == (("xa", -1.0), ("bx", -2.0))
    assert tokens_within((("xa", -1.0), ("bx", -2.0), ("ab", -3.0)), "ab", last=True) == (("ab", -3.0),)


@pytest.mark.parametrize(
    "rejection",
    [
        Reply(failed("Unsupported parameter: 'logprobs' is not supported with this model.", param="logprobs"), 400),
        Reply(failed("You are not allowed to request logprobs from this model", param=None), 403),
        None,
    ],
)
def test_a_server_that_returns_no_log_probabilities_answers_nevertheless(start, rejection, tmp_path):
    script = [*([rejection] if rejection else []), whole("a"), whole("b")]
    model, server = start(*script, cache=tmp_path / "cache.sqlite", concurrency=1)
    first, second = model.generate(["x", "y"], logprobs=True)
    assert [(each.text, each.logprobs) for each in (first, second)] == [("a", ()), ("b", ())]
    assert "logprobs" not in server.requests[-1]
    assert not model.capabilities.logprobs
    assert model.requests_logprobs  # the same settings as before, so a repeated call finds its cached response
    sent = len(server.requests)
    assert model.generate("x", logprobs=True).cached
    assert len(server.requests) == sent


def test_log_probabilities_are_cached(start, tmp_path):
    model, server = start(told(("é".encode()[:1], 0.5), ("é".encode()[1:], 0.5)), cache=tmp_path / "cache.sqlite")
    first = model.generate("x", logprobs=True)
    assert shares(model.generate("x", logprobs=True)) == shares(first) == [("é", 0.25)]
    assert len(server.requests) == 1
    model.generate("x")
    assert len(server.requests) == 2


def test_models_without_log_probabilities_refuse_to_return_them(start):
    for model in (ScriptedModel(["a"]), load_model("openai:o3", base_url="http://127.0.0.1:9/v1")):
        with pytest.raises(UnsupportedError, match="logprobs"):
            model.generate("x", logprobs=True)
    model, _ = start(whole("a"))
    with pytest.raises(InvalidInputError, match="`logprobs` must be"):
        model.generate("x", logprobs=5)


COLOURS = [Example(f"{label} {number}", label) for label in ("red", "blue") for number in range(6)]


def test_the_probability_of_an_answer_in_a_sentence(start):
    reply = told(("The", 0.1), (" answer", 0.2), (" is", 0.3), (" R", 0.5), ("ed", 0.5), (".", 0.1))
    model, _ = start(reply, whole(None, refusal="No."))
    pipeline = FewShot(model, None, template=Template(labels=("red", "blue")), reader="label")
    answer = pipeline.answer(pipeline.prompts(["x"]), logprobs=True)[0]
    assert (answer.text, answer.probability) == ("red", pytest.approx(0.25))
    refused = pipeline.answer(pipeline.prompts(["y"]), logprobs=True)[0]
    assert (refused.readable, refused.probability) == (False, None)
    assert pipeline.invoke("z").probability is None


def test_after_reasoning_the_last_occurrence_counts():
    done = Completion(
        text="red? Answer: red", logprobs=(("red", log(0.5)), ("? Answer:", log(0.1)), (" red", log(0.9)))
    )
    assert probability_of("Red", done) == pytest.approx(0.5)
    assert probability_of("Red", done, last=True) == pytest.approx(0.9)
    assert probability_of("red", Completion(text="red")) is None


def test_a_comparison_has_the_probabilities_of_few_shot_answers(start, tmp_path):
    task = Task("Name the colour.", COLOURS[::2], COLOURS[1::2], labels=("red", "blue"))
    values = iter([0.9, 0.8, 0.7, 0.4, 0.3])
    replies = [told(('{"answer": "', 0.1), ("red", share), ('"}', 0.1)) for share in values]
    model, server = start(*replies, whole(None, refusal="No."), concurrency=1)
    done = compare(task, ["zero-shot"], model=model, sizes=[4], out=tmp_path / "out")
    (row,) = done.results.rows
    assert row.confidence_kind == "probability of the answer"
    expected = calibrated([0.9, 0.8, 0.7, 0.4, 0.3, 0.0], [1, 1, 1, 0, 0, 0])
    assert row.calibration.brier == pytest.approx(expected.brier)
    assert len(server.requests) == 6
    assert "| probability of the answer |" in markdown_report(done.results).partition("## Calibration")[2]
