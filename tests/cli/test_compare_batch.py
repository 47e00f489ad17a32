"""`ragkit compare --batch`: money is spent only after a confirmation, and the cost is half."""

import io
import json

import pytest
from batch_server import BatchServer
from command_line import run as ragkit

from ragkit_pipelines.compare.results import Results

ROWS = [{"input": f"dim the {word}", "output": "yes" if at % 2 else "no"} for at, word in enumerate("abcdefghijkl")]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-1234567890")
    monkeypatch.setenv("RAGKIT_CACHE", str(tmp_path / "cache"))
    with BatchServer() as running:
        yield running


def test_a_comparison_in_batch_mode(server, tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, ROWS)))
    options = ["compare", "--data", data, "--model", "openai:gpt-4o-mini", "--base-url", server.url, "--strategies",
               "zero-shot", "--embedder", "hash:8", "--sizes", "all", "--batch", "--poll-seconds", "0.001", "--out",
               tmp_path / "run"]  # fmt: skip
    refused = ragkit(*options)
    assert refused.returncode != 0
    assert "pass --yes to submit them" in refused.stderr
    assert "Submit these calls?" in (said := ragkit(*options, stdin=Terminal("n\n"))).stderr
    assert said.returncode == 1
    estimated = json.loads(ragkit(*options, "--estimate", "--json").stdout)
    assert estimated["total"]["calls"] > 0
    assert server.calls == []  # neither the question nor the estimate calls the model
    done = ragkit(*options, "--yes")
    assert done.returncode == 0, done.stderr
    (row,) = Results.load(tmp_path / "run").rows
    assert row.error is None
    assert len(server.batches) == 1
    assert server.singles == []
    assert len(server.submitted) == estimated["total"]["calls"] == row.n
    again = ragkit(*options[:-1], tmp_path / "other", "--yes")
    assert again.returncode == 0, again.stderr
    assert len(server.batches) == 1


def test_options_that_do_not_go_with_batch(tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, ROWS)))
    for options, message in (
        (["--engine", "process", "--model", "openai:m"], "--batch cannot be combined with --engine"),
        ([], "--batch requires --model"),
        (["--model", "tiny"], "`batch` needs a model of OpenAI or Anthropic"),
    ):
        done = ragkit("compare", "--data", data, "--strategies", "zero-shot", "--batch", "--yes", *options)
        assert done.returncode != 0
        assert message in done.stderr
