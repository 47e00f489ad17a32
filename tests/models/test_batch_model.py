"""Batch mode over real HTTP: the requests and answers of single calls, at half the cost, and nothing is paid twice."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from batch_server import BatchServer

from ragkit import Example, FewShot, FixedSelector, Template, load_model
from ragkit.errors import (
    BatchError,
    BudgetExceededError,
    IntegrityError,
    InvalidInputError,
    ModelAccessError,
    ModelError,
    RefusalError,
    TransientModelError,
    UnsupportedError,
)
from ragkit.models import Budget, LayeredModel, Price, Prices, RateLimit, Retry, ScriptedModel
from ragkit.models import _provider_settings as settings
from ragkit.models._batch_journal import Journal
from ragkit.models._batch_providers import AnthropicBatches, Row
from ragkit.models._batch_requests import BatchRequests, Collected
from ragkit.models._batch_runs import BatchRuns
from ragkit.models._response_cache import AnswerCache
from ragkit.models._sampling import Sampling

CHILD = Path(__file__).parents[1] / "helpers" / "batch_child.py"
PRICES = Prices({"openai:m": Price(input=1.0, output=2.0)})
KEY = "sk-secret-1234567890"
PROMPTS = ["p", "a longer prompt", "é"]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(settings, "_LEARNED", {})
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with BatchServer() as running:
        yield running


@pytest.fixture
def load(server, tmp_path):
    def loaded(**options):
        given = {"retry": Retry(attempts=3, first_wait=0.0), "cache": tmp_path / "answers.sqlite", **options}
        return load_model(
            "openai:m", base_url=server.url, batch=True, poll_seconds=0.001, prices=PRICES, **given
        )  # fmt: skip

    return loaded


def single(server, **options):
    return load_model("openai:m", base_url=server.url, prices=PRICES, **options)


def bodies(server):
    return [row["body"] for batch in server.batches.values() for row in batch["rows"]]


def test_requests_and_answers_are_those_of_single_calls(server, load, tmp_path):
    asked = {"max_tokens": 9, "stop": ["END"], "temperature": 0.5, "seed": 3}
    answers = load().generate(PROMPTS, **asked)
    expected = single(server, concurrency=1).generate(PROMPTS, **asked)
    assert [answer.text for answer in answers] == [f"answer to {prompt}" for prompt in PROMPTS]
    assert [answer.usage for answer in answers] == [answer.usage for answer in expected]
    assert [answer.cost for answer in answers] == [pytest.approx(answer.cost / 2) for answer in expected]
    assert bodies(server) == [{k: v for k, v in body.items() if k != "stream"} for body in server.singles]
    assert len(server.batches) == 1
    calls = len(server.calls)
    again = load().generate(PROMPTS, **asked)
    assert [(answer.text, answer.cached) for answer in again] == [(answer.text, True) for answer in answers]
    assert single(server, cache=tmp_path / "answers.sqlite").generate(PROMPTS, **asked) == again
    assert len(server.calls) == calls
    assert server.keys == {f"Bearer {KEY}"}
    assert KEY not in "".join(path.read_text() for path in tmp_path.glob("*.batches/*"))


def test_choices_and_scores(server, load):
    model, other = load(), single(server)
    choices = model.generate(PROMPTS, choices=["yes", "no"])
    assert [answer.text for answer in choices] == [a.text for a in other.generate(PROMPTS, choices=["yes", "no"])]
    assert model.score(PROMPTS, ["A", "B"]).tolist() == other.score(PROMPTS, ["A", "B"]).tolist()
    assert model.score([], ["A", "B"]).shape == (0, 2)
    assert len(server.batches) == 2


def test_samples_are_different_requests(server, load):
    model = load()
    model.generate("p", temperature=0.7, seed=1)
    model.generate("p", temperature=0.7, seed=2)
    assert len(server.batches) == 2


@pytest.mark.parametrize("seeded", [True, False])
def test_the_samples_of_a_call_are_one_batch(server, load, seeded):
    server.rejected = set() if seeded else {"seed"}
    examples, queries = [Example("sky", "blue")], ["grass", "sea"]
    pipeline = FewShot(
        LayeredModel(load()), FixedSelector(examples), k=1, samples=3
    )  # the outer one as in a comparison
    if not seeded:
        pipeline.model.generate("x")  # the server rejects the seed
        server.batches.clear()
    answers = pipeline.invoke(queries)
    assert [[each.text for each in answer.completions] for answer in answers] == [
        ["answer to grass"] * 3, ["answer to sea"] * 3
    ]  # fmt: skip
    (batch,) = server.batches.values()
    assert len(batch["rows"]) == 6
    told = {(row["body"].get("seed"), row["body"]["temperature"]) for row in batch["rows"]}
    assert len(told) == 3  # what tells the samples apart
    pipeline.invoke(queries)
    assert len(server.batches) == 1


def test_different_settings_are_one_batch(server, load):
    schema = {"type": "object", "properties": {"answer": {"enum": ["yes"]}}, "required": ["answer"]}
    with_schema = Sampling.of(max_tokens=9, temperature=0.0, stop=(), seed=0, schema=schema)
    settings = [Sampling(max_tokens=9), Sampling(choices=("yes", "no")), with_schema, Sampling(grammar='start: "a"')]
    plain, chosen, parsed, unsupported = load().results([("p", each) for each in settings])
    assert isinstance(unsupported, UnsupportedError)
    assert len(server.batches) == 0
    plain, chosen, parsed = load().results([("p", each) for each in settings[:3]])
    assert (plain.text, chosen.text, parsed.parsed) == ("answer to p", "no", {"answer": "yes"})
    assert len(server.batches) == 1


def test_failures_of_rows(server, load):
    server.fates = {"a": ["expired"], "b": [500, "missing"], "c": [400], "d": ["expired"] * 3}
    with pytest.raises(BatchError) as caught:
        load().generate(["a", "b", "c", "d", "e", "forbidden"])
    a, b, c, d, e, forbidden = caught.value.results
    assert [each.text for each in (a, b, e)] == ["answer to a", "answer to b", "answer to e"]
    assert isinstance(c, ModelError)
    assert "trouble 400" in str(c)
    assert isinstance(d, TransientModelError)
    assert "expired" in str(d)
    assert isinstance(forbidden, RefusalError)
    assert [len(batch["rows"]) for batch in server.batches.values()] == [6, 3, 2]
    # Errors and refusals that are final are found again, and the row that expired is submitted again.
    assert load().generate("d").text == "answer to d"
    with pytest.raises(RefusalError):
        load().generate("forbidden")
    assert server.submitted.count("forbidden") == 1


def test_a_rejected_parameter_is_left_out(server, load):
    server.rejected = {"temperature"}
    with pytest.warns(match="may vary"):
        answers = load().generate(PROMPTS)
    assert [answer.omitted_settings for answer in answers] == [("temperature",)] * 3
    assert ["temperature" in body for body in bodies(server)] == [True] * 3 + [False] * 3


def test_a_rejected_batch(server, load, tmp_path):
    server.problem = "line 1 is not valid"
    with pytest.raises(ModelError, match="rejected the batch: line 1 is not valid"):
        load().generate(PROMPTS)
    assert not list(tmp_path.glob("*.batches/*.json"))
    server.problem = None
    assert load().generate("p").text == "answer to p"


def test_a_cancelled_batch(server, load):
    server.states = ["in_progress", "cancelling", "cancelled"]
    server.fates = {"b": ["cancelled"]}
    with pytest.raises(BatchError) as caught:
        load().generate(["a", "b"])
    assert "was cancelled at the provider; call again" in str(caught.value.results[1])
    assert load().generate("b").text == "answer to b"
    assert server.submitted == ["a", "b", "b"]


@pytest.mark.parametrize("trouble", [429, 500, "after"])
@pytest.mark.parametrize(
    "call",
    ["POST /v1/files", "POST /v1/batches", "GET /v1/batches", "GET /v1/batches/batch_1",
     "GET /v1/files/file-2/content"],
)  # fmt: skip
def test_transient_errors_of_the_interface(server, load, call, trouble):
    server.trouble = {call: [trouble], "POST /v1/batches": [trouble] if "GET /v1/batches" in call else []}
    server.trouble[call] = [trouble]
    assert load().generate("p").text == "answer to p"
    assert server.submitted == ["p"]


def test_an_interruption_at_any_write_repeats_nothing(server, load, tmp_path, monkeypatch):
    """The process ends before or after each entry of the journal and each response in the cache."""
    prompts = [f"prompt {number}" for number in range(3)]
    writes = 0
    for owner, name in ((Journal, "write"), (AnswerCache, "put")):
        real = getattr(owner, name)

        def write(*arguments, real=real):
            nonlocal writes
            writes -= 1
            if writes == 0:
                raise KeyboardInterrupt
            real(*arguments)
            if writes == -1000:
                raise KeyboardInterrupt

        monkeypatch.setattr(owner, name, write)
    for point in range(1, 8):
        writes = point
        asked = [f"{prompt} of {point}" for prompt in prompts]
        finished = False
        try:
            load().generate(asked)
            finished = True
        except KeyboardInterrupt:
            writes = -1
        assert finished == (point > 5)  # two entries and three responses
        assert [answer.text for answer in load().generate(asked)] == [f"answer to {each}" for each in asked]
        writes = -1
    assert len(server.submitted) == len(set(server.submitted)) == 21


@pytest.mark.parametrize(("call", "moment"), [(1, "after"), (2, "before"), (2, "after"), (4, "before"), (5, "after")])
def test_a_kill_repeats_nothing(server, tmp_path, call, moment):
    """The process is killed during the upload, the submission, a look and the download."""
    server.states = ["in_progress", "completed"]
    command = [sys.executable, str(CHILD), server.url, str(tmp_path), "4"]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE)

    def kill(number, when):
        if (number, when) == (call, moment):
            os.kill(killed.pid, signal.SIGKILL)

    server.on_call = kill
    assert killed.wait() == -signal.SIGKILL
    killed.stdout.close()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    prompts = [f"prompt {number}" for number in range(4)]
    assert json.loads(done.stdout) == [f"answer to {prompt}" for prompt in prompts]
    assert sorted(server.submitted) == prompts


def test_concurrent_calls_submit_a_row_once(server, load):
    models = [load() for _ in range(6)]
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda model: model.generate(["a", "b"])[0].text, models))
    assert found == ["answer to a"] * 6
    assert server.submitted == ["a", "b"]


def test_a_batch_that_the_provider_does_not_know(server, load, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(AnswerCache, "put", lambda *_: None)
        load().generate("p")
    server.batches.clear()
    with pytest.raises(ModelAccessError, match=r"delete .*\.json to submit them again"):
        load().generate("p")
    (entry,) = tmp_path.glob("*.batches/*.json")
    entry.write_text("{")
    with pytest.raises(IntegrityError, match="is damaged"):
        load().generate("p")
    entry.unlink()
    assert load().generate("p").text == "answer to p"


def test_the_budget(server, load):
    budget = Budget(calls=2)
    with pytest.raises(BatchError) as caught:
        load(budget=budget).generate(["a", "b", "c"])
    assert isinstance(caught.value.results[2], BudgetExceededError)
    assert server.submitted == ["a", "b"]
    money = Budget(money=0.01)
    load(budget=money).generate("d" * 100)
    assert money.spent["money"] == pytest.approx((100 * 1 + 7 * 2) / 2 / 1e6)


def test_refused_arguments(server, load, tmp_path, monkeypatch):
    for arguments, error, message in (
        ({"limit": RateLimit(requests=1)}, InvalidInputError, "omit `limit` and `concurrency`"),
        ({"concurrency": 2}, InvalidInputError, "omit `limit` and `concurrency`"),
    ):
        with pytest.raises(error, match=message):
            load(**arguments)
    cache = tmp_path / "new" / "answers.sqlite"
    with pytest.raises(InvalidInputError, match="`poll_seconds` must be"):
        load_model("openai:m", base_url=server.url, batch=True, poll_seconds=-1, cache=cache)
    with pytest.raises(UnsupportedError, match="`batch` needs a model of OpenAI or Anthropic"):
        load_model("tiny", batch=True, cache=cache)
    with pytest.raises(InvalidInputError, match="`batch` goes with a spec"):
        load_model(ScriptedModel(["a"]), batch=True, cache=cache)
    assert not cache.parent.exists()
    monkeypatch.setenv("RAGKIT_CACHE", str(tmp_path / "default"))
    load(cache=None).generate("p")
    assert (tmp_path / "default" / "batches" / "answers.sqlite").is_file()


# -- Anthropic ---------------------------------------------------------------------------------------------------------


def rows_of(*prompts):
    body = {"model": "m", "max_tokens": 9}
    made = [Row(f"{at:032x}", "/v1/messages", {**body, "messages": [{"role": "user", "content": prompt}]})
            for at, prompt in enumerate(prompts)]  # fmt: skip
    return {row.id: row for row in made}


def anthropic(server, folder):
    http = httpx.Client(base_url=server.address, headers={"x-api-key": KEY})
    return BatchRuns(
        provider=AnthropicBatches(http), journal=Journal(folder / "batches", "anthropic:"), name="anthropic:m",
        poll_seconds=0.001, retry=Retry(attempts=3, first_wait=0.0), failure=failure,
    )  # fmt: skip


def failure(error):
    from ragkit.models._provider_errors import as_model_error

    return as_model_error(error, "anthropic:m", [KEY])


def test_anthropic_batches(server, tmp_path):
    server.fates = {"b": ["expired"], "c": [529], "d": [400]}
    rows = rows_of("a", "b", "c", "d")
    runs = anthropic(server, tmp_path)
    replies = runs.answers(rows)
    assert [replies[name].status for name in rows] == [200, 409, 529, 400]
    (a, *_) = replies.values()
    assert runs.answers(rows_of("a")) == {name: reply for name, reply in replies.items() if reply == a}
    assert server.keys == {KEY}
    assert len(server.batches) == 1


def test_an_anthropic_batch_is_found_again_by_its_results(server, tmp_path, monkeypatch):
    """Between the submission and the reply, the process ends; meanwhile there are other batches of the same size."""
    server.trouble = {"POST /v1/messages/batches": ["after"]}
    others = anthropic(server, tmp_path / "other")
    others.answers(rows_of("x", "y"))
    monkeypatch.setattr(Journal, "write", interrupted(Journal.write))
    with pytest.raises(KeyboardInterrupt):
        anthropic(server, tmp_path).answers(rows_of("a", "b"))
    monkeypatch.undo()
    others.answers({name.replace("0", "1"): row for name, row in rows_of("z").items()})
    replies = anthropic(server, tmp_path).answers(rows_of("a", "b"))
    assert [reply.body["content"][0]["text"] for reply in replies.values()] == ["answer to a", "answer to b"]
    assert server.submitted.count("a") == server.submitted.count("x") == 1


def interrupted(real):
    def write(journal, entry):
        if entry.batch is not None:
            raise KeyboardInterrupt
        real(journal, entry)

    return write


SHARED = Template(instruction="Name the colour. " * 300, form="chat")


def shared_prompts(*queries):
    return [SHARED.prompt([Example("sky", "blue")], query) for query in queries]


def anthropic_model(server, tmp_path, monkeypatch):
    pytest.importorskip("langchain_anthropic", reason="needs langchain-anthropic")
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    options = {"base_url": server.address, "cache": tmp_path / "a.sqlite", "retry": Retry(attempts=3, first_wait=0.0)}
    return load_model("anthropic:claude-m", batch=True, poll_seconds=0.001, **options)


def test_shared_prefixes_are_marked_in_anthropic_batches(server, tmp_path, monkeypatch):
    model = anthropic_model(server, tmp_path, monkeypatch)
    model.generate([*shared_prompts("grass", "sea"), "x"])
    marked = {
        prompt: "cache_control" in json.dumps(body)
        for prompt, body in zip(server.submitted, bodies(server), strict=True)
    }
    assert marked == {"grass": True, "sea": True, "x": False}
    assert bodies(server)[0]["messages"][-2]["content"][0]["cache_control"] == {"type": "ephemeral"}
    assert len(server.batches) == 1


def test_a_row_with_a_mark_is_found_again_without_it(server, tmp_path, monkeypatch):
    """After an interruption, the only prompt without a cached response shares its prefix with no other."""
    model = anthropic_model(server, tmp_path, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(AnswerCache, "put", lambda *_: None)
        model.generate(shared_prompts("grass", "sea"))
    (answer,) = anthropic_model(server, tmp_path, monkeypatch).generate(shared_prompts("grass"))
    assert answer.text == "answer to grass"
    assert server.submitted == ["grass", "sea"]


def test_marks_do_not_identify_a_request():
    mark = {"cache_control": {"type": "ephemeral"}}

    def identifier(content, system):
        body = {"messages": [{"role": "assistant", "content": content}], "system": system}
        requests = BatchRequests("m")
        with pytest.raises(Collected) as caught:
            requests.run(lambda: requests.reply("/v1/messages", json.dumps(body).encode(), ""), {})
        assert caught.value.row.body == body  # with its marks
        return caught.value.row.id

    plain = identifier("blue", "s")
    assert identifier([{"type": "text", "text": "blue", **mark}], [{"type": "text", "text": "s", **mark}]) == plain
    assert identifier([{"type": "text", "text": "blue"}, {"type": "text", "text": "s"}], "s") != plain
    assert identifier("green", "s") != plain


def test_an_anthropic_model(server, tmp_path, monkeypatch):
    pytest.importorskip("langchain_anthropic", reason="needs langchain-anthropic")
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    options = {"base_url": server.address, "prices": Prices({"anthropic:claude-m": Price(input=1.0, output=2.0)})}
    model = load_model("anthropic:claude-m", batch=True, poll_seconds=0.001, cache=tmp_path / "a.sqlite", **options)
    answers = model.generate(PROMPTS, max_tokens=9)
    expected = load_model("anthropic:claude-m", concurrency=1, **options).generate(PROMPTS, max_tokens=9)
    assert [answer.text for answer in answers] == [answer.text for answer in expected]
    assert [answer.cost for answer in answers] == [pytest.approx(answer.cost / 2) for answer in expected]
    assert bodies(server) == [{k: v for k, v in body.items() if k != "stream"} for body in server.singles]
    assert all(KEY in key for key in server.keys)
