"""Scores of choices from the log-probabilities of a chat API, over real HTTP."""

import json
from math import log

import numpy as np
import pytest
from scripted_server import Reply, ScriptedServer, failed, whole

from ragkit import Example, Task, compare, load_model
from ragkit.errors import UnsupportedError
from ragkit.models import Retry
from ragkit.models._provider_logprobs import log_probabilities
from ragkit_pipelines.compare.reports.markdown import markdown_report


def with_logprobs(**probabilities):
    tokens = [{"token": token, "logprob": log(share), "bytes": None} for token, share in probabilities.items()]
    reply = whole(tokens[0]["token"], finish="length")
    reply["choices"][0]["logprobs"] = {"content": [{**tokens[0], "top_logprobs": tokens}]}
    return reply


@pytest.fixture
def start():
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
