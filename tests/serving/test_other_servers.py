"""`ragkit parity` against another program's server that runs the same folder."""

import json
import socket
import subprocess
import sys
from importlib.util import find_spec
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from command_line import run as ragkit
from random_llama import save_random_llama
from transformers import AutoTokenizer
from waiting import wait_for

from ragkit import load_model
from ragkit.errors import AnswerFormError, ModelError, UnsupportedError
from ragkit.models import Retry

TEMPLATE = "{% for turn in messages %}{{ turn.role }}: {{ turn.content }}\n{% endfor %}assistant:"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("model")
    save_random_llama(made)
    tokenizer = AutoTokenizer.from_pretrained(made)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def url(folder, tmp_path_factory):
    if find_spec("fastapi") is None:
        pytest.skip("transformers serve needs fastapi, which is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder), "--host", "127.0.0.1"]
    options = ["--port", str(port), "--device", "cpu", "--dtype", "float32"]
    with (tmp_path_factory.mktemp("log") / "log").open("wb") as log:
        process = subprocess.Popen([*command, *options], stdout=log, stderr=log)

        def healthy():
            assert process.poll() is None
            try:
                with urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    return True
            except (URLError, OSError):
                return False

        try:
            wait_for(healthy, seconds=300)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait()


@pytest.mark.slow
def test_parity_with_transformers_serve(folder, url, tmp_path):
    file = tmp_path / "prompts.jsonl"
    prompts = ["red", "one two three one two", "naïve 東京 🙂"]
    file.write_text("\n".join(json.dumps({"prompt": prompt}) for prompt in prompts))
    same = ragkit("parity", "--model", f"hf:{folder}", "--other", f"openai:{folder}", "--base-url", url,
                  "--prompts", file, "--max-tokens", 8, "--json")  # fmt: skip
    assert same.returncode == 0, same.stdout + same.stderr
    assert json.loads(same.stdout)["equal"] == len(prompts)


@pytest.mark.slow
def test_what_transformers_serve_ignores_is_noticed(folder, url):
    model = load_model(f"openai:{folder}", base_url=url, retry=Retry(attempts=1))
    with pytest.raises(AnswerFormError, match="its server ignores `choices`"):
        model.generate("red", choices=["yes", "no"], max_tokens=8)
    assert not model.capabilities.choices
    with pytest.raises(UnsupportedError, match="no probabilities"):
        model.score(["red"], ["A", "B"])
    with pytest.raises(ModelError, match="pinned to"):
        load_model("openai:another", base_url=url, retry=Retry(attempts=1)).generate("x", max_tokens=2)
    pieces = model.stream("red", max_tokens=8)
    assert "".join(pieces) == load_model(f"hf:{folder}").generate("red", max_tokens=8).text
    assert pieces.completion.usage.completion_tokens == 8
