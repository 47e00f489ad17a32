"""Servers that people run: their addresses, what they say about their model, and errors that say what is wrong."""

import json
import socket
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from scripted_server import Reply, ScriptedServer, failed, whole

from ragkit import FewShot, Template, load_model
from ragkit.errors import (
    AnswerFormError,
    InvalidInputError,
    ModelAccessError,
    ModelError,
    PromptTooLongError,
    TransientModelError,
    UnsupportedError,
)
from ragkit.models import LayeredModel, Retry
from ragkit.models._provider_hints import served_instead
from ragkit.models._servers import ADDRESSES
from ragkit.records import Chat, Message, Tool
from ragkit_pipelines.serving import Server as ServingProgram

HTML = (200, "<!DOCTYPE html><html>Sign in</html>")


class Server:
    """Answers requests by their path: a status and a body, or a function that returns them; 404 for other paths."""

    def __init__(self, paths) -> None:
        self.paths, self.bodies, self.keys = paths, [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                outer.keys.append(self.headers["authorization"])
                found = outer.paths.get(self.path, (404, {"detail": "Not Found"}))
                status, body = found(outer.bodies[-1]) if callable(found) else found
                sent = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response_only(status)
                self.send_header("content-type", "text/html" if isinstance(body, str) else "application/json")
                self.send_header("content-length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            def do_POST(self):
                outer.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.do_GET()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self.server.server_port}"
        self.url = f"{self.root}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def start(monkeypatch):
    for name in ("VLLM_API_KEY", "OLLAMA_API_KEY", "LLAMA_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    servers = []

    def started(paths):
        servers.append(Server(paths))
        return servers[-1]

    yield started
    for server in servers:
        server.server.shutdown()
        server.server.server_close()


def models(*names, **fields):
    return 200, {"object": "list", "data": [{"id": name, "object": "model", **fields} for name in names]}


CHAT = {"/v1/chat/completions": (200, whole("hi"))}
VLLM = {**CHAT, "/v1/models": models("qwen", max_model_len=4096), "/version": (200, {"version": "0.33.0"})}
LLAMACPP = {
    **CHAT, "/v1/models": models("/models/qwen3-Q4_K_M.gguf"),
    "/props": (200, {"default_generation_settings": {"n_ctx": 8192}, "build_info": "b1"}),
}  # fmt: skip
OLLAMA = {
    **CHAT, "/v1/models": models("llama3:latest", "qwen3:4b"), "/api/version": (200, {"version": "0.9"}),
    "/api/show": (200, {"model_info": {"llama.context_length": 131072}, "parameters": "stop \"x\"\nnum_ctx  4096",
                        "capabilities": ["completion"]}),
}  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "paths", "name", "window"),
    [
        ("vllm:qwen", VLLM, "qwen", 4096),
        ("llamacpp:default", LLAMACPP, "/models/qwen3-Q4_K_M.gguf", 8192),
        ("llamacpp:qwen3-Q4_K_M", LLAMACPP, "/models/qwen3-Q4_K_M.gguf", 8192),
        ("ollama:llama3", OLLAMA, "llama3:latest", 4096),
        ("ollama:qwen3:4b", {**OLLAMA, "/api/show": (404, {})}, "qwen3:4b", None),
    ],
)
def test_a_server_says_what_it_serves(start, monkeypatch, spec, paths, name, window):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-provider")
    server = start(paths)
    model = load_model(spec, base_url=server.url)
    assert (model.name, model.capabilities.window, model.capabilities.logprobs) == (spec, window, True)
    answer = model.generate("x", max_tokens=7)
    assert (answer.text, answer.cost) == ("hi", None)
    sent = server.bodies[-1]
    assert (sent["model"], sent["max_tokens"], "max_completion_tokens" in sent) == (name, 7, False)
    assert not any("sk-of" in str(key) for key in server.keys)


def constraining(field, *, strict=False):
    """Return a chat endpoint that accepts a grammar for one word in a field, and ignores or rejects other fields."""

    def reply(body):
        known = {"model", "messages", "max_tokens", "temperature", "seed", "stream", field}
        if strict and body.keys() - known:
            return 400, failed("unknown field")
        given = body.get(field)
        grammar = given["grammar"] if isinstance(given, dict) else given
        if field == "grammar" and grammar:
            assert grammar.startswith("%llguidance {}\nstart: ")
        return 200, whole("Hello there!" if grammar is None else grammar.split('"')[1])

    return {"/v1/chat/completions": reply}


