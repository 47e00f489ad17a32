"""Requirements for every command: help with a valid example, JSON output, and errors of one line with exit code 2."""

import os
import re
import shlex
import subprocess
import sys

import pytest
import typer
from command_line import run

from ragkit_pipelines.cli.main import app

# Commands whose output is not data (a server, a diagram, a file), or is always JSON.
WITHOUT_JSON = {"serve", "compare open", "pearl explain", "index tune", "init"}

# An invalid command line for each command.
MISTAKES = {
    "components": ["selectors"],
    "demo": ["--seed", "many"],
    "export": ["--model", "tiny", "--merged", "{folder}"],
    "advise": ["--data", "{nowhere}"],
    "finetune": ["--data", "{nowhere}", "--out", "{new}"],
    "finetune-embedder": ["{nowhere}", "--queries", "{file}", "--qrels", "{file}", "--out", "{new}"],
    "finetune-reranker": ["{nowhere}", "--queries", "{file}", "--qrels", "{file}", "--out", "{new}"],
    "generate": ["hello", "--model", "tinny"],
    "init": ["{file}"],
    "models": ["{nowhere}"],
    "parity": ["--prompts", "{file}", "--model", "tiny", "--other", "tiny"],
    "select": ["--pool", "{nowhere}", "--query", "x"],
    "ask": ["what is it?"],
    "eval": ["--qrels", "{nowhere}"],
    "serve": ["--adapter", "no-folder"],
    "compare": ["--data", "{nowhere}"],
    "compare resume": ["{nowhere}"],
    "compare show": ["{nowhere}"],
    "compare open": ["{nowhere}"],
    "compare diff": ["{nowhere}", "{nowhere}"],
    "compare judge": ["{nowhere}", "{file}"],
    "compare export": ["{nowhere}", "--format", "csv"],
    "data check": ["{nowhere}"],
    "data questions": ["{nowhere}", "--out", "{new}"],
    "pool check": ["{nowhere}"],
    "index build": ["{new}", "{nowhere}", "--embedder", "hash:8"],
    "index add": ["{nowhere}", "{file}"],
    "index sync": ["{nowhere}", "{folder}"],
    "index rebuild": ["{nowhere}", "{new}", "--embedder", "hash:8"],
    "index search": ["{nowhere}", "x"],
    "index stats": ["{nowhere}"],
    "index tune": ["{nowhere}"],
    "index verify": ["{nowhere}"],
    "index compact": ["{nowhere}"],
    "index import-langchain": ["{nowhere}", "--out", "{new}"],
    "pearl run": ["why?", "--document", "{nowhere}", "--model", "tiny"],
    "pearl plan": ["why?", "--model", "tinny"],
    "pearl resume": ["{nowhere}", "--model", "tiny"],
    "pearl explain": ["{nowhere}"],
}


def commands_of(command, path=()):
    """Yield all commands by name, including groups that are commands themselves."""
    if path and (not hasattr(command, "commands") or command.invoke_without_command):
        yield " ".join(path), command
    for name, part in getattr(command, "commands", {}).items():
        yield from commands_of(part, (*path, name))


COMMANDS = dict(commands_of(typer.main.get_command(app)))


def test_every_command_has_an_invalid_command_line():
    assert MISTAKES.keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_contains_an_example_with_valid_options(name):
    shown = run(*name.split(), "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    examples = re.findall(r"Example: ragkit (.*?)(?=\n\s*Example:|\n\s*\n|$)", COMMANDS[name].help, re.DOTALL)
    assert examples, f"ragkit {name} --help shows no line that begins with 'Example: ragkit'"
    for example in examples:
        words = shlex.split(example.partition(" > ")[0], comments=True)
        assert words[: len(name.split())] == name.split()
        known = {option for each in COMMANDS[name].params for option in (*each.opts, *each.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known
        assert words[-1] in " ".join(shown.stdout.replace("│", " ").split())


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_h_shows_the_help(name):
    assert run(*name.split(), "-h").stdout == run(*name.split(), "--help").stdout != ""


@pytest.mark.parametrize("name", COMMANDS)
def test_models_and_outputs_have_a_short_option(name):
    for each in COMMANDS[name].params:
        for long, short in (("--model", "-m"), ("--out", "-o")):
            assert (long in each.opts) == (short in each.opts)


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_with_a_model_accept_its_server_its_key_and_its_reasoning(name):
    options = {option for each in COMMANDS[name].params for option in each.opts}
    server, reasoning = {"--base-url", "--api-key-env"}, {"--reasoning", "--max-reasoning-tokens"}
    assert options & server == (server if "--model" in options and name != "export" else set())
    assert options & reasoning == (reasoning if (options & server and name != "finetune") or name == "serve" else set())


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_read_the_settings_file(name):
    assert any("--config" in each.opts for each in COMMANDS[name].params) == (name != "init")


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_support_json_output(name):
    has = any("--json" in each.opts for each in COMMANDS[name].params)
    assert has != (name in WITHOUT_JSON)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help(name):
    for each in COMMANDS[name].params:
        assert each.help, f"ragkit {name}: {each.name} has no help"


@pytest.mark.parametrize("name", COMMANDS)
def test_an_error_is_one_line_with_exit_code_2(name, tmp_path):
    places = {"nowhere": tmp_path / "nowhere", "new": tmp_path / "new"}
    for kind in ("file", "folder"):
        places[kind] = tmp_path / kind
    places["file"].write_text("not JSON\n")
    places["folder"].mkdir()
    (places["folder"] / "full.txt").write_text("something")
    arguments = [part.format_map({k: str(v) for k, v in places.items()}) for part in MISTAKES[name]]
    assert_refused(run(*name.split(), *arguments))
    assert not places["new"].exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_is_reported_in_one_line_with_exit_code_2(name):
    refused = run(*name.split(), "--no-such-option")
    assert_refused(refused)
    assert f"see `ragkit {name} --help`" in refused.stderr


def assert_refused(done):
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr


def test_a_misspelt_command_gets_a_suggestion():
    refused = run("index", "serch", "x")
    assert_refused(refused)
    assert "Did you mean 'search'" in refused.stderr


def test_an_error_of_the_operating_system_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    refused = run("index", "build", tmp_path / "file" / "wiki.rag", tmp_path, "--embedder", "hash:8")
    assert_refused(refused)
    assert "Not a directory" in refused.stderr


def test_ctrl_c_prints_how_to_resume(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ragkit_pipelines.compare.compare", interrupted)
    done = run("demo")
    assert (done.returncode, done.stderr.count("\n")) == (130, 1)
    assert "rerun" in done.stderr


@pytest.mark.parametrize(
    ("shell", "variables"),
    [
        ("bash", {"COMP_WORDS": "ragkit index ver", "COMP_CWORD": "2"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "ragkit index ver"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "ragkit index ver", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_shell_completion(shell, variables):
    environment = {**os.environ, **variables, "_RAGKIT_COMPLETE": f"complete_{shell}"}
    done = subprocess.run(
        [sys.executable, "-m", "ragkit_pipelines.cli"], env=environment, capture_output=True, text=True
    )
    assert "verify" in done.stdout, done.stderr
    assert "build" not in done.stdout
