"""The same model behind different servers: are the answers equal, and which features does each server really have?

For each server that runs here (`ragkit serve`; `transformers serve` if fastapi is installed; llama.cpp if
llama-cpp-python with its server is installed), greedy answers are compared with those of the local model
(``ragkit parity``), as a batch and as streams. Then one request per feature shows whether the server honours it or
silently ignores it. Results go to ``results/servers.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

os.environ.pop("OPENAI_API_KEY", None)

from ragkit import load_model
from ragkit._packaged import PACKAGED
from ragkit.errors import RagkitError
from ragkit.models import Retry
from ragkit.models._local import LocalModel
from ragkit.protocols import LanguageModel
from ragkit.records import Chat, Message, Prompt, Tool
from ragkit.serving import Server, parity

HERE = Path(__file__).resolve().parent
START_SECONDS = 300.0
MAX_TOKENS = 24
CHAT = "tiny+chat"
TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
TOLERANCE = 0.05  # nats, for a server whose weights are the same
SYSTEM = Chat((Message("system", "Answer with one word."), Message("user", "What is the capital of France?")))
DIALOGUE = Chat((Message("user", "Say hello."), Message("assistant", "Hello."), Message("user", "Now say goodbye.")))
PROMPTS = ["Name a colour.", "What is 2 + 2?", "Write a line about the sea.", "naïve 東京 🙂", SYSTEM, DIALOGUE]
PLAIN = ["Input: dim the lamp\nOutput:", "one two three one two", "naïve 東京 🙂"]
WEATHER = Tool(
    "get_weather", "The weather in a city.", '{"type": "object", "properties": {"city": {"type": "string"}}}'
)


@contextmanager
def ragkit_serve(model: LocalModel) -> Iterator[tuple[str, str]]:
    """Serve a model with ragkit; yields the address and the name of the model."""
    with Server(model) as server:
        yield server.url, model.name


@contextmanager
def transformers_serve(model: LocalModel) -> Iterator[tuple[str, str]]:
    """Serve a model with transformers, from a folder that it is saved to."""
    with tempfile.TemporaryDirectory() as folder:
        model.module.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)
        command = ["transformers.cli.transformers", "serve", folder, "--device", "cpu", "--dtype", "float32"]
        with started(command, "health") as address:
            yield address, folder


@contextmanager
def llamacpp(model: LocalModel) -> Iterator[tuple[str, str]]:
    """Serve the packaged GGUF file of a model with llama.cpp, through the server of llama-cpp-python."""
    (file,) = PACKAGED[model.name].parts() or ()
    command = ["llama_cpp.server", "--model", str(file), "--n_ctx", "2048", "--logits_all", "true"]
    with started(command, "v1/models") as address:
        yield address, str(file)


@contextmanager
def started(module: list[str], path: str) -> Iterator[str]:
    """Run the server in a module until the block ends; yields its address when it answers requests to a path."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", *module, "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/{path}", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


def wait_until_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            with urlopen(url, timeout=5):  # noqa: S310
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"the server did not start: {process.args!r}")


SERVERS = {"ragkit serve": ragkit_serve, "transformers serve": transformers_serve, "llama.cpp": llamacpp}


def missing(server: str, local: LocalModel) -> str:
    """Return why a server cannot run here; empty if it can."""
    if server == "transformers serve":
        if find_spec("fastapi") is None:
            return "fastapi is not installed"
        return "" if local.capabilities.chat else "it needs a chat template"
    if server == "llama.cpp":
        if find_spec("llama_cpp") is None:
            return "llama-cpp-python is not installed"
        return "" if local.name in PACKAGED else "there is no GGUF file of the model"
    return ""


def compared(local: LocalModel, remote: LanguageModel) -> dict[str, Any]:
    """Compare greedy answers, and the joined pieces of streams with the answers."""
    prompts: list[Any] = [*PLAIN, *(PROMPTS if local.capabilities.chat else [])]
    found = asdict(parity(local, remote, prompts, max_tokens=MAX_TOKENS))
    streams = ["".join(remote.stream(prompt, max_tokens=MAX_TOKENS)) for prompt in prompts]
    texts = [answer.text for answer in local.generate(prompts, max_tokens=MAX_TOKENS)]
    equal = sum(one == two for one, two in zip(streams, texts, strict=True))
    return {"prompts": found["prompts"], "equal": found["equal"], "first": found["first"], "streams_equal": equal}