@pytest.mark.parametrize(
    ("spec", "paths", "field"),
    [
        ("vllm:qwen", {**VLLM, **constraining("structured_outputs")}, "structured_outputs"),
        ("vllm:qwen", {**VLLM, **constraining("guided_grammar")}, "guided_grammar"),
        ("vllm:qwen", {**VLLM, **constraining("guided_grammar", strict=True)}, "guided_grammar"),
        ("vllm:qwen", VLLM, None),
        ("vllm:qwen", {**VLLM, "/v1/chat/completions": (200, {"choices": []})}, None),
        ("llamacpp:default", {**LLAMACPP, **constraining("grammar")}, "grammar"),
        ("llamacpp:default", {**LLAMACPP, "/v1/chat/completions": (400, failed("llguidance is not enabled"))}, None),
        ("ollama:llama3", {**OLLAMA, **constraining("guided_grammar")}, None),
    ],
)
def test_the_field_for_a_grammar_is_found(start, spec, paths, field):
    server = start(paths)
    model = load_model(spec, base_url=server.url, retry=Retry(attempts=1))
    assert model.capabilities.grammar == (field is not None)
    if field is None:
        with pytest.raises(UnsupportedError, match="grammar"):
            model.generate("x", grammar='start: "lamp"')
    else:
        assert model.generate("x", grammar='start: "lamp"').text == "lamp"
        assert field in server.bodies[-1]
    given = load_model(spec, base_url=server.url, grammar_field="structured_outputs")
    assert given.capabilities.grammar  # no answer is needed


def test_the_field_for_a_grammar_of_a_real_server():
    with ServingProgram("tiny") as server:
        model = load_model("vllm:tiny", base_url=server.url)
        assert model.generate("Input: dim the lamp\nOutput:", grammar='start: "vent " /lamp|fan/').text in {
            "vent lamp", "vent fan"
        }  # fmt: skip


def test_default_addresses(start, monkeypatch):
    server = start(VLLM)
    monkeypatch.setitem(ADDRESSES, "vllm", server.url)
    assert load_model("vllm:qwen").generate("x").text == "hi"
    assert set(ADDRESSES.values()) >= {"http://localhost:11434/v1", "http://localhost:8080/v1"}


def test_keys_of_servers(start, monkeypatch):
    server = start(VLLM)
    monkeypatch.setenv("VLLM_API_KEY", "key-12345678")
    load_model("vllm:qwen", base_url=server.url).generate("x")
    assert set(server.keys) == {"Bearer key-12345678"}


def test_levels_of_reasoning_by_what_the_server_says(start):
    server = start(OLLAMA)
    with pytest.raises(UnsupportedError, match="does not reason"):
        load_model("ollama:llama3", base_url=server.url, reasoning="low")
    thinking = start({**OLLAMA, "/api/show": (200, {"capabilities": ["thinking"]})})
    load_model("ollama:llama3", base_url=thinking.url, reasoning="low", max_reasoning_tokens=10).generate(
        "x", max_tokens=5
    )
    assert (thinking.bodies[-1]["reasoning_effort"], thinking.bodies[-1]["max_tokens"]) == ("low", 15)
    vllm = start(VLLM)
    load_model("vllm:qwen", base_url=vllm.url, reasoning="none").generate("x")
    assert vllm.bodies[-1]["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize(
    ("paths", "kind", "said"),
    [
        ({"/v1/models": models("qwen3", "llama")}, InvalidInputError, "did you mean 'qwen3'.*'llama', 'qwen3'"),
        ({"/v1/models": models()}, InvalidInputError, "no model"),
        (
            {"/v1/models": (503, failed("Loading model", type="unavailable_error"))},
            TransientModelError,
            "still loading",
        ),
        ({"/v1/models": (401, {})}, ModelAccessError, "requires a key.*VLLM_API_KEY"),
        ({"/v1/models": (502, "<html>")}, ModelError, "status 502.*proxy"),
        ({"/v1/models": HTML}, ModelError, "HTML page.*proxy"),
        ({"/v1/models": (200, {"models": []})}, ModelError, "no list of models"),
    ],
)
def test_what_is_wrong_with_a_server(start, paths, kind, said):
    server = start(paths)
    with pytest.raises(kind, match=said) as caught:
        load_model("vllm:qwen", base_url=server.url)
    assert type(caught.value) is kind


def test_an_address_without_its_path(start):
    server = start(VLLM)
    with pytest.raises(ModelError, match=f"pass base_url='{server.url}'"):
        load_model("vllm:qwen", base_url=server.root)


def test_no_server_at_the_address():
    with pytest.raises(ModelError, match=r"no server answers at http://127.0.0.1:9/v1.*vllm serve qwen"):
        load_model("vllm:qwen", base_url="http://127.0.0.1:9/v1")
    with pytest.raises(InvalidInputError, match="must begin with http://"):
        load_model("vllm:qwen", base_url="localhost:9/v1")


def test_a_server_with_another_protocol():
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def greet():
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
                connection.recv(4096)

        threading.Thread(target=greet, daemon=True).start()
        with pytest.raises(ModelError, match="no server answers"):
            load_model("vllm:qwen", base_url=f"http://127.0.0.1:{listening.getsockname()[1]}/v1")


def test_the_fingerprint_names_the_model_behind_a_placeholder(start):
    other = {**LLAMACPP, "/v1/models": (200, {"data": [{"id": "/models/other.gguf"}]})}
    address = start(LLAMACPP)
    first = load_model("llamacpp:default", base_url=address.url).fingerprint
    address.paths = other
    assert load_model("llamacpp:default", base_url=address.url).fingerprint != first


def test_a_rejected_key_is_never_shown(start, monkeypatch):
    monkeypatch.setenv("MY_KEY", "key-12345678")
    server = start({"/v1/models": (401, {"error": "key-12345678"})})
    with pytest.raises(ModelAccessError, match="rejects the key") as caught:
        load_model("vllm:qwen", base_url=server.url, api_key_env="MY_KEY")
    assert "key-12345678" not in str(caught.value)


# Errors of calls.


def test_a_model_that_the_provider_does_not_have(start):
    server = start(
        {"/v1/models": models("gpt-4o", "gpt-4o-mini"), "/v1/chat/completions": (404, failed("no such model"))}
    )
    model = load_model("openai:gpt-4o-mimi", base_url=server.url, retry=Retry(attempts=1))
    with pytest.raises(ModelAccessError, match="did you mean 'gpt-4o-mini'"):
        model.generate("x")


@pytest.mark.parametrize(
    "said",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4900 in the messages)",
        "This model's maximum context length is 4096 tokens. However, your messages resulted in 5000 tokens.",
        "This model's maximum context length is 4096 tokens. However, your request has 5000 input tokens.",
        "prompt is too long: 5000 tokens > 4096 maximum",
        "The input token count (5000) exceeds the maximum number of tokens allowed (4096).",
        "Prompt contains 5000 tokens and 0 draft tokens, too large for model with 4096 maximum context length",
    ],
)
def test_a_prompt_that_is_too_long_by_the_count_of_the_provider(said):
    with ScriptedServer(Reply(failed(said, code="context_length_exceeded"), 400)) as server:
        model = load_model("openai:m", base_url=server.url)
        with pytest.raises(PromptTooLongError) as caught:
            model.generate("x")
    assert (caught.value.tokens, caught.value.window) == (5000, 4096)


def test_a_prompt_that_is_too_long_for_llamacpp():
    error = failed("too long", type="exceed_context_size_error", n_prompt_tokens=5000, n_ctx=4096)
    with ScriptedServer(Reply(error, 400)) as server, pytest.raises(PromptTooLongError, match="5000"):
        load_model("openai:m", base_url=server.url).generate("x")


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(failed("The JSON schema contains features that xgrammar lacks"), 400), "this schema"),
        (Reply(failed("bad key"), 401), "api_key_env"),
        (Reply(failed("no access"), 403), "no access to this model"),
        (Reply(failed("Not Found"), 404), "ends with /v1"),
        (Reply(failed("Loading model"), 503), "still be loading"),
    ],
)
def test_advice_fits_the_error(reply, said):
    with ScriptedServer(reply) as server:
        model = load_model("openai:m", base_url=server.url, retry=Retry(attempts=1))
        with pytest.raises(ModelError, match=said):
            model.generate("x", schema={"type": "object", "properties": {"a": {"type": "string"}}})


def test_an_address_without_its_path_in_a_call(start):
    server = start(CHAT)
    model = load_model("openai:m", base_url=server.root, retry=Retry(attempts=1))
    with pytest.raises(ModelError, match=f"path of the address is missing.*base_url='{server.url}'"):
        model.generate("x")


def test_a_proxy_that_returns_a_web_page(start):
    server = start({"/v1/chat/completions": HTML})
    with pytest.raises(ModelError, match=r"HTML page, not JSON: check `base_url`.*proxy"):
        load_model("openai:m", base_url=server.url, retry=Retry(attempts=1)).generate("x")


@pytest.mark.parametrize("settings", [{"schema": {"type": "object", "properties": {}}}, {"choices": ["a", "b"]}])
def test_a_web_page_instead_of_a_constrained_answer(start, settings):
    model = load_model(
        "openai:m", base_url=start({"/v1/chat/completions": HTML}).url, retry=Retry(attempts=1)
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"HTML page, not JSON: check `base_url`.*proxy"):
        model.generate("x", **settings)


def test_a_web_page_instead_of_scores_and_of_streams(start):
    server = start({"/v1/chat/completions": HTML, "/v1/completions": HTML, "/v1/models": models("m")})
    for name in ("openai:m", "completions:m"):
        model = load_model(name, base_url=server.url, retry=Retry(attempts=1))
        for call in (partial(model.score, ["x"], ["a", "b"]), lambda model=model: list(model.stream("x"))):
            with pytest.raises(ModelError, match=r"HTML page, not JSON: check `base_url`.*proxy"):
                call()
    with pytest.raises(ModelError, match="HTML page, not JSON"):
        model.generate("x")
    assert not model.capabilities.score