def features(local: LocalModel, remote: LanguageModel, address: str, served: str) -> dict[str, str]:
    """Return for each feature ``"honoured"``, or why it is not."""
    schema = {"type": "object", "properties": {"city": {"enum": ["Paris", "Oslo"]}}, "required": ["city"]}
    prompt, chat = PLAIN[0], Chat((Message("user", "The weather in Paris?"),), (WEATHER,), "required")
    greedy = remote.generate(prompt, max_tokens=MAX_TOKENS).text

    def temperature() -> bool:
        sampled = {remote.generate(prompt, max_tokens=MAX_TOKENS, temperature=2.0, seed=s).text for s in range(3)}
        return sampled != {greedy}

    def echo() -> bool:
        text = load_model(f"completions:{served}", base_url=address, retry=Retry(attempts=1))
        plain, choices = Prompt(PLAIN[1], form="text"), [" three", " two one"]
        ours, theirs = local.score([plain], choices), text.score([plain], choices)
        return text.capabilities.score and bool(abs(ours - theirs).max() < TOLERANCE)

    def grammar() -> object:
        constrained = load_model(f"vllm:{served}", base_url=address, retry=Retry(attempts=1))
        return constrained.generate(prompt, grammar='start: "lamp " /on|off/', max_tokens=MAX_TOKENS)

    tests: dict[str, Callable[[], object]] = {
        "temperature": temperature,
        "choices": lambda: remote.generate(prompt, choices=["fade lamp", "vent door"], max_tokens=MAX_TOKENS),
        "schema": lambda: remote.generate(prompt, schema=schema, max_tokens=MAX_TOKENS),
        "grammar": grammar,
        "log-probabilities of first tokens": lambda: remote.score([prompt], ["A", "B"]).size > 0,
        "log-probabilities of an answer": lambda: remote.generate(prompt, max_tokens=3, logprobs=True).logprobs,
        "log-probabilities of a prompt": echo,
        "required tool": lambda: remote.generate(chat, max_tokens=60).tool_calls,
    }
    return {name: outcome(test) for name, test in tests.items()}


def outcome(test: Callable[[], object]) -> str:
    try:
        found = test()
    except RagkitError as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "honoured" if found is not False and found != () else "ignored"


def is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


@contextmanager
def loaded(spec: str) -> Iterator[LocalModel]:
    """Load a model; ``tiny+chat`` is `tiny` with a chat template, so that servers which need one can run it."""
    if spec != CHAT:
        model: Any = load_model(spec, dtype="float32")
        yield model
        return
    base: Any = load_model("tiny", dtype="float32")
    with tempfile.TemporaryDirectory() as folder:
        base.module.save_pretrained(folder)
        base.tokenizer.save_pretrained(folder)
        (Path(folder) / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
        model = load_model(f"hf:{folder}", dtype="float32")
        yield model


def measured(spec: str, local: LocalModel, server: str) -> dict[str, Any]:
    """Compare a model on a server with the same model here."""
    row: dict[str, Any] = {"model": spec, "server": server}
    if why := missing(server, local):
        return {**row, "skipped": why}
    with SERVERS[server](local) as (address, served):
        remote = load_model(f"openai:{served}", base_url=address, retry=Retry(attempts=1), concurrency=1)
        row |= {"parity": compared(local, remote), "features": features(local, remote, address, served)}
    # Error messages name folders and ports, which are temporary.
    text = json.dumps(row).replace(address, "http://127.0.0.1/v1")
    for name in {served, local.name, local.name.removeprefix("hf:")}:
        text = text.replace(name, spec)
    return dict(json.loads(text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["tiny", CHAT, "smollm2"])
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "servers.json")
    options = parser.parse_args()
    rows = json.loads(options.out.read_text(encoding="utf-8"))["results"] if options.out.exists() else []
    found = {(row["model"], row["server"]): row for row in rows}
    packages = ("transformers", "torch", "openai", "langchain-openai", "fastapi", "llama-cpp-python")
    versions = {name: version(name) for name in packages if is_installed(name)}
    for spec in options.models:
        with loaded(spec) as local:
            for server in options.servers:
                found[spec, server] = measured(spec, local, server)
                print(json.dumps(found[spec, server], ensure_ascii=False), file=sys.stderr)
                facts = {"python": platform.python_version(), **versions, "max_tokens": MAX_TOKENS}
                text = json.dumps({**facts, "results": list(found.values())}, ensure_ascii=False, indent=1)
                options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