@pytest.mark.parametrize("call", ["score", "stream"])
def test_errors_of_scores_and_streams(start, call):
    said = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens"
    server = start({"/v1/models": models("gpt-4o"), "/v1/chat/completions": (404, failed("no such model"))})
    model = load_model("openai:gpt-4", base_url=server.url, retry=Retry(attempts=1))
    calls = {"score": lambda: model.score(["x"], ["a", "b"]), "stream": lambda: list(model.stream("x"))}
    with pytest.raises(ModelAccessError, match="did you mean 'gpt-4o'"):
        calls[call]()
    server.paths["/v1/chat/completions"] = (400, failed(said))
    with pytest.raises(PromptTooLongError, match="5000"):
        calls[call]()


def test_the_detail_of_an_error_is_shown_without_secrets(start, monkeypatch):
    monkeypatch.setenv("MY_KEY", "key-12345678")
    server = start({"/v1/chat/completions": (400, {"detail": "Server is pinned to 'a'; key-12345678 asked for 'b'."})})
    model = load_model("openai:b", base_url=server.url, api_key_env="MY_KEY", retry=Retry(attempts=1))
    with pytest.raises(ModelError, match="Server is pinned to 'a'") as caught:
        model.generate("x")
    assert "key-12345678" not in str(caught.value)


def test_a_server_that_ignores_schemas_is_found_out():
    """As `transformers serve`, which accepts and ignores `response_format`."""
    with ScriptedServer(Reply(whole("The answer is yes."))) as server:
        model = load_model("openai:m", base_url=server.url, retry=Retry(attempts=1), concurrency=1)
        assert model.capabilities.choices
        with pytest.raises(AnswerFormError, match="its server ignores `choices`"):
            model.generate(["x", "y"], choices=["yes", "no"])  # the second prompt is not lost to an UnsupportedError
        assert not model.capabilities.choices
        assert not load_model("openai:m", base_url=server.url).capabilities.schema
        with pytest.raises(AnswerFormError, match="its server ignores `schema`"):
            model.generate("x", schema={"type": "object", "properties": {}})
        assert len(server.requests) == 3


def test_one_answer_that_breaks_the_form_does_not_disable_schemas():
    replies = [whole('{"answer": "yes"}'), whole("I refuse."), whole('{"answer": "no"}')]
    with ScriptedServer(*map(Reply, replies)) as server:
        model = load_model("openai:m", base_url=server.url, retry=Retry(attempts=1), concurrency=1)
        assert model.generate("x", choices=["yes", "no"]).text == "yes"
        with pytest.raises(AnswerFormError, match="none of the 2 choices"):
            model.generate("y", choices=["yes", "no"])
        assert model.generate("z", choices=["yes", "no"]).text == "no"


def test_labels_are_still_read_on_a_server_that_ignores_schemas():
    template = Template(instruction="Name it.", labels=("yes", "no"))
    replies = [whole(f"The answer is {label}.") for label in ("yes", "no", "yes", "no")]
    with ScriptedServer(*map(Reply, replies)) as server:
        model = load_model("openai:m", base_url=server.url, retry=Retry(attempts=1), concurrency=1)
        pipeline = FewShot(LayeredModel(model), None, template=template)  # as in a comparison
        assert [answer.text for answer in pipeline.invoke(["a", "b", "c"])] == ["yes", "no", "yes"]
        assert [answer.text for answer in pipeline.invoke(["d", "e"])] == ["no", "no"]
        assert ["response_format" in body for body in server.requests[-2:]] == [False, False]


@pytest.mark.parametrize(("choice", "said"), [("required", "called no tool"), ("f", "called not the tool 'f'")])
def test_a_server_that_ignores_the_choice_of_a_tool(choice, said):
    chat = Chat((Message("user", "x"),), (Tool("f"),), choice)
    with ScriptedServer(Reply(whole("hi"))) as server:
        model = load_model("openai:m", base_url=server.url, retry=Retry(attempts=1))
        with pytest.raises(AnswerFormError, match=said):
            model.generate(chat)
        assert model.generate(Chat(chat.messages, chat.tools)).text == "hi"


def test_a_call_to_a_server_that_is_gone():
    model = load_model("openai:m", base_url="http://127.0.0.1:9/v1", retry=Retry(attempts=1))
    with pytest.raises(TransientModelError, match="no server answers at this address"):
        model.generate("x")


def test_a_long_list_of_models_is_shortened():
    assert served_instead("x", [f"m{number}" for number in range(20)]).endswith(" and 12 more")
    assert served_instead("x", []) == "the server has no model"
